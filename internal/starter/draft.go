package starter

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/profiles"
)

// finish writes the profile.
func (d *draft) finish(format Format, file string) Imported {
	slices.SortStableFunc(d.notes, func(a, b Note) int { return a.offset - b.offset })
	if d.lost > 0 {
		d.notes = append(d.notes, Note{At: clean(file), Key: "(others)", Kind: Dropped, Text: fmt.Sprintf("and %d more, which are not listed", d.lost)})
	}
	w := &writer{}
	w.text(fmt.Sprintf("Imported from %s (%s) by `agentbox profile import`.", clean(file), format),
		"What stands behind a value is the line that it comes from.")
	if open := len(slices.DeleteFunc(slices.Clone(d.notes), func(n Note) bool { return n.Kind == Narrower })); open > 0 {
		w.text(fmt.Sprintf("Not all of it has a counterpart here: importing it again names %s.", Things(open)))
	}
	w.gap()
	w.line("version = 1", "")
	w.line("extends = "+quote(d.options.Base), given(d.options.Base))
	w.line("description = "+quote(strings.TrimPrefix(d.options.Name+", ", ", ")+"imported from "+clean(file)), "")
	d.agent(w)
	d.workspace(w)
	d.network(w)
	d.limit(w)
	if len(d.comments) > 0 {
		w.gap()
		w.text("In the place of the rules that deny these, to be asked, whichever program it is that wants them:")
		w.text(d.comments...)
	}
	return Imported{Format: format, Profile: []byte(w.String()), Notes: d.notes}
}

// Things counts them: "1 thing", "2 things".
func Things(n int) string {
	if n == 1 {
		return "1 thing"
	}
	return fmt.Sprintf("%d things", n)
}

func (d *draft) agent(w *writer) {
	open := d.root.What != "" && !strings.HasPrefix(d.root.What, "#")
	switch {
	case len(d.pass) > 0 || open:
		w.gap()
		w.line("[agent]", "")
	case d.root.What != "":
		w.gap()
		w.line("# [agent]", "")
	}
	if d.root.What != "" {
		w.line(d.root.What, d.root.File)
	}
	if len(d.pass) > 0 {
		w.list("pass", d.pass)
	}
	if len(d.env) > 0 {
		w.gap()
		w.line("[agent.env]", "")
		for _, name := range slices.Sorted(maps.Keys(d.env)) {
			w.line(name+" = "+quote(d.env[name]), "")
		}
	}
}

// list writes a list that adds to the base's.
func (w *writer) list(key string, values []Fact) {
	w.line(key+" = [", "")
	w.line(`  "...",`, "what the base says")
	for _, v := range values {
		w.line("  "+quote(v.What)+",", v.File)
	}
	w.line("]", "")
}

func (d *draft) workspace(w *writer) {
	if !d.readonly && len(d.hide) == 0 {
		return
	}
	w.gap()
	w.line("[workspace]", "")
	if d.readonly {
		w.line(`mode = "readonly"`, "nothing in the repository might be written")
	}
	if len(d.hide) > 0 {
		w.list("hide", d.hide)
	}
}

func (d *draft) network(w *writer) {
	allow := slices.DeleteFunc(slices.Clone(d.allow), func(a domain) bool {
		return d.denyAll || slices.ContainsFunc(d.left, func(f func(domain) bool) bool { return f(a) })
	})
	var base []profiles.Rule
	if d.options.Merged != nil {
		base = d.options.Merged.Network.Rules
	}
	settled := settle(allow, d.deny, base)
	for _, r := range settled.deny {
		w.domain("deny", r)
	}
	for _, r := range settled.allow {
		w.domain("allow", r)
	}
}

func (w *writer) domain(action string, r domain) {
	w.gap()
	w.line("[[network.rule]]", r.from)
	w.line("action = "+quote(action), "")
	w.line("host = "+quote(r.pattern.String()), "")
	if len(r.ports) != 1 || r.ports[0] != 443 {
		numbers := make([]string, len(r.ports))
		for i, p := range r.ports {
			numbers[i] = strconv.Itoa(int(p))
		}
		w.line("ports = ["+strings.Join(numbers, ", ")+"]", "")
	}
}

func (d *draft) limit(w *writer) {
	if len(d.limits) == 0 {
		return
	}
	w.gap()
	w.line("[limits]", "")
	for _, key := range slices.Sorted(maps.Keys(d.limits)) {
		w.line(key+" = "+d.limits[key].What, d.limits[key].File)
	}
}
