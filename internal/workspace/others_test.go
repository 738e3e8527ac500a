//go:build linux

package workspace

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// beside is a home directory with a repository in it, and things beside that.
type beside struct {
	t      *testing.T
	home   string
	around Around
}

func newBeside(t *testing.T) beside {
	t.Helper()
	home := realTemp(t)
	repo := filepath.Join(home, "src/repo")
	write(t, filepath.Join(repo, "a"), "a\n")
	git(t, repo, "init", "-q")
	for name, content := range map[string]string{
		"data/d": "data\n", "data/.env": "SECRET\n", "data/secrets/key": "SECRET\n", ".ssh/id": "SECRET\n", ".config/agentbox/config.toml": "",
		".local/state/agentbox/x": "", "run/podman.sock/x": "",
	} {
		write(t, filepath.Join(home, name), content)
	}
	own := []string{filepath.Join(home, ".config/agentbox"), filepath.Join(home, ".local/state/agentbox")}
	return beside{t, home, Around{Repo: find(t, repo), Person: Person{UID: os.Getuid(), Home: home, Own: own, OtherHomes: []string{filepath.Join(home, "other")}},
		Sockets: []string{filepath.Join(home, "run/podman.sock")}, Roots: []string{filepath.Join(home, ".nvm")}}}
}

func (b beside) at(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return filepath.Join(b.home, name)
}

func (b beside) ask(source, target string, write bool, hide ...string) ([]Other, error) {
	if target == "" {
		target = source
	}
	return Others(b.around, []Asked{{Source: b.at(source), Target: b.at(target), Write: write, Origin: "mine.toml:3"}}, hide)
}

