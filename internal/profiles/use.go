package profiles

import (
	"path"
	"reflect"
	"slices"
	"strings"
)

// originSet is the named set that is no file: the repository's own remote, to fetch from.
const originSet = "origin"

// expansion remembers which of the merged rules came from which named set.
type expansion struct {
	own int // rules of the profile itself, before those of sets
	of  []setRules
}

type setRules struct {
	place string // of the name in network.use, "agentbox.toml:3"
	name  Name
	model bool
	rules int
}

// expand appends the rules of the named sets to the merged tree.
func (l *loader) expand(root *node) (expansion, error) {
	e, network := expansion{}, root.get("network")
	if rules := network.get("rule"); rules != nil && rules.kind == arrayKind {
		e.own = len(rules.items)
	}
	use := network.get("use")
	if use == nil || use.kind != arrayKind {
		return e, nil
	}
	var added []*node
	for i, n := range use.items {
		again := func(o *node) bool { return o.text == n.text }
		if n.kind != stringKind || !nameForm().MatchString(n.text) || n.text == originSet || slices.ContainsFunc(use.items[:i], again) {
			continue
		}
		rules, set, err := l.set(n)
		if err != nil {
			return e, err
		}
		added = append(added, rules...)
		e.of = append(e.of, set)
	}
	if len(added) > 0 {
		network.put("rule", appended(network.get("rule"), added))
	}
	return e, nil
}

// appended is a list with more behind it.
func appended(rules *node, added []*node) *node {
	out := &node{kind: arrayKind, src: added[0].src, key: added[0].key, value: added[0].value, list: &list{}}
	if rules != nil {
		if rules.kind != arrayKind {
			return rules
		}
		out.src, out.key, out.value = rules.src, rules.key, rules.value
		out.items = slices.Clone(rules.items)
	}
	out.items = append(out.items, added...)
	return out
}

// set reads the named set that n asks for.
func (l *loader) set(n *node) (rules []*node, s setRules, err error) {
	src, err := l.files.set(n.text)
	if err != nil {
		return nil, s, err
	}
	if src == nil {
		names := l.files.SetNames()
		hint := "the sets are " + strings.Join(names, ", ")
		if near := nearest(n.text, names); near != "" {
			hint = "did you mean \"" + near + "\"?"
		}
		l.d.at(n, "unknown-set", hint, "there is no named set %q", n.text)
		return nil, s, nil
	}
	root, set := l.d.readSet(src, n.text)
	if root == nil {
		return nil, s, nil
	}
	list := root.get("rule")
	if list == nil || list.kind != arrayKind {
		return nil, s, nil
	}
	return list.items, setRules{n.src.place(int(n.value)).String(), Name(n.text), set.Model, len(list.items)}, nil
}

// readSet decodes the file of one named set by itself; nil when it is not TOML.
func (d *document) readSet(src *source, name string) (*node, NamedSet) {
	set := NamedSet{}
	merged, settled := d.root, d.settled
	d.settled = false
	defer func() { d.root, d.settled = merged, settled }()
	root := d.read(src)
	if root != nil {
		d.root = root
		d.decode(root, reflect.ValueOf(&set).Elem())
		set.Name = name
		d.settled = true
		d.checkSet(&set)
	}
	return root, set
}

// set reads a set's file, nil when no level has it. The person's own goes before the built-in one.
func (f Files) set(name string) (*source, error) {
	for _, lv := range slices.Backward(f.levels()) {
		if lv.sets == "" {
			continue
		}
		if src, err := lv.read(lv.sets + "/" + name + ".toml"); src != nil || err != nil {
			return src, err
		}
	}
	return nil, nil
}

// mark tells the rules of named sets which one they are of, and who asked for it: that is who allows something.
func (e expansion) mark(p *Profile) {
	i := e.own
	for _, s := range e.of {
		for range s.rules {
			if i < len(p.Network.Rules) {
				r := &p.Network.Rules[i]
				r.Set, r.Model, r.Origin = s.name, s.model, s.place+", "+path.Base(r.Origin)
			}
			i++
		}
	}
}

// NamedSets gives the sets that a profile could use, by their names, but for "origin". One that can't be read is left
// out: whoever uses it is told.
func (f Files) NamedSets() []NamedSet {
	var out []NamedSet
	for _, name := range f.SetNames() {
		src, err := f.set(name)
		if src == nil || err != nil {
			continue
		}
		d := newDocument()
		root, set := d.readSet(src, name)
		if root != nil && !d.problems.failed() {
			out = append(out, set)
		}
	}
	return out
}

// LoadSet reads the file of one named set. The error is Problems.
func LoadSet(name string, data []byte, file string) (NamedSet, error) {
	d := newDocument()
	_, set := d.readSet(newSource(file, BuiltIn, data), name)
	if ps := d.problems.sort(d.files); ps.failed() {
		return NamedSet{}, ps
	}
	return set, nil
}
