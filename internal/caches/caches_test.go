package caches

import (
	"slices"
	"strings"
	"testing"
)

func TestEachCacheIsApartFromTheOthersAndFromLogins(t *testing.T) {
	var all []string
	for _, name := range Names() {
		c, ok := Find(name + ReadOnly)
		if !ok || c.Name != name {
			t.Fatalf("%s is not found", name)
		}
		for _, dir := range c.Dirs {
			if place := Login(dir); place != "" {
				t.Errorf("%s: %s holds the login %s", name, dir, place)
			}
			for _, other := range all {
				if Overlap(dir, other) {
					t.Errorf("%s and %s overlap", dir, other)
				}
			}
			all = append(all, dir)
		}
		for variable, value := range c.Env {
			if at, ok := strings.CutPrefix(value, "{home}/"); ok && !slices.ContainsFunc(c.Dirs, func(dir string) bool { return Overlap(at, dir) }) {
				t.Errorf("%s: %s leads elsewhere: %s", name, variable, value)
			}
		}
	}
	for _, name := range []string{"npm", "pnpm", "yarn", "pip", "uv", "go-build", "go-mod", "cargo", "maven", "gradle", "composer", "bundler", "deno", "bun", "ccache"} {
		if !slices.Contains(Names(), name) {
			t.Errorf("%s is not there", name)
		}
	}
}

func TestPlacesThatHoldLoginsAreKnown(t *testing.T) {
	for rel, want := range map[string]string{
		".ssh": ".ssh", ".ssh/id_rsa": ".ssh", ".config": ".config/git", ".claude": ".claude/.credentials.json", ".codex": ".codex/auth.json",
		".claude/projects": "", ".claude/todos": "", ".codex/sessions": "", ".sshx": "", ".claude/.credentials.json.x": "", "notes": "",
	} {
		if got := Login(rel); got != want {
			t.Errorf("%s: %q, want %q", rel, got, want)
		}
	}
	for rel, login := range map[string]bool{
		".claude/CLAUDE.md": false, ".codex/config.toml": false, ".claude/settings.json": false, ".config/tool/config": false,
		".claude/auth.json": true, "x/My-Credentials.txt": true, "x/ID_RSA": true, "tokens/x": true, ".zsh_history": true, "x/a.PEM": true, "x/.env.local": true,
	} {
		if got := LoginFile(rel) != ""; got != login {
			t.Errorf("%s: %v, want %v", rel, got, login)
		}
	}
}

func TestBadListsAreRefused(t *testing.T) {
	for what, text := range map[string]string{
		"unknown key": "[[cache]]\nname = \"a\"\nwhat = \"a\"\ndirs = [\"a\"]\nx = 1\n", "no directory": "[[cache]]\nname = \"a\"\nwhat = \"a\"\n",
		"outside": "[[cache]]\nname = \"a\"\nwhat = \"a\"\ndirs = [\"../a\"]\n", "absolute": "[[cache]]\nname = \"a\"\nwhat = \"a\"\ndirs = [\"/a\"]\n",
		"twice": "[[cache]]\nname = \"a\"\nwhat = \"a\"\ndirs = [\"a\"]\n[[cache]]\nname = \"a\"\nwhat = \"a\"\ndirs = [\"b\"]\n", "a name": "[[cache]]\nname = \"a:ro\"\nwhat = \"a\"\ndirs = [\"a\"]\n",
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestEachDirectoryHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range []string{"a/b", "a", "a+b", "a%2Fb", "../x", "a b"} {
		at := At("/base", "state", dir)
		if seen[at] || !strings.HasPrefix(at, "/base/state/") || strings.Count(at, "/") != 3 {
			t.Errorf("%s: %s", dir, at)
		}
		if seen[at] = true; Name(at[len("/base/state/"):]) != dir {
			t.Errorf("%s does not come back from %s", dir, at)
		}
	}
}
