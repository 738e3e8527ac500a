// Package schema holds the committed JSON Schemas against a checker of TOML that knows such schemas (taplo, which
// editors use) and against agentbox's own reader: what is good passes both, and what a schema refuses the reader
// refuses too.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"

	"agentbox/internal/profiles"
	"agentbox/internal/site"
	builtin "agentbox/profiles"
)

// taplo is the pinned checker.
func taplo(t *testing.T) string {
	t.Helper()
	places := []string{os.Getenv("AGENTBOX_TEST_TAPLO"), "/var/cache/agentbox-test/taplo", "../../.cache/taplo"}
	for _, dir := range places {
		if dir == "" {
			continue
		}
		program, err := filepath.Abs(filepath.Join(dir, "node_modules", ".bin", "taplo"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(program); err == nil {
			return program
		}
	}
	t.Fatalf("the schemas are tested with taplo, which is in none of %q: run test/schema/install", places)
	return ""
}

func schemaFile(t *testing.T, kind string) string {
	t.Helper()
	file, err := filepath.Abs("../../schema/" + kind + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var invalid = regexp.MustCompile(`invalid file error=.* path="([^"]+)"`)

// lint checks files (name to content) by taplo in one go; it returns the names of those that it refuses. args are
// taplo's own.
func lint(t *testing.T, files map[string]string, args ...string) (refused []string, said string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		place := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o700), os.WriteFile(place, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(taplo(t), append(append([]string{"lint", "--colors", "never"}, args...), "**/*.toml")...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	said = out.String()
	if !strings.Contains(said, fmt.Sprintf("found files total=%d", len(files))) {
		t.Fatalf("taplo did not look at all of %d files: %v\n%s", len(files), err, said[:min(len(said), 2000)])
	}
	for _, m := range invalid.FindAllStringSubmatch(said, -1) {
		name, rerr := filepath.Rel(dir, m[1])
		if rerr != nil {
			t.Fatal(rerr)
		}
		refused = append(refused, filepath.ToSlash(name))
	}
	if (err != nil) != (len(refused) > 0) {
		t.Fatalf("taplo ended with %v and refused %q\n%s", err, refused, said)
	}
	return refused, said
}

func by(t *testing.T, kind string) []string {
	return []string{"--no-auto-config", "--schema", "file://" + schemaFile(t, kind)}
}

// reads reports whether agentbox's own reader takes a file of that kind. A profile is a layer on one that has all that a
// profile needs.
func reads(kind, content string) error {
	switch kind {
	case "set":
		_, err := profiles.LoadSet("case", []byte(content), "case.toml")
		return err
	case "policy":
		_, err := profiles.LoadFloors([]byte(content), "policy.toml")
		return err
	case "own": // a profile of the person's, which may say more than a repository's
		_, err := profiles.Parse("case", []byte(content), "case.toml")
		return err
	}
	_, err := profiles.Load("case", profiles.Files{BuiltIn: below(), Repo: fstest.MapFS{".agentbox/case.toml": {Data: []byte(content)}}})
	return err
}

// below are the built-in files, with a profile to lie on.
func below() fs.FS {
	files := fstest.MapFS{"case.toml": {Data: []byte("version = 1\n[agent]\ncommand = [\"x\"]\n")}}
	for _, name := range []string{"claude.toml", "sets/anthropic.toml", "sets/npm.toml"} {
		if data, err := fs.ReadFile(builtin.Files(), name); err == nil {
			files[name] = &fstest.MapFile{Data: data}
		}
	}
	return files
}

func read(t *testing.T, files fs.FS, pattern string) map[string]string {
	t.Helper()
	names, err := fs.Glob(files, pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no file is %s: %v", pattern, err)
	}
	out := map[string]string{}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(data)
	}
	return out
}

func TestBuiltInFilesPass(t *testing.T) {
	t.Parallel()
	for kind, pattern := range map[string]string{"profile": "*.toml", "set": "sets/*.toml"} {
		files := read(t, builtin.Files(), pattern)
		if refused, said := lint(t, files, by(t, kind)...); len(refused) > 0 {
			t.Errorf("of the %ss, %q are refused:\n%s", kind, refused, said)
		}
	}
}

func TestGoodProfilesPassBoth(t *testing.T) {
	t.Parallel()
	files := read(t, os.DirFS("testdata"), "good/*.toml")
	if refused, said := lint(t, files, by(t, "profile")...); len(refused) > 0 {
		t.Errorf("%q are refused:\n%s", refused, said)
	}
	seen := map[string]bool{}
	for name, content := range files {
		kind := "profile"
		if path.Base(name) == "own.toml" {
			kind = "own"
		}
		if err := reads(kind, content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var tree map[string]any
		if _, err := toml.Decode(content, &tree); err != nil {
			t.Fatal(err)
		}
		note(seen, "", tree)
	}
	for _, k := range profiles.Keys() {
		if !seen[k.Path] {
			t.Errorf("no good profile has %s", k.Path)
		}
	}
}

// note gathers the paths of the keys of a tree.
func note(seen map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			path := strings.TrimPrefix(at+"."+name, ".")
			seen[path] = true
			note(seen, path, below)
		}
	case []map[string]any:
		for _, below := range v {
			note(seen, at, below)
		}
	}
}

// The files of other tests' golden cases: where the reader takes one, the schema does.
func TestGoldenCasesAgree(t *testing.T) {
	t.Parallel()
	kinds := map[string]map[string]string{"profile": {}, "set": {}, "policy": {}}
	for _, archive := range archives(t) {
		parsed, err := txtar.ParseFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range parsed.Files {
			name := strings.ReplaceAll(strings.TrimPrefix(archive, "../../")+"/"+f.Name, "/.", "/") // taplo passes hidden files over
			base := path.Base(f.Name)
			switch {
			case base == "policy.toml":
				kinds["policy"][name] = string(f.Data)
			case path.Ext(base) != ".toml" || base == "config.toml" || strings.Contains(f.Name, "grants") || foreign(f.Name):
			case path.Base(path.Dir(f.Name)) == "sets":
				kinds["set"][name] = string(f.Data)
			default:
				kinds["profile"][name] = string(f.Data)
			}
		}
	}
	for kind, files := range kinds {
		if len(files) == 0 {
			t.Errorf("there is no golden %s", kind)
			continue
		}
		refused, said := lint(t, files, by(t, kind)...)
		for _, name := range refused {
			if err := reads(kind, files[name]); err == nil {
				t.Errorf("the schema refuses %s, which the reader takes:\n%s", name, about(said, name))
			}
		}
	}
}

// foreign reports whether a file of a scratch repository belongs to another tool.
func foreign(name string) bool {
	return !strings.Contains(name, "agentbox") && !strings.Contains(name, "profiles/") && !strings.Contains(name, "built-in") && !strings.Contains(name, "sets/")
}

func archives(t *testing.T) (found []string) {
	t.Helper()
	for _, pattern := range []string{"../../internal/profiles/testdata/*.txtar", "../../internal/profiles/testdata/*/*.txtar", "../../internal/plan/testdata/*.txtar", "../../cmd/agentbox/testdata/script/*.txtar"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	if len(found) < 10 {
		t.Fatalf("there are %d golden cases", len(found))
	}
	return found
}

// about is what taplo said of one file.
func about(said, name string) string {
	var lines []string
	all := strings.Split(said, "\n")
	for i, line := range all {
		if strings.Contains(line, name+":") && i > 0 {
			lines = append(lines, all[i-1])
		}
	}
	return strings.Join(slices.Compact(lines), "\n")
}

// mistakes are changes to the full profile that a person makes, each with what an editor marks.
func mistakes() map[string][2]string {
	return map[string][2]string{
		"unknown key":         {`extends = "claude"`, "extend = \"claude\""},
		"unknown table":       {"[telemetry]", "[telemetri]"},
		"unknown key of rule": {`host = "api.github.com"`, "host = \"api.github.com\"\nhosts = []"},
		"version":             {"version = 1", "version = 2"},
		"no version":          {"version = 1", ""},
		"version as text":     {"version = 1", `version = "1"`},
		"bad tier":            {`tier = "medium"`, `tier = "extreme"`},
		"bad mode":            {`mode = "review"`, `mode = "write"`},
		"bad cache":           {`caches = ["npm", "..."]`, `caches = ["nmp"]`},
		"bad action":          {`action = "deny"`, `action = "block"`},
		"no action":           {`action = "deny"`, ""},
		"host is an address":  {`"api.github.com"`, `"192.0.2.1"`},
		"host is a URL":       {`"*.docs.example.com"`, `"https://docs.example.com"`},
		"host with a port":    {`"*.docs.example.com"`, `"docs.example.com:443"`},
		"host of one label":   {`"*.docs.example.com"`, `"localhost"`},
		"star in the middle":  {`"*.docs.example.com"`, `"docs.*.example.com"`},
		"port too high":       {"8443", "84430"},
		"port as text":        {"8443", `"8443"`},
		"no ports":            {"ports = [443, 8443]", "ports = []"},
		"lower-case method":   {`"HEAD"`, `"head"`},
		"path without slash":  {`"/api/**"`, `"api/**"`},
		"inspect as text":     {"inspect = true", `inspect = "yes"`},
		"bad remote":          {`"github.com/acme/billing"`, `"billing"`},
		"short ref":           {`"refs/heads/agentbox/*"`, `"agentbox/*"`},
		"bad name":            {`name = "github"`, `name = "GitHub"`},
		"empty source":        {`source = { keyring = "github", env = "GITHUB_TOKEN" }`, "source = {}"},
		"no hosts":            {`hosts = ["api.github.com"]`, "hosts = []"},
		"header, no token":    {"Bearer {token}", "Bearer token"},
		"bad variable":        {`env = "GH_TOKEN"`, `env = "GH-TOKEN"`},
		"bad variable in env": {`EDITOR = "true"`, `"ED ITOR" = "true"`},
		"env is a number":     {`EDITOR = "true"`, "EDITOR = 1"},
		"time without a unit": {`time = "1d2h30m"`, `time = "90"`},
		"time as a number":    {`time = "1d2h30m"`, "time = 90"},
		"no money":            {"usd = 5.00", "usd = 0"},
		"money as text":       {"usd = 5.00", `usd = "5 USD"`},
		"half a token":        {"tokens = 2_000_000", "tokens = 0.5"},
		"memory without unit": {`memory = "4GiB"`, `memory = "4"`},
		"no processor":        {"cpus = 2", "cpus = 0"},
		"few processes":       {"pids = 512", "pids = 1"},
		"command as text":     {`command = ["mcp-server-filesystem", "/workspace"]`, `command = "mcp-server-filesystem"`},
		"empty command":       {`command = ["claude", "--permission-mode", "acceptEdits"]`, "command = []"},
		"bad scope":           {`scope = "repo"`, `scope = "world"`},
		"collector":           {`"http://127.0.0.1:4318"`, `"127.0.0.1:4318"`},
		"a table as a list":   {"[isolation]", "[[isolation]]"},
		"a list as a table":   {"[[git]]", "[git]"},
	}
}

func TestMistakesAreRefusedByBoth(t *testing.T) {
	t.Parallel()
	full := read(t, os.DirFS("testdata/good"), "full.toml")["full.toml"]
	files := map[string]string{}
	for name, change := range mistakes() {
		if strings.Count(full, change[0]) == 0 {
			t.Fatalf("%s: the full profile has no %q", name, change[0])
		}
		content := strings.Replace(full, change[0], change[1], 1)
		files[strings.ReplaceAll(name, " ", "-")+".toml"] = content
		if err := reads("profile", content); err == nil {
			t.Errorf("the reader takes a profile with a mistake: %s", name)
		}
	}
	refused, _ := lint(t, files, by(t, "profile")...)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !slices.Contains(refused, name) {
			t.Errorf("the schema takes a profile with a mistake: %s", name)
		}
	}
}

// Whatever one value of a good profile is replaced by: what the schema refuses, the reader refuses.
func TestSchemaRefusesOnlyWhatTheReaderRefuses(t *testing.T) {
	t.Parallel()
	full := read(t, os.DirFS("testdata/good"), "full.toml")["full.toml"]
	odd := []any{"", "a b", "1.5h", "512 MiB", "~/x", "a/b", "HTTPS://collector.example.com", "*.example.com", "Example.COM.", "例え。テスト", "...",
		int64(0), int64(9), int64(1) << 40, 0.5, true, []any{}, []any{"..."}, []any{"/x"}, []any{int64(1)}, map[string]any{}, map[string]any{"env": "X"}}
	files := map[string]string{}
	for _, k := range profiles.Keys() {
		for i, v := range odd {
			var tree map[string]any
			if _, err := toml.Decode(full, &tree); err != nil {
				t.Fatal(err)
			}
			steps := strings.Split(k.Path, ".")
			maps.DeleteFunc(tree, func(name string, _ any) bool { return name != "version" && name != steps[0] })
			if !put(tree, steps, v) {
				continue
			}
			var out bytes.Buffer
			if err := toml.NewEncoder(&out).Encode(tree); err != nil {
				continue // TOML has no such value
			}
			files[fmt.Sprintf("%s/%d.toml", k.Path, i)] = out.String()
		}
	}
	if len(files) < 1500 {
		t.Fatalf("only %d files were made", len(files))
	}
	refused, said := lint(t, files, by(t, "profile")...)
	if len(refused) < len(files)/2 {
		t.Errorf("the schema refuses %d of %d odd files: it looks at nothing", len(refused), len(files))
	}
	for _, name := range refused {
		if err := reads("profile", files[name]); err == nil {
			t.Errorf("the schema refuses what the reader takes: %s\n%s", name, about(said, name))
		}
	}
}

// put replaces the value at a path, in the first element of lists; it reports whether there is such a place.
func put(tree map[string]any, path []string, v any) bool {
	for _, step := range path[:len(path)-1] {
		switch below := tree[step].(type) {
		case map[string]any:
			tree = below
		case []map[string]any:
			tree = below[0]
		default:
			return false
		}
	}
	tree[path[len(path)-1]] = v
	return true
}

func TestPoliciesAndSets(t *testing.T) {
	t.Parallel()
	cases := map[string]map[string]struct {
		content string
		good    bool
	}{
		"policy": {
			"good":    {"version = 1\ntier = \"medium\"\n[workspace]\nmode = \"readonly\"\nhide = [\".env*\"]\n[network]\ndefault = \"deny\"\nonly = [\"*.example.com\"]\n[[network.rule]]\naction = \"deny\"\nhost = \"x.example.com\"\n[budget]\ntime = \"2h\"\n[limits]\npids = 512\n[isolation]\nruntime = \"gvisor\"\n", true},
			"agent":   {"version = 1\n[agent]\ncommand = [\"x\"]\n", false},
			"dots":    {"version = 1\n[network]\nonly = [\"...\"]\n", false},
			"nothing": {"version = 1\n[network]\nonly = []\n", false},
			"tier":    {"version = 1\ntier = \"huge\"\n", false},
		},
		"set": {
			"good":      {"version = 1\ndescription = \"x\"\nmodel = true\n[[rule]]\naction = \"allow\"\nhost = \"x.example.com\"\nmethods = [\"GET\"]\n", true},
			"no-rule":   {"version = 1\ndescription = \"x\"\n", false},
			"no-text":   {"version = 1\n[[rule]]\naction = \"allow\"\nhost = \"x.example.com\"\n", false},
			"bad-model": {"version = 1\ndescription = \"x\"\nmodel = \"yes\"\n[[rule]]\naction = \"allow\"\nhost = \"x.example.com\"\n", false},
		},
	}
	for kind, byName := range cases {
		files := map[string]string{}
		for name, c := range byName {
			files[name+".toml"] = c.content
			if err := reads(kind, c.content); (err == nil) != c.good {
				t.Errorf("the reader, on the %s %q: %v", kind, name, err)
			}
		}
		refused, said := lint(t, files, by(t, kind)...)
		for name, c := range byName {
			if slices.Contains(refused, name+".toml") == c.good {
				t.Errorf("the schema, on the %s %q: want it taken: %v\n%s", kind, name, c.good, about(said, name+".toml"))
			}
		}
	}
}

// The ways in which docs/EDITORS.md tells an editor of the schema, as they are written there: a first line, and
// .taplo.toml. This repository has one, too.
func TestEditorsFindTheSchema(t *testing.T) {
	t.Parallel()
	text, page, ours := content(t, "schema/profile.schema.json"), content(t, "docs/EDITORS.md"), content(t, ".taplo.toml")
	hint := regexp.MustCompile(`(?m)^ +(#:schema .*)$`).FindStringSubmatch(page)
	configured := blocks(page)
	if hint == nil || len(configured) != 1 {
		t.Fatal("docs/EDITORS.md does not say how")
	}
	bad := "version = 1\nextend = \"claude\"\n"
	for way, files := range map[string]map[string]string{
		"hint":   {".agentbox/billing.toml": hint[1] + "\n" + bad, "agentbox.schema.json": text},
		"theirs": {".agentbox/billing.toml": bad, "agentbox.schema.json": text, ".taplo.toml": configured[0]},
		"ours":   {"profiles/billing.toml": bad, "schema/profile.schema.json": text, ".taplo.toml": ours},
	} {
		dir, profile := t.TempDir(), ""
		for name, content := range files {
			place := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o700), os.WriteFile(place, []byte(content), 0o600)); err != nil {
				t.Fatal(err)
			}
			if path.Base(name) == "billing.toml" {
				profile = name
			}
		}
		cmd := exec.Command(taplo(t), "lint", "--colors", "never", profile)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "'extend' was unexpected") {
			t.Errorf("%s: taplo finds no schema: %v\n%s", way, err, out)
		}
	}
}

