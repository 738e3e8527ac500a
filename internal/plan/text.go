package plan

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"agentbox/internal/policy"
)

// WriteText shows the plan to a person in a hurry, on one screen: what runs, what it can touch, reach and spend.
// A line that begins with "!" is one to look at. Strings are made printable; no value of a credential is in a plan.
func WriteText(w io.Writer, p Plan) error {
	t := &page{}
	t.agent(p)
	t.files(p)
	t.network(p)
	t.credentials(p)
	t.bounds(p)
	for _, warning := range p.Binding.Warnings {
		t.line(true, "warning", "%s", clean(warning))
	}
	t.line(false, "hash", "%s", p.Hash)
	_, err := io.WriteString(w, t.b.String())
	return err
}

type page struct{ b strings.Builder }

// line writes one row; an empty label goes on with the row above.
func (t *page) line(loud bool, label, format string, args ...any) {
	mark := " "
	if loud {
		mark = "!"
	}
	text := mark + " " + pad(label, 12) + fmt.Sprintf(format, args...)
	t.b.WriteString(strings.TrimRight(text, " ") + "\n")
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len([]rune(s))))
}

func (t *page) agent(p Plan) {
	t.line(false, "profile", "%s%s", clean(p.Grants.Profile), after(" · ", clean(p.Grants.Description)))
	t.line(false, "runs", "%s", words(p.Binding.Argv))
	if p.Binding.Directory != p.Binding.Repo {
		t.line(false, "", "in %s", clean(p.Binding.Directory))
	}
}

func (t *page) files(p Plan) {
	if p.Grants.Workspace.Mode == Direct {
		t.line(true, "repo", "%s · direct: it writes to your files as it goes", clean(p.Binding.Repo))
	} else {
		t.line(false, "repo", "%s · read-only: it can change nothing", clean(p.Binding.Repo))
	}
	if hide := p.Grants.Workspace.Hide; len(hide) > 0 {
		t.line(false, "hidden", "%s (now %s)", words(hide), count(len(p.Binding.Hidden), "path"))
	}
	tools := append([]string{"/usr"}, p.Binding.Roots...)
	t.line(false, "tools", "%s · read-only%s", words(tools), masked(p.Binding.Masked))
}

func masked(files []string) string {
	if len(files) == 0 {
		return ""
	}
	return ", without " + count(len(files), "credential file")
}

func (t *page) network(p Plan) {
	rules := p.Grants.Network.Rules
	switch {
	case p.Grants.Network.Default == policy.Allow:
		t.line(true, "network", "everything that no rule denies: it can send your code anywhere")
	case !slices.ContainsFunc(rules, func(r policy.Rule) bool { return r.Action == policy.Allow }):
		t.line(false, "network", "none")
	default:
		t.line(false, "network", "only what is listed here")
	}
	for _, r := range rules {
		t.rule(r)
	}
	for _, host := range sortedKeys(p.Binding.Upstream.Hosts) {
		t.line(true, "", "%s is dialled at %s (your config.toml)", clean(host), clean(p.Binding.Upstream.Hosts[host]))
	}
	if ca := p.Binding.Upstream.CA; ca != "" {
		t.line(true, "", "servers may use certificates of %s (your config.toml)", clean(ca))
	}
}

func (t *page) rule(r policy.Rule) {
	note := ""
	blind := r.Action == policy.Allow && !r.Inspect
	if blind {
		note = " · not inspected: what is asked of it is neither checked nor seen"
	}
	t.line(blind, "", "%-6s%s%s  (%s)", r.Action, target(r), note, clean(r.Origin))
}

// target leaves out the port that goes without saying.
func target(r policy.Rule) string {
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	if s := strings.Join(ports, ","); s != "443" {
		return r.Host.String() + ":" + s
	}
	return r.Host.String()
}

func (t *page) credentials(p Plan) {
	if len(p.Grants.Credentials) == 0 {
		t.line(false, "credentials", "none")
	}
	for i, c := range p.Grants.Credentials {
		label := ""
		if i == 0 {
			label = "credentials"
		}
		header, _, _ := strings.Cut(c.Header, ":")
		t.line(false, label, "%s from %s, only to %s as %s  (%s)", clean(c.Name), source(c.Source), hosts(c.Hosts), clean(header), clean(c.Origin))
		t.line(false, "", "the agent holds a placeholder%s, never the value", after(" in $", clean(c.Env)))
	}
}

func source(s Source) string {
	var from []string
	if s.Env != "" {
		from = append(from, "your $"+clean(s.Env))
	}
	if s.Keyring != "" {
		from = append(from, "keyring "+strconv.Quote(s.Keyring))
	}
	return strings.Join(from, " or ")
}

func hosts(hs []policy.Host) string {
	names := make([]string, len(hs))
	for i, h := range hs {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}

func (t *page) bounds(p Plan) {
	if p.Grants.Budget.Time > 0 {
		t.line(false, "stops after", "%s", short(p.Grants.Budget.Time))
	} else {
		t.line(false, "stops after", "no time limit")
	}
	t.limits(p)
	e := p.Binding.Engine
	t.line(false, "isolation", "%s · rootless Podman %s with %s, %s", p.Grants.Isolation.Runtime, clean(e.Version), clean(cmp.Or(e.Runtime, "its own runtime")), transport(e.Transport))
}

func transport(s string) string {
	if s == "relay" {
		return "connections relayed"
	}
	return "connections handed over"
}

func (t *page) limits(p Plan) {
	l, parts, loud := p.Grants.Limits, []string{}, false
	add := func(key, text string, asked bool) {
		if !asked {
			return
		}
		if !p.Binding.Enforced[key] {
			text, loud = text+" NOT ENFORCED HERE", true
		}
		parts = append(parts, text)
	}
	add("memory", "memory "+size(l.Memory), l.Memory > 0)
	add("cpus", "cpus "+strconv.FormatFloat(l.CPUs, 'g', -1, 64), l.CPUs > 0)
	add("pids", "pids "+strconv.FormatInt(l.Pids, 10), l.Pids > 0)
	if len(parts) == 0 {
		parts = []string{"the engine's own"}
	}
	t.line(loud, "limits", "%s", strings.Join(parts, ", "))
}

func size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// short is "2h" where time.Duration says "2h0m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// words joins as a shell would read them back, printable.
func words(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = clean(a)
		if a == "" || out[i] == a && strings.ContainsAny(a, " \t'\"\\$`;&|<>(){}") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// clean quotes a string that holds anything but printable characters, so that it cannot redraw the screen.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) >= 0 {
		return strconv.QuoteToASCII(s)
	}
	return s
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
