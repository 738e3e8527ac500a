package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// in runs agentbox somewhere else.
func (b *box) in(dir string, args ...string) result {
	b.t.Helper()
	old := b.repo
	b.repo = dir
	defer func() { b.repo = old }()
	return b.agentbox(args...)
}

// refused checks that a command ended with one clear error and what to do next (a hint, or the line of the file that is
// wrong), having printed nothing. A run that never began leaves no session; one whose Podman failed is on record.
func (r result) refused(b *box, code int, texts ...string) {
	r.t.Helper()
	r.exits(code).prints("").says(texts...)
	var errors, hints int
	for _, line := range strings.Split(strings.TrimSpace(r.err), "\n") {
		switch {
		case strings.HasPrefix(line, "agentbox: hint: "):
			hints++
		case strings.HasPrefix(line, "agentbox: "):
			errors++
		case strings.HasPrefix(line, "  "):
			hints++
		default:
			r.t.Errorf("this line is neither an error nor a hint: %q", line)
		}
	}
	if errors != 1 || hints == 0 {
		r.t.Errorf("%d errors and %d hints:\n%s", errors, hints, r.err)
	}
	if list := b.in(filepath.Dir(b.repo), "ps", "--all").exits(0).out; list != "" && code != 125 {
		r.t.Errorf("a session is left:\n%s", list)
	}
}

func TestWhatIsNotARepository(t *testing.T) {
	b := newBox(t)
	plain := filepath.Join(filepath.Dir(b.repo), "plain")
	must(t, os.MkdirAll(plain, 0o755))
	b.in(plain, "run", "shell", "--", "true").refused(b, 126, "is not in a git repository", "git init")
	b.in("/", "run", "shell", "--", "true").refused(b, 126)
	b.in("/usr", "run", "shell", "--", "true").refused(b, 126, "is not in a git repository")

	// A home directory can be a repository (of dotfiles), and still cannot be handed over.
	home := filepath.Join(filepath.Dir(b.repo), "home")
	must(t, os.Rename(b.repo, home))
	b.setenv("HOME", home)
	b.in(home, "run", "shell", "--dry-run").refused(b, 126, "holds your home directory")
	must(t, os.Rename(home, b.repo))
	must(t, os.MkdirAll(filepath.Join(b.repo, "below", "home"), 0o755))
	b.setenv("HOME", filepath.Join(b.repo, "below", "home"))
	b.agentbox("run", "shell", "--dry-run").refused(b, 126, "holds your home directory")
}

func TestRepositoriesThatCannotBeHandedOver(t *testing.T) {
	b := newBox(t)
	broken := filepath.Join(filepath.Dir(b.repo), "broken")
	must(t, os.MkdirAll(broken, 0o755))
	must(t, os.WriteFile(filepath.Join(broken, ".git"), []byte("nonsense\n"), 0o644))
	b.in(broken, "run", "shell", "--", "true").refused(b, 126, "is not a valid git file")
	must(t, os.Remove(filepath.Join(broken, ".git")))
	must(t, os.Symlink(filepath.Join(b.repo, ".git"), filepath.Join(broken, ".git")))
	b.in(broken, "run", "shell", "--", "true").refused(b, 126, "is a symbolic link")
	for _, e := range b.env {
		if dir, ok := strings.CutPrefix(e, "XDG_STATE_HOME="); ok { // agentbox's own records are no workspace
			own := filepath.Join(dir, "agentbox", "repo")
			must(t, os.MkdirAll(own, 0o700))
			b.in(own, "run", "shell", "--", "true").refused(b, 126, "is not in a git repository")
			must(t, os.Rename(b.repo, own+"2"))
			b.in(own+"2", "run", "shell", "--", "true").refused(b, 126, "agentbox's own directory")
			must(t, os.Rename(own+"2", b.repo))
		}
	}
	must(t, os.WriteFile(filepath.Join(b.repo, ".git", "config"), []byte("[core\n"), 0o644))
	b.agentbox("run", "shell", "--", "true").refused(b, 126, "config", "repair the file")
}

func TestPathsOfAllKinds(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"with space", "quo'te\"s", "colon:and,comma", "ünï-日本-😀", "dollar$HOME`x`", "-dash", "back\\slash", "hash#per%cent=eq", "[glob]*?", strings.Repeat("long", 50)} {
		dir := filepath.Join(filepath.Dir(b.repo), name)
		must(t, os.Rename(b.repo, dir))
		b.in(dir, "run", "shell", "-q", "--", "sh", "-c", "pwd; cat README.md; echo x >made && rm made; git status --short; touch .git/config 2>/dev/null || echo guarded").
			exits(0).prints(dir + "\n# a repository\nguarded\n")
		must(t, os.Rename(dir, b.repo))
	}
}

func TestPathsThatNoMountCanCarry(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"new\nline", "esc\x1b[31m", "not-utf8-\xff\xfe", "tab\tbed"} {
		dir := filepath.Join(filepath.Dir(b.repo), name)
		must(t, os.Rename(b.repo, dir))
		r := b.in(dir, "run", "shell", "--", "true")
		r.refused(b, 126, "the path", "rename the directory")
		if strings.ContainsAny(r.err, "\x1b\t") || strings.Contains(r.err, "\xff") {
			t.Errorf("the path is printed as it is: %q", r.err)
		}
		must(t, os.Rename(dir, b.repo))
	}
}

