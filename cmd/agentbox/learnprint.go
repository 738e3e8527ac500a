package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"agentbox/internal/learn"
	"agentbox/internal/plan"
	"agentbox/internal/replay"
)

// explain says what would be allowed, what that is beyond what was seen, and what is left out.
func (l lesson) explain(w io.Writer) {
	var b strings.Builder
	p := l.proposal
	if !p.Empty() {
		fmt.Fprintf(&b, "agentbox: to let pass what run %s tried under profile %s:\n", l.info.ID, escaped(l.profile))
	}
	for _, s := range p.Sets {
		fmt.Fprintf(&b, "  set %s (%s), which has\n", s.Set.Name, escaped(s.Set.Description))
		listGroups(&b, s.For)
	}
	for _, r := range p.Rules {
		explainRule(&b, r)
	}
	explainLeft(&b, "not learned:", p.Left)
	explainAsides(&b, asideRows(slices.Concat(l.log.Unknown, l.log.Unsettled)))
	explainNames(&b, p.Names)
	for _, s := range []struct {
		title string
		kind  plan.Kind
	}{{"this allows, all of it:", plan.Wider}, {"and no longer:", plan.Tighter}} {
		l.explainChanges(&b, s.title, s.kind)
	}
	_, _ = io.WriteString(w, b.String()) // talk; nothing depends on it
}

func explainRule(b *strings.Builder, r learn.Rule) {
	at := r.Host.String()
	if r.Port != 443 {
		at = fmt.Sprintf("%s:%d", at, r.Port)
	}
	mark := "reads  "
	if r.Writes() {
		mark = "WRITES!"
	}
	what := strings.Join(r.Methods, ", ")
	if r.Socket {
		what = "WebSockets"
	}
	if r.Scheme != "" {
		at += " over " + r.Scheme
	}
	fmt.Fprintf(b, "  %s %s to %s\n", mark, what, at)
	if r.Blind {
		fmt.Fprintf(b, "          every path, and reading alone: its tunnel was refused, so that no request was seen\n")
	}
	for _, path := range r.Paths {
		if path.Wide() {
			fmt.Fprintf(b, "          %s names more than was seen, which is %s\n", path.Pattern, firstOf(path.Seen))
		}
	}
	listGroups(b, r.For)
}

const fewShown = 4

// firstOf is the first of a list, and how many there are beside.
func firstOf(words []string) string {
	if len(words) <= fewShown {
		return printable(strings.Join(words, ", "))
	}
	return fmt.Sprintf("%s and %d more", printable(strings.Join(words[:fewShown], ", ")), len(words)-fewShown)
}

func listGroups(b *strings.Builder, groups []replay.Group) {
	listLines(b, len(groups), func(i int) string { return timesOf(groups[i].Count, rowOf(groups[i]).text()) })
}

func explainLeft(b *strings.Builder, title string, left []learn.Left) {
	if len(left) == 0 {
		return
	}
	fmt.Fprintln(b, title)
	byReason := map[string][]learn.Left{}
	var order []string
	for _, l := range left {
		if byReason[l.Why] == nil {
			order = append(order, l.Why)
		}
		byReason[l.Why] = append(byReason[l.Why], l)
	}
	for i, why := range order {
		if i == longestList {
			fmt.Fprintf(b, "  … and %d more reasons; --json lists them all\n", len(order)-i)
			return
		}
		fmt.Fprintf(b, "  %s\n", printable(why))
		some := byReason[why]
		listLines(b, min(len(some), fewShown), func(i int) string { return timesOf(some[i].Count, rowOf(some[i].Group).text()) })
		if len(some) > fewShown {
			fmt.Fprintf(b, "        … and %d more\n", len(some)-fewShown)
		}
	}
}

