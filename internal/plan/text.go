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

	"agentbox/internal/logins"
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
	t.signing(p)
	t.extras(p)
	t.bounds(p)
	t.gaps(p.Grants.Unsupported())
	for _, warning := range p.Binding.Warnings {
		t.line(true, "warning", "%s", clean(warning))
	}
	if p.Manifest != "" && p.Manifest != p.Hash {
		t.line(false, "changed by", "your own layers, flags or the organisation's: the repository's manifest is %s", shortHash(p.Manifest))
	}
	t.line(false, "hash", "%s", p.Hash)
	_, err := io.WriteString(w, t.b.String())
	return err
}

// gaps is one paragraph: what to write instead is what the refusal says.
func (t *page) gaps(gaps []Gap) {
	if len(gaps) == 0 {
		return
	}
	parts := make([]string, len(gaps))
	for i, gap := range gaps {
		parts[i] = clean(gap.What) + wrapped(" (", clean(gap.Origin), ")")
	}
	t.line(true, "not yet", "%s: this version cannot carry that out, and refuses the run", strings.Join(parts, " · "))
}

func shortHash(s string) string { return clean(s[:min(len(s), len("sha256:")+12)]) }

type page struct{ b strings.Builder }

const (
	margin = 14 // of text, behind the mark and the label
	width  = 80 // of a line that can be broken
)

// line writes one row, and goes on below where it is too long; an empty label goes on with the row above.
func (t *page) line(loud bool, label, format string, args ...any) {
	mark := " "
	if loud {
		mark = "!"
	}
	start := mark + " " + pad(label, margin-2)
	for _, row := range fold(fmt.Sprintf(format, args...), width-margin) {
		t.b.WriteString(strings.TrimRight(start+row, " ") + "\n")
		start = mark + strings.Repeat(" ", margin-1)
	}
}

// from says where a value stands, when somebody said it.
func from(p Plan, path string) string {
	if at := p.Grants.Origins[path]; at != fromDefault {
		return wrapped(" (", clean(at), ")")
	}
	return ""
}

// fold breaks a text between words. A word that is too long stays whole: it can be copied.
func fold(s string, width int) (rows []string) {
	row, length := "", 0
	for i, word := range strings.Split(s, " ") {
		n := len([]rune(word))
		if i > 0 && length+1+n > width && length > 0 {
			rows, row, length = append(rows, row), "", 0
		} else if i > 0 {
			row, length = row+" ", length+1
		}
		row, length = row+word, length+n
	}
	return append(rows, row)
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len([]rune(s))))
}

func (t *page) agent(p Plan) {
	t.line(false, "profile", "%s%s", clean(p.Grants.Profile), after(" · ", clean(p.Grants.Description)))
	t.line(false, "tier", "%s%s", clean(p.Grants.Tier), from(p, "tier"))
	missing := !strings.HasPrefix(p.Binding.Argv[0], "/") && !p.Binding.Image.Used()
	t.line(missing, "runs", "%s%s", words(p.Binding.Argv), map[bool]string{true: " · not installed on this machine"}[missing])
	switch a := p.Grants.Agent; {
	case a.Image != "":
		t.line(true, "", "in the image %s%s", clean(a.Image), from(p, "agent.image"))
	case a.Containerfile != "":
		t.line(true, "", "in an image built from %s", clean(a.Containerfile))
	}
	t.image(p.Binding.Image)
	if p.Binding.Directory != p.Binding.Repo {
		t.line(false, "", "in %s", clean(p.Binding.Directory))
	}
}

func (t *page) files(p Plan) {
	switch w := p.Grants.Workspace; w.Mode {
	case Direct:
		t.line(true, "repo", "%s · direct: it writes to your files as it goes%s", clean(p.Binding.Repo), from(p, "workspace.mode"))
	case ReadOnly:
		t.line(false, "repo", "%s · read-only: it can change nothing%s", clean(p.Binding.Repo), from(p, "workspace.mode"))
	default:
		t.line(false, "repo", "%s · %s: it works in a copy, until you apply%s", clean(p.Binding.Repo), clean(string(w.Mode)), from(p, "workspace.mode"))
		t.layer(p.Binding.Layer)
	}
	if p.Binding.GitDir != "" {
		t.line(true, "", "%s: its git directory, which lies outside of it, is shown too, with all branches and worktrees", clean(p.Binding.GitDir))
	}
	t.hidden(p)
	t.mounts(p)
	if p.Binding.Image.Used() {
		t.line(false, "tools", "those of the image, read-only; nothing of this machine's own")
		return
	}
	tools := append([]string{"/usr"}, p.Binding.Roots...)
	t.line(false, "tools", "%s · read-only%s", words(tools), masked(p.Binding.Masked))
}

// hidden tells what the layers hide and show. What every profile hides is no list to read each time, and nothing to speak of
// where there is none of it.
func (t *page) hidden(p Plan) {
	var hide, show, hiding, showing []string
	for i, pattern := range p.Grants.Workspace.Hide {
		at := origin(p.Grants, "workspace.hide", i)
		switch bare, shown := shows(pattern); {
		case ofEvery(at):
		case shown:
			show, showing = append(show, bare), append(showing, clean(at))
		default:
			hide, hiding = append(hide, pattern), append(hiding, clean(at))
		}
	}
	if len(hide)+len(show)+len(p.Binding.Hidden) == 0 {
		return
	}
	from := func(places []string) string {
		return wrapped(" (", strings.Join(slices.Compact(places), ", "), ")")
	}
	what := "the names of secrets"
	if len(hide) > 0 {
		what += " and " + words(hide)
	}
	t.line(false, "hidden", "%s, now %s%s", what, count(len(p.Binding.Hidden), "path"), from(hiding))
	if len(show) > 0 {
		t.line(true, "", "but shown: %s%s", words(show), from(showing))
	}
}

