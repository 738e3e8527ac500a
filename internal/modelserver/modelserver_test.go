package modelserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testKey = "test-key"

// client trusts the server and reaches it under every name.
func client(t *testing.T, s *Server) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CAPEM()) {
		t.Fatal("the CA is no PEM certificate")
	}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// post sends body and returns the answer's status and body.
func post(t *testing.T, c *http.Client, url string, header map[string]string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	anthropicURL = "https://api.anthropic.com/v1/messages?beta=true"
	responsesURL = "https://api.openai.com/v1/responses"
	chatURL      = "https://api.openai.com/v1/chat/completions"
	geminiURL    = "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"
)

// TestRecordedRequests answers what the real agents sent, shortened, turn by turn.
func TestRecordedRequests(t *testing.T) {
	anthropic := map[string]string{"X-Api-Key": testKey}
	bearer := map[string]string{"Authorization": "Bearer " + testKey}
	google := map[string]string{"X-Goog-Api-Key": testKey}
	for _, test := range []struct {
		agent, url string
		header     map[string]string
		write, run []string // in the answers of turns 1 and 2
	}{
		{"claude", anthropicURL, anthropic,
			[]string{`"name":"Write"`, `\"file_path\":\"/home/dev/a repo/hello.txt\"`, `\"content\":\"hello from the model\\n\"`},
			[]string{`"name":"Bash"`, `ran.txt`, `"stop_reason":"tool_use"`}},
		{"codex", responsesURL, bearer,
			[]string{`"name":"exec"`, `"namespace":"functions"`, `await tools.apply_patch(`, `+hello from the model`},
			[]string{`"name":"exec"`, `await tools.exec_command(`, `ran.txt`}},
		{"opencode", anthropicURL, anthropic,
			[]string{`"name":"write"`, `\"filePath\":\"/home/dev/a repo/hello.txt\"`},
			[]string{`"name":"bash"`, `ran.txt`}},
		{"gemini", geminiURL, google,
			[]string{`"name":"write_file"`, `"file_path":"/home/dev/a repo/hello.txt"`},
			[]string{`"name":"run_shell_command"`, `ran.txt`}},
	} {
		t.Run(test.agent, func(t *testing.T) {
			s := start(t, Config{Key: testKey})
			c := client(t, s)
			wants := [][]string{test.write, test.run, {DefaultTask().Final}}
			for i, want := range wants {
				status, answer := post(t, c, test.url, test.header, recorded(t, test.agent+"-"+string(rune('1'+i))))
				if status != http.StatusOK {
					t.Fatalf("turn %d: status %d: %s", i+1, status, answer)
				}
				for _, part := range want {
					if !strings.Contains(unescaped(answer), part) {
						t.Errorf("turn %d: no %s in\n%s", i+1, part, answer)
					}
				}
			}
			for i, r := range s.Requests() {
				if r.Turn != i+1 || len(r.Results) != i || r.Key() != testKey {
					t.Errorf("request %d is recorded as turn %d with %d results and key %q", i+1, r.Turn, len(r.Results), r.Key())
				}
			}
		})
	}
}

// unescaped undoes what Go's encoder does to <, > and &, for legible expectations.
func unescaped(s string) string {
	s = strings.ReplaceAll(s, `\\u00`, `\u00`) // an escape within a string that holds JSON
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(s)
}

func TestSideRequests(t *testing.T) {
	s := start(t, Config{})
	c := client(t, s)
	_, answer := post(t, c, anthropicURL, nil, recorded(t, "opencode-side"))
	if !strings.Contains(answer, `"text":"hello"`) {
		t.Errorf("the title is %s", answer)
	}
	_, answer = post(t, c, strings.Replace(geminiURL, "streamGenerateContent?alt=sse", "generateContent", 1), nil, recorded(t, "gemini-side"))
	var routed struct {
		Candidates []struct {
			Content struct {
				Parts []struct{ Text string }
			}
		}
	}
	var fits struct {
		Score  int    `json:"complexity_score"`
		Reason string `json:"complexity_reasoning"`
	}
	if err := json.Unmarshal([]byte(answer), &routed); err != nil || len(routed.Candidates) != 1 {
		t.Fatalf("reading %s: %v", answer, err)
	}
	if err := json.Unmarshal([]byte(routed.Candidates[0].Content.Parts[0].Text), &fits); err != nil || fits.Score != 1 || fits.Reason == "" {
		t.Errorf("the answer %s does not fit the schema that was asked for: %v", answer, err)
	}
	for _, r := range s.Requests() {
		if r.Turn != 0 {
			t.Errorf("%s counts as turn %d of the task", r.Path, r.Turn)
		}
	}
}