// Files inside a repository may have any name.
func TestFilesOfAllNames(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"new\nline", "not-utf8-\xff", "sp ace", "-rf", "co:lon"} {
		b.write(name, "x\n")
	}
	b.shell(`git add -A && git commit -qm names && git ls-files -z | tr -cd "\\0" | wc -c`).exits(0).prints("6\n")
}

func TestProfilesThatCannotBeUsed(t *testing.T) {
	b := newBox(t)
	b.agentbox("run", "cluade").refused(b, 126, `"cluade"`, "claude")
	b.agentbox("run", "../../etc/passwd").refused(b, 126)
	b.profile("broken", "version = 1\n\n[agent]\ncommand = [\"sh\"\n")
	b.agentbox("run", "broken").refused(b, 126, "broken.toml:4:16")
	b.profile("unknown", "version = 1\n[agent]\ncommand = [\"sh\"]\nkommand = 1\n")
	b.agentbox("run", "unknown").refused(b, 126, "unknown.toml:4:1", "kommand")
	b.profile("wide", "version = 1\n[agent]\ncommand = [\"sh\"]\n[[network.rule]]\naction = \"allow\"\nhost = \"*.com\"\n")
	b.agentbox("run", "wide").refused(b, 126, "wide.toml:6:")
	b.profile("sets", "version = 1\n[agent]\ncommand = [\"sh\"]\nenv = { HTTPS_PROXY = \"http://evil.test\" }\n")
	b.agentbox("run", "sets").refused(b, 126, "HTTPS_PROXY")
	b.config("[upstream]\nca = 3\n")
	b.agentbox("run", "shell", "--", "true").refused(b, 126, "config.toml:2:")
	b.config("[upstream]\nca = \"/nowhere.pem\"\n")
	b.agentbox("run", "shell", "--", "true").exits(126).says("/nowhere.pem", "hint: correct [upstream] ca")
}

// What a repository brings must not change agentbox itself.
func TestARepositorysEnvironmentFilesHaveNoEffect(t *testing.T) {
	b := newBox(t)
	b.write(".env", "AGENTBOX_CONFIG=/x\nXDG_CONFIG_HOME=/x\nLD_PRELOAD=/x\nPATH=/x\n")
	b.write(".envrc", "exit 1\n")
	b.write("podman", "#!/bin/sh\ntouch ran\n")
	must(t, os.Chmod(filepath.Join(b.repo, "podman"), 0o755))
	for path, code := range map[string]int{".:" + os.Getenv("PATH"): 125, os.Getenv("PATH") + ":.": 0} {
		b.setenv("PATH", path)
		b.shell("true").exits(code)
		if _, err := os.Lstat(filepath.Join(b.repo, "ran")); err == nil {
			t.Error("a program of the repository was run on the host")
		}
	}
}

func TestAgentsThatAreNotThere(t *testing.T) {
	b := newBox(t)
	b.profile("absent", "version = 1\n[agent]\ncommand = [\"no-such-agent\"]\ninstall = \"npm install -g no-such-agent\"\n")
	b.agentbox("run", "absent").refused(b, 127, `"no-such-agent" is not installed`, "npm install -g no-such-agent")
	b.agentbox("run", "shell", "--", "no-such-command").exits(127)
	b.agentbox("run", "shell", "--", "./README.md").exits(126)
}

// toolbox is a PATH of links to what agentbox needs besides Podman.
func (b *box) toolbox(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(b.repo), "tools")
	must(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"sh", "env", "git", "newuidmap", "newgidmap"} {
		if path, err := exec.LookPath(name); err == nil {
			must(t, os.Symlink(path, filepath.Join(dir, name)))
		}
	}
	return dir
}

func (b *box) fakePodman(t *testing.T, dir, script string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "podman"), []byte("#!/bin/sh\n"+script), 0o755))
}

// podmanOf answers as a Podman service of some version does, on the socket that it is handed.
const podmanOf = `exec python3 -c '
import socket, sys
l = socket.socket(fileno=3)
while True:
    c, _ = l.accept()
    f = c.makefile("rwb", 0)
    while True:
        first = f.readline()
        if not first: break
        while f.readline() not in (b"\r\n", b""): pass
        body = b"" if b"_ping" in first else b"{\"host\":{\"security\":{\"rootless\":true}},\"version\":{\"Version\":\"@\"}}"
        f.write(b"HTTP/1.1 200 OK\r\nLibpod-API-Version: @\r\nApi-Version: 1.40\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
'
`

