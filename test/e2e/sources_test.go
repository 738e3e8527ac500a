package e2e

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
)

// hub answers as GitHub does: it mints tokens for an app, and forgets them when it is told to.
type hub struct {
	mu     sync.Mutex
	minted int
	good   map[string]bool
	broken bool          // it does not revoke
	slow   bool          // it answers the question what a token is for as it does /slow
	most   int           // tokens that it mints, and then says that it can't now; 0 is no bound, and less none at all
	life   time.Duration // of a token; 0 is an hour
	ends   map[string]time.Time
	late   int           // requests with a token that had long expired
	hold   chan struct{} // /slow is answered, and its body ends, when this is closed
	begun  chan struct{} // /slow was asked for
}

func newHub() *hub {
	return &hub{good: map[string]bool{}, ends: map[string]time.Time{}, hold: make(chan struct{}), begun: make(chan struct{}, 8)}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path == "/slow" || r.URL.Path == "/installation/repositories" && h.lags() {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "first\n")
		w.(http.Flusher).Flush()
		h.begun <- struct{}{}
		select {
		case <-h.hold:
		case <-r.Context().Done():
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case r.URL.Path == "/repos/acme/billing/installation":
		_, _ = io.WriteString(w, `{"id":7}`)
	case r.URL.Path == "/app/installations/7/access_tokens" && h.most != 0 && h.minted >= h.most:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/app/installations/7/access_tokens":
		h.mint(w)
	case r.URL.Path == "/installation/token" && h.broken:
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Path == "/installation/token":
		delete(h.good, token)
		w.WriteHeader(http.StatusNoContent)
	case h.good[token]:
		if end := h.ends[token]; !end.IsZero() && time.Now().After(end.Add(time.Second)) {
			h.late++
		}
		if r.URL.Path == "/which" {
			_, _ = io.WriteString(w, strings.TrimRight(strings.TrimPrefix(token, "ghs_R3alMinted"), "x"))
			return
		}
		_, _ = io.WriteString(w, "yours\n")
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// mint gives a token of an app. h.mu is held.
func (h *hub) mint(w http.ResponseWriter) {
	h.minted++
	fresh := fmt.Sprintf("ghs_R3alMinted%dxxxxxxxxxxxxxxxxxxxxxxxxx", h.minted)
	end := time.Now().Add(cmp.Or(h.life, time.Hour))
	h.good[fresh], h.ends[fresh] = true, end
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]string{"token": fresh, "expires_at": end.UTC().Format(time.RFC3339)})
}

// mints bounds the tokens that are minted, and how long each lasts.
func (h *hub) mints(most int, life time.Duration) {
	h.mu.Lock()
	h.most, h.life = most, life
	h.mu.Unlock()
}

// valid is how many tokens are good.
func (h *hub) valid() int { h.mu.Lock(); defer h.mu.Unlock(); return len(h.good) }

func (h *hub) admit(token string) { h.mu.Lock(); h.good[token] = true; h.mu.Unlock() }

func (h *hub) lag(slow bool) { h.mu.Lock(); h.slow = slow; h.mu.Unlock() }

func (h *hub) lags() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.slow }

func (h *hub) fail(broken bool) { h.mu.Lock(); h.broken = broken; h.mu.Unlock() }

// credentialed is a town in which a credential is for api.github.com, with an unlocked keyring that has the key of an app.
func credentialed(t *testing.T, source, more string) (*town, *hub) {
	t.Helper()
	h := newHub()
	w := newTown(t, map[string]http.Handler{"api.github.com": h})
	w.keyring()
	w.lets(allow("api.github.com") + "[[credential]]\nname = \"app\"\nsource = " + source + "\nhosts = [\"api.github.com\"]\nheader = \"Authorization: Bearer {token}\"\nenv = \"GH_TOKEN\"\nshape = \"ghs_\"\n" + more)
	return w, h
}

const appSource = `{ github_app = { id = 42, key = "app-key", repos = ["acme/billing"], permissions = { contents = "read" } } }`

