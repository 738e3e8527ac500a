package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// Random layers, of few names and values, so that they meet.

type writer struct {
	strings.Builder
	r *rand.Rand
}

func (w *writer) maybe(format string, args ...any) {
	if w.r.IntN(3) == 0 {
		fmt.Fprintf(w, format, args...)
	}
}

func quotedAll(list []string) string { return strings.Trim(quotedList(list), "[]") }

// layer writes one random file of a profile. Keep says that lists begin with what is below, as a careful person has it.
func layer(r *rand.Rand, base bool) string {
	w := &writer{r: r}
	w.WriteString("version = 1\n")
	w.maybe("tier = %q\n", oneOf(r, "low", "low", "medium"))
	w.WriteString("\n[agent]\n")
	if base {
		w.WriteString("command = [\"work\"]\n")
	} else if r.IntN(8) == 0 {
		w.WriteString("command = [\"other\"]\n")
	}
	if r.IntN(6) == 0 {
		fmt.Fprintf(w, "args = [%s]\n", quotedAll(someOf(r, "-a", "-b")))
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(w, "pass = [%s]\n", elements(r, "EDITOR", "VISUAL"))
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(w, "env = { A = %q }\n", oneOf(r, "1", "2"))
	}
	w.WriteString("\n[workspace]\n")
	w.maybe("mode = %q\n", oneOf(r, "direct", "readonly", "review"))
	w.maybe("hide = [%s]\n", elements(r, "salt", "secrets/**", ".env.a", "sa*"))
	w.maybe("show = [%s]\n", elements(r, "salt", ".env.*", "secrets", "**"))
	w.WriteString("\n[network]\n")
	w.maybe("default = %q\n", oneOf(r, "deny", "deny", "ask", "allow"))
	w.maybe("use = [%s]\n", elements(r, "store", "brain", "origin"))
	for range r.IntN(3) {
		randomRule(w)
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(w, "\n[[credential]]\nname = %q\nsource = { env = %q }\nhosts = [%q]\nheader = \"Authorization: Bearer {token}\"\nenv = %q\n", oneOf(r, "one", "two"),
			oneOf(r, "KEY", "OTHER"), oneOf(r, "a.test", "b.a.test"), oneOf(r, "X_ONE", "X_TWO"))
	}
	w.WriteString("\n[budget]\n")
	w.maybe("time = %q\n", oneOf(r, "1h", "2h"))
	w.maybe("requests = %d\n", 1+r.IntN(3))
	w.WriteString("\n[limits]\n")
	w.maybe("pids = %d\n", oneOf(r, 100, 200, 4000))
	w.WriteString("\n[isolation]\n")
	w.maybe("runtime = %q\n", oneOf(r, "auto", "container", "gvisor"))
	if r.IntN(5) == 0 {
		fmt.Fprintf(w, "\n[[mcp]]\nname = \"s\"\ncommand = [\"serve\"]\nallow = [%q]\ndeny = [%q]\n", oneOf(r, "a", "b"), oneOf(r, "c", "d"))
	}
	return w.String()
}

// elements is a list that mostly keeps what is below it.
func elements(r *rand.Rand, from ...string) string {
	list := someOf(r, from...)
	if r.IntN(4) > 0 {
		list = append([]string{"..."}, list...)
	}
	return quotedAll(list)
}

func randomRule(w *writer) {
	r := w.r
	fmt.Fprintf(w, "\n[[network.rule]]\naction = %q\nhost = %q\n", oneOf(r, "allow", "deny", "deny", "ask"), oneOf(r, "a.test", "*.a.test", "b.a.test", "store.test"))
	w.maybe("ports = [%d]\n", oneOf(r, 80, 8443))
	switch r.IntN(4) {
	case 0:
		fmt.Fprintf(w, "methods = [%s]\n", quotedAll([]string{oneOf(r, "GET", "POST")}))
	case 1:
		fmt.Fprintf(w, "paths = [%q]\n", oneOf(r, "/a", "/a/**", "/**/b", "/*"))
	case 2:
		w.maybe("inspect = %t\n", r.IntN(2) == 0)
	}
}

var sets = fstest.MapFS{
	"sets/store.toml": {Data: []byte("version = 1\ndescription = \"s\"\n[[rule]]\naction = \"allow\"\nhost = \"store.test\"\nmethods = [\"GET\"]\n"), Mode: 0o444},
	"sets/brain.toml": {Data: []byte("version = 1\ndescription = \"b\"\nmodel = true\n[[rule]]\naction = \"allow\"\nhost = \"a.test\"\n"), Mode: 0o444},
}

func fileAt(name, text string) fstest.MapFS {
	return fstest.MapFS{name: {Data: []byte(text), Mode: 0o644}}
}

// layered gives the grants of built-in, repo and user files; ok is false for layers that do not load or that a floor refuses.
func layered(t *testing.T, builtIn, user string, repo fs.FS) (g Grants, ok bool) {
	t.Helper()
	below := fileAt("work.toml", builtIn)
	for name, f := range sets {
		below[name] = f
	}
	l, err := profiles.Load("work", profiles.Files{BuiltIn: below, Repo: repo, User: fileAt("profiles/work.toml", user), UserDir: "~"})
	if err != nil {
		return Grants{}, false
	}
	g, err = Grant(GrantInputs{Profile: l.Profile})
	var refused *Refusals
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return g, err == nil
}