func TestPodmanThatCannotBeUsed(t *testing.T) {
	b := newBox(t)
	path := os.Getenv("PATH")
	tools := b.toolbox(t)
	b.setenv("PATH", tools)
	b.agentbox("run", "shell", "--", "true").refused(b, 125, "Podman is not installed", "install Podman 4.3 or newer")
	b.agentbox("run", "shell", "--dry-run").refused(b, 125, "Podman is not installed")
	b.fakePodman(t, tools, "echo 'Error: your store is broken' >&2; exit 125\n")
	b.agentbox("run", "shell", "--", "true").refused(b, 125, "your store is broken", "agentbox doctor")
	b.setenv("PATH", tools+":"+path)
	for version, text := range map[string]string{"3.4.4": "too old", "4.2.1": "4.3"} {
		b.fakePodman(t, tools, strings.ReplaceAll(podmanOf, "@", version))
		b.agentbox("run", "shell", "--", "true").refused(b, 125, version, text)
	}
	must(t, os.Remove(filepath.Join(tools, "podman")))
	b.agentbox("run", "shell", "--connection", "unix:///nowhere/podman.sock", "--", "true").refused(b, 125, "/nowhere/podman.sock", "doctor")
	b.setenv("CONTAINER_HOST", "unix:///nowhere/else.sock")
	b.agentbox("run", "shell", "--", "true").refused(b, 125, "/nowhere/else.sock")
}

// A state directory that cannot be written is said before anything runs.
func TestAStateDirectoryThatCannotBeWritten(t *testing.T) {
	b := newBox(t)
	root := filepath.Dir(b.repo)
	for _, e := range []struct{ variable, dir string }{{"XDG_STATE_HOME", "ro-state"}, {"XDG_CACHE_HOME", "ro-cache"}} {
		dir := filepath.Join(root, e.dir)
		must(t, os.MkdirAll(dir, 0o500))
		old := b.env
		b.setenv(e.variable, dir)
		b.agentbox("run", "shell", "--", "touch", "ran").exits(125).says(dir, "permission denied")
		b.env = old
		must(t, os.Chmod(dir, 0o700))
	}
	shared := filepath.Join(root, "shared")
	must(t, os.MkdirAll(shared, 0o755))
	must(t, os.Chmod(shared, 0o777))
	b.setenv("XDG_RUNTIME_DIR", shared)
	b.agentbox("run", "shell", "--", "touch", "ran").exits(125).says("can be written by others", "hint: ")
	if _, err := os.Lstat(filepath.Join(b.repo, "ran")); err == nil {
		t.Error("the agent ran")
	}
}

// Root in a user namespace is uid 0 to agentbox, and nobody's root: it shows the refusal without needing the real one.
func TestRootIsRefused(t *testing.T) {
	b := newBox(t)
	cmd := b.command("run", "shell", "--", "true")
	path, err := exec.LookPath("unshare")
	must(t, err)
	cmd.Args = append([]string{"unshare", "--user", "--map-root-user", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = path
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its code is looked at below
	result{t, cmd.ProcessState.ExitCode(), out.String(), errs.String()}.refused(b, 126, "does not run as root", "run it as the person")
}

// A subordinate uid of the person's is another user, and one that can be had without root.
func TestARepositoryOfAnotherUserIsRefused(t *testing.T) {
	b := newBox(t)
	for _, path := range []string{b.repo, filepath.Join(b.repo, ".git")} {
		b.podman("unshare", "chown", "7:7", path)
		b.agentbox("run", "shell", "--", "true").refused(b, 126, path+" belongs to another user", "clone it as yourself")
		b.podman("unshare", "chown", "0:0", path)
	}
}

func TestCommandLinesThatMakeNoSense(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"run", 126, "takes a profile"},
		{"run claude foo", 126, "agentbox run claude -- foo"},
		{"run --nonsense shell", 126, "--nonsense"},
		{"run shell --timeout soon", 126, "soon"},
		{"run shell --timeout -5s", 126, "negative"},
		{"run shell --workspace sideways", 126, "direct, review or readonly"},
		{"run shell --json", 126, "--json goes with --dry-run"},
		{"nonsense", 2, "nonsense"},
		{"ps extra", 2, "takes no arguments"},
		{"stop", 2, "takes one run"},
		{"events a b", 2, "takes one run at most"},
		{"secret", 2, "takes a verb"},
		{"secret set", 2, "takes one name"},
		{"version x", 2, "takes no arguments"},
		{"--nonsense", 2, "--nonsense"},
	} {
		b.agentbox(strings.Fields(c.args)...).refused(b, c.code, c.says)
	}
}

func TestWithoutATerminalTheStreamsArePipes(t *testing.T) {
	b := newBox(t)
	b.shell("test -t 0 && echo in; test -t 1 && echo out; test -t 2 && echo err; cat; echo end").exits(0).prints("end\n")
	null := b.command("run", "shell", "-q", "--", "sh", "-c", "cat; exit 5")
	null.Stdin = strings.NewReader(strings.Repeat("0123456789abcdef", 1<<16))
	var out strings.Builder
	null.Stdout = &out
	_ = null.Run()
	if null.ProcessState.ExitCode() != 5 || out.Len() != 1<<20 {
		t.Errorf("exit code %d, %d bytes came back", null.ProcessState.ExitCode(), out.Len())
	}
}
