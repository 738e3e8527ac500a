package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"agentbox/internal/event"
)

// review runs a script inside, in the review mode.
func (b *box) review(script string, more ...string) result {
	b.t.Helper()
	return b.agentbox(append(append([]string{"run", "shell", "--workspace", "review", "-q"}, more...), "--", "sh", "-c", script)...)
}

// everything is all that there is to know of the repository on the host: kinds, modes, owners, times, links, contents.
func (b *box) everything() map[string]string {
	b.t.Helper()
	all := map[string]string{}
	must(b.t, filepath.WalkDir(b.repo, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(info.Mode(), info.Size(), info.ModTime(), owner(info))
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			text += to
		}
		all[strings.TrimPrefix(path, b.repo)] = text
		return nil
	}))
	return all
}

func owner(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(" ", st.Uid, st.Gid, st.Nlink, " ")
}

// unchanged compares everything with what it was.
func (b *box) unchanged(before map[string]string) {
	b.t.Helper()
	now := b.everything()
	for path, was := range before {
		if now[path] != was {
			b.t.Errorf("on the host %s is now\n%.300q, and was\n%.300q", path, now[path], was)
		}
	}
	for path := range now {
		if _, ok := before[path]; !ok {
			b.t.Errorf("on the host there is %s, which was not there", path)
		}
	}
}

// work is the latest run's directory of changes.
func (b *box) work() string {
	b.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(b.repo), "state", "agentbox", "sessions", "20*"))
	must(b.t, err)
	if len(dirs) == 0 {
		b.t.Fatal("there is no session")
	}
	return filepath.Join(dirs[len(dirs)-1], "work")
}

func (b *box) hasWork() bool {
	_, err := os.Stat(filepath.Join(b.work(), "base.json"))
	return err == nil
}

// tree makes a repository with a bit of everything in it.
func (b *box) tree() {
	b.write("src/main.c", "int main;\n")
	b.write("src/deep/util.c", "int util;\n")
	b.write("docs/a.md", "a\n")
	b.write("docs/b.md", "b\n")
	b.write("tool.sh", "#!/bin/sh\n")
	must(b.t, os.Chmod(filepath.Join(b.repo, "tool.sh"), 0o755))
	must(b.t, os.Symlink("src/main.c", filepath.Join(b.repo, "link")))
	b.git("add", ".")
	b.git("commit", "-qm", "tree")
	b.write("untracked", "mine\n")
}

const workInside = `set -e
echo new >src/new.c; mkdir -p made/by/me; echo x >made/by/me/file
echo more >>README.md; printf 'whole' >docs/a.md
rm docs/b.md; rm -r src/deep; mkdir src/deep; echo again >src/deep/other.c
mv untracked renamed; mv tool.sh src/tool.sh
chmod 600 src/main.c; chmod +x docs/a.md
rm link; ln -s /etc/passwd link; ln src/new.c src/hard.c
cat README.md docs/a.md renamed src/deep/*; ls src; readlink link; test ! -e docs/b.md; test ! -e src/deep/util.c
stat -c '%a %U' src/main.c docs/a.md src/new.c
git status --short
git checkout -q -b topic; git add -A; git commit -qm inside; git log --oneline | wc -l; git status --short; git branch
`

func TestReviewChangesNothingOnTheHost(t *testing.T) {
	for _, backend := range []string{"overlay", "copy"} {
		t.Run(backend, func(t *testing.T) {
			b := newBox(t)
			b.tree()
			b.profile("work", "version = 1\nextends = \"shell\"\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\n")
			before := b.everything()
			r := b.agentbox("run", "work", "-q", "--", "sh", "-c", workInside).exits(0)
			me := os.Getenv("USER")
			if me == "" {
				me = "boxdev"
			}
			want := `# a repository
more
wholemine
again
deep
hard.c
main.c
new.c
tool.sh
/etc/passwd
600 ` + me + "\n755 " + me + "\n644 " + me + `
 M README.md
 M docs/a.md
 D docs/b.md
 M link
 D src/deep/util.c
 D tool.sh
?? made/
?? renamed
?? src/deep/other.c
?? src/hard.c
?? src/new.c
?? src/tool.sh
3
  main
* topic
`
			if r.out != want {
				t.Errorf("inside:\n%s\nwant:\n%s\nstderr: %s", r.out, want, r.err)
			}
			b.unchanged(before)
			if !b.hasWork() {
				t.Error("what the agent changed is not kept")
			}
			if got := b.git("branch", "--list"); got != "* main\n" {
				t.Errorf("branches on the host: %q", got)
			}
		})
	}
}

func TestReviewWithoutChangesLeavesNoWork(t *testing.T) {
	for _, backend := range []string{"overlay", "copy"} {
		t.Run(backend, func(t *testing.T) {
			b := newBox(t)
			b.tree()
			b.profile("work", "version = 1\nextends = \"shell\"\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\n")
			before := b.everything()
			b.agentbox("run", "work", "-q", "--", "sh", "-c", "git status; cat README.md; ls -R >/dev/null; find . >/dev/null").exits(0)
			b.unchanged(before)
			if _, err := os.Lstat(b.work()); err == nil {
				t.Error("there is work, and nothing was changed")
			}
		})
	}
}

