package changes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is found in an index is what git finds in it, whatever its form; and the common forms need no git.
func TestAnIndexIsReadAsGitReadsIt(t *testing.T) {
	for _, c := range []struct {
		name string
		own  bool // read without git
		init []string
		then [][]string
	}{
		{"version 2", true, nil, nil},
		{"version 3", true, nil, [][]string{{"add", "-N", "later"}}},
		{"version 4", false, nil, [][]string{{"update-index", "--index-version", "4"}}},
		{"sha256", false, []string{"--object-format=sha256"}, nil},
		{"split", false, nil, [][]string{{"update-index", "--split-index"}}},
		{"untracked cache", true, nil, [][]string{{"-c", "core.untrackedCache=true", "status"}}},
		{"conflict", true, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := t.TempDir()
			do := func(args ...string) []byte {
				cmd := exec.Command("git", append([]string{"-C", top, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
				cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("git %v: %v", args, err)
				}
				return out
			}
			do(append([]string{"init", "-q"}, c.init...)...)
			paths := []string{"a", "a/b", "a.b", "z", strings.Repeat("d/", 2040) + "long", "ü \n"}
			for i := range 300 {
				paths = append(paths, fmt.Sprintf("dir%d/file%d", i%7, i))
			}
			var info strings.Builder
			blob := strings.TrimSpace(string(do("hash-object", "-w", "--stdin")))
			for i, p := range paths {
				if p != "a" {
					fmt.Fprintf(&info, "%s %s\t%s\x00", []string{"100644", "100755", "120000"}[i%3], blob, p)
				}
			}
			fmt.Fprintf(&info, "160000 %s\tsub\x00", blob)
			cmd := exec.Command("git", "-C", top, "update-index", "-z", "--index-info")
			cmd.Stdin = strings.NewReader(info.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if err := os.WriteFile(filepath.Join(top, "later"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.name == "conflict" {
				cmd := exec.Command("git", "-C", top, "update-index", "--index-info")
				cmd.Stdin = strings.NewReader(fmt.Sprintf("0 %040d\tz\n100644 %s 1\tz\n100644 %s 2\tz\n", 0, blob, blob))
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v %s", err, out)
				}
			} else {
				for _, args := range c.then {
					do(args...)
				}
			}
			data, err := os.ReadFile(filepath.Join(top, ".git", "index"))
			if err != nil {
				t.Fatal(err)
			}
			x, ok := parseIndex(data)
			if ok != c.own {
				t.Fatalf("read without git: %v, want %v", ok, c.own)
			}
			if !ok {
				return
			}
			want := parseStage(do("ls-files", "--stage", "-z"))
			for _, p := range append(paths, "sub", "later", "none", "", "a", "dir", "dir0", "zz") {
				got, ok := x.find(p)
				if w, has := want[p]; ok != has || ok && got != w {
					t.Errorf("%.40q: %v %v, git says %v %v", p, got, ok, w, has)
				}
			}
			for n := range data { // what is cut off among its entries is no index, and nothing panics
				if y, ok := parseIndex(data[:n]); ok && len(y.entries) != len(x.entries) {
					t.Fatalf("%d bytes of %d are an index", n, len(data))
				}
			}
		})
	}
}
