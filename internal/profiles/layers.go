package profiles

import (
	"encoding"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strconv"
)

// layer is one file of those that make a profile.
type layer struct {
	*source
	profile string // the profile whose own file it is; "" for those that lie under every profile
	root    *node  // nil when it is not TOML
	grants  bool   // what a person has allowed for one repository
}

// granted is the file of what a person has allowed for one repository.
type granted struct {
	Version int    `toml:"version,required"`
	Repo    string `toml:"repo,required"` // absolute
	Network struct {
		Rules []Rule `toml:"rule"`
	} `toml:"network"`
	Git []GitRule `toml:"git"`
}

// decodeLayer decodes one file strictly by itself.
func (d *document) decodeLayer(l layer) {
	d.root, d.layer = l.root, true
	defer func() { d.layer = false }()
	version := 0
	if l.grants {
		var g granted
		d.decode(l.root, reflect.ValueOf(&g).Elem())
		version = g.Version
		if d.has("repo") && (!path.IsAbs(g.Repo) || path.Clean(g.Repo) != g.Repo) {
			d.value([]string{"repo"}, "bad-value", "", "%q is not the absolute path of a repository", g.Repo)
		}
	} else {
		var p Profile
		d.decode(l.root, reflect.ValueOf(&p).Elem())
		version = p.Version
	}
	if n := l.root.get("version"); n != nil && n.kind == integerKind && version != 1 {
		d.at(n, "bad-version", "write version = 1", "version %d is not one that this agentbox reads", version)
	}
	if n := l.root.get("extends"); n != nil && !l.grants && l.profile == "" {
		d.atKey(n, "extends-here", "write it in a profile's own file", "%s lies under every profile, and extends none", l.file)
	}
}

// merge lays the layers on each other, the first one lowest.
func (d *document) merge(layers []layer, name string) *node {
	m := merger{d: d, src: layers[len(layers)-1].source}
	var own *source
	merged := m.empty(nil)
	for _, l := range layers {
		if l.profile == name {
			own = l.source
		}
		merged = m.table(merged, m.own(l, name), reflect.TypeFor[Profile]())
	}
	merged.key, merged.value = 0, 0
	if own != nil {
		merged.src = own
	}
	return merged
}

type merger struct {
	d   *document
	src *source
}

func (m *merger) empty(like *node) *node {
	n := &node{src: m.src, list: &list{}}
	if like != nil {
		n.src, n.key, n.value = like.src, like.key, like.value
	}
	return n
}

// own leaves out what a file says of itself alone: what it extends, when it is another profile's file.
func (m *merger) own(l layer, name string) *node {
	if l.profile == name || l.root.get("extends") == nil {
		return l.root
	}
	n := m.empty(l.root)
	for i, key := range l.root.names {
		if key != "extends" {
			n.put(key, l.root.items[i])
		}
	}
	return n
}

// value lays upper on lower, which is nil when nothing is below, as the key asks for; of is the table's type.
func (m *merger) value(lower, upper *node, f field, of reflect.Type) *node {
	if lower != nil && lower.kind != upper.kind {
		lower = nil
	}
	switch {
	case upper.kind == tableKind && f.class == table:
		return m.table(lower, upper, f.typ)
	case upper.kind == tableKind && f.class == mapping:
		return m.mapping(lower, upper)
	case upper.kind == arrayKind && f.class == entries:
		return m.entries(lower, upper, f.typ)
	case upper.kind == arrayKind && f.class == words:
		return m.words(lower, upper, sequence(of, f.name), of == reflect.TypeFor[Workspace]())
	}
	return upper
}

// table lays key by key. What the format does not know is known to be wrong already.
func (m *merger) table(lower, upper *node, t reflect.Type) *node {
	out := m.empty(upper)
	if lower != nil {
		out.names, out.items = slices.Clone(lower.names), slices.Clone(lower.items)
	}
	for _, f := range m.d.fields(t) {
		if v := upper.get(f.name); v != nil {
			out.put(f.name, m.value(lower.get(f.name), v, f, t))
		}
	}
	return out
}