// explainAsides says what no rule is made of: what the log holds in part, and what rules do not settle.
func explainAsides(b *strings.Builder, rows []asideRow) {
	if len(rows) > 0 {
		fmt.Fprintln(b, "no rule is made of:")
	}
	listLines(b, len(rows), func(i int) string {
		return timesOf(rows[i].Count, rows[i].text()+": "+printable(rows[i].Reason))
	})
}

// explainNames gives a command for each name that was asked for and no more.
func explainNames(b *strings.Builder, names []learn.Left) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(b, "looked up, and no request is known; to allow reading there:")
	listLines(b, len(names), func(i int) string {
		r := names[i].Request
		r.Port = 443
		return "  # " + plan.GrantCommand(r)
	})
}

func (l lesson) explainChanges(b *strings.Builder, title string, kind plan.Kind) {
	changes := slices.DeleteFunc(slices.Clone(l.changes), func(c plan.Change) bool { return c.Kind != kind })
	if len(changes) > 0 {
		fmt.Fprintln(b, title)
	}
	for _, c := range changes {
		b.WriteString(bullet("  + "+short(c.Text), escaped(c.Origin)))
	}
}

// learned is what learn prints as JSON.
type learned struct {
	Run     string        `json:"run"`
	Profile string        `json:"profile"`
	File    string        `json:"file"`
	Diff    string        `json:"diff"`
	Written bool          `json:"written"`
	Rules   []learnedRule `json:"rules"`
	Sets    []learnedSet  `json:"sets"`
	Changes []plan.Change `json:"changes"` // what the change allows, all of it
	Left    []asideRow    `json:"left"`    // what is not learned, and why
	Names   []asideRow    `json:"names"`   // looked up, and no request is known
	Asides  []asideRow    `json:"asides"`  // what no rule is made of: known only in part, or not for rules to settle
}

type learnedRule struct {
	Host    string       `json:"host"`
	Port    uint16       `json:"port"`
	Scheme  string       `json:"scheme,omitempty"`
	Socket  bool         `json:"websocket,omitempty"` // WebSockets alone
	Methods []string     `json:"methods"`
	Paths   []string     `json:"paths"` // none: every path
	Writes  bool         `json:"writes"`
	Wide    []string     `json:"wide"` // the paths that name more than was seen
	TOML    string       `json:"toml"`
	For     []requestRow `json:"for"`
}

type learnedSet struct {
	Name string       `json:"name"`
	For  []requestRow `json:"for"`
}

func (l lesson) report(written bool) learned {
	name, _ := l.file.names()
	out := learned{
		Run: l.info.ID, Profile: l.profile, File: name, Written: written, Rules: []learnedRule{}, Sets: []learnedSet{},
		Changes: append([]plan.Change{}, l.changes...), Left: leftRows(l.proposal.Left), Names: leftRows(l.proposal.Names),
		Asides: asideRows(slices.Concat(l.log.Unknown, l.log.Unsettled)),
	}
	if !l.proposal.Empty() {
		out.Diff = l.diff()
	}
	for _, s := range l.proposal.Sets {
		out.Sets = append(out.Sets, learnedSet{s.Set.Name, groupRows(s.For)})
	}
	for _, r := range l.proposal.Rules {
		row := learnedRule{Host: r.Host.String(), Port: r.Port, Scheme: r.Scheme, Socket: r.Socket, Methods: r.Methods, Paths: append([]string{}, r.Texts()...), Writes: r.Writes(), Wide: []string{}, TOML: r.TOML(), For: groupRows(r.For)}
		for _, p := range r.Paths {
			if p.Wide() {
				row.Wide = append(row.Wide, p.Pattern.String())
			}
		}
		out.Rules = append(out.Rules, row)
	}
	return out
}

func groupRows(groups []replay.Group) []requestRow {
	rows := []requestRow{}
	for _, g := range groups {
		rows = append(rows, rowOf(g))
	}
	return rows
}

func leftRows(left []learn.Left) []asideRow {
	rows := []asideRow{}
	for _, l := range left {
		rows = append(rows, asideRow{rowOf(l.Group), l.Why})
	}
	return rows
}
