package agents_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/BurntSushi/toml"

	"agentbox/internal/modelserver"
)

// unprivileged is the user that agents run as when the tests run as root.
const unprivileged = 4242

// profile is the part of a built-in profile that concerns the agent itself.
type profile struct {
	Agent struct {
		Command []string
		Env     map[string]string
		File    []struct{ Path, Content string }
	}
	Network struct {
		Rule []struct{ Action, Host string }
	}
	Credential []struct{ Name, Env, Shape string }
}

func readProfile(t *testing.T, name string) profile {
	t.Helper()
	var p profile
	if _, err := toml.DecodeFile(filepath.Join("..", "..", "profiles", name+".toml"), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Credential) != 1 {
		t.Fatalf("profile %s has %d credentials, want 1", name, len(p.Credential))
	}
	return p
}

// bench is one agent's surroundings: an empty home, a repo, a model server and the proxy in front of it.
type bench struct {
	profile    profile
	home, repo string
	server     *modelserver.Server
	proxy      *connectProxy
	env        []string
}

func newBench(t *testing.T, name string) *bench {
	t.Helper()
	p := readProfile(t, name)
	key := p.Credential[0].Shape + strings.Repeat("Placeholder0123456789", 4)
	server, err := modelserver.Start(modelserver.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	root := t.TempDir()
	b := &bench{profile: p, home: filepath.Join(root, "home"), repo: filepath.Join(root, "a repo"), server: server}
	b.proxy = startProxy(t, p, server.Addr())
	ca := filepath.Join(root, "ca.pem")
	write(t, ca, string(server.CAPEM()))
	b.seed(t, key)
	b.env = append(b.env,
		"PATH="+filepath.Join(agentsDir(t), "node_modules", ".bin")+":/usr/local/bin:/usr/bin:/bin",
		"HOME="+b.home, "USER=dev", "TERM=xterm-256color", "LANG=C.UTF-8", p.Credential[0].Env+"="+key,
		"HTTPS_PROXY=http://"+b.proxy.addr, "HTTP_PROXY=http://"+b.proxy.addr,
		"https_proxy=http://"+b.proxy.addr, "http_proxy=http://"+b.proxy.addr,
		"SSL_CERT_FILE="+ca, "NODE_EXTRA_CA_CERTS="+ca)
	b.mine(t, root)
	return b
}

// agentsDir is where test/agents/install put the agents.
func agentsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AGENTBOX_TEST_AGENTS")
	if dir == "" {
		dir = "/var/cache/agentbox-test/agents"
	}
	if _, err := os.Stat(filepath.Join(dir, ".installed")); err != nil {
		t.Fatalf("the agents are not installed in %s: run test/agents/install %s", dir, dir)
	}
	return dir
}

// seed lays the profile's environment and files.
func (b *bench) seed(t *testing.T, key string) {
	t.Helper()
	name := b.profile.Credential[0].Name
	fill := strings.NewReplacer("{repo}", b.repo, "{home}", b.home, "{user}", "dev",
		"{placeholder."+name+"}", key, "{placeholder."+name+".last20}", key[len(key)-20:])
	for _, dir := range []string{b.home, b.repo} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", b.repo).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	for k, v := range b.profile.Agent.Env {
		b.env = append(b.env, k+"="+fill.Replace(v))
	}
	for _, f := range b.profile.Agent.File {
		rel, ok := strings.CutPrefix(f.Path, "~/")
		if !ok {
			t.Fatalf("seed %q is outside the home", f.Path)
		}
		write(t, filepath.Join(b.home, rel), fill.Replace(f.Content))
	}
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
	allow map[string]bool

	mu      sync.Mutex
	refused []string
}

func startProxy(t *testing.T, p profile, model string) *connectProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &connectProxy{addr: ln.Addr().String(), model: model, allow: map[string]bool{}}
	for _, r := range p.Network.Rule {
		c.allow[r.Host+":443"] = r.Action == "allow"
	}
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
	if r.Method != http.MethodConnect || !c.allow[r.Host] {
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
