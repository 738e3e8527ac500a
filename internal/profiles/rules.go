package profiles

import (
	"reflect"
	"slices"

	"agentbox/internal/policy"
)

// ruleReader decodes rules, of which there may be very many, without reflection.
type ruleReader struct {
	ports   recent[Port]
	methods recent[Method]
	paths   recent[policy.PathPattern]
	private recent[Prefix]
}

// recent is the list that was read last. Rules in a row mostly have the same one, and then share it.
type recent[T any] struct {
	of   *node
	list []T
}

// rules decodes a list of rules. One with anything wrong in it is decoded like every table, which says what is wrong.
func (d *document) rules(items []*node) []Rule {
	out, x, usual := make([]Rule, len(items)), ruleReader{}, Rule{}
	usual.defaults()
	for i, item := range items {
		r := &out[i]
		if item.kind != tableKind {
			d.decode(item, reflect.ValueOf(r).Elem())
			continue
		}
		done, ok := item.done.(*Rule)
		if !ok {
			done, *r = r, usual
			if !x.read(item, r) {
				*r = Rule{}
				d.decode(item, reflect.ValueOf(r).Elem())
			}
		}
		*r, item.done = *done, r
	}
	return out
}

// read fills r, which has its defaults, from a table, and reports whether nothing is wrong.
func (x *ruleReader) read(n *node, r *Rule) (ok bool) {
	for i, name := range n.names {
		v := n.items[i]
		switch name {
		case "action":
			r.Action, ok = Action(v.text), v.kind == stringKind && slices.Contains(actions(), v.text)
		case "host":
			r.Host, ok = word(v, policy.ParsePattern)
		case "ports":
			r.Ports, ok = x.ports.read(v, portOf)
		case "methods":
			r.Methods, ok = x.methods.read(v, methodOf)
		case "paths":
			r.Paths, ok = x.paths.read(v, func(n *node) (policy.PathPattern, bool) { return word(n, policy.ParsePathPattern) })
		case "inspect":
			r.Inspect, ok = v.bits != 0, v.kind == boolKind
		default:
			ok = x.readMore(name, v, r)
		}
		if !ok {
			return false
		}
	}
	return r.Action != "" && r.Host != (policy.Pattern{})
}

// readMore reads what few rules say.
func (x *ruleReader) readMore(name string, v *node, r *Rule) (ok bool) {
	switch name {
	case "scheme":
		r.Scheme, ok = Scheme(v.text), v.kind == stringKind && slices.Contains(schemes(), v.text)
	case "websocket":
		on := v.bits != 0
		r.WebSocket, ok = &on, v.kind == boolKind
	case "protocol":
		r.Protocol, ok = Protocol(v.text), v.kind == stringKind && slices.Contains(protocols(), v.text)
	case "max_request":
		ok = v.kind == stringKind && r.MaxRequest.UnmarshalText([]byte(v.text)) == nil
	case "max_sent":
		ok = v.kind == stringKind && r.MaxSent.UnmarshalText([]byte(v.text)) == nil
	case "private":
		r.Private, ok = x.private.read(v, func(n *node) (p Prefix, ok bool) {
			ok = n.kind == stringKind && p.UnmarshalText([]byte(n.text)) == nil
			return p, ok
		})
	}
	return ok
}

func word[T any](n *node, parse func(string) (T, error)) (v T, ok bool) {
	if n.kind != stringKind {
		return v, false
	}
	v, err := parse(n.text)
	return v, err == nil
}

func portOf(n *node) (p Port, ok bool) {
	ok = n.kind == integerKind && p.unmarshalInt(n.integer()) == nil
	return p, ok
}

func methodOf(n *node) (Method, bool) {
	return Method(n.text), n.kind == stringKind && isMethod(n.text)
}

// read decodes a list.
func (x *recent[T]) read(n *node, one func(*node) (T, bool)) ([]T, bool) {
	if n.kind != arrayKind || len(n.items) > maxWithin {
		return nil, false
	}
	if x.of != nil && slices.EqualFunc(x.of.items, n.items, sameScalar) {
		return x.list, true
	}
	out := make([]T, len(n.items))
	for i, item := range n.items {
		v, ok := one(item)
		if !ok {
			return nil, false
		}
		out[i] = v
	}
	x.of, x.list = n, out
	return out, true
}

func sameScalar(a, b *node) bool {
	return a.kind == b.kind && a.text == b.text && a.bits == b.bits && a.list == nil && b.list == nil
}