// What would open the boundary is refused, whoever asks for it.
func TestDangerousMountsAreRefused(t *testing.T) {
	b := newBeside(t)
	for _, dir := range []string{"other/x", ".gnupg", "spare"} {
		if err := os.MkdirAll(b.at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for target, name := range map[string]string{".ssh": "keys", "/etc": "etc", "data": "way", "/": "root"} {
		if err := os.Symlink(b.at(target), b.at(name)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", b.at("sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if err := syscall.Mkfifo(b.at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, target string
		write          bool
		want           string
	}{
		{"/", "/x", false, "home directory"}, {"", "/x", false, "home directory"}, {filepath.Dir(b.home), "/x", false, "home directory"},
		{".ssh", "/x", false, "keys, logins"}, {".ssh/id", "/x", false, "keys, logins"}, {".gnupg", "", false, "keys, logins"},
		{".config", "/x", false, "agentbox's own directory"}, {".config/agentbox", "/x", false, "agentbox's own directory"},
		{".local/state", "/x", true, "agentbox's own directory"}, {".local/state/agentbox/x", "/x", false, "agentbox's own directory"},
		{"run", "/x", false, "a way into this machine"}, {"run/podman.sock", "/x", false, "a way into this machine"},
		{"sock", "/x", false, "a socket, a device or a pipe"}, {"pipe", "/x", false, "a socket, a device or a pipe"},
		{"/dev/null", "/x", false, "a socket, a device or a pipe"}, {"/dev", "/x", false, "the system's own"}, {"/proc", "/x", false, "the system's own"},
		{"/sys", "/x", false, "the system's own"}, {"/run", "/x", false, "the system's own"}, {"/etc", "/x", false, "the system's own"}, {"/var", "/x", false, "the system's own"},
		{"other/x", "/x", false, "another user's home"},
		{"keys", "/x", false, "a link on the way"}, {"keys/id", "/x", false, "a link on the way"}, {"etc/passwd", "/x", false, "a link on the way"},
		{"way/d", "/x", false, "a link on the way"}, {"root", "/x", false, "a link on the way"},
		{"missing", "/x", false, "is not there"},
		{"src/repo", "/x", true, "the repository's"}, {"src", "/x", false, "the repository's"}, {"src/repo/.git", "/x", false, "the repository's"},
		{"data", "src/repo/data", false, "the repository's"}, {"data", "src", false, "the repository's"},
		{"data", "/usr/share/x", false, "overlap inside"}, {"data", "/etc/x", false, "overlap inside"}, {"data", "/bin", false, "overlap inside"},
		{"data", "/proc", false, "overlap inside"}, {"data", "/run/agentbox", false, "overlap inside"}, {"data", ".nvm/x", false, "overlap inside"},
		{"data", "/", false, "nothing can be laid over"}, {"data", "/tmp", false, "nothing can be laid over"}, {"data", "/home", false, ""}, {"data", b.home, false, "nothing can be laid over"},
	} {
		_, err := b.ask(c.source, c.target, c.write)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s at %s: %v", c.source, c.target, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mine.toml:3") || Hint(err) == ""):
			t.Errorf("%s at %s: got %v (%s), want %q", c.source, c.target, err, Hint(err), c.want)
		}
	}
	if _, err := b.ask("way", "/x", false); err == nil || !strings.Contains(Hint(err), b.at("data")) {
		t.Errorf("the path behind the link is not named: %v, %s", err, Hint(err))
	}
}

func TestTwoMountsInOnePlaceAreRefused(t *testing.T) {
	b := newBeside(t)
	_, err := Others(b.around, []Asked{{Source: b.at("data/secrets"), Target: "/x", Origin: "a:1"}, {Source: b.at("data"), Target: "/x/y", Origin: "a:4"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "a:4") || !strings.Contains(err.Error(), "overlap inside") {
		t.Errorf("got %v", err)
	}
}

// Somebody else's git must not be made to run things, and keys in its configuration are not shown.
func TestGitDirectoriesOfMountsAreNotForWriting(t *testing.T) {
	b := newBeside(t)
	git(t, b.home, "init", "-q", "data/lib")
	git(t, b.at("data/lib"), "config", "remote.origin.url", "https://me:SECRET@example.com/x")
	git(t, b.home, "init", "-q", "--bare", "bare.git")
	for _, source := range []string{"bare.git", "bare.git/hooks", "data/lib/.git", "data/lib/.git/hooks"} {
		if _, err := b.ask(source, "", true); (err == nil) != (source == "bare.git/hooks") {
			t.Errorf("%s: got %v", source, err)
		}
	}
	for _, source := range []string{"data", "data/lib"} {
		others, err := b.ask(source, "", true)
		if err != nil {
			t.Fatal(err)
		}
		mounts, _, _, err := OtherMounts(others, realTemp(t))
		if err != nil {
			t.Fatal(err)
		}
		lib := b.at("data/lib")
		out, _ := enter(t, mounts, fmt.Sprintf("cd %q; echo x >made || echo no; grep -r SECRET .git; for f in .git/config .git/hooks/x; do echo x >$f && echo wrote $f; done 2>/dev/null; mv .git away 2>/dev/null && echo moved", lib))
		if strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s", source, out)
		}
		if err := os.Remove(filepath.Join(lib, "made")); err != nil {
			t.Error(err)
		}
	}
}

// Hide patterns hold in a mount as in the repository, read-only is read-only, and writable is the host's own.
func TestWhatAMountShows(t *testing.T) {
	b := newBeside(t)
	for _, write := range []bool{false, true} {
		others, err := b.ask("data", "", write, ".env*", "secrets/**")
		if err != nil || len(others) != 1 || len(others[0].Survey.Hidden) != 2 {
			t.Fatalf("%v %+v", err, others)
		}
		mounts, places, _, err := OtherMounts(others, realTemp(t))
		if err != nil || len(places) != 2 {
			t.Fatal(err, places)
		}
		out, _ := enter(t, mounts, "cat d; cat .env; ls secrets; grep -r SECRET .; echo x >new && echo wrote")
		want := "data\n"
		if write {
			want += "wrote\n"
		}
		if got := strings.ReplaceAll(out, "sh: 1: cannot create new: Read-only file system\n", ""); got != want {
			t.Errorf("write %v: %s", write, out)
		}
	}
	others, err := b.ask("data", "/elsewhere/data", false, ".env")
	if err != nil {
		t.Fatal(err)
	}
	mounts, places, _, err := OtherMounts(others, realTemp(t))
	if err != nil || mounts[0].Target != "/elsewhere/data" || mounts[1].Target != "/elsewhere/data/.env" || places[0].Target != b.at("data/.env") {
		t.Errorf("%v %+v %+v", err, mounts, places)
	}
}

// A source that became a link after it was looked at is not followed.
func TestASourceThatBecomesALinkIsRefused(t *testing.T) {
	b := newBeside(t)
	others, err := b.ask("data", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.at("data"), b.at("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(b.at(".ssh"), b.at("data")); err != nil {
		t.Fatal(err)
	}
	if mounts, _, _, err := OtherMounts(others, realTemp(t)); err == nil {
		t.Errorf("mounted: %+v", mounts)
	}
}
