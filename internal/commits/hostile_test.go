package commits

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// boobyTrap puts the canary wherever git of the host would run it.
func (l *lab) boobyTrap() {
	l.t.Helper()
	for _, hook := range []string{"reference-transaction", "post-checkout", "post-merge", "post-index-change", "post-commit", "pre-commit",
		"prepare-commit-msg", "commit-msg", "post-rewrite", "applypatch-msg", "pre-auto-gc", "pre-merge-commit"} {
		must(l.t, os.MkdirAll(filepath.Join(l.host, ".git/hooks"), 0o755))
		_ = os.Remove(filepath.Join(l.host, ".git/hooks", hook))
		must(l.t, os.Symlink(l.canary, filepath.Join(l.host, ".git/hooks", hook)))
	}
	for _, key := range []string{"core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand", "core.editor", "core.pager", "core.askPass",
		"filter.x.clean", "filter.x.smudge", "filter.x.process", "merge.x.driver", "diff.x.command", "diff.x.textconv", "diff.external",
		"gpg.program", "gpg.ssh.program", "uploadpack.packObjectsHook", "credential.helper", "pager.log", "pager.diff", "sequence.editor",
		"interactive.diffFilter", "trailer.x.command", "core.gitProxy", "alias.log"} {
		l.in(l.host, "config", key, l.canary)
	}
	l.in(l.host, "config", "url.ext::"+l.canary+" .insteadOf", "/")
	l.in(l.host, "config", "protocol.ext.allow", "always")
	l.in(l.host, "config", "commit.gpgSign", "true")
	l.in(l.host, "config", "user.name", "A Person")
	l.in(l.host, "config", "user.email", "person@example.com")
	l.write(l.host, ".git/info/attributes", "* filter=x merge=x diff=x\n")
}

// What the agent commits may name drivers, and what a clone brought along may configure them: nothing runs, in a
// fetch, a listing, a fast-forward or a cherry-pick.
func TestNothingOfTheHostsRuns(t *testing.T) {
	for _, parted := range []bool{false, true} {
		l := newLab(t, "sha1")
		l.write(l.agent, ".gitattributes", "* filter=x merge=x diff=x\n")
		l.write(l.agent, "a.txt", "one\ntwo\nTHREE\n")
		l.in(l.agent, "-c", "user.signingKey=x", "add", "-A")
		l.commit(l.agent, "work")
		if parted {
			l.write(l.host, "a.txt", "ONE\ntwo\nthree\n")
			l.commit(l.host, "mine")
		}
		l.boobyTrap()
		l.mustFetch()
		list := l.list()
		take := FastForward
		if parted {
			take = Pick
		}
		taken, err := take(t.Context(), l.repo(), theRun, list[0], l.work)
		if parted && err != nil && strings.Contains(err.Error(), "a.txt") { // neighbouring lines may conflict
			l.nothingRan()
			continue
		}
		must(t, err)
		if len(taken.Unread) == 0 {
			t.Error("nobody is told that the filter was left out")
		}
		l.nothingRan()
		_, _ = try(l.host, "status") // so the trap is one
		if _, err := os.Stat(l.canary + ".ran"); err != nil {
			t.Error("git without any care did not run the canary either")
		}
	}
}

// object writes one that git would not, and gives its name.
func (l *lab) object(kind, content string) string {
	l.t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--literally", "--stdin")
	cmd.Dir, cmd.Stdin = l.agent, strings.NewReader(content)
	out, err := cmd.Output()
	must(l.t, err)
	return strings.TrimSpace(string(out))
}

// entry is one of a tree.
func (l *lab) entry(mode, name, id string) string {
	var raw []byte
	_, err := fmt.Sscanf(id, "%x", &raw)
	must(l.t, err)
	return mode + " " + name + "\x00" + string(raw)
}

func (l *lab) commitOf(tree string) {
	l.t.Helper()
	id := l.object("commit", "tree "+tree+"\nparent "+l.in(l.agent, "rev-parse", "HEAD")+"\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nforged\n")
	l.in(l.agent, "update-ref", "refs/heads/main", id)
}