func (m *merger) mapping(lower, upper *node) *node {
	out := m.empty(upper)
	if lower != nil {
		for i, name := range lower.names {
			out.put(name, lower.items[i])
		}
	}
	for i, name := range upper.names {
		out.put(name, upper.items[i])
	}
	return out
}

// entries adds; one of the same name takes the place of the one below.
func (m *merger) entries(lower, upper *node, t reflect.Type) *node {
	if lower == nil {
		return upper
	}
	out := &node{kind: arrayKind, src: upper.src, key: upper.key, value: upper.value, list: &list{}}
	out.items = append(slices.Grow(out.items, len(lower.items)+len(upper.items)), lower.items...)
	key, ok := identity(t)
	if !ok {
		out.items = append(out.items, upper.items...)
		return out
	}
	below := map[string]int{}
	for i, item := range lower.items {
		if name, ok := named(item, t, key); ok {
			below[name] = i
		}
	}
	for _, item := range upper.items {
		name, ok := named(item, t, key)
		if i, found := below[name]; ok && found {
			out.items[i] = item
			delete(below, name) // a second one of this file is a mistake, which the checks find
		} else {
			out.items = append(out.items, item)
		}
	}
	return out
}

// identity is the field that names the entries of a list; rules have none.
func identity(t reflect.Type) (field, bool) {
	name, ok := map[reflect.Type]string{
		reflect.TypeFor[Credential](): "name", reflect.TypeFor[Server](): "name",
		reflect.TypeFor[File](): "path", reflect.TypeFor[Mount](): "source", reflect.TypeFor[GitRule](): "remote",
	}[t]
	fields := fieldsOf(t)
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	if !ok || i < 0 {
		return field{}, false
	}
	return fields[i], true
}

// named is an entry's name in its canonical form.
func named(item *node, t reflect.Type, key field) (string, bool) {
	n := item.get(key.name)
	if n == nil || n.kind != stringKind {
		return "", false
	}
	v := reflect.New(t.Field(key.index).Type)
	if u, ok := v.Interface().(encoding.TextUnmarshaler); ok {
		err := u.UnmarshalText([]byte(n.text)) // before its outcome is looked at
		return v.Elem().String(), err == nil
	}
	return n.text, true
}

// words replaces a list, with what is below in the place of "...". A word that both say is the lower one's, or the upper
// one's where that says more: what a layer hides, no layer below it shows.
func (m *merger) words(lower, upper *node, sequence, again bool) *node {
	i := slices.IndexFunc(upper.items, isEllipsis)
	if i < 0 {
		return upper
	}
	out := &node{kind: arrayKind, src: upper.src, key: upper.key, value: upper.value, list: &list{}}
	out.items = append(out.items, upper.items[:i]...)
	if lower != nil {
		out.items = append(out.items, lower.items...)
	}
	out.items = append(out.items, upper.items[i+1:]...)
	seen := map[string]int{}
	at := 0
	for _, n := range out.items {
		first, double := seen[n.text]
		if double && n.kind == stringKind && !sequence {
			if again && n.src == upper.src {
				out.items[first] = n
			}
			continue
		}
		seen[n.text] = at
		out.items[at], at = n, at+1
	}
	out.items = out.items[:at]
	return out
}

// sequence reports the lists in which the same word twice means something.
func sequence(of reflect.Type, name string) bool {
	return of == reflect.TypeFor[Agent]() && (name == "command" || name == "args")
}

// plainStruct reports types that a table is read into.
func plainStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// plainList reports lists of strings.
func plainList(t reflect.Type) bool {
	if t.Kind() != reflect.Slice {
		return false
	}
	e := t.Elem()
	return e.Kind() == reflect.String || reflect.PointerTo(e).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// String is "FILE:LINE", or "default" of nowhere.
func (p Place) String() string {
	if p.File == "" {
		return "default"
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// String names a level as a person would.
func (l Level) String() string {
	names := []string{"built-in", "repo", "yours", "granted", "flag", "organisation"}
	if l < 0 || int(l) >= len(names) {
		return fmt.Sprintf("level %d", int(l))
	}
	return names[l]
}
