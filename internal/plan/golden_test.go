package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"agentbox/internal/profiles"
)

// Each archive of testdata holds the layers of profile "work" (built-in/, repo/, user/), the organisation's policy.toml and
// flags, and what comes of them: the grants, what this version cannot carry out of them, or what is refused.
func TestArchives(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 16 {
		t.Fatalf("%d archives, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(t, archive)
			kept := slices.DeleteFunc(slices.Clone(archive.Files), func(f txtar.File) bool { return isOutcome(f.Name) })
			want := txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: append(kept, got...)})
			if *update {
				if err := os.WriteFile(name, want, 0o644); err != nil { //nolint:gosec // a file of the repository
					t.Fatal(err)
				}
			}
			if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, want) {
				t.Errorf("%s differs (%v); go test ./internal/plan -update writes it. Got:\n%s", name, err, txtar.Format(&txtar.Archive{Files: got}))
			}
		})
	}
}

func isOutcome(name string) bool {
	return name == "grants.json" || name == "refused" || name == "not-yet" || name == "screen"
}

func outcome(t *testing.T, a *txtar.Archive) []txtar.File {
	t.Helper()
	g, err := Grant(archived(t, a))
	var refused *Refusals
	if errors.As(err, &refused) {
		return []txtar.File{{Name: "refused", Data: []byte(refused.Error() + "\nhint: " + strings.ReplaceAll(refused.Hint(), "\n", "\nhint: ") + "\n")}}
	}
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	out := []txtar.File{{Name: "grants.json", Data: append(js, '\n')}}
	if gaps := gapsError(g); gaps != nil {
		out = append(out, txtar.File{Name: "not-yet", Data: []byte(gaps.Error() + "\nhint: " + strings.ReplaceAll(gaps.Hint(), "\n", "\nhint: ") + "\n")})
	}
	if slices.ContainsFunc(a.Files, func(f txtar.File) bool { return f.Name == "screen" }) {
		out = append(out, txtar.File{Name: "screen", Data: screen(t, g)})
	}
	return out
}

// screen is the plan as it is shown, on a machine that can enforce everything.
func screen(t *testing.T, g Grants) []byte {
	t.Helper()
	p := Plan{Hash: g.Hash(), Grants: g, Binding: Binding{Repo: "/home/ann/repo", Directory: "/home/ann/repo", Argv: []string{"/usr/bin/work"},
		Enforced: map[string]bool{"memory": true, "cpus": true, "pids": true}, Engine: Engine{Version: "5.4.2", Runtime: "crun", Transport: "pass"}}}
	if slices.Contains(g.Use, originSet) {
		p.Binding.Remote = "github.com/acme/billing"
		p.Binding.Rules, _ = OriginRules(ParseRemote("https://github.com/acme/billing"))
	}
	var b bytes.Buffer
	if err := WriteText(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archived loads what an archive holds.
func archived(t *testing.T, a *txtar.Archive) GrantInputs {
	t.Helper()
	dirs := map[string]fstest.MapFS{"built-in": {}, "repo": {}, "user": {}}
	in := GrantInputs{}
	for _, f := range a.Files {
		dir, rest, _ := strings.Cut(f.Name, "/")
		switch {
		case dirs[dir] != nil:
			dirs[dir][rest] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
		case f.Name == "policy.toml":
			var err error
			if in.Floors, err = profiles.LoadFloors(f.Data, organisationFile); err != nil {
				t.Fatal(err)
			}
		case f.Name == "flags":
			flags(t, &in, string(f.Data))
		case !isOutcome(f.Name):
			t.Fatalf("%s is none of the files that this test knows", f.Name)
		}
	}
	in.Profile = loaded(t, dirs["built-in"], dirs["repo"], dirs["user"])
	return in
}

func loaded(t testing.TB, builtIn, repo, user fs.FS) profiles.Profile {
	t.Helper()
	l, err := profiles.Load("work", profiles.Files{BuiltIn: builtIn, Repo: repo, User: user, UserDir: "~/.config/agentbox"})
	if err != nil {
		t.Fatal(err)
	}
	return l.Profile
}

func flags(t *testing.T, in *GrantInputs, text string) {
	t.Helper()
	for _, flag := range strings.Fields(text) {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "--timeout":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			in.Timeout = &d
		case "--workspace":
			in.Mode = Mode(value)
		default:
			t.Fatal(fmt.Errorf("no flag %s", name))
		}
	}
}

// Nothing that is asked for and cannot be done is passed over: the run is refused, and the plan is there to be shown.
func TestResolveRefusesEveryGap(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/not-yet.txtar")
	if err != nil {
		t.Fatal(err)
	}
	all := archived(t, archive).Profile
	for what, strip := range gapless() {
		in := inputs(t, full)
		in.Profile = all
		for other, take := range gapless() {
			if other != what {
				take(&in.Profile)
			}
		}
		p, err := Resolve(in)
		var refusal *Refusal
		if !errors.As(err, &refusal) || len(refusal.Gaps) == 0 || refusal.Hint() == "" || p.Hash == "" || p.Binding.Repo == "" {
			t.Errorf("%s alone: %v, %+v", what, err, p)
		}
		if strip(&in.Profile); errors.As(errorOf(Resolve(in)), &refusal) {
			t.Errorf("without %s: %v", what, refusal)
		}
	}
}

func errorOf(_ Plan, err error) error { return err }

// gapless takes out each thing that this version cannot do.
func gapless() map[string]func(*profiles.Profile) {
	return map[string]func(*profiles.Profile){
		"usd": func(p *profiles.Profile) { p.Budget.USD = 0 }, "tokens": func(p *profiles.Profile) { p.Budget.Tokens = 0 }, "requests": func(p *profiles.Profile) { p.Budget.Requests = 0 },
		"tool calls": func(p *profiles.Profile) { p.Budget.ToolCalls = 0 }, "denials": func(p *profiles.Profile) { p.Budget.Denials = 0 },
		"on limit": func(p *profiles.Profile) { p.Budget.OnLimit = "" }, "microvm": func(p *profiles.Profile) { p.Isolation.Runtime = "" },
		"mcp": func(p *profiles.Profile) { p.Servers = nil }, "memory": func(p *profiles.Profile) { p.Memory = profiles.Memory{} },
		"telemetry": func(p *profiles.Profile) { p.Telemetry.OTLP = "" },
	}
}

func TestRefusalsAreARefusal(t *testing.T) {
	in := inputs(t, "version = 1\ntier = \"medium\"\n[agent]\ncommand = [\"x\"]\n[workspace]\nmode = \"direct\"\n[budget]\ntime = \"9h\"\n")
	_, err := Resolve(in)
	var all *Refusals
	var refusal *Refusal
	if !errors.As(err, &all) || len(all.List) != 2 || !errors.As(err, &refusal) || !strings.Contains(refusal.Error(), "workspace.mode") || !strings.Contains(refusal.Hint(), "budget.time") {
		t.Errorf("%v", err)
	}
	in = inputs(t, full)
	in.Manifest = "sha256:other"
	if p := resolve(t, in); p.Manifest != in.Manifest {
		t.Errorf("%+v", p)
	}
}