// TestWholeAnswers asks each API without streaming.
func TestWholeAnswers(t *testing.T) {
	s := start(t, Config{})
	c := client(t, s)
	chat := `{"model":"m","messages":[{"role":"system","content":"Working directory: /w"},{"role":"user","content":"go"}%s],
		"tools":[{"type":"function","function":{"name":"shell","parameters":{"type":"object",
		"properties":{"command":{"type":"array"}},"required":["command"]}}}]}`
	for name, test := range map[string]struct{ url, body, want string }{
		"anthropic": {anthropicURL, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, `"stop_reason":"end_turn"`},
		"responses": {responsesURL, `{"model":"m","input":"hi"}`, `"status":"completed"`},
		"chat file": {chatURL, strings.Replace(chat, "%s", "", 1), `[\"sh\",\"-c\",\"printf %s 'hello from the model`},
		"chat command": {chatURL, strings.Replace(chat, "%s", `,{"role":"assistant","tool_calls":[]},{"role":"tool","content":"ok"}`, 1),
			`echo ran > ran.txt`},
		"gemini array": {strings.TrimSuffix(geminiURL, "?alt=sse"), `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, `[{"candidates"`},
		"tokens":       {"https://api.anthropic.com/v1/messages/count_tokens", `{}`, `"input_tokens":1`},
		"gemini count": {strings.Replace(geminiURL, "streamGenerateContent?alt=sse", "countTokens", 1), `{}`, `"totalTokens":1`},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, c, test.url, nil, []byte(test.body))
			if status != http.StatusOK || !strings.Contains(unescaped(answer), test.want) {
				t.Errorf("status %d, no %s in %s", status, test.want, answer)
			}
		})
	}
}

func TestChatStreamEnds(t *testing.T) {
	s := start(t, Config{})
	_, answer := post(t, client(t, s), chatURL, nil, []byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if !strings.Contains(answer, `"finish_reason":"stop"`) || !strings.HasSuffix(answer, "data: [DONE]\n\n") {
		t.Errorf("the stream is %q", answer)
	}
}

func TestNewMessageStartsTheTaskAnew(t *testing.T) {
	var r anthropicRequest
	if err := json.Unmarshal(recorded(t, "claude-3"), &r); err != nil {
		t.Fatal(err)
	}
	c := r.conversation()
	if got := DefaultTask().next(c).turn; got != 3 {
		t.Fatalf("the recorded conversation is at turn %d, want 3", got)
	}
	c.said("<system-reminder>keep going</system-reminder>")
	if got := DefaultTask().next(c).turn; got != 3 {
		t.Errorf("a reminder of the agent's moved the task to turn %d", got)
	}
	c.said("once more")
	if got := DefaultTask().next(c).turn; got != 1 {
		t.Errorf("a new message of the person's moved the task to turn %d, want 1", got)
	}
}

func TestKeyIsRequired(t *testing.T) {
	s := start(t, Config{Key: testKey})
	c := client(t, s)
	body := []byte(`{"model":"m","messages":[]}`)
	for name, header := range map[string]map[string]string{
		"none":             nil,
		"wrong":            {"X-Api-Key": "placeholder"},
		"wrong bearer":     {"Authorization": "Bearer placeholder"},
		"no bearer":        {"Authorization": testKey},
		"wrong in one":     {"X-Api-Key": "placeholder", "Authorization": "Bearer " + testKey},
		"wrong for Google": {"X-Goog-Api-Key": "placeholder"},
	} {
		if status, answer := post(t, c, anthropicURL, header, body); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d, want 401: %s", name, status, answer)
		}
	}
	if status, _ := post(t, c, anthropicURL, map[string]string{"X-Api-Key": testKey}, body); status != http.StatusOK {
		t.Errorf("the right key is answered with %d", status)
	}
}

func TestRecord(t *testing.T) {
	s := start(t, Config{})
	c := client(t, s)
	post(t, c, "https://api.anthropic.com/api/unknown?x=1", map[string]string{"X-Mark": "m"}, []byte("body"))
	all := s.Requests()
	if len(all) != 1 {
		t.Fatalf("%d requests recorded, want 1", len(all))
	}
	r := all[0]
	if r.Method != "POST" || r.Host != "api.anthropic.com" || r.Path != "/api/unknown?x=1" || r.Proto != "HTTP/2.0" ||
		r.Header.Get("X-Mark") != "m" || string(r.Body) != "body" || r.Status != http.StatusNotFound {
		t.Errorf("recorded as %+v", r)
	}
}

func TestCompressedRequest(t *testing.T) {
	s := start(t, Config{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(recorded(t, "codex-1"))
	_ = z.Close()
	status, _ := post(t, client(t, s), responsesURL, map[string]string{"Content-Encoding": "gzip"}, packed.Bytes())
	if got := s.Requests()[0]; status != http.StatusOK || got.Turn != 1 {
		t.Errorf("status %d, turn %d", status, got.Turn)
	}
	if status, _ := post(t, client(t, s), responsesURL, map[string]string{"Content-Encoding": "zstd"}, nil); status != http.StatusUnsupportedMediaType {
		t.Errorf("zstd is answered with %d, want 415", status)
	}
}

func TestWebSocketIsRefused(t *testing.T) {
	s := start(t, Config{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, responsesURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	c := client(t, s)
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %d, want 426", resp.StatusCode)
	}
}

func TestModels(t *testing.T) {
	s := start(t, Config{})
	for header, want := range map[string]string{"": `"object":"list"`, "2023-06-01": `"has_more":false`} {
		if _, answer := post(t, client(t, s), "https://api.openai.com/v1/models", map[string]string{"Anthropic-Version": header}, nil); !strings.Contains(answer, want) {
			t.Errorf("with version %q the models are %s", header, answer)
		}
	}
}

func TestOnAskMayHoldAnAnswer(t *testing.T) {
	asked, release := make(chan Request, 1), make(chan struct{})
	s := start(t, Config{OnAsk: func(r Request) {
		asked <- r
		<-release
	}})
	c := client(t, s)
	done := make(chan int, 1)
	go func() {
		status, _ := post(t, c, anthropicURL, nil, []byte(`{"messages":[]}`))
		done <- status
	}()
	if r := <-asked; string(r.Body) != `{"messages":[]}` {
		t.Errorf("held a request with body %q", r.Body)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests recorded before their answer", n)
	}
	close(release)
	if status := <-done; status != http.StatusOK {
		t.Errorf("status %d after the release", status)
	}
}

func TestWait(t *testing.T) {
	s := start(t, Config{})
	post(t, client(t, s), anthropicURL, nil, []byte(`{"messages":[]}`))
	if _, err := s.Wait(t.Context(), func(r Request) bool { return r.Status == http.StatusOK }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, func(Request) bool { return false }); err == nil {
		t.Error("waiting for nothing did not fail")
	}
}

func TestCloseEndsTheListener(t *testing.T) {
	s := start(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("the address still answers")
	}
}

func TestAddressInUse(t *testing.T) {
	s := start(t, Config{})
	if second, err := Start(Config{Addr: s.Addr()}); err == nil {
		_ = second.Close()
		t.Error("a second server on the same address started")
	}
}

func TestPlainServerSpeaksHTTP(t *testing.T) {
	s := start(t, Config{Plain: true})
	status, answer := post(t, client(t, s), "http://"+s.Addr()+"/v1/chat/completions", nil, []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`))
	if status != http.StatusOK || !strings.Contains(answer, "chat.completion") {
		t.Errorf("status %d, %s", status, answer)
	}
}
