package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing/fstest"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// manyRules is what "a profile with very many rules" means here.
const manyRules = 10_000

// decisions measures what happens before a run: reading, layering and deciding, within this process and as a whole
// one. These targets are times, not ratios, so each has a yardstick beside it that shows how fast the machine is now.
func (b *bench) decisions(ctx context.Context) {
	fmt.Fprintf(b.out, "\nbefore a run\n")
	files := profiles.Files{BuiltIn: builtin.Files(), User: fstest.MapFS{"profiles/many.toml": {Data: rules(manyRules)}}, UserDir: "user"}
	b.within("load, layer and resolve 10,000 rules", 50, func() error { _, err := resolved(files); return err })
	b.lookups(files)
	if err := b.policyRepo(); err != nil {
		fmt.Fprintf(b.out, "processes: not measured: %v\n", err)
		return
	}
	for _, args := range [][]string{{"check"}, {"run", "shell", "--dry-run"}, {"run", "team", "--dry-run"}} {
		b.measure(ctx, pair{name: "agentbox " + strings.Join(args, " ") + " vs podman --version", rounds: b.rounds, atMost: 50,
			one: command(b.repo, append([]string{b.agentbox}, args...)...), other: command(b.repo, "podman", "--version")})
	}
}

// rules is a profile of n rules on as many hosts.
func rules(n int) []byte {
	var s strings.Builder
	s.WriteString("version = 1\nextends = \"shell\"\n")
	for i := range n {
		fmt.Fprintf(&s, "[[network.rule]]\naction = \"allow\"\nhost = \"h%d.example.com\"\nmethods = [\"GET\", \"HEAD\"]\npaths = [\"/api/**\"]\n\n", i)
	}
	return []byte(s.String())
}

// resolved does everything between the files and the gate.
func resolved(files profiles.Files) (*policy.Table, error) {
	loaded, err := profiles.Load("many", files)
	if err != nil {
		return nil, err
	}
	g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile})
	if err != nil {
		return nil, err
	}
	if g.Hash() == "" {
		return nil, fmt.Errorf("the grants have no hash")
	}
	return g.Network.Compile(), nil
}

// within measures something in this process, as a fresh process would do it: after a collection, and without one.
func (b *bench) within(name string, target float64, do func() error) {
	var times []float64
	for i := -1; i < b.rounds; i++ {
		runtime.GC()
		begin := time.Now()
		if err := do(); err != nil {
			fmt.Fprintf(b.out, "%-44s not measured: %v\n", name, err)
			return
		}
		if i >= 0 {
			times = append(times, time.Since(begin).Seconds()*1000)
		}
	}
	fmt.Fprintf(b.out, "%-44s %s  %s\n", name, millis(times), against(median(times), target, "ms"))
}

// lookups measures single decisions, in turns over hosts that a rule names, that none names, and refused paths.
func (b *bench) lookups(files profiles.Files) {
	table, err := resolved(files)
	if err != nil {
		fmt.Fprintf(b.out, "decisions: not measured: %v\n", err)
		return
	}
	var asked []policy.Request
	for i := range 64 {
		for _, name := range []string{fmt.Sprintf("h%d.example.com", i*150), fmt.Sprintf("no%d.example.net", i)} {
			h, err := policy.ParseHost(name)
			if err != nil {
				fmt.Fprintf(b.out, "decisions: not measured: %v\n", err)
				return
			}
			asked = append(asked, policy.Request{Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/api/v1/things"},
				policy.Request{Host: h, Port: 443, Scheme: "https", Method: "POST", Path: "/api/v1/things"})
		}
	}
	const turns = 2000
	var times []float64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range b.rounds {
		begin := time.Now()
		for range turns {
			for _, r := range asked {
				table.Decide(r)
			}
		}
		times = append(times, float64(time.Since(begin).Nanoseconds())/float64(turns*len(asked)))
	}
	runtime.ReadMemStats(&after)
	perDecision := float64(after.Mallocs-before.Mallocs) / float64(b.rounds*turns*len(asked))
	fmt.Fprintf(b.out, "%-44s %s ns  %s, %.2f allocations each\n", "one decision among 10,000 rules", spread(times, "%.0f"),
		against(median(times), 1000, "ns"), perDecision)
}

func against(got, target float64, unit string) string {
	word := "met"
	if got > target {
		word = "MISSED"
	}
	return fmt.Sprintf("(target: at most %.0f %s, %s)", target, unit, word)
}

// policyRepo gives the repository a layer of its own.
func (b *bench) policyRepo() error {
	if err := os.MkdirAll(filepath.Join(b.repo, ".agentbox"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.repo, "agentbox.toml"), []byte("version = 1\n[workspace]\nhide = [\"...\", \".env*\"]\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.repo, ".agentbox", "team.toml"), []byte("version = 1\nextends = \"shell\"\n[budget]\ntime = \"1h\"\n"), 0o644)
}