// app is the town of an app, whose key is stored as a person does it.
func app(t *testing.T) (*town, *hub) {
	t.Helper()
	w, h := credentialed(t, appSource, "")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	set := w.command("secret", "set", "app-key")
	set.Stdin = strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return w, h
}

const useIt = `curl -s -w '%{http_code}\n' -H "Authorization: Bearer $GH_TOKEN" https://api.github.com/user; `

// kinds are the events of credentials, as "kind decision".
func (b *box) kinds() (out []string) {
	for _, e := range b.events() {
		if strings.HasPrefix(string(e.Kind), "credential.") {
			out = append(out, strings.TrimPrefix(string(e.Kind), "credential.")+" "+string(e.Decision))
		}
	}
	return out
}

func (b *box) logged(want ...string) {
	b.t.Helper()
	if got := b.kinds(); !slices.Equal(got, want) {
		b.t.Errorf("recorded: %q, want %q", got, want)
	}
	all := b.events()
	if first, last := all[0].Kind, all[len(all)-1].Kind; first != event.RunStart || last != event.RunEnd {
		b.t.Errorf("the log begins with %s and ends with %s", first, last)
	}
}

// owing are the records of what must be revoked. None may hold a value.
func (b *box) owing() (files []string) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(b.repo), "state", "agentbox", "sessions", "*", "revoke.json"))
	must(b.t, err)
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "R3al") {
			b.t.Errorf("%s holds a value: %s, %v", file, text, err)
		}
	}
	return files
}

func TestACredentialOfACommand(t *testing.T) {
	w, h := credentialed(t, `{ command = ["cat-token", "--now"] }`, "")
	bin := filepath.Join(filepath.Dir(w.repo), "bin")
	must(t, os.MkdirAll(bin, 0o755))
	script := "#!/bin/sh\npwd >> " + bin + "/asked\necho $1 >> " + bin + "/asked\necho talk >&2\necho ghs_R3alOfACommand\n"
	must(t, os.WriteFile(filepath.Join(bin, "cat-token"), []byte(script), 0o755))
	w.setenv("PATH", bin+":"+os.Getenv("PATH"))
	h.admit("ghs_R3alOfACommand")
	w.run(useIt + useIt + `env | grep -c R3al`).prints("yours\n200\nyours\n200\n0\n")
	if text, err := os.ReadFile(filepath.Join(bin, "asked")); err != nil || string(text) != "/\n--now\n" {
		t.Errorf("it was run so: %q, %v", text, err)
	}
	w.logged("mint allow", "use allow", "use allow")
	if e := ofKind(w.events(), event.CredentialMint)[0]; e.Credential != "app" || e.Detail["source"] != "command cat-token" || !strings.Contains(e.Rule, "town.toml:") {
		t.Errorf("recorded: %+v", e)
	}

	must(t, os.WriteFile(filepath.Join(bin, "cat-token"), []byte("#!/bin/sh\necho ghs_R3alOfACommand\necho 'log in as ann@example.com first' >&2\nexit 4\n"), 0o755))
	r := w.run("sleep 1; " + useIt)
	if r.exits(0).says(`command "cat-token" failed with exit code 4`); strings.Contains(r.out+r.err, "R3al") || strings.Contains(r.out, "ann@example") {
		t.Errorf("said: %s\n%s", r.out, r.err)
	}
	w.logged("mint deny", "refused deny")
}

func TestATokenOfAnAppIsRevokedAtTheEnd(t *testing.T) {
	w, h := app(t)
	w.run(useIt).exits(0).prints("yours\n200\n")
	w.logged("mint allow", "use allow", "revoke allow")
	if h.valid() != 0 || h.minted != 1 || len(w.owing()) != 0 {
		t.Errorf("%d of %d tokens are good; owing: %v", h.valid(), h.minted, w.owing())
	}

	h.fail(true) // GitHub does not revoke: that is told, and left to the next command
	w.run(useIt).exits(0).says(`credential "app" is NOT revoked: GitHub answered 502`, "hint: the next agentbox run")
	w.logged("mint allow", "use allow", "revoke deny")
	if h.valid() != 1 || len(w.owing()) != 1 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	w.agentbox("ps").says("NOT revoked")
	h.fail(false)
	w.agentbox("ps").exits(0).says(`revoked credential "app"`)
	if h.valid() != 0 || len(w.owing()) != 0 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
}

