package profiles

import (
	"reflect"
	"strconv"
	"sync"
)

// Origins tells where each value of a profile was written, by its path: "workspace.mode", "network.rule[0].host". There
// are as many as values, so they are worked out when they are asked for. The zero value knows none.
type Origins struct{ of *mergedTree }

// mergedTree is the tree that a profile was made of.
type mergedTree struct {
	sync.Mutex // files remember the place that was asked for last
	root       *node
	table      reflect.Type
	files      []string // of the layers, the lowest first
}

func (d *document) origins(t reflect.Type) Origins {
	return Origins{&mergedTree{root: d.root, table: t, files: d.files}}
}

// All is every place.
func (o Origins) All() map[string]Place { return o.walk(true) }

// Outline leaves out what is within rules, which have an Origin each.
func (o Origins) Outline() map[string]Place { return o.walk(false) }

func (o Origins) walk(rules bool) map[string]Place {
	w := walk{d: newDocument(), rules: rules, found: map[string]Place{}}
	if o.of != nil {
		o.of.Lock()
		defer o.of.Unlock()
		w.table(o.of.root, w.d.fields(o.of.table), false)
	}
	return w.found
}

// walk goes through a tree.
type walk struct {
	d     *document // for its fields
	rules bool
	path  []byte
	found map[string]Place
}

// table notes the values of a table; element says that it is one of a list, whose own lists are not taken apart.
func (w *walk) table(n *node, fields []field, element bool) {
	for _, f := range fields {
		if v := n.get(f.name); v != nil {
			length := len(w.path)
			if length > 0 {
				w.path = append(w.path, '.')
			}
			w.path = append(w.path, f.name...)
			w.value(v, f, element)
			w.path = w.path[:length]
		}
	}
}

func (w *walk) value(n *node, f field, element bool) {
	switch {
	case f.class == table && n.kind == tableKind:
		w.table(n, w.d.fields(f.typ), element)
	case f.class == mapping && n.kind == tableKind:
		for i, name := range n.names {
			w.step(n.items[i], "."+name)
		}
	case f.class == entries && n.kind == arrayKind:
		w.entries(n, f)
	default:
		w.note(n)
		if n.kind == arrayKind && !element {
			for i, item := range n.items {
				w.step(item, index(i))
			}
		}
	}
}

func (w *walk) entries(n *node, f field) {
	if !w.rules && f.typ == reflect.TypeFor[Rule]() {
		return
	}
	fields, length := w.d.fields(f.typ), len(w.path)
	for i, item := range n.items {
		w.path = append(strconv.AppendInt(append(w.path, '['), int64(i), 10), ']')
		w.note(item)
		w.table(item, fields, true)
		w.path = w.path[:length]
	}
}

func (w *walk) step(n *node, step string) {
	length := len(w.path)
	w.path = append(w.path, step...)
	w.note(n)
	w.path = w.path[:length]
}

func (w *walk) note(n *node) { w.found[string(w.path)] = n.src.place(int(n.key)) }
