package commits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMain is a server too: the run's git-upload-pack behind a Relay, as the sandbox's is.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "serve" {
		os.Exit(serve(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

func serve(dir, limit string) int {
	if limit == "hang" {
		var b [1]byte
		for {
			_, _ = os.Stdin.Read(b[:])
			select {}
		}
	}
	cmd := exec.Command("sh", "-c", Script, "sh", filepath.Join(dir, ".git"))
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	n, _ := strconv.ParseInt(limit, 10, 64)
	left, err := Relay(out, os.Stdout, Remaining(n, os.Getenv))
	if left > 0 {
		fmt.Fprintf(os.Stderr, "left out %d\n", left)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lab is the host's repository, and the one of a run, which began as its copy.
type lab struct {
	t           *testing.T
	host, agent string
	canary      string // a program that leaves a file beside it when it is run
	work        string
	limit       string
}

const theRun = "20260102-030405-abcdef"

func newLab(t *testing.T, format string) *lab {
	t.Helper()
	root := t.TempDir()
	l := &lab{t: t, host: filepath.Join(root, "host"), agent: filepath.Join(root, "agent"), work: filepath.Join(root, "work"),
		canary: filepath.Join(root, "canary"), limit: "100000000"}
	must(t, os.Mkdir(l.work, 0o700))
	must(t, os.WriteFile(l.canary, []byte("#!/bin/sh\necho \"$0 $*\" >>"+l.canary+".ran\ncat\n"), 0o755))
	l.in(root, "init", "-q", "-b", "main", "--object-format="+format, "host")
	l.write(l.host, "a.txt", "one\ntwo\nthree\n")
	l.write(l.host, "dir/b.txt", "b\n")
	l.commit(l.host, "start")
	must(t, exec.Command("cp", "-a", l.host, l.agent).Run())
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func try(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=An Agent",
		"GIT_AUTHOR_EMAIL=agent@example.com", "GIT_COMMITTER_NAME=An Agent", "GIT_COMMITTER_EMAIL=agent@example.com")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (l *lab) in(dir string, args ...string) string {
	l.t.Helper()
	out, err := try(dir, args...)
	if err != nil {
		l.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (l *lab) write(dir, name, content string) {
	l.t.Helper()
	must(l.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
	must(l.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
}

func (l *lab) read(name string) string {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.host, name))
	must(l.t, err)
	return string(b)
}

func (l *lab) commit(dir, subject string) string {
	l.t.Helper()
	l.in(dir, "add", "-A")
	l.in(dir, "commit", "-q", "--allow-empty", "-m", subject)
	return l.in(dir, "rev-parse", "HEAD")
}

func (l *lab) repo() Repo { return Repo{Root: l.host, Git: filepath.Join(l.host, ".git")} }

func (l *lab) server() Server {
	exe, err := os.Executable()
	must(l.t, err)
	return Server{Command: []string{exe, "serve", l.agent, l.limit}}
}

func (l *lab) fetch() (Fetched, error) {
	l.t.Helper()
	f, err := Fetch(l.t.Context(), l.repo(), theRun, l.server(), l.work)
	l.empty()
	return f, err
}

// empty: whatever happened, nothing of ours stays.
func (l *lab) empty() {
	l.t.Helper()
	left, err := os.ReadDir(l.work)
	must(l.t, err)
	if len(left) > 0 {
		l.t.Errorf("left behind: %v", left)
	}
}

func (l *lab) list() []Branch {
	l.t.Helper()
	list, err := List(l.t.Context(), l.repo(), theRun, l.work)
	must(l.t, err)
	l.empty()
	return list
}

// refs are the host's, with what they name.
func (l *lab) refs() string { return l.in(l.host, "for-each-ref", "--format=%(refname) %(objectname)") }

func (l *lab) mustFetch() {
	l.t.Helper()
	_, err := l.fetch()
	must(l.t, err)
}

func TestCommitsArrive(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		l := newLab(t, format)
		before := l.refs()
		l.write(l.agent, "new.txt", "new\n")
		one := l.commit(l.agent, "one")
		l.in(l.agent, "branch", "feature/x")
		l.write(l.agent, "a.txt", "changed\n")
		two := l.commit(l.agent, "two")
		l.in(l.agent, "tag", "v1")
		f, err := l.fetch()
		must(t, err)
		if len(f.Refs) != 3 || f.Refs["HEAD"] != two || f.Refs["heads/main"] != two || f.Refs["heads/feature/x"] != one {
			t.Errorf("%s: arrived %v", format, f.Refs)
		}
		want := "refs/agentbox/" + theRun + "/HEAD " + two + "\nrefs/agentbox/" + theRun + "/heads/feature/x " + one + "\nrefs/agentbox/" + theRun + "/heads/main " + two + "\n" + before
		if got := l.refs(); got != want {
			t.Errorf("%s: refs\n%s\nwant\n%s", format, got, want)
		}
		if out, err := try(l.host, "fsck", "--full", "--strict"); err != nil {
			t.Errorf("%s: %s", format, out)
		}
		if out := l.in(l.host, "status", "--porcelain"); out != "" {
			t.Errorf("%s: status says %q", format, out)
		}
	}
}

func TestBranchesOfARunThatAreGoneGo(t *testing.T) {
	l := newLab(t, "sha1")
	l.in(l.agent, "branch", "x")
	l.mustFetch()
	l.in(l.agent, "branch", "-D", "x")
	l.in(l.agent, "branch", "x/y") // the old one is in the way of this
	l.mustFetch()
	if got := l.refs(); strings.Contains(got, "/heads/x ") || !strings.Contains(got, "/heads/x/y ") {
		t.Errorf("refs\n%s", got)
	}
	must(t, Forget(t.Context(), l.repo(), theRun))
	if got := l.refs(); strings.Contains(got, "agentbox") {
		t.Errorf("after forgetting:\n%s", got)
	}
}

func TestADetachedHeadAndNone(t *testing.T) {
	l := newLab(t, "sha1")
	l.in(l.agent, "checkout", "-q", "--detach")
	id := l.commit(l.agent, "on no branch")
	f, err := l.fetch()
	must(t, err)
	if f.Refs["HEAD"] != id {
		t.Errorf("arrived %v", f.Refs)
	}
	list := l.list()
	if len(list) != 1 || list[0].Name != "" || !list[0].Forward || len(list[0].Commits) != 1 {
		t.Errorf("listed %+v", list)
	}
	l.in(l.agent, "symbolic-ref", "HEAD", "refs/heads/nothing")
	f, err = l.fetch()
	must(t, err)
	if _, ok := f.Refs["HEAD"]; ok || len(f.Refs) != 1 {
		t.Errorf("arrived %v", f.Refs)
	}
}

func TestTheFirstCommitOfARepository(t *testing.T) {
	l := newLab(t, "sha1")
	must(t, os.RemoveAll(l.host))
	must(t, os.Mkdir(l.host, 0o755))
	l.in(l.host, "init", "-q", "-b", "main", ".")
	l.mustFetch()
	list := l.list()
	if len(list) != 1 || !list[0].Forward || len(list[0].Files) != 2 {
		t.Fatalf("listed %+v", list)
	}
	_, err := FastForward(t.Context(), l.repo(), theRun, list[0], l.work)
	must(t, err)
	if got := l.read("dir/b.txt"); got != "b\n" || l.in(l.host, "status", "--porcelain") != "" {
		t.Errorf("%q", got)
	}
}

func TestListing(t *testing.T) {
	l := newLab(t, "sha1")
	l.write(l.agent, "Makefile", "all:\n")
	must(t, os.Chmod(filepath.Join(l.agent, "a.txt"), 0o755))
	l.in(l.agent, "add", "-A")
	l.in(l.agent, "commit", "-q", "-m", "a \x1b[31mred\x07 subject", "--author", "Someone Else <else@example.com>")
	l.commit(l.agent, "second")
	l.in(l.agent, "branch", "old", "HEAD~2")
	l.mustFetch()
	list := l.list()
	if len(list) != 1 || list[0].Name != "main" || !list[0].Forward || len(list[0].Commits) != 2 {
		t.Fatalf("listed %+v", list)
	}
	c := list[0].Commits[0]
	if c.Subject != "a \x1b[31mred\x07 subject" || c.Author != (Person{"Someone Else", "else@example.com"}) ||
		c.Committer != (Person{"An Agent", "agent@example.com"}) || c.Signature.State != "" || c.Merge || c.When.IsZero() {
		t.Errorf("%+v", c)
	}
	f := list[0].Files
	if len(f) != 2 || f[0].Path != "Makefile" || !f[0].Before.Absent() || f[0].After.Mode != "100644" ||
		f[1].Path != "a.txt" || f[1].Before.Mode != "100644" || f[1].After.Mode != "100755" {
		t.Fatalf("files %+v", f)
	}
	if text, err := l.repo().Content(t.Context(), f[0].After, 3); err != nil || string(text) != "all" {
		t.Errorf("%q %v", text, err)
	}
}

// A signature is judged by what the person's own configuration says, and by nothing that came with the repository.
func TestSignatures(t *testing.T) {
	l := newLab(t, "sha1")
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	l.in(l.agent, "-c", "gpg.format=ssh", "-c", "user.signingKey="+key, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
	l.mustFetch()
	home := t.TempDir()
	t.Setenv("HOME", home)
	l.in(l.host, "config", "gpg.ssh.allowedSignersFile", l.canary)
	l.in(l.host, "config", "gpg.ssh.program", l.canary)
	if s := l.list()[0].Commits[0].Signature; s.State == "good" || s.State == "" {
		t.Errorf("without a list of signers: %+v", s)
	}
	must(t, os.WriteFile(home+"/signers", []byte("agent@example.com "+string(public)), 0o600))
	must(t, os.WriteFile(home+"/.gitconfig", []byte("[gpg \"ssh\"]\n\tallowedSignersFile = "+home+"/signers\n"), 0o600))
	if s := l.list()[0].Commits[0].Signature; s != (Signature{State: "good", By: "agent@example.com"}) {
		t.Errorf("with it: %+v", s)
	}
	l.nothingRan()
}

func (l *lab) nothingRan() {
	l.t.Helper()
	if text, err := os.ReadFile(l.canary + ".ran"); err == nil {
		l.t.Errorf("what must not run was run:\n%s", text)
	}
}

func TestFastForward(t *testing.T) {
	l := newLab(t, "sha1")
	l.write(l.agent, "a.txt", "changed\n")
	must(t, os.Remove(filepath.Join(l.agent, "dir/b.txt")))
	l.write(l.agent, "dir2/new.txt", "new\n")
	tip := l.commit(l.agent, "work")
	l.mustFetch()
	l.write(l.host, "mine.txt", "untracked\n")
	taken, err := FastForward(t.Context(), l.repo(), theRun, l.list()[0], l.work)
	must(t, err)
	l.empty()
	if taken.Branch != "main" || taken.To != tip || l.in(l.host, "rev-parse", "main") != tip {
		t.Errorf("%+v", taken)
	}
	if got := l.in(l.host, "status", "--porcelain"); got != "?? mine.txt" {
		t.Errorf("status says %q", got)
	}
	if l.read("a.txt") != "changed\n" || l.read("dir2/new.txt") != "new\n" {
		t.Error("the work tree is not that of the commit")
	}
	if got := l.in(l.host, "reflog", "-1", "--format=%gs"); got != "agentbox apply "+theRun {
		t.Errorf("the reflog says %q", got)
	}
	if len(l.list()) != 0 {
		t.Error("there is still something new")
	}
}

// An agent commits at the names of hidden files: emptied, removed, new ones, below a link's name and in another case. None of
// it is taken, neither by a fast-forward nor as a copy; the same is, when it was to be seen.
func TestCommitsOfWhatWasHiddenAreNotTaken(t *testing.T) {
	for name, does := range map[string]func(l *lab){
		"emptied": func(l *lab) { l.write(l.agent, "certs/server.key", "") },
		"removed": func(l *lab) { must(t, os.Remove(filepath.Join(l.agent, "certs/server.key"))) },
		"moved":   func(l *lab) { must(t, os.Rename(filepath.Join(l.agent, "certs"), filepath.Join(l.agent, "other"))) },
		"new":     func(l *lab) { l.write(l.agent, "dir/.env", "planted\n") },
		"case":    func(l *lab) { l.write(l.agent, "dir/.ENV", "planted\n") },
		"link":    func(l *lab) { must(t, os.Symlink("/etc/passwd", filepath.Join(l.agent, ".env"))) },
		"tree":    func(l *lab) { l.write(l.agent, ".env/x", "planted\n") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "sha1")
			l.in(l.host, "config", "user.name", "A Person")
			l.in(l.host, "config", "user.email", "person@example.com")
			l.write(l.host, "certs/server.key", "h1dden\n")
			l.commit(l.host, "a key")
			must(t, exec.Command("cp", "-af", l.host+"/.", l.agent).Run())
			before := l.in(l.host, "rev-parse", "HEAD")
			l.write(l.agent, "a.txt", "work\n")
			does(l)
			l.commit(l.agent, "work")
			l.mustFetch()
			repo := l.repo()
			repo.Hidden = []string{".env*", "*.key"}
			for _, take := range []func(context.Context, Repo, string, Branch, string) (Taken, error){FastForward, Pick} {
				_, err := take(t.Context(), repo, theRun, l.list()[0], l.work)
				var refused *Refusal
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), "hidden from the run") {
					t.Errorf("%v", err)
				}
			}
			if l.in(l.host, "rev-parse", "HEAD") != before || l.in(l.host, "status", "--porcelain") != "" || l.read("certs/server.key") != "h1dden\n" {
				t.Error("something was taken all the same")
			}
			repo.Hidden = append(repo.Hidden, "!**")
			_, err := FastForward(t.Context(), repo, theRun, l.list()[0], l.work)
			must(t, err)
			l.empty()
		})
	}
}

// Nothing that is not committed is lost: where it is in the way nothing changes at all.
func TestFastForwardLosesNothing(t *testing.T) {
	for name, prepare := range map[string]func(l *lab){
		"a changed file":   func(l *lab) { l.write(l.host, "a.txt", "mine\n") },
		"a staged file":    func(l *lab) { l.write(l.host, "a.txt", "mine\n"); l.in(l.host, "add", "a.txt") },
		"an untracked":     func(l *lab) { l.write(l.host, "new.txt", "mine\n") },
		"an ignored":       func(l *lab) { l.write(l.host, ".git/info/exclude", "new.txt\n"); l.write(l.host, "new.txt", "mine\n") },
		"a staged new one": func(l *lab) { l.write(l.host, "new.txt", "mine\n"); l.in(l.host, "add", "new.txt") },
		"an unfinished merge": func(l *lab) {
			l.write(l.host, ".git/MERGE_HEAD", l.in(l.host, "rev-parse", "HEAD")+"\n")
		},
		"no branch": func(l *lab) { l.in(l.host, "checkout", "-q", "--detach") },
		"parted":    func(l *lab) { l.commit(l.host, "mine") },
	} {
		l := newLab(t, "sha1")
		l.write(l.agent, "a.txt", "changed\n")
		l.write(l.agent, "new.txt", "new\n")
		l.commit(l.agent, "work")
		l.mustFetch()
		prepare(l)
		before := l.state()
		list := l.list()
		_, err := FastForward(t.Context(), l.repo(), theRun, list[0], l.work)
		if err == nil {
			t.Errorf("%s: it went", name)
		}
		if after := l.state(); after != before {
			t.Errorf("%s: changed\n%s\nto\n%s", name, before, after)
		}
	}
}

// state is all that a person could lose.
func (l *lab) state() string {
	out, err := exec.Command("sh", "-c", "cd '"+l.host+"' && for f in $(find . -path ./.git -prune -o -type f -print | sort); do echo $f; cat $f; done").Output()
	must(l.t, err)
	return string(out) + l.in(l.host, "status", "--porcelain") + l.in(l.host, "ls-files", "-s") + l.refs() + l.in(l.host, "rev-parse", "HEAD")
}

func TestPick(t *testing.T) {
	l := newLab(t, "sha1")
	l.write(l.agent, "a.txt", "one\ntwo\nTHREE\n")
	l.commit(l.agent, "first")
	l.write(l.agent, "sub/new.txt", "new\n")
	l.commit(l.agent, "second")
	l.write(l.host, "c.txt", "mine\n")
	l.commit(l.host, "mine")
	l.in(l.host, "config", "user.name", "A Person")
	l.in(l.host, "config", "user.email", "person@example.com")
	l.mustFetch()
	list := l.list()
	if len(list) != 1 || list[0].Forward {
		t.Fatalf("%+v", list)
	}
	taken, err := Pick(t.Context(), l.repo(), theRun, list[0], l.work)
	must(t, err)
	l.empty()
	if got := l.in(l.host, "log", "--format=%s %an %cn"); got != "second An Agent A Person\nfirst An Agent A Person\nmine An Agent An Agent\nstart An Agent An Agent" {
		t.Errorf("%+v\n%s", taken, got)
	}
	if l.read("a.txt") != "one\ntwo\nTHREE\n" || l.read("sub/new.txt") != "new\n" || l.in(l.host, "status", "--porcelain") != "" {
		t.Error("the work tree is not that of the commits")
	}
	if out, err := try(l.host, "fsck", "--full", "--strict"); err != nil {
		t.Error(out)
	}
}

func TestAPickThatConflictsChangesNothing(t *testing.T) {
	l := newLab(t, "sha1")
	l.write(l.agent, "new.txt", "fine\n")
	l.commit(l.agent, "fits")
	l.write(l.agent, "a.txt", "theirs\n")
	l.commit(l.agent, "does not")
	l.write(l.host, "a.txt", "mine\n")
	l.commit(l.host, "mine")
	l.in(l.host, "config", "user.name", "A Person")
	l.in(l.host, "config", "user.email", "person@example.com")
	l.mustFetch()
	before := l.state()
	_, err := Pick(t.Context(), l.repo(), theRun, l.list()[0], l.work)
	if err == nil || !strings.Contains(err.Error(), "a.txt") {
		t.Errorf("it says %v", err)
	}
	l.empty()
	if after := l.state(); after != before {
		t.Errorf("changed\n%s\nto\n%s", before, after)
	}
}

func TestACancelledFetchEnds(t *testing.T) {
	l := newLab(t, "sha1")
	l.limit = "hang"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fetch(ctx, l.repo(), theRun, l.server(), l.work); err == nil {
		t.Error("it went")
	}
	l.empty()
}