// What the documentation shows as a file passes both, as one of the kinds; what it shows as a part of one is read, on top of what a
// file must have. A file of another program says so in a comment before it.
func TestDocumentedFilesPass(t *testing.T) {
	t.Parallel()
	pages, err := site.Read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]map[string]string{"profile": {}, "set": {}, "policy": {}}
	for place, block := range documented(pages) {
		kind, err := kindOf(block)
		if err != nil {
			t.Errorf("%s: %v\nIf it is another program's file, say so before it: <!-- a file of taplo's -->", place, err)
			continue
		}
		if kind == "own" {
			kind = "profile"
		}
		if shown[kind] != nil && whole(block) {
			shown[kind][strings.NewReplacer("/", "-", ":", "-").Replace(place)+".toml"] = block
		}
	}
	if len(shown["profile"]) < 3 {
		t.Errorf("only %d profiles are shown", len(shown["profile"]))
	}
	for kind, files := range shown {
		if len(files) == 0 {
			continue
		}
		if refused, said := lint(t, files, by(t, kind)...); len(refused) > 0 {
			t.Errorf("%q are refused:\n%s", refused, said)
		}
	}
}

// documented are the blocks of TOML that are ours, by page and line.
func documented(pages *site.Docs) map[string]string {
	all := map[string]string{}
	for name, page := range pages.Pages {
		for _, b := range page.Blocks {
			if b.Language == "toml" && !strings.HasPrefix(b.Comment, "a file of ") {
				all[fmt.Sprintf("%s:%d", name, b.Line)] = b.Text
			}
		}
	}
	return all
}

