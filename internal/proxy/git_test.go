package proxy

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
)

// remembering is a gate that remembers what it was asked about git.
type remembering struct {
	Gate
	mu    sync.Mutex
	asked []policy.GitRequest
}

func (g *remembering) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	if r.Git != nil {
		g.mu.Lock()
		g.asked = append(g.asked, *r.Git)
		g.mu.Unlock()
	}
	return g.Gate.Check(ctx, r)
}

func (g *remembering) seen() []policy.GitRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// gitLab is a lab with rules about git beside one that allows all of good.test, so that only they hold a push.
type gitLab struct {
	*lab
	gate *remembering
}

func newGitLab(t testing.TB, handler http.Handler, options ...option) *gitLab {
	t.Helper()
	l := &gitLab{gate: &remembering{}}
	set := policy.Set{Default: policy.Deny, Rules: []policy.Rule{rule(t, policy.Allow, "good.test", true, 443)}, Git: []policy.GitRule{
		{Host: mustHost(t, "good.test"), Repo: "acme/billing", Fetch: true, Push: []string{"refs/heads/agentbox/*"}, Origin: "git.toml:1"},
	}}
	options = append([]option{func(c *Config) {
		l.gate.Gate = gate.New(set, c.Events)
		c.Gate, c.GitRules = l.gate, true
	}}, options...)
	l.lab = newLab(t, handler, options...)
	return l
}

var (
	zeros = strings.Repeat("0", 40)
	ones  = strings.Repeat("1", 40)
	twos  = strings.Repeat("2", 40)
)

func packet(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	return fmt.Sprintf("%04x%s", len(text)+4, text)
}

// push is the body of a push; the first command names what a client can do.
func push(commands ...string) string {
	body := ""
	for i, c := range commands {
		if i == 0 {
			c += "\x00 report-status side-band-64k object-format=sha1"
		}
		body += packet("%s", c)
	}
	return body + "0000PACK" + strings.Repeat("x", 1000)
}

const pushKind = "application/x-git-receive-pack-request"

// post sends a body to a path of good.test.
func (l *gitLab) post(path, kind string, body io.Reader, header ...string) (*http.Response, string) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, "https://good.test"+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := l.client().Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp, string(text)
}

// echoed answers with the body as it came, and what its head said of it.
var echoed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Coding", r.Header.Get("Content-Encoding"))
	_, _ = w.Write(body)
})

func TestAPushIsJudgedByItsCommands(t *testing.T) {
	for name, c := range map[string]struct {
		commands []string
		want     []policy.RefUpdate
		refused  string // what the client is told of the last ref; "" where it goes through
	}{
		"create": {[]string{zeros + " " + ones + " refs/heads/agentbox/x"}, []policy.RefUpdate{{Name: "refs/heads/agentbox/x", Kind: policy.RefCreate}}, ""},
		"another ref": {[]string{zeros + " " + ones + " refs/heads/main"}, []policy.RefUpdate{{Name: "refs/heads/main", Kind: policy.RefCreate}},
			"ng refs/heads/main denied by agentbox: "},
		"an update that nobody knows": {[]string{ones + " " + twos + " refs/heads/agentbox/x"}, []policy.RefUpdate{{Name: "refs/heads/agentbox/x", Kind: policy.RefForce}},
			"ng refs/heads/agentbox/x denied by agentbox: "},
		"delete": {[]string{ones + " " + zeros + " refs/heads/agentbox/x"}, []policy.RefUpdate{{Name: "refs/heads/agentbox/x", Kind: policy.RefDelete}},
			"ng refs/heads/agentbox/x denied by agentbox: "},
		"one of two": {[]string{zeros + " " + ones + " refs/heads/main", zeros + " " + ones + " refs/heads/agentbox/y"},
			[]policy.RefUpdate{{Name: "refs/heads/main", Kind: policy.RefCreate}, {Name: "refs/heads/agentbox/y", Kind: policy.RefCreate}},
			"ng refs/heads/agentbox/y not pushed, because agentbox denies another ref of this push"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newGitLab(t, echoed)
			body := push(c.commands...)
			resp, answer := l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(body))
			asked := l.gate.seen()
			if len(asked) != 1 || asked[0].Repo != "acme/billing" || asked[0].Op != policy.GitPush || !slices.Equal(asked[0].Refs, c.want) {
				t.Errorf("asked about %+v", asked)
			}
			if c.refused == "" {
				if answer != body {
					t.Error("the body did not arrive as it was sent")
				}
				return
			}
			if n := len(l.upstream.requests()); n > 0 {
				t.Errorf("%d requests arrived", n)
			}
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-git-receive-pack-result" || resp.Header.Get("X-Agentbox") != "denied" ||
				!strings.Contains(answer, c.refused) || !strings.Contains(answer, "unpack ok") {
				t.Errorf("%s %v: %q", resp.Status, resp.Header, answer)
			}
		})
	}
}

