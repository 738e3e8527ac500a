package starter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"agentbox/internal/policy"
)

// entries are what lists of domains are made of, good and bad.
func entries() []string {
	return []string{"a.test", "*.a.test", "b.a.test", "*.b.a.test", "c.b.a.test", "a.test:8443", "b.a.test:443", "*.a.test:8443",
		"*", "*.test", "*:8443", "api.anthropic.com", "*.anthropic.com", "d.example", "*.example", "localhost", "10.0.0.1", "x y", ""}
}

// matches is what an entry means where it comes from.
func matches(entry, host string, port int) bool {
	name, only, limited := strings.Cut(entry, ":")
	if limited && only != fmt.Sprint(port) {
		return false
	}
	if name == "*" {
		return true
	}
	base, wild := strings.CutPrefix(name, "*.")
	return wild && strings.HasSuffix(host, "."+base) || !wild && host == base
}

// What was denied, or not allowed, is not reachable by an imported profile, but for the hosts of its base.
func TestImportsAllowNothingMore(t *testing.T) {
	options, rng := claudeOptions(t), rand.New(rand.NewPCG(1, 2))
	hosts := []string{"a.test", "b.a.test", "c.b.a.test", "z.a.test", "d.example", "e.d.example", "test.test", "other.invalid"}
	pick := func() (list []string) {
		for range rng.IntN(6) {
			list = append(list, entries()[rng.IntN(len(entries()))])
		}
		return list
	}
	reached := 0
	for range 1500 {
		allow, deny := pick(), pick()
		data, err := json.Marshal(map[string]any{"network": map[string]any{"allowedDomains": allow, "deniedDomains": deny}, "filesystem": map[string]any{}})
		if err != nil {
			t.Fatal(err)
		}
		made, err := Import(data, "srt.json", options)
		if err != nil {
			t.Fatal(err)
		}
		set := loads(t, made.Profile).Profile.Network.Set()
		for _, host := range hosts {
			for _, port := range []int{80, 443, 8443} {
				h, err := policy.ParseHost(host)
				if err != nil {
					t.Fatal(err)
				}
				got := set.Decide(policy.Request{Host: h, Port: uint16(port), Scheme: "https"}).Allowed()
				was := some(allow, host, port) && !some(deny, host, port)
				if got && !was {
					t.Fatalf("allow %q, deny %q: %s:%d is reachable\n%s", allow, deny, host, port, made.Profile)
				}
				if got {
					reached++
				}
			}
		}
	}
	if reached < 500 {
		t.Errorf("%d hosts were reached in all: the test shows little", reached)
	}
}

func some(list []string, host string, port int) bool {
	for _, e := range list {
		if matches(e, host, port) {
			return true
		}
	}
	return false
}

// Whatever a file holds, what comes out is a profile that loads without a warning, on one printable line a line, and
// the same each time.
func FuzzImport(f *testing.F) {
	for _, pattern := range []string{"testdata/imports/*.txtar"} {
		for _, archive := range archivesF(f, pattern) {
			f.Add(archive)
		}
	}
	for _, s := range []string{
		`{"network":{"allowedDomains":["a\nb.test","*.é.test","xn--","a.test:0","[::1]:1",":443","a.test:"],"deniedDomains":["*."]},"filesystem":{}}`,
		`{"permissions":{"deny":["Read(","Read()","Read(...)","Read(a\"b)","Read([)","Read(\\)","WebFetch(domain:","Edit(x)"],"ask":["WebFetch(domain:*)","WebFetch"]}}`,
		`{"env":{"A":"1","a b":"1","PATH":"1","X":null,"TEST":"test"},"sandbox":1,"permissions":[]}`,
		`{"image":1,"runArgs":["-m","0g","--cpus=1e9","--pids-limit","1","--memory=1","-m"],"containerEnv":{"EDITOR":"${localEnv:EDITOR}"},"remoteEnv":{"EDITOR":"true"}}`,
		`{"network":{"allowedDomains":{}},"filesystem":{"denyRead":[{"path":"a*","literal":true},{"path":1},[]],"allowWrite":["/"]}}`,
	} {
		f.Add([]byte(s))
	}
	options := claudeOptions(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range []string{"settings.json", "devcontainer.json", "a/.srt-settings.json"} {
			made, err := Import(data, file, options)
			if err != nil {
				var e *SyntaxError
				if !errors.As(err, &e) {
					t.Fatalf("%T: %v", err, err)
				}
				continue
			}
			again, err := Import(data, file, options)
			if err != nil || !bytes.Equal(made.Profile, again.Profile) {
				t.Fatalf("the second time something else comes out: %v", err)
			}
			printable(t, string(made.Profile))
			for _, n := range made.Notes {
				if strings.ContainsRune(n.String(), '\n') {
					t.Errorf("a note has lines: %q", n)
				}
				printable(t, n.String())
			}
			loads(t, made.Profile)
		}
	})
}