// begun is a run whose agent has said that it is there.
type begun struct {
	*exec.Cmd
	id  string
	out *bufio.Scanner
	err *strings.Builder
}

// begin starts a run in the background and waits for the first line of its agent.
func (w *town) begin(script string) *begun {
	t := w.t
	t.Helper()
	r := &begun{Cmd: w.command("run", "town", "-q", "--", "sh", "-c", script), err: &strings.Builder{}}
	pipe, err := r.StdoutPipe()
	must(t, err)
	r.Stderr = r.err
	must(t, r.Start())
	t.Cleanup(func() { _ = r.Process.Kill(); _ = r.Wait() })
	r.out = bufio.NewScanner(pipe)
	if !r.out.Scan() {
		_ = r.Wait()
		t.Fatalf("the agent said nothing: %s", r.err)
	}
	var rows []struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	}
	must(t, json.Unmarshal([]byte(w.agentbox("ps", "--json").out), &rows))
	for _, row := range rows {
		if row.PID == r.Process.Pid {
			r.id = row.ID
		}
	}
	return r
}

func TestATokenOfAnAppIsRevokedWhenTheRunIsStopped(t *testing.T) {
	w, h := app(t)
	r := w.begin(useIt + "sleep 1000")
	if h.valid() != 1 || len(w.owing()) != 1 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	w.agentbox("stop", r.id).exits(0)
	if h.valid() != 0 || len(w.owing()) != 0 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
}

func TestATokenOfAnAppIsRevokedAfterItsRunWasKilled(t *testing.T) {
	w, h := app(t)
	r := w.begin(useIt + "sleep 1000")
	must(t, r.Process.Signal(syscall.SIGKILL))
	_ = r.Wait()
	if h.valid() != 1 || len(w.owing()) != 1 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	w.agentbox("ps").exits(0).says(`revoked credential "app", which run ` + r.id + " had left")
	if h.valid() != 0 || len(w.owing()) != 0 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
}

// Who stops a credential does not wait for anything: what is on its way with it is cut off, and the run goes on without it.
func TestStoppingACredential(t *testing.T) {
	w, h := app(t)
	other := `curl -sN -H "Authorization: Bearer $GH_TOKEN" https://api.github.com/slow; echo "curl $?"; ` + useIt + `echo gone on`
	r := w.begin(other)
	<-h.begun
	w.agentbox("stop", "--credential", "app", "--reason", "it leaked").exits(0).says(`credential "app" is stopped in run ` + r.id)
	if h.valid() != 0 || len(w.owing()) != 0 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	var said []string
	for r.out.Scan() {
		said = append(said, r.out.Text())
	}
	must(t, r.Wait())
	text := strings.Join(said, "\n")
	if !strings.HasPrefix(text, "curl ") || strings.HasPrefix(text, "curl 0") || !strings.Contains(text, "it leaked") || !strings.Contains(text, "403") || !strings.HasSuffix(text, "gone on") {
		t.Errorf("the agent saw:\n%s", text)
	}
	w.logged("mint allow", "use allow", "revoke allow", "refused deny")
	if e := ofKind(w.events(), event.CredentialRevoke)[0]; e.Credential != "app" || !strings.Contains(e.Reason, "stopped by agentbox stop: it leaked") {
		t.Errorf("recorded: %+v", e)
	}
	w.agentbox("stop", "--credential", "app").exits(1).says("no run that lives has a credential")
	w.agentbox("stop", "--credential", "app", "--force").exits(2)
}