// However the bytes arrive, and whatever stands around them, the same is judged.
func TestCommandsInPieces(t *testing.T) {
	body := push(zeros+" "+ones+" refs/heads/agentbox/x", zeros+" "+ones+" refs/heads/main")
	l := newGitLab(t, echoed)
	for _, size := range []int{1, 3, 4, 5, 100} {
		conn := l.tunnel("good.test:443", "good.test")
		_, _ = io.WriteString(conn, "POST /acme/billing.git/git-receive-pack HTTP/1.1\r\nHost: good.test\r\nContent-Type: "+pushKind+"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
		for rest := body; rest != ""; {
			n := min(size, len(rest))
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", n, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		_, _ = io.WriteString(conn, "0\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		if !bytes.Contains(answer, []byte("ng refs/heads/main denied by agentbox")) {
			t.Errorf("in chunks of %d: %q", size, answer)
		}
	}
	if n := len(l.upstream.requests()); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// What git sends first when it does not know whether it has to say who it is.
func TestTheProbeOfGit(t *testing.T) {
	l := newGitLab(t, echoed)
	if resp, body := l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader("0000")); resp.StatusCode != 200 || body != "0000" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, _ := l.post("/acme/other.git/git-receive-pack", pushKind, strings.NewReader("0000")); resp.StatusCode != 403 {
		t.Errorf("another repository: %s", resp.Status)
	}
}

// A server answers 100 before the body comes; the proxy has to, too, or waits for what never comes.
func TestAPushThatWaitsForLeave(t *testing.T) {
	l := newGitLab(t, echoed)
	body := push(zeros + " " + ones + " refs/heads/main")
	conn := l.tunnel("good.test:443", "good.test")
	_, _ = fmt.Fprintf(conn, "POST /acme/billing.git/git-receive-pack HTTP/1.1\r\nHost: good.test\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", pushKind, len(body))
	leave := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, leave); err != nil || !strings.HasPrefix(string(leave), "HTTP/1.1 100 ") {
		t.Fatalf("%q %v", leave, err)
	}
	_, _ = io.WriteString(conn, body)
	answer, _ := io.ReadAll(conn)
	if !bytes.Contains(answer, []byte("ng refs/heads/main denied by agentbox")) {
		t.Errorf("%q", answer)
	}
}

func zipped(text string) *bytes.Buffer {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return &b
}

func TestACompressedPushIsJudgedUnpacked(t *testing.T) {
	l := newGitLab(t, echoed)
	body := push(zeros + " " + ones + " refs/heads/agentbox/x")
	resp, answer := l.post("/acme/billing.git/git-receive-pack", pushKind, zipped(body), "Content-Encoding", "gzip")
	if answer != body || resp.Header.Get("X-Coding") != "" {
		t.Errorf("what was judged is not what arrived: %q, coding %q", answer, resp.Header.Get("X-Coding"))
	}
	_, answer = l.post("/acme/billing.git/git-receive-pack", pushKind, zipped(push(zeros+" "+ones+" refs/heads/main")), "Content-Encoding", "gzip")
	if !strings.Contains(answer, "ng refs/heads/main denied") {
		t.Errorf("%q", answer)
	}
	two := zipped(push(zeros + " " + ones + " refs/heads/agentbox/x"))
	two.Write(zipped(push(zeros + " " + ones + " refs/heads/main")).Bytes())
	for coding, body := range map[string]io.Reader{
		"br": strings.NewReader(body), "gzip, gzip": zipped(body), "deflate": strings.NewReader(body), "gzip": strings.NewReader(body),
	} {
		if resp, _ := l.post("/acme/billing.git/git-receive-pack", pushKind, body, "Content-Encoding", coding); resp.StatusCode != 403 {
			t.Errorf("%s: %s", coding, resp.Status)
		}
	}
	bomb := zipped(strings.Repeat(packet("shallow %s", ones), 1<<20))
	if resp, _ := l.post("/acme/billing.git/git-receive-pack", pushKind, bomb, "Content-Encoding", "gzip"); resp.StatusCode != 403 {
		t.Errorf("a bomb: %s", resp.Status)
	}
}

// Spellings that a server may take for a push, where a rule allows the whole host: none arrives.
func TestNoSpellingOfAPushGetsPastTheRulesAboutGit(t *testing.T) {
	l := newGitLab(t, echoed)
	body := push(zeros + " " + ones + " refs/heads/main")
	for _, c := range []struct{ path, kind string }{
		{"/acme/billing/git-receive-pack/", pushKind}, {"/acme/billing/GIT-RECEIVE-PACK", ""}, {"/acme/billing/git%2dreceive-pack", ""}, {"/acme/billing/git%252dreceive-pack", ""},
		{"/acme/billing/git-receive-pack;x", ""}, {"/acme/billing/git-receive-pack?x", pushKind}, {"/acme/billing/git-receive-pack", "text/plain"}, {"//acme/billing/git-receive-pack", pushKind},
		{"/acme/evil/../billing/git-receive-pack", pushKind}, {"/acme/billing.git/../evil/git-receive-pack", pushKind}, {"/acme%2fbilling/git-receive-pack", pushKind}, {"/somewhere/else", pushKind},
		{"/acme/evil/git-receive-pack", pushKind}, {"/acme/Billing/git-receive-pack", pushKind}, {"/acme/billing/info/lfs//objects/batch", "application/vnd.git-lfs+json"},
		{"/elsewhere/objects/batch", "application/vnd.git-lfs+json"},
	} {
		text := body
		if strings.Contains(c.kind, "lfs") {
			text = `{"operation":"upload","objects":[]}`
		}
		if resp, answer := l.post(c.path, c.kind, strings.NewReader(text)); resp.Header.Get("X-Agentbox") != "denied" {
			t.Errorf("%s %s: %s %.100q", c.path, c.kind, resp.Status, answer)
		}
	}
	if resp, _ := l.post("/acme/billing/git-receive-pack", pushKind, strings.NewReader(push(zeros+" "+ones+" refs/heads/agentbox/x")), "X-HTTP-Method-Override", "POST"); resp.Header.Get("X-Agentbox") != "denied" {
		t.Error("a push that names another method went through")
	}
	if n := len(l.upstream.requests()); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestHostilePushesDoNotArrive(t *testing.T) {
	l := newGitLab(t, echoed)
	good := packet("%s %s refs/heads/agentbox/x\x00report-status", zeros, ones)
	many := &strings.Builder{}
	for i := range 10_001 {
		many.WriteString(packet("%s %s refs/heads/agentbox/%d", zeros, ones, i))
	}
	for name, body := range map[string]string{
		"a second list": good + "0000" + packet("%s %s refs/heads/main", zeros, ones) + "0000PACK", "a list after none": "0000" + good + "0000PACK",
		"a signed push": packet("push-cert\x00report-status") + packet("certificate version 0.1\n") + "0000", "thousands of refs": many.String() + "0000PACK",
		"no packets": "hello", "nothing": "", "a ref that climbs": packet("%s %s refs/heads/agentbox/../main", zeros, ones) + "0000PACK",
		"escapes in a ref": packet("%s %s refs/heads/agentbox/\x1b[2J", zeros, ones) + "0000PACK",
	} {
		resp, answer := l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(body))
		if resp.StatusCode != 403 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.Contains(answer, "denied by agentbox") || strings.Contains(answer, "\x1b") {
			t.Errorf("%s: %s %q", name, resp.Status, answer)
		}
	}
	if n := len(l.upstream.requests()); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
	if held := l.proxy.gitHeld.Load(); held != 0 {
		t.Errorf("%d bytes are held after all requests", held)
	}
}

func TestHeldPushesAreBounded(t *testing.T) {
	l := newGitLab(t, echoed)
	l.proxy.gitHeld.Store(maxGitHeld)
	if resp, _ := l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(push(zeros+" "+ones+" refs/heads/agentbox/x"))); resp.StatusCode != 403 {
		t.Errorf("with no room left: %s", resp.Status)
	}
	l.proxy.gitHeld.Store(0)
	if resp, _ := l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(push(zeros+" "+ones+" refs/heads/agentbox/x"))); resp.Header.Get("X-Agentbox") != "" {
		t.Errorf("with room: %s", resp.Status)
	}
}