func archivesF(f *testing.F, pattern string) (inputs [][]byte) {
	f.Helper()
	for _, a := range archives(f, pattern, 1) {
		inputs = append(inputs, a.Files[0].Data)
	}
	return inputs
}

func printable(t *testing.T, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("there is %q in %q", text[i:min(len(text), i+4)], text)
	}
}

// Whatever the files of a repository hold, its first profile loads without a warning and allows nothing but what a
// profile without these contents would.
func FuzzSurvey(f *testing.F) {
	for _, s := range []string{"registry=https://npm.acme.example/", "@a:registry=https://x.test\"]\n[[network.rule]]\naction=\"allow\"\nhost=\"evil.test\"",
		`{"permissions":{"deny":["Read(x\"]\n)"],"allow":["WebFetch(domain:evil.test)"]},"sandbox":{"network":{"allowedDomains":["*.evil.test"]}}}`,
		"[submodule \"a\"]\n url = https://evil.test/\x1b[31m", "FROM x\nRUN apt install y", "-----BEGIN PRIVATE KEY-----"} {
		f.Add(s, "a.pem", "https://github.com/a/b")
	}
	f.Add("", "x\"]\nmode = \"direct", "git@evil.test:a")
	f.Add("", "secrets/\u202e.p12", "https://evil.test/%0a\"")
	sets := builtInSets(f)
	f.Fuzz(func(t *testing.T, content, name, remote string) {
		files := fstest.MapFS{}
		for _, n := range []string{".npmrc", "pip.conf", "pyproject.toml", ".cargo/config.toml", "Gemfile", "pom.xml", "build.gradle", "requirements.txt", "nuget.config",
			".gitmodules", "Dockerfile", ".claude/settings.json", "key.pem", ".yarnrc.yml"} {
			files[n] = &fstest.MapFile{Data: []byte(content)}
		}
		if name = strings.Trim(strings.ReplaceAll(name, "/", "_"), "."); name != "" && len(name) < 255 {
			files[name] = &fstest.MapFile{Data: []byte(content)}
		}
		empty := fstest.MapFS{}
		for n := range files {
			empty[n] = &fstest.MapFile{}
		}
		o := Options{Name: "acme", Base: "claude", Sets: sets}
		facts := Survey(files, []string{remote})
		got := Profile(facts, o)
		printable(t, string(got))
		for _, l := range facts.Lines() {
			printable(t, l)
		}
		full, bare := loads(t, got).Profile, loads(t, Profile(Survey(empty, []string{remote}), o)).Profile
		if fmt.Sprint(full.Network.Use) != fmt.Sprint(bare.Network.Use) || len(full.Network.Rules) != len(bare.Network.Rules) || full.Workspace.Mode != bare.Workspace.Mode {
			t.Errorf("contents decide: use %q and %d rules, without them %q and %d", full.Network.Use, len(full.Network.Rules), bare.Network.Use, len(bare.Network.Rules))
		}
	})
}

// FuzzImportWords puts any two texts wherever a settings file has room for one.
func FuzzImportWords(f *testing.F) {
	for _, s := range []string{"*.a.test", "./x[", "~/\\", "//home/you/acme/a//b", "a/**/b/", "!x", "...", "..", "a\u00a0b", "#\"\\", "*.é.test", "${localEnv:A}", "A", "--memory=16m", "9999999g", "-m", ".git/**", "**/.git"} {
		f.Add(s, "true")
		f.Add("EDITOR", s)
	}
	options := claudeOptions(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		list := []string{a, b, a + b}
		env := map[string]string{a: b, b: a, "EDITOR": a, "MODE": b}
		files := map[string]any{"denyRead": list, "allowRead": list, "allowWrite": list, "denyWrite": list}
		network := map[string]any{"allowedDomains": list, "deniedDomains": list, a: b}
		var rules []string
		for _, tool := range []string{"Read", "Edit", "Bash", "WebFetch", a} {
			rules = append(rules, tool+"("+b+")", tool+"(domain:"+a+")", tool)
		}
		for file, settings := range map[string]map[string]any{
			"settings.json": {"permissions": map[string]any{"allow": rules, "deny": rules, "ask": rules, "defaultMode": a}, "env": env,
				"sandbox": map[string]any{"network": network, "filesystem": files}, a: b},
			"srt.json":          {"network": network, "filesystem": files, "credentials": map[string]any{"files": []any{map[string]any{"path": a, "mode": "mask"}}}},
			"devcontainer.json": {"image": a, "runArgs": []string{a, b, "-m", a, "--cpus", b, "--pids-limit=" + a}, "containerEnv": env, "remoteEnv": map[string]string{a: "${localEnv:" + a + "}"}, "features": env},
		} {
			data, err := json.Marshal(settings)
			if err != nil {
				t.Fatal(err)
			}
			made, err := Import(data, file, options)
			if err != nil {
				continue // a name that is there twice, or one that JSON cannot hold
			}
			printable(t, string(made.Profile))
			for _, n := range made.Notes {
				printable(t, n.String())
			}
			loads(t, made.Profile)
		}
	})
}