func TestTheTimeOfACredentialIsOver(t *testing.T) {
	w, h := credentialed(t, `{ env = "REAL" }`, "ttl = \"1s\"\n")
	w.setenv("REAL", "ghs_R3alOfAVariable")
	h.admit("ghs_R3alOfAVariable")
	r := w.run(`while : ; do said=$(` + strings.TrimSuffix(useIt, "; ") + `); case $said in *'that is over'*) echo "$said"; break;; esac; done`).exits(0)
	if !strings.Contains(r.out, "may be used for 1s of a run, and that is over") {
		t.Errorf("the agent saw:\n%s", r.out)
	}
	kinds := slices.DeleteFunc(w.kinds(), func(k string) bool { return k == "use allow" })
	if len(kinds) < 3 || !slices.Equal(kinds[:3], []string{"mint allow", "revoke allow", "refused deny"}) {
		t.Errorf("recorded: %q", kinds)
	}
}

// A value is in the memory of agentbox and of no other process, and nobody else reads that.
func TestNobodyReadsTheMemoryOfAgentbox(t *testing.T) {
	w, h := credentialed(t, `{ env = "REAL" }`, "")
	const value = "ghs_R3alOfAVariableInMemory"
	w.setenv("REAL", value)
	h.admit(value)
	r := w.begin(useIt + "sleep 1000")
	pid := r.Process.Pid
	for _, name := range []string{"mem", "environ", "maps"} {
		if f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name)); err == nil {
			b := make([]byte, 16)
			if _, err := f.Read(b); err == nil || name == "mem" {
				t.Errorf("/proc/PID/%s of agentbox can be read", name)
			}
			_ = f.Close()
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err == nil && !strings.Contains(string(limits), "Max core file size        0 ") {
		t.Errorf("core dumps are on:\n%s", limits)
	}
	searched := 0
	for _, other := range others(t, pid) {
		found, ok := holds(other, value)
		if found {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", other))
			t.Errorf("the value is in the memory of process %d: %q", other, cmdline)
		}
		if ok {
			searched++
		}
	}
	if searched < 3 { // Podman's service, conmon, the agent at least
		t.Errorf("%d processes were searched", searched)
	}
	w.agentbox("stop", r.id).exits(0)
	w.logged("mint allow", "use allow") // and the first event is that of the run, although the value was there before
}

// others are the processes of this user but agentbox's and this one, which holds what it looks for.
func others(t *testing.T, agentbox int) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err == nil && pid != agentbox && pid != os.Getpid() && pid != os.Getppid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inMemory searches the memory of everything that works for a run beside agentbox: what is in the container, and Podman's
// own programs. It names those that hold value.
func inMemory(value string) (found []string, searched int) {
	mine, _ := os.Readlink("/proc/self/ns/pid")
	entries, _ := os.ReadDir("/proc") // where there are none, none is searched
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil {
			continue
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || theirs == mine && !slices.Contains([]string{"conmon", "podman", "catatonit"}, strings.TrimSpace(string(name))) {
			continue
		}
		holding, ok := holds(pid, value)
		if holding {
			found = append(found, fmt.Sprintf("%d %s", pid, name))
		}
		if ok {
			searched++
		}
	}
	return found, searched
}

// holds looks through everything that a process can write or was given. ok says that it could be read.
func holds(pid int, value string) (found, ok bool) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false, false
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return false, false
	}
	defer func() { _ = mem.Close() }()
	for line := range strings.SplitSeq(string(maps), "\n") {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		if to-from > 1<<30 { // reserved, and for the most part not there: runtimes take many of these
			continue
		}
		const piece = 4 << 20
		b := make([]byte, min(to-from, piece)+int64(len(value)))
		for at := from; at < to; at += piece {
			n, _ := mem.ReadAt(b[:min(int64(len(b)), to-at)], at) // a page that is not there ends it
			if ok = ok || n > 0; strings.Contains(string(b[:n]), value) {
				return true, true
			}
		}
	}
	return false, ok
}