// What is hidden is invisible, and stays so when the host replaces it; what the agent makes of its name is its own. A match
// that appears later is told at the end.
func TestReviewHidesFiles(t *testing.T) {
	for _, backend := range []string{"overlay", "copy"} {
		t.Run(backend, func(t *testing.T) {
			b := newBox(t)
			b.profile("hiding", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\nhide = [\".env*\", \"secrets/**\"]\n")
			b.write(".env", "TOKEN=h1dden\n")
			b.write("deep/er/.env.local", "TOKEN=h1dden\n")
			b.write("secrets/key", "h1dden\n")
			b.write("visible", "seen\n")
			must(t, os.Symlink(".env", filepath.Join(b.repo, "alias")))
			l := b.launchWithInput("run", "hiding", "--", "-c", `
for f in .env deep/er/.env.local secrets/key alias; do
	{ echo x >$f; } 2>/dev/null
	rm -f $f 2>/dev/null; cp visible new && mv -f new $f 2>/dev/null
done
rm -rf secrets 2>/dev/null; mv secrets s 2>/dev/null; mv deep dd 2>/dev/null
echo ready; read go
grep -rs h1dden . | grep -v later && echo leaked; echo done`)
			l.line("ready")
			before := b.everything()
			// as an editor saves
			b.write(".env.new", "TOKEN=h1dden again\n")
			must(t, os.Rename(filepath.Join(b.repo, ".env.new"), filepath.Join(b.repo, ".env")))
			b.write("later/.env", "TOKEN=h1dden\n")
			_, err := io.WriteString(l.input, "go\n")
			must(t, err)
			l.end().exits(0).prints("done\n").says("later/.env")
			must(t, os.RemoveAll(filepath.Join(b.repo, "later")))
			now := b.everything()
			for path, was := range before {
				if now[path] != was && path != "/.env" && path != "" {
					t.Errorf("%s is %q, and was %q", path, now[path], was)
				}
			}
			if shown := ofKind(b.events(), event.FileShown); len(shown) != 1 || shown[0].Path != "later/.env" {
				t.Errorf("events: %+v", shown)
			}
			for _, name := range []string{".env", "deep/er/.env.local", "secrets/key"} {
				if _, err := os.Lstat(filepath.Join(b.work(), "copy", name)); backend == "copy" && err == nil {
					if data, _ := os.ReadFile(filepath.Join(b.work(), "copy", name)); strings.Contains(string(data), "h1dden") {
						t.Errorf("%s was copied", name)
					}
				}
			}
		})
	}
}

// A killed agentbox loses no work, and what comes after it tidies none away.
func TestReviewKeepsTheWorkOfAKilledRun(t *testing.T) {
	b := newBox(t)
	b.write("old", "old\n")
	l := b.launchWithInput("run", "shell", "--workspace", "review", "-q", "--", "sh", "-c", "echo mine >made; rm old README.md; echo ready; read x")
	l.line("ready")
	must(t, l.cmd.Process.Kill())
	_ = l.cmd.Wait()
	b.agentbox("ps").exits(0)
	b.agentbox("run", "shell", "-q", "--", "true").exits(0)
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(b.repo), "state", "agentbox", "sessions", "20*"))
	must(t, err)
	data, err := os.ReadFile(filepath.Join(dirs[0], "work", "tree", "upper", "made"))
	if err != nil || string(data) != "mine\n" {
		t.Errorf("the work holds %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(dirs[0], "work", "base.json")); err != nil {
		t.Error(err)
	}
}

// What is written is bounded, also where the agent hides it from being measured; what was done before is kept.
func TestReviewEndsWhenTheDiskLimitIsReached(t *testing.T) {
	for name, fill := range map[string]string{
		"a file":          "cat /dev/zero >big",
		"many":            "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero >f$i; done",
		"git":             "cat /dev/zero >.git/big",
		"closed from us":  "mkdir d; cd d; mkdir e; exec 3>e/f; chmod 000 ../d; cat /dev/zero >&3",
		"below a copy up": "cat /dev/zero >>README.md",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.profile("small", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\n[limits]\ndisk = \"64MiB\"\n")
			before := b.everything()
			b.agentbox("run", "small", "--", "-c", "echo mine >made; "+fill).exits(124).says("more than the limit of 64 MiB")
			if stops := ofKind(b.events(), event.RunStop); len(stops) != 1 || !strings.Contains(stops[0].Reason, "limit of 64 MiB") {
				t.Errorf("events: %+v", stops)
			}
			data, err := os.ReadFile(filepath.Join(b.work(), "tree", "upper", "made"))
			if err != nil || string(data) != "mine\n" {
				t.Errorf("the work holds %q, %v", data, err)
			}
			b.unchanged(before)
			_ = os.Chmod(filepath.Join(b.work(), "tree", "upper", "d"), 0o700) // for the test's own tidying
		})
	}
	b := newBox(t)
	b.profile("small", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\nbackend = \"copy\"\n[limits]\ndisk = \"1MiB\"\n")
	b.write("large", strings.Repeat("x", 3<<20))
	b.agentbox("run", "small", "--", "-c", "true").exits(125).says("larger than the limit")
	if _, err := os.Lstat(b.work()); err == nil {
		t.Error("a copy that was broken off is left")
	}
}