// descends says yes for one pair.
type descends struct{ now, old string }

func (d descends) Descends(_ context.Context, now, old string) bool { return d == descends{now, old} }

func TestAFastForwardIsWhatTheHistorySays(t *testing.T) {
	l := newGitLab(t, echoed, func(c *Config) { c.Ancestry = descends{twos, ones} })
	for _, c := range []struct {
		command string
		want    policy.RefKind
	}{
		{ones + " " + twos + " refs/heads/agentbox/x", policy.RefUpdated}, {twos + " " + ones + " refs/heads/agentbox/x", policy.RefForce},
		{ones + " " + twos + " refs/tags/v1", policy.RefForce}, {ones + " " + ones + " refs/heads/agentbox/x", policy.RefUpdated},
	} {
		l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(push(c.command)))
		if asked := l.gate.seen(); asked[len(asked)-1].Refs[0].Kind != c.want {
			t.Errorf("%s: %s", c.command, asked[len(asked)-1].Refs[0].Kind)
		}
	}
}

func TestLargeFilesAreFetchedAndPushedByTheSameRules(t *testing.T) {
	const lfs = "application/vnd.git-lfs+json"
	l := newGitLab(t, echoed)
	for _, c := range []struct {
		path, body string
		goes       bool
	}{
		{"/acme/billing.git/info/lfs/objects/batch", `{"operation":"download","objects":[]}`, true}, {"/acme/billing.git/info/lfs/objects/batch", `{"operation":"upload","objects":[]}`, true},
		{"/acme/other.git/info/lfs/objects/batch", `{"operation":"download","objects":[]}`, true}, // by the rule for the host
		{"/acme/other.git/info/lfs/objects/batch", `{"operation":"upload","objects":[]}`, false}, {"/acme/other.git/info/lfs/objects/batch", `{"operation":"download","Operation":"upload"}`, false},
		{"/acme/other.git/info/lfs/locks", `{"path":"x"}`, false}, {"/acme/other.git/info/lfs/locks/verify", `{}`, false}, {"/somewhere/verify", `{"oid":"x"}`, true},
	} {
		resp, answer := l.post(c.path, lfs, strings.NewReader(c.body))
		if c.goes && answer != c.body || !c.goes && (resp.StatusCode != 403 || resp.Header.Get("Content-Type") != lfs || !strings.Contains(answer, `{"message":"denied by agentbox: `)) {
			t.Errorf("%s %s: %s %q", c.path, c.body, resp.Status, answer)
		}
	}
	if err := l.proxy.Close(); err != nil {
		t.Fatal(err)
	}
	if held := l.proxy.gitHeld.Load(); held != 0 {
		t.Errorf("%d bytes are held for requests that are over", held)
	}
}