// Objects that would plant something when they are checked out do not come in at all.
func TestForgedObjectsAreRefused(t *testing.T) {
	attacks := map[string]func(l *lab) string{}
	for _, name := range []string{".git", ".GIT", "git~1", ".g\u200cit", "..", ".", "a/b", ""} {
		attacks["a file called "+name] = func(l *lab) string {
			return l.object("tree", l.entry("100644", name, l.object("blob", "x")))
		}
		attacks["a directory called "+name] = func(l *lab) string {
			inner := l.object("tree", l.entry("100755", "config", l.object("blob", "[core]\n\tfsmonitor = x\n")))
			return l.object("tree", l.entry("40000", name, inner))
		}
	}
	attacks["a .gitmodules that is a link"] = func(l *lab) string {
		return l.object("tree", l.entry("120000", ".gitmodules", l.object("blob", "a")))
	}
	attacks["a .gitmodules with an option for a URL"] = func(l *lab) string {
		return l.object("tree", l.entry("100644", ".gitmodules", l.object("blob", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n")))
	}
	attacks["a .gitmodules that leads out"] = func(l *lab) string {
		return l.object("tree", l.entry("100644", ".gitmodules", l.object("blob", "[submodule \"../../x\"]\n\tpath = x\n\turl = https://x\n")))
	}
	attacks["a name twice"] = func(l *lab) string {
		b := l.object("blob", "x")
		return l.object("tree", l.entry("120000", "x", b)+l.entry("40000", "x", l.object("tree", "")))
	}
	for name, attack := range attacks {
		l := newLab(t, "sha1")
		before := l.refs()
		l.commitOf(attack(l))
		if _, err := l.fetch(); err == nil {
			t.Errorf("%s: it went", name)
		}
		if got := l.refs(); got != before {
			t.Errorf("%s: refs\n%s", name, got)
		}
	}
}

// A history that is not whole, and objects that are not what their names say.
func TestBrokenHistoriesAreRefused(t *testing.T) {
	for name, attack := range map[string]func(l *lab){
		"a tree that is not there": func(l *lab) { l.commitOf(strings.Repeat("1", 40)) },
		"a file that is not there": func(l *lab) { l.commitOf(l.object("tree", l.entry("100644", "x", strings.Repeat("2", 40)))) },
		"an object under a false name": func(l *lab) {
			tree := l.object("tree", l.entry("100644", "x", l.object("blob", "right")))
			wrong, right := l.object("blob", "wrong"), l.in(l.agent, "ls-tree", "--object-only", tree)
			path := func(id string) string { return filepath.Join(l.agent, ".git/objects", id[:2], id[2:]) }
			must(l.t, os.Rename(path(wrong), path(right)))
			l.commitOf(tree)
		},
	} {
		l := newLab(t, "sha1")
		before := l.refs()
		attack(l)
		if _, err := l.fetch(); err == nil {
			t.Errorf("%s: it went", name)
		}
		if got := l.refs(); got != before {
			t.Errorf("%s: refs\n%s", name, got)
		}
	}
}

// What goes by is bounded too, not only told to be too much.
func TestTheRelayStops(t *testing.T) {
	var to bytes.Buffer
	in := "0032" + strings.Repeat("a", 40) + " HEAD\x00\n0000" + strings.Repeat("x", 100_000)
	if _, err := Relay(strings.NewReader("\n0033"+in[4:]), &to, 1000); err == nil || to.Len() > 1200 {
		t.Errorf("%v, %d bytes went by", err, to.Len())
	}
}

func TestWhatARunSendsIsBounded(t *testing.T) {
	l := newLab(t, "sha1")
	l.write(l.agent, "random", string(noise(2_000_000)))
	l.commit(l.agent, "big")
	l.limit = "1000000"
	before := l.refs()
	if _, err := l.fetch(); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("it says %v", err)
	}
	if got := l.refs(); got != before {
		t.Errorf("refs\n%s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(l.host, ".git/objects/pack/*")); len(left) > 0 {
		t.Errorf("left in the host's repository: %v", left)
	}
}

// noise does not compress.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out
}

// relayed gives the names that a list of refs has after the relay.
func relayed(t *testing.T, names ...string) (out []string, left int) {
	t.Helper()
	id := strings.Repeat("a", 40)
	in := bytes.NewBufferString(id + " commit\n\n")
	for i, n := range names {
		l := id + " " + n
		if i == 0 {
			l += "\x00thin-pack ofs-delta side-band-64k allow-tip-sha1-in-want symref=HEAD:refs/heads/x filter agent=evil"
		}
		writePacket(in, l+"\n")
	}
	in.WriteString("0000PACK")
	var to bytes.Buffer
	left, err := Relay(in, &to, 1000)
	must(t, err)
	for {
		l, err := readPacket(&to)
		must(t, err)
		if l == nil {
			break
		}
		text, abilities, first := strings.Cut(strings.TrimSuffix(string(l), "\n"), "\x00")
		if first && abilities != "thin-pack ofs-delta" {
			t.Errorf("abilities %q", abilities)
		}
		out = append(out, strings.TrimPrefix(text, id+" "))
	}
	if to.String() != "PACK" {
		t.Errorf("the rest is %q", to.String())
	}
	return out, left
}

func TestTheRelayLetsOnlyBranchesBy(t *testing.T) {
	out, left := relayed(t, "HEAD", "refs/heads/main", "refs/tags/v1", "refs/heads/../../config", "refs/heads/a..b", "refs/heads/.x", "refs/heads/x.lock",
		"refs/heads/x.lock/y", "refs/heads/a b", "refs/heads/\x1b[31m", "refs/heads/", "refs/heads//x", "refs/heads/x/", "refs/heads/@", "refs/heads/a@{1}",
		"refs/heads/main", "refs/heads/main/x", "refs/heads/ok/x", "refs/heads/ok", "refs/heads/"+strings.Repeat("n", 300), "refs/agentbox/other/heads/x",
		"refs/heads/refs/heads/fine", "config", "../x", "refs/agentbox/HEAD", "refs/heads/-x", "HEAD")
	want := "refs/agentbox/HEAD refs/heads/main refs/heads/ok/x refs/heads/refs/heads/fine refs/heads/-x"
	if got := strings.Join(out, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if left != 16 {
		t.Errorf("%d were left out", left)
	}
	var many []string
	for i := range 1500 {
		many = append(many, fmt.Sprintf("refs/heads/b%d", i))
	}
	if out, left := relayed(t, many...); len(out) != maxRefs || left != 500 {
		t.Errorf("%d of 1500, %d left out", len(out), left)
	}
	if out, _ := relayed(t, "capabilities^{}"); strings.Join(out, " ") != strings.Repeat("0", 40)+" capabilities^{}" {
		t.Errorf("of none %v", out)
	}
}

// The names that pass are those that git takes.
func TestNamesAreThoseThatGitTakes(t *testing.T) {
	for _, name := range []string{"main", "a/b", "-x", "x.", "x.lock", "a.lock/b", ".a", "a/.b", "a..b", "a~", "a^", "a:b", "a?b", "a*", "a[", `a\b`,
		"a b", "a\tb", "@", "a@{b", "a//b", "/a", "a/", "ü", "a@b", "refs/heads/x", "a.b", "\x7f", "HEAD"} {
		err := exec.Command("git", "check-ref-format", "refs/heads/"+name).Run()
		if got := validBranch(name); got && err != nil {
			t.Errorf("%q passes, and git refuses it", name)
		} else if !got && err == nil && name != "@" {
			t.Errorf("%q is refused, and git takes it", name)
		}
	}
}

// git-upload-pack tells of a ref that it can't read as one that names no object; asking for that would end it.
func TestBrokenRefsAreLeftOut(t *testing.T) {
	l := newLab(t, "sha1")
	id := l.commit(l.agent, "fine")
	l.write(l.agent, ".git/refs/heads/garbage", "garbage\n")
	l.write(l.agent, ".git/refs/heads/zero", strings.Repeat("0", 40)+"\n")
	l.write(l.agent, ".git/refs/heads/missing", strings.Repeat("1", 40)+"\n")
	l.write(l.agent, ".git/refs/heads/out", "ref: ../../../../etc/passwd\n")
	must(t, os.Symlink("../../config", filepath.Join(l.agent, ".git/refs/heads/config")))
	f, err := l.fetch()
	must(t, err)
	if len(f.Refs) != 2 || f.Refs["heads/main"] != id {
		t.Errorf("arrived %v", f.Refs)
	}
}

func TestARelayOfRubbish(t *testing.T) {
	for _, text := range []string{"", "zzzz", "0001", "0004", "0006a", "000eHello, you", "fff1" + strings.Repeat("x", 70000),
		"0032" + strings.Repeat("A", 40) + " HEAD\n"} {
		var to bytes.Buffer
		if _, err := Relay(strings.NewReader("\n"+text), &to, 1000); err == nil || to.Len() > 0 {
			t.Errorf("%.20q: %v, %d bytes went by", text, err, to.Len())
		}
	}
	endless := strings.NewReader("\n" + strings.Repeat("0034"+strings.Repeat("a", 40)+" refs/x\n", maxAdvert/40))
	if _, err := Relay(endless, new(bytes.Buffer), 1000); err == nil {
		t.Error("an endless list is taken")
	}
	if _, err := Relay(strings.NewReader(strings.Repeat(strings.Repeat("a", 40)+" commit\n", maxAdvert/40)), new(bytes.Buffer), 1000); err == nil {
		t.Error("an endless list of commits is taken")
	}
}

// A server that says nothing is ended when its time is up, with all that it started.
func TestAServerThatHangs(t *testing.T) {
	l := newLab(t, "sha1")
	l.limit = "hang"
	s, err := newShadow(t.Context(), l.repo(), filepath.Join(l.work, "git"))
	must(t, err)
	defer func() { must(t, s.remove()) }()
	began := time.Now()
	s.repo = l.repo()
	f := fetcher{shadow: s, run: theRun, server: l.server(), limit: 200 * time.Millisecond}
	if _, err := f.fetch(t.Context()); err == nil {
		t.Error("it went")
	}
	if took := time.Since(began); took > gitTime/2 {
		t.Errorf("it took %v", took)
	}
	for _, cmdline := range commandLines(t) {
		if strings.Contains(cmdline, "serve\x00"+l.agent) {
			t.Errorf("still there: %q", cmdline)
		}
	}
}

func commandLines(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil { // else it has ended
			out = append(out, string(text))
		}
	}
	return out
}

// A small object that is a large one when it is unpacked is not unpacked into memory without a bound.
func TestTheMemoryOfUnpackingIsBounded(t *testing.T) {
	out, err := call{dir: t.TempDir(), args: []string{"-c", "alias.m=!ulimit -S -v", "m"}, memory: memory}.run(t.Context())
	must(t, err)
	if strings.TrimSpace(out) != fmt.Sprint(memory>>10) {
		t.Errorf("the limit is %s", out)
	}
}