// The promise that trust rests on: a repo layer of which Diff knows no Wider change allows nothing more, whatever the
// layers below and above it say.
func TestALayerWithoutWideningAllowsNothingMore(t *testing.T) {
	var judged, tight, wide int
	seeds(t, 3000, func(t *testing.T, r *rand.Rand) {
		builtIn, user, text := layer(r, true), "version = 1\n", layer(r, false)
		if r.IntN(2) == 0 {
			user = layer(r, false)
		}
		repo := fileAt(oneOf(r, "agentbox.toml", ".agentbox/work.toml"), text)
		without, ok1 := layered(t, builtIn, user, nil)
		with, ok2 := layered(t, builtIn, user, repo)
		if !ok1 || !ok2 {
			return
		}
		judged++
		changes := Diff(without, with)
		if len(Widenings(changes)) > 0 {
			wide++
			return
		}
		if len(changes) > 0 {
			tight++
		}
		if more := allowsMore(t, without, with); more != "" {
			t.Errorf("%s, and Diff says %+v\n--- built-in\n%s--- user\n%s--- repo\n%s", more, changes, builtIn, user, text)
		}
	})
	t.Logf("%d pairs, %d wider, %d tighter only", judged, wide, tight)
	if tight < 100 || wide < 100 {
		t.Error("the layers are not varied enough to show anything")
	}
}

// shown finds a path that `to` shows and `from` hides.
func shown(from, to Grants) string {
	was, is := hideList(from.Workspace.Hide), hideList(to.Workspace.Hide)
	for _, rel := range []string{"salt", "sand", "secrets/x", "secrets/salt", "secrets/.env", ".env", ".env.a", "x/.env.b", "x/salt", "k.pem"} {
		if was.Hides(rel, false) && !is.Hides(rel, false) {
			return rel
		}
	}
	return ""
}

// allowsMore looks, without Diff, for something that `to` gives and `from` does not.
func allowsMore(t *testing.T, from, to Grants) string {
	switch {
	case !slices.Equal(from.Agent.Command, to.Agent.Command), !slices.Equal(from.Agent.Args, to.Agent.Args):
		return "it runs something else"
	case len(minus(to.Agent.Pass, from.Agent.Pass)) > 0:
		return "it hands in another variable"
	case shown(from, to) != "":
		return "it shows " + shown(from, to)
	case from.Workspace.Mode != to.Workspace.Mode && (to.Workspace.Mode == Direct || from.Workspace.Mode == ReadOnly):
		return "it may write more"
	case slices.Contains(to.Use, originSet) && !slices.Contains(from.Use, originSet):
		return "it uses origin"
	case from.Budget.Time != 0 && (to.Budget.Time == 0 || to.Budget.Time > from.Budget.Time):
		return "it runs for longer"
	case from.Budget.Requests != 0 && (to.Budget.Requests == 0 || to.Budget.Requests > from.Budget.Requests):
		return "it makes more requests"
	case max(to.Limits.Pids, 1) > max(from.Limits.Pids, 1) && (from.Limits.Pids > 0 || to.Limits.Pids > 2048), from.Limits.Pids > 0 && from.Limits.Pids < 2048 && to.Limits.Pids == 0:
		return "it has more processes"
	case from.Isolation.Runtime == "gvisor" && to.Isolation.Runtime == "container":
		return "it is less isolated"
	case from.Tier == "medium" && to.Tier == "low":
		return "its tier is lower"
	}
	for name, value := range to.Agent.Env {
		if from.Agent.Env[name] != value {
			return "it sets $" + name
		}
	}
	for _, c := range to.Credentials {
		i := slices.IndexFunc(from.Credentials, func(o Credential) bool { return o.Name == c.Name })
		if i < 0 || len(minusHosts(c.Hosts, from.Credentials[i].Hosts)) > 0 || c.Source.Env != from.Credentials[i].Source.Env || c.Env != from.Credentials[i].Env {
			return "it uses credential " + c.Name
		}
	}
	for _, tool := range []string{"s.a", "s.b", "s.c", "s.d", "s.e"} {
		if from.WhyTool(tool).Decision == "deny" && to.WhyTool(tool).Decision != "deny" {
			return "it may call " + tool
		}
	}
	return asksMore(t, from.Network, to.Network)
}

func asksMore(t *testing.T, from, to policy.Set) string {
	t.Helper()
	order := []policy.Action{policy.Deny, policy.Ask, policy.Allow}
	for _, name := range []string{"a.test", "b.a.test", "c.b.a.test", "store.test", "other.test"} {
		for _, port := range []uint16{80, 443, 8443, 22} {
			for _, method := range []string{"", "GET", "POST", "DELETE"} {
				for _, path := range []string{"/", "/a", "/a/b", "/a/b/c", "/b", "/x/b", "/a/../b", "/%61", "//a"} {
					r := policy.Request{Host: host(t, name), Port: port, Scheme: "https", Method: method, Path: path}
					if method == "" {
						r.Path = ""
					}
					a, b := from.Decide(r), to.Decide(r)
					if method == "" && b.Inspect { // nothing passes but requests, and those are judged one by one
						continue
					}
					if slices.Index(order, b.Action) > slices.Index(order, a.Action) {
						return fmt.Sprintf("%s %s is %s and was %s", method, (&url.URL{Host: fmt.Sprintf("%s:%d", name, port), Path: path}).String(), b.Action, a.Action)
					}
					if a.Allowed() && b.Allowed() && a.Inspect && !b.Inspect {
						return fmt.Sprintf("%s:%d is not inspected any more", name, port)
					}
				}
			}
		}
	}
	return ""
}