// whole reports whether a block is a file, and no part of one.
func whole(block string) bool { return regexp.MustCompile(`(?m)^version = 1`).MatchString(block) }

// kindOf says as what a block can be read; the error is that of a profile, or of the person's configuration where it is one.
func kindOf(block string) (string, error) {
	if strings.HasPrefix(block, "[upstream") || strings.HasPrefix(block, "[[upstream") {
		_, err := profiles.LoadConfig([]byte(block), "config.toml")
		return "config", err
	}
	for _, kind := range []string{"profile", "set", "policy"} {
		if whole(block) && reads(kind, block) == nil {
			return kind, nil
		}
	}
	if !whole(block) {
		block = "version = 1\nextends = \"claude\"\n" + block
	}
	// Credentials need hosts that are allowed, which another part of the page may say.
	allowing := "version = 1\n[network]\ndefault = \"allow\"\n"
	_, err := profiles.Load("case", profiles.Files{BuiltIn: builtin.Files(), UserDir: "~", User: fstest.MapFS{
		"profiles/case.toml": {Data: []byte(block)}, "agentbox.toml": {Data: []byte(allowing)}}})
	return "own", err
}

// What is wrong in a file that the documentation shows is found, in a part of one too.
func TestDocumentedMistakesAreFound(t *testing.T) {
	for _, block := range []string{"version = 1\nextend = \"claude\"\n", "[[network.rule]]\naction = \"alow\"\nhost = \"a.example.com\"\n", "[upstream]\nproxi = \"x\"\n"} {
		if kind, err := kindOf(block); err == nil {
			t.Errorf("it passes as %s:\n%s", kind, block)
		}
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var fence = regexp.MustCompile("(?ms)^```toml\n(.*?)^```$")

// blocks are what a page shows as TOML.
func blocks(page string) (out []string) {
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}