// layer says when files are copied: an overlay, which shows them through, costs nothing and needs no word.
func (t *page) layer(l Layer) {
	switch {
	case l.Why != "":
		t.line(true, "", "every file is copied first: there can be no overlay here (%s)", clean(l.Why))
	case l.Backend == string(Copied):
		t.line(false, "", "every file is copied first")
	}
}

func masked(files []string) string {
	if len(files) == 0 {
		return ""
	}
	return ", without " + count(len(files), "credential file")
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
		host := len(c.Source.Command) > 0 // it is run on this machine
		t.line(host, label, "%s from %s, only to %s as %s%s (%s)", clean(c.Name), source(c.Source), hosts(c.Hosts), clean(c.slot()), ttl(c.TTL), clean(c.Origin))
		which := "for the agent: any request"
		if only := c.only(); only != "" {
			which = "for the agent: requests for " + only + ", and no others"
		}
		t.line(false, "", "%s; it holds a placeholder%s, not the value", which, after(" in $", clean(c.Env)))
	}
}

// signing says what of git's is signed; where nothing is there is nothing to say.
func (t *page) signing(p Plan) {
	commits, s := p.Grants.Signing.Commits, p.Binding.Signs
	switch {
	case commits == "":
	case s.Problem != "":
		t.line(true, "signing", "nothing can be signed: %s%s", clean(s.Problem), from(p, pathSigning))
	case commits == string(policy.Ask):
		t.line(false, "signing", "the agent's commits and tags with %s, after asking you about each%s", clean(s.With), from(p, pathSigning))
	default:
		t.line(true, "signing", "the agent's commits and tags with %s, without asking you%s", clean(s.With), from(p, pathSigning))
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
	if len(s.Command) > 0 {
		from = append(from, "what this machine runs: "+words(s.Command))
	}
	if s.File != "" {
		from = append(from, "the file "+clean(s.File))
	}
	if o := s.OAuth; o != nil {
		from = append(from, loginText(*o))
	}
	if a := s.GitHubApp; a != nil {
		from = append(from, fmt.Sprintf("GitHub App %d (key %q) for %s with %s", a.ID, a.Key, words(a.Repos), words(pairs(a.Permissions))))
	}
	return strings.Join(from, " or ")
}

// loginText names whose login it is, where it is, and who refreshes it.
func loginText(o OAuth) string {
	at := "in " + clean(o.File)
	if o.Keyring != "" {
		at = "in keyring " + strconv.Quote(o.Keyring)
	}
	if l, ok := logins.Find(o.Login); ok {
		at += ", refreshed on this machine at " + l.Host
	}
	return "your login of " + clean(o.Login) + " " + at
}

func pairs(m map[string]string) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, k+"="+m[k])
	}
	return out
}

func ttl(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return ", for " + short(d)
}

func hosts(hs []policy.Host) string {
	names := make([]string, len(hs))
	for i, h := range hs {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}

func (t *page) bounds(p Plan) {
	t.line(false, "stops after", "%s%s", budgetText(p.Grants.Budget), from(p, "budget.time"))
	t.limits(p)
	e := p.Binding.Engine
	t.line(false, "isolation", "%s · rootless Podman %s, %s, %s", p.Grants.Isolation.Runtime, clean(e.Version), clean(cmp.Or(e.Runtime, "its own runtime")), transport(e.Transport))
}

func budgetText(b Budget) string {
	var parts []string
	add := func(asked bool, text string) {
		if asked {
			parts = append(parts, text)
		}
	}
	add(b.Time > 0, short(b.Time))
	add(b.USD != "", clean(b.USD)+" dollars")
	add(b.Tokens > 0, count(int(b.Tokens), "token"))
	add(b.Requests > 0, count(int(b.Requests), "request"))
	add(b.ToolCalls > 0, count(int(b.ToolCalls), "tool call"))
	add(b.Denials > 0, count(int(b.Denials), "denial"))
	add(len(parts) > 0 && b.OnLimit == "ask", "and asks then whether to go on")
	if b.Time == 0 {
		parts = append(parts, "no time limit")
	}
	return strings.Join(parts, ", ")
}

// extras are parts that few profiles have.
func (t *page) extras(p Plan) {
	g := p.Grants
	for _, r := range g.Git {
		what := "nothing"
		if r.Fetch {
			what = "fetch"
		}
		t.line(len(r.Push) > 0, "git", "%s: %s%s (%s)", clean(r.Remote), what, after(", push to ", words(r.Push)), clean(r.Origin))
	}
	for _, s := range g.Servers {
		t.line(true, "mcp", "%s is run on this machine: %s%s%s%s (%s)", clean(s.Name), words(s.Command), after(" · allow ", words(s.Allow)),
			after(" · ask ", words(s.Ask)), after(" · deny ", words(s.Deny)), clean(s.Origin))
	}
	t.kept(g)
	if g.Memory.Scope != "none" {
		t.line(true, "memory", "%s%s · outlives the run", clean(g.Memory.Scope), ttl(g.Memory.TTL))
	}
	if g.Telemetry != "" {
		t.line(true, "telemetry", "every event is sent to %s", clean(g.Telemetry))
	}
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
	add("disk", "disk "+size(l.Disk), l.Disk > 0)
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