// list shows names and uses, of a locked keyring too, and test what a service says. Neither shows a value.
func TestListingAndTestingSecrets(t *testing.T) {
	h := newHub()
	answers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/user" {
			h.ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer ghp_R3alOfThePerson" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Oauth-Scopes", "repo, read:org")
		_, _ = io.WriteString(w, `{"login":"ann"}`)
	})
	w := newTown(t, map[string]http.Handler{"api.github.com": answers})
	lock := w.keyring()
	w.lets(allow("api.github.com") + "[[credential]]\nname = \"hub\"\nsource = { keyring = \"hub-token\" }\nhosts = [\"api.github.com\"]\nheader = \"Authorization: Bearer {token}\"\nenv = \"GH_TOKEN\"\n")
	set := func(name, value string, code int) {
		t.Helper()
		cmd := w.command("secret", "set", name)
		cmd.Stdin = strings.NewReader(value)
		finish(t, cmd).exits(code)
	}
	w.agentbox("secret", "test", "hub").exits(1).says(`the keyring has no secret "hub-token"`, "agentbox secret set hub-token")
	set("hub-token", "ghp_R3alOfThePerson\n", 0)
	set("unused", "R3alUnused", 0)
	set("two", "R3al\nlines", 2)

	r := w.agentbox("secret", "test", "hub").exits(0)
	if !strings.Contains(r.out, "hub: keyring hub-token answered in ") || !strings.Contains(r.out, "api.github.com takes it: it is ann's, with scopes: repo, read:org") {
		t.Errorf("said: %s", r.out)
	}
	if got := visited(w.visits()); !slices.Equal(got, []string{"GET api.github.com/user"}) {
		t.Errorf("asked: %q", got)
	}
	w.agentbox("secret", "test", "hub-token").exits(0)
	w.agentbox("secret", "test", "unused").exits(0)
	w.agentbox("secret", "test", "none").exits(1).says(`the keyring has no secret "none"`)
	set("hub-token", "ghp_R3alOther", 0)
	refused := w.agentbox("secret", "test", "hub").exits(1)
	if !strings.Contains(refused.out, "does NOT take it: GET /user was answered with 401") {
		t.Errorf("said: %s", refused.out)
	}
	lock()
	listed := w.agentbox("secret", "list").exits(0)
	for _, want := range []string{"keyring hub-token yes town api.github.com", "keyring unused yes - -", "keyring openai no codex", "env ANTHROPIC_API_KEY", "api.github.com"} {
		if !strings.Contains(strings.Join(strings.Fields(listed.out), " "), want) {
			t.Errorf("%q is not in\n%s", want, listed.out)
		}
	}
	var rows []struct {
		From   string `json:"from"`
		Stored *bool  `json:"stored"`
	}
	asJSON := w.agentbox("secret", "list", "--json").exits(0)
	must(t, json.Unmarshal([]byte(asJSON.out), &rows))
	if !slices.ContainsFunc(rows, func(r struct {
		From   string `json:"from"`
		Stored *bool  `json:"stored"`
	}) bool {
		return r.From == "keyring unused" && r.Stored != nil && *r.Stored
	}) {
		t.Errorf("listed: %+v", rows)
	}
	locked := w.agentbox("secret", "test", "hub").exits(1).says("locked")
	for _, r := range []result{r, refused, listed, asJSON, locked} {
		if strings.Contains(r.out+r.err, "R3al") {
			t.Errorf("a value is shown: %s %s", r.out, r.err)
		}
	}
}

// What a repository's own profile names is not run for a test, and not before it is trusted.
func TestACommandOfARepositoryIsNotRun(t *testing.T) {
	b := newBox(t)
	ran := filepath.Join(filepath.Dir(b.repo), "ran")
	b.write(".agentbox/evil.toml", "version = 1\nextends = \"shell\"\n[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\n[[credential]]\nname = \"evil\"\nsource = { command = [\"touch\", \""+ran+"\"] }\nhosts = [\"a.test\"]\nheader = \"Authorization: Bearer {token}\"\nenv = \"EVIL\"\n")
	b.keyring()
	b.alone("secret", "test", "evil").exits(1)
	b.alone("run", "evil", "--", "true").exits(126)
	b.alone("secret", "list").exits(0)
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}
