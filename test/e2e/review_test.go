package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	b.same(before, b.everything())
}

// unchangedButCommits leaves out what commits bring that come back: a pack, and refs of the run's own.
func (b *box) unchangedButCommits(before map[string]string) {
	b.t.Helper()
	now := b.everything()
	came := 0
	for path := range now {
		if _, was := before[path]; !was && (strings.HasPrefix(path, "/.git/refs/agentbox") || strings.HasPrefix(path, "/.git/objects/pack/pack-")) {
			delete(now, path)
			came++
		}
	}
	if came == 0 {
		b.t.Error("no commit came back")
	}
	for _, dir := range []string{"/.git/refs", "/.git/objects/pack"} { // whose times are others
		now[dir] = before[dir]
	}
	b.same(before, now)
}

func (b *box) same(before, now map[string]string) {
	b.t.Helper()
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
			b.unchangedButCommits(before)
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
			b.profile("hiding", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\nhide = [\"secrets/**\"]\nshow = [\".env.test\"]\n")
			b.write("tls/server.key", "tracked\n") // git tracks it, and commits it as it was
			b.git("add", "-f", "tls")
			b.git("commit", "-qm", "a key")
			b.write(".env", "TOKEN=h1dden\n")
			b.write("deep/er/ID_RSA", "h1dden\n")
			b.write("deep/.env.test", "shown\n")
			b.write("deep/er/.env.local", "TOKEN=h1dden\n")
			b.write("secrets/key", "h1dden\n")
			b.write("visible", "seen\n")
			must(t, os.Symlink(".env", filepath.Join(b.repo, "alias")))
			l := b.launchWithInput("run", "hiding", "--", "-c", `
echo "changed: $(git status --porcelain -uno)"
echo work >visible && git add visible && git commit -qam work
echo "key: $(cat tls/server.key) committed: $(git show HEAD:tls/server.key) test: $(cat deep/.env.test)"
for f in .env deep/er/.env.local deep/er/ID_RSA secrets/key alias tls/server.key; do
	{ echo x >$f; } 2>/dev/null
	rm -f $f 2>/dev/null; cp visible new && mv -f new $f 2>/dev/null
done
rm -rf secrets 2>/dev/null; mv secrets s 2>/dev/null; mv deep dd 2>/dev/null
echo ready; read go
grep -rs h1dden . | grep -v later && echo leaked; echo done`)
			l.line("changed: ")
			l.line("key:  committed: tracked test: shown")
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
				if now[path] != was && !slices.Contains([]string{"", "/.env", "/.git/refs", "/.git/objects/pack"}, path) { // the commit was fetched
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

// Where the kernel makes no overlay, here because the paths are too long for it, the plan says so and the run works on a copy.
func TestWhereTheKernelMakesNoOverlay(t *testing.T) {
	b := newBox(t)
	deep := filepath.Dir(b.repo) + strings.Repeat("/"+strings.Repeat("d", 200), 19)
	deep += "/" + strings.Repeat("e", 3930-len(deep))
	must(t, os.MkdirAll(filepath.Dir(deep), 0o755))
	must(t, os.Rename(b.repo, deep))
	b.repo = deep
	if r := b.agentbox("run", "shell", "--dry-run").exits(0); !strings.Contains(r.out, "there can be no overlay here") || !strings.Contains(r.out, "turns it down: an overlay over") {
		t.Errorf("the plan says\n%s%s", r.out, r.err)
	}
	b.shell("cat README.md; echo y >made; mv README.md moved; git status --short").exits(0).prints("# a repository\n D README.md\n?? made\n?? moved\n")
	if got := b.git("status", "--short"); got != "" {
		t.Errorf("the repository has changed: %s", got)
	}
	b.takeAll()
	if b.read("made") != "y\n" || b.read("moved") != "# a repository\n" {
		t.Error("what it changed cannot be taken")
	}
}

// reviewing gives a profile with each backend, the second without any overlay where that is said.
func (b *box) reviewing(backend string) {
	b.profile("work", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\n")
}

// What git on the host obeys, in each of its places, is written to by the agent: the host's git executes none of it, and is not
// even aware of it.
func TestReviewPlantsNothingForTheHostsGit(t *testing.T) {
	for _, backend := range []string{"overlay", "copy"} {
		t.Run(backend, func(t *testing.T) {
			b := newBox(t)
			b.reviewing(backend)
			b.write("src/a.c", "a\n")
			b.write("hooks/pre-commit", "#!/bin/sh\nexit 0\n")
			must(t, os.Chmod(filepath.Join(b.repo, "hooks", "pre-commit"), 0o755))
			b.git("config", "core.hooksPath", "hooks")
			b.git("config", "remote.origin.url", "https://me:t0ken@example.com/x.git")
			b.git("add", ".")
			b.git("commit", "-qm", "more")
			canary := filepath.Join(filepath.Dir(b.repo), "canary")
			before := b.everything()
			r := b.agentbox("run", "work", "-q", "--", "-c", `
evil() { printf '#!/bin/sh\necho $0 >>`+canary+`\n' >"$1" 2>/dev/null; chmod +x "$1" 2>/dev/null; }
cat .git/config; grep -rs t0ken . 
for h in pre-commit post-checkout post-index-change reference-transaction fsmonitor-watchman; do evil .git/hooks/$h; evil hooks/$h; done
evil payload
for f in .git/config .git/config.worktree .git/commondir; do
	printf '[core]\n\tfsmonitor = ./payload\n\tsshCommand = ./payload\n\thooksPath = evil\n[extensions]\n\tworktreeConfig = true\n[filter "x"]\n\tclean = ./payload\n\tsmudge = ./payload\n' >>$f
	rm -f $f; mv payload2 $f
done 2>/dev/null
git config core.fsmonitor ./payload 2>/dev/null; git config --global core.fsmonitor ./payload 2>/dev/null
echo '* filter=x diff=x merge=x' >.gitattributes; mkdir -p .git/info; echo '* filter=x' >.git/info/attributes
mkdir evil; evil evil/pre-commit
mkdir -p nested && git init -q nested 2>/dev/null && git -C nested config core.fsmonitor "$PWD/payload" && git -C nested -c user.name=x -c user.email=x@x commit -q --allow-empty -m x && git add nested 2>/dev/null
git update-index --assume-unchanged src/a.c; echo b >src/a.c
mv .git gone 2>/dev/null && echo renamed; rm -rf .git/objects .git/refs .git/hooks 2>/dev/null
echo "ref: refs/heads/evil" >.git/HEAD
umount .git 2>/dev/null && echo unmounted; umount . 2>/dev/null && echo unmounted
cd ..; mv repo moved 2>/dev/null && echo moved; true`).exits(0)
			for _, bad := range []string{"t0ken", "renamed", "unmounted", "moved"} {
				if strings.Contains(r.out, bad) {
					t.Errorf("inside: %s", r.out)
				}
			}
			b.unchanged(before)
			b.git("config", "--unset", "core.hooksPath")
			b.git("status")
			b.git("add", "-A")
			b.git("commit", "-qm", "on the host", "--allow-empty")
			b.git("checkout", "-q", "-b", "topic")
			b.git("stash", "list")
			b.git("diff")
			b.git("gc", "-q")
			if text, err := os.ReadFile(canary); err == nil {
				t.Errorf("the host executed %s", text)
			}
		})
	}
}

// The overlay shows nothing that is not to be seen, whatever is done to its marks, and writes nowhere else.
func TestReviewsOverlayCannotBeTurnedAgainstTheHost(t *testing.T) {
	b := newBox(t)
	b.profile("work", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"review\"\nhide = [\".env\"]\n")
	private := filepath.Join(filepath.Dir(b.repo), "private")
	must(t, os.MkdirAll(private, 0o700))
	must(t, os.WriteFile(filepath.Join(private, "key"), []byte("k3y"), 0o600))
	must(t, os.Symlink(private, filepath.Join(b.repo, "before")))
	b.write("d/.env", "k3y\n")
	b.write("d/file", "x\n")
	before := b.everything()
	r := b.agentbox("run", "work", "-q", "--", "-c", `
cat before/key; ln -s `+private+` made; cat made/key; echo x >made/planted; echo x >before/planted
cat d/.env; mv d e; mkdir f; mv d/.env f/ ; cat f/.env; ln d/.env f/hard && cat f/hard
python3 - <<'END'
import os
for name, value in (("user.overlay.redirect", b"/../../private"), ("user.overlay.opaque", b"y"), ("user.overlay.metacopy", b""), ("user.overlay.origin", b"x" * 29), ("trusted.overlay.redirect", b"/etc")):
    for path in ("d", "f", "d/file", "."):
        try:
            os.setxattr(path, name, value)
        except OSError:
            pass
for path, mode, dev in (("null", 0o20666, os.makedev(1, 3)), ("sda", 0o60666, os.makedev(8, 0))):
    try:
        os.mknod(path, mode, dev); print("made", path)
    except OSError:
        pass
try: # what marks a deletion, made by hand
    os.mknod("white", 0o20000, os.makedev(0, 0))
except OSError:
    pass
END
ls -R . >/dev/null; cat `+b.work0()+`/*/work/tree/upper/* 2>/dev/null; ls `+filepath.Dir(b.repo)+`
true`).exits(0)
	if strings.Contains(r.out, "k3y") || strings.Contains(r.out, "made") || strings.Contains(r.out, "state") {
		t.Errorf("inside:\n%s", r.out)
	}
	b.unchanged(before)
	if entries, err := os.ReadDir(private); err != nil || len(entries) != 1 {
		t.Errorf("outside of the repository there are %v, %v", entries, err)
	}
}

// work0 is where sessions are kept.
func (b *box) work0() string {
	return filepath.Join(filepath.Dir(b.repo), "state", "agentbox", "sessions")
}

// The plan says how the copy is made, and an overlay that there can't be is not passed over.
func TestReviewSaysHowTheCopyIsMade(t *testing.T) {
	b := newBox(t)
	if r := b.agentbox("run", "shell", "--workspace", "review", "--dry-run").exits(0); !strings.Contains(r.out, "review: it works in a copy") || strings.Contains(r.out, "copied first") || strings.Contains(r.out, "not yet") {
		t.Errorf("the plan:\n%s", r.out)
	}
	odd := filepath.Join(filepath.Dir(b.repo), "a:b")
	must(t, os.Rename(b.repo, odd))
	b.repo = odd
	b.write("file", "x\n")
	before := b.everything()
	r := b.review("echo y >file; cat file; git status --short; git add -A && git commit -qm y && git log --format=%s; ls -d .git/hooks").exits(0)
	r.prints("y\n?? file\ny\nstart\n.git/hooks\n")
	b.unchangedButCommits(before)
	if _, err := os.Stat(filepath.Join(b.work(), "git", "copy", "HEAD")); err != nil || !b.hasWork() {
		t.Errorf("the copied git directory: %v", err)
	}
	if r := b.agentbox("run", "shell", "--workspace", "review", "--dry-run").exits(0); !strings.Contains(r.out, "there can be no overlay here") {
		t.Errorf("the plan:\n%s", r.out)
	}
	b.reviewing("overlay")
	b.agentbox("run", "work", "--", "-c", "true").exits(126).says("there can be no overlay here", `backend = "copy"`)
}

// On gVisor, which mounts no overlay, the repository and its .git are copied.
func TestReviewOnGVisor(t *testing.T) {
	s := gvisor(t)
	if s == nil {
		return
	}
	s.profile("gr", strings.Replace(gvisorProfile, `mode = "direct"`, `mode = "review"`, 1))
	s.write(".env", "SECRET=1\n")
	s.write("file", "x\n")
	before := s.everything()
	s.agentbox("run", "gr", "-q", "--", "sh", "-c", `cat .env 2>/dev/null; echo y >file; rm README.md; git status --short; git add -A; git commit -qm y; git log --format=%s
(echo x >.git/hooks/pre-commit) 2>/dev/null || echo "no hook"; (echo x >.git/config) 2>/dev/null || echo "no config"; (echo x >.git/objects-of-the-host/x) 2>/dev/null || echo "no object"`).exits(0).
		prints(" D README.md\n?? file\ny\nstart\nno hook\nno config\nno object\n")
	s.unchangedButCommits(before)
	if data, err := os.ReadFile(filepath.Join(s.work(), "copy", "file")); err != nil || string(data) != "y\n" {
		t.Errorf("the copy holds %q, %v", data, err)
	}
}

// A copy that is broken off, by a signal or by SIGKILL, leaves nothing behind.
func TestReviewsCopyCanBeBrokenOff(t *testing.T) {
	b := newBox(t)
	b.reviewing("copy")
	big, err := os.Create(filepath.Join(b.repo, "big"))
	must(t, err)
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i)
	}
	for range 1500 {
		_, err := big.Write(block)
		must(t, err)
	}
	must(t, big.Close())
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		l := b.launch("run", "work", "--", "-c", "true")
		for b.copied("big") == 0 {
			pause()
		}
		l.signal(sig)
		r := l.end()
		if sig == syscall.SIGKILL {
			b.agentbox("run", "shell", "-q", "--", "true").exits(0) // what comes after it tidies
		} else {
			r.exits(143)
		}
		if b.copied("big") != 0 {
			t.Errorf("after %v the copy is left", sig)
		}
	}
}

// copied is how much of a file any session holds.
func (b *box) copied(name string) int64 {
	found, err := filepath.Glob(filepath.Join(b.work0(), "20*", "work", "copy", name))
	must(b.t, err)
	for _, path := range found {
		if info, err := os.Stat(path); err == nil {
			return info.Size() + 1
		}
	}
	return 0
}
