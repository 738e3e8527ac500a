package agents_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"agentbox/internal/modelserver"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/test/realagents"
)

// unprivileged is the user that agents run as when the tests run as root: "nobody", since some ask for the user's name.
const unprivileged = 65534

// bench is one agent's surroundings: an empty home, a repo, a model server and the proxy in front of it.
type bench struct {
	profile    profiles.Profile
	key        string // what the environment holds in a real run's place of a placeholder
	home, repo string
	server     *modelserver.Server
	proxy      *connectProxy
	env        []string
}

func newBench(t *testing.T, a realagents.Agent) *bench {
	t.Helper()
	p, err := realagents.Load(a.Profile)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	b := &bench{
		profile: p, key: string(p.Credentials[0].Shape) + strings.Repeat("Placeholder0123456789", 4),
		home: filepath.Join(root, "home"), repo: filepath.Join(root, "a repo"),
	}
	if b.server, err = modelserver.Start(modelserver.Config{Key: b.key, Hosts: realagents.Hosts(p)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.server.Close() })
	b.proxy = startProxy(t, p, b.server.Addr())
	b.seed(t)
	b.environ(t, filepath.Join(root, "ca.pem"))
	b.mine(t, root)
	t.Cleanup(func() { b.end(t) })
	return b
}

// environ adds what agentbox sets in every run; ca is the file to write the certificate authority to.
func (b *bench) environ(t *testing.T, ca string) {
	t.Helper()
	write(t, ca, string(b.server.CAPEM()))
	b.env = append(b.env,
		"PATH="+filepath.Join(agentsDir(t), "node_modules", ".bin")+":/usr/local/bin:/usr/bin:/bin",
		"HOME="+b.home, "USER=dev", "SHELL=/bin/bash", "TERM=xterm-256color", "COLORTERM=truecolor", "LANG=C.UTF-8",
		string(b.profile.Credentials[0].Env)+"="+b.key, "SSL_CERT_FILE="+ca, "NODE_EXTRA_CA_CERTS="+ca)
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		b.env = append(b.env, name+"=http://"+b.proxy.addr)
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		b.env = append(b.env, name+"=localhost,127.0.0.1,::1")
	}
}

// end kills whatever of the agent's still runs, known by its home: some agents leave helpers behind on purpose.
func (b *bench) end(t *testing.T) {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range environs {
		environ, err := os.ReadFile(name) // those of other users, and of what has ended, cannot be read
		if err != nil || !strings.Contains("\x00"+string(environ), "\x00HOME="+b.home+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			t.Logf("killing process %d, which the agent left behind", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// agentsDir is where test/agents/install put the agents.
func agentsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AGENTBOX_TEST_AGENTS")
	if dir == "" {
		dir = "/var/cache/agentbox-test/agents"
	}
	installed, err := os.ReadFile(filepath.Join(dir, ".installed"))
	if err != nil || strings.TrimSpace(string(installed)) != pinned(t) {
		t.Fatalf("%s does not hold the agents that package-lock.json names: run test/agents/install %s", dir, dir)
	}
	return dir
}

// pinned is what the script notes down of the versions that it has installed.
func pinned(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "install"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// seed lays the profile's environment and files.
func (b *bench) seed(t *testing.T) {
	t.Helper()
	for _, dir := range []string{b.home, b.repo} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", b.repo).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	for name, value := range b.profile.Agent.Env {
		b.env = append(b.env, string(name)+"="+b.expand(t, value, false))
	}
	for _, f := range b.profile.Agent.Files {
		rel, ok := strings.CutPrefix(f.Path, "~/")
		if !ok {
			t.Fatalf("seed %q is outside the home", f.Path)
		}
		ext := filepath.Ext(f.Path)
		write(t, filepath.Join(b.home, rel), b.expand(t, f.Content, ext == ".json" || ext == ".toml"))
	}
}

func (b *bench) expand(t *testing.T, text string, escape bool) string {
	t.Helper()
	out, err := plan.Expand(text, map[string]string{
		"repo": b.repo, "home": b.home, "user": "dev", "placeholder." + string(b.profile.Credentials[0].Name): b.key,
	}, escape)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mine gives everything below root to the user that the agent runs as.
func (b *bench) mine(t *testing.T, root string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for dir := root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(root, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, unprivileged, unprivileged)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// command is the agent's, with args, as an unprivileged user in the repo.
func (b *bench) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	name := filepath.Join(agentsDir(t), "node_modules", ".bin", b.profile.Agent.Command[0])
	cmd := exec.CommandContext(ctx, name, append(b.profile.Agent.Command[1:], args...)...)
	cmd.Dir, cmd.Env = b.repo, append([]string{"PWD=" + b.repo}, b.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// connectProxy stands where agentbox's proxy will: it takes CONNECT for the hosts that the profile allows to the
// model server, and refuses all else.
type connectProxy struct {
	addr  string
	model string
	rules policy.Set

	mu      sync.Mutex
	refused []string
}

func startProxy(t *testing.T, p profiles.Profile, model string) *connectProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &connectProxy{addr: ln.Addr().String(), model: model, rules: p.Network.Set()}
	server := &http.Server{Handler: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return c
}

func (c *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || !c.allows(r.Host) {
		c.mu.Lock()
		c.refused = append(c.refused, r.Method+" "+r.Host)
		c.mu.Unlock()
		http.Error(w, "refused by agentbox", http.StatusForbidden)
		return
	}
	up, err := net.Dial("tcp", c.model)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = up.Close() }()
	down, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = down.Close() }()
	_, _ = io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	splice(down, buffered.Reader, up)
}

func (c *connectProxy) allows(target string) bool {
	for _, r := range c.rules.Rules {
		if r.Action == policy.Allow && target == r.Host.String()+":443" {
			return true
		}
	}
	return false
}

// splice copies both ways and returns when one side has ended.
func splice(down net.Conn, from *bufio.Reader, up net.Conn) {
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(up, from); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(down, up); ended <- struct{}{} }()
	<-ended
	_ = up.Close()
	_ = down.Close()
	<-ended
}

func (c *connectProxy) refusals() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.refused...)
}

// unexpected lists what was refused, save the hosts that known names.
func (c *connectProxy) unexpected(known []string) []string {
	return slices.DeleteFunc(c.refusals(), func(r string) bool {
		host, _ := strings.CutPrefix(r, "CONNECT ")
		return slices.Contains(known, strings.TrimSuffix(host, ":443"))
	})
}

func (b *bench) dump(t *testing.T) {
	t.Helper()
	for _, r := range b.server.Requests() {
		t.Logf("%d %s %s%s turn=%d key=%t %s", r.Status, r.Method, r.Host, r.Path, r.Turn, r.Key() != "", strconv.Quote(clip(r.Body)))
	}
	t.Logf("refused: %q", b.proxy.refusals())
}

func clip(b []byte) string {
	const most = 300
	if len(b) > most {
		b = b[:most]
	}
	return string(b)
}