// A server that answers early has the body closed while it is read.
func TestBodyReadAheadIsClosedWhileItIsRead(t *testing.T) {
	var all atomic.Int64
	held := &heldBytes{all: &all}
	held.grow(2)
	b := &headBody{head: []byte("ab"), rest: io.NopCloser(strings.NewReader("cd")), held: held}
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	got, err := io.ReadAll(b)
	if string(got) != "bcd" || err != nil || <-closed != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// Without rules about git nothing is read of a body, and no spelling is refused.
func TestWithoutRulesAboutGitItsRequestsAreLikeOthers(t *testing.T) {
	l := newLab(t, echoed)
	g := &gitLab{lab: l}
	for _, body := range []string{push(zeros + " " + ones + " refs/heads/main"), "hello", zipped("x").String()} {
		if _, answer := g.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(body), "Content-Encoding", "gzip"); answer != body {
			t.Errorf("%q arrived as %q", body, answer)
		}
	}
}

func TestEventsSayWhatGitDoes(t *testing.T) {
	l := newGitLab(t, echoed)
	l.post("/acme/billing.git/git-receive-pack", pushKind, strings.NewReader(push(zeros+" "+ones+" refs/heads/main", ones+" "+zeros+" refs/tags/v1")))
	for _, e := range l.only(1) {
		if e.Decision != event.Deny || e.Git == nil || e.Git.Op != "push" || e.Git.Repo != "acme/billing" || strings.Join(e.Git.Refs, ", ") != "create refs/heads/main, delete refs/tags/v1" {
			t.Errorf("%+v", e)
		}
	}
}

// A client of ssh is told what to do instead, in the protocol's own words.
func TestSSHIsRefusedWithAHint(t *testing.T) {
	l := newLab(t, nil)
	direct := l.listenSSH()
	for _, name := range []string{"evil.test", "good.test"} {
		conn := l.dial(l.synthetic(name, direct))
		answer := l.sayOn(conn, "SSH-2.0-OpenSSH_9.2\r\n")
		banner, rest, _ := strings.Cut(answer, "\r\n")
		if banner != "SSH-2.0-agentbox" || len(rest) < 6 || len(rest)%8 != 0 || int(binary.BigEndian.Uint32([]byte(rest)))+4 != len(rest) || rest[5] != 1 || !strings.Contains(rest, "use https") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	check(t, l.only(2), want{event.NetRefused, event.Deny, "evil.test", "use https"}, want{event.NetRefused, event.Deny, "good.test", "use https. agentbox rewrites git@good.test:"})
}

// listenSSH serves connections that programs make to port 22 by themselves.
func (l *lab) listenSSH() string {
	l.t.Helper()
	p := l.proxy
	lookup := func(addr netip.Addr) (policy.Host, bool) {
		h, ok := l.names[addr.String()]
		return h, ok
	}
	return l.listen("0.0.0.0:0", func(li net.Listener) error { return p.ServeDirect(li, portSSH, lookup) })
}
