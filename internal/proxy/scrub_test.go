package proxy

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"agentbox/internal/event"
	"agentbox/internal/policy"
	"agentbox/internal/scrub"
	"agentbox/internal/secrets"
)

// realValue is what no test may see in an answer.
const realValue = "ghp_Zq8stR+4vWxY/aB2cD3eF5gH6iJ7kQ-L9012"

// keyed has a lab's proxy put realValue into requests to good.test, and take it out of answers.
func keyed(t testing.TB, shape string) (_ option, broker *secrets.Broker) {
	t.Helper()
	broker, err := secrets.NewBroker(t.Context(), []secrets.Credential{{
		Name: "mine", Source: token(realValue), Hosts: []policy.Host{mustHost(t, "good.test")}, Header: "Authorization: Bearer {token}", Shape: shape,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	if problems := broker.Problems(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
	return func(c *Config) { c.Injector, c.Scrubber = broker, broker }, broker
}

// pausing has the proxy wait for the test in place of for a time.
type pausing struct {
	mu    sync.Mutex
	calls []func()
	more  chan struct{}
}

func newPausing() *pausing { return &pausing{more: make(chan struct{}, 64)} }

func (p *pausing) pause(_ time.Duration, then func()) func() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, then)
	p.more <- struct{}{}
	return func() bool { return true }
}

// pass lets the time pass that is waited for next.
func (p *pausing) pass(t *testing.T) {
	t.Helper()
	select {
	case <-p.more:
	case <-t.Context().Done():
		t.Fatal("nothing waits")
	}
	p.mu.Lock()
	then := p.calls[len(p.calls)-1]
	p.mu.Unlock()
	then()
}

// holds reports whether anything of text tells the value: plain, or in a form that is looked for.
func holds(text string) bool {
	raw := strings.ToLower(hex.EncodeToString([]byte(realValue)))
	forms := []string{realValue, raw, strings.ToUpper(raw), url.QueryEscape(realValue), strings.ReplaceAll(realValue, "/", `\/`)}
	for _, before := range []string{"", "x", "xx"} {
		enc := base64.RawStdEncoding.EncodeToString([]byte(before + realValue))
		forms = append(forms, enc[4:len(enc)-4])
	}
	for _, form := range forms {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// version gives a client that speaks one version of HTTP and shows answers as they come.
func (l *lab) version(h2 bool) *http.Client {
	l.t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	transport := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr}), TLSClientConfig: &tls.Config{RootCAs: l.roots},
		DisableCompression: true, Protocols: protocols,
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask sends a request with a placeholder and gives the answer and everything in it as text.
func ask(t *testing.T, c *http.Client, broker *secrets.Broker, method, target string, fields ...string) (*http.Response, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+broker.Placeholder("mine"))
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	head, err := httputil.DumpResponse(resp, false)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body), fmt.Sprint(string(head), resp.Trailer, string(body))
}

// compress gives text in a coding.
func compress(t testing.TB, coding, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "deflate":
		w = zlib.NewWriter(&buf)
	case "raw deflate":
		w, err = flate.NewWriter(&buf, 6)
	case "br":
		w = brotli.NewWriter(&buf)
	case "zstd":
		w, err = zstd.NewWriter(&buf)
	default:
		return []byte(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, text)
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// echoes are answers with what the server was sent in them.
func echoes(t *testing.T) map[string]func(w http.ResponseWriter, r *http.Request, sent string) {
	coded := func(name string, body func(sent string) []byte) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Content-Encoding", name)
			w.Header().Set("ETag", `"strong"`)
			b := body(`{"authorization":"` + sent + `"}`)
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b)
		}
	}
	in := func(coding string) func(string) []byte {
		return func(s string) []byte { return compress(t, coding, s) }
	}
	return map[string]func(w http.ResponseWriter, r *http.Request, sent string){
		"plain":  func(w http.ResponseWriter, _ *http.Request, sent string) { _, _ = io.WriteString(w, "you sent "+sent) },
		"header": func(w http.ResponseWriter, _ *http.Request, sent string) { w.Header().Set("X-Echo", sent) },
		"cookie": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Set-Cookie", "a="+url.QueryEscape(sent))
		},
		"name": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("X-"+strings.NewReplacer("Bearer ", "", "/", "-").Replace(sent), sent)
		},
		"error": func(w http.ResponseWriter, _ *http.Request, sent string) {
			http.Error(w, "no such token: "+sent, http.StatusForbidden)
		},
		"basic": func(w http.ResponseWriter, _ *http.Request, sent string) {
			_, _ = io.WriteString(w, base64.StdEncoding.EncodeToString([]byte("u:"+sent)))
		},
		"hex": func(w http.ResponseWriter, _ *http.Request, sent string) { _, _ = fmt.Fprintf(w, "%x %X", sent, sent) },
		"escaped": func(w http.ResponseWriter, _ *http.Request, sent string) {
			_, _ = io.WriteString(w, strings.ReplaceAll(sent, "/", `\/`)+" "+url.QueryEscape(sent))
		},
		"redirect": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Location", "https://good.test/?token="+url.QueryEscape(sent))
			w.WriteHeader(http.StatusFound)
		},
		"trailer": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Trailer", "X-Behind")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Behind", sent)
			w.Header().Set(http.TrailerPrefix+"X-Unannounced", sent)
		},
		"trailer of a coded body": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Trailer", "X-Behind")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(compress(t, "gzip", sent))
			w.Header().Set("X-Behind", sent)
		},
		"pieces": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, b := range []byte("data: " + sent + "\n\n") {
				_, _ = w.Write([]byte{b})
				w.(http.Flusher).Flush()
			}
		},
		"big": func(w http.ResponseWriter, _ *http.Request, sent string) {
			w.Header().Set("Content-Length", strconv.Itoa(maxChanging+len(sent)))
			_, _ = io.WriteString(w, strings.Repeat("g", maxChanging/2)+sent+strings.Repeat("h", maxChanging/2))
		},
		"gzip":        coded("gzip", in("gzip")),
		"x-gzip":      coded("X-GZIP", in("gzip")),
		"deflate":     coded("deflate", in("deflate")),
		"raw deflate": coded("deflate", in("raw deflate")),
		"br":          coded("br", in("br")),
		"zstd":        coded("zstd", in("zstd")),
		"nested":      coded("gzip, br", func(s string) []byte { return compress(t, "br", string(compress(t, "gzip", s))) }),
		"members": coded("gzip", func(s string) []byte {
			return append(append(compress(t, "gzip", s[:30]), compress(t, "gzip", s[30:])...), "what is none"...)
		}),
		"zstd frames": coded("zstd", func(s string) []byte { return append(compress(t, "zstd", s[:30]), compress(t, "zstd", s[30:])...) }),
	}
}

func TestNoAnswerHoldsAValue(t *testing.T) {
	all := echoes(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all[r.URL.Query().Get("how")](w, r, r.Header.Get("Authorization"))
	})
	for _, shape := range []string{"ghp_", "sk-ant-api03-"} { // the placeholder is longer than the value, and much longer
		withKey, broker := keyed(t, shape)
		l := newLab(t, handler, withKey)
		for _, h2 := range []bool{false, true} {
			client := l.version(h2)
			for name := range all {
				resp, body, text := ask(t, client, broker, http.MethodGet, "https://good.test/?how="+url.QueryEscape(name), "Accept-Encoding", "gzip, br")
				if holds(text) {
					t.Errorf("%s, %s: the value came: %.300s", name, resp.Proto, text)
				}
				seen := strings.Contains(text, broker.Placeholder("mine"))
				switch name {
				case "basic", "hex", "big", "name":
					seen = strings.Contains(text, "agbx0Ph") || strings.Contains(text, hex.EncodeToString([]byte("agbx0Ph"))) || name == "basic"
				}
				if !seen {
					t.Errorf("%s, %s: the placeholder is not in its place: %.300s", name, resp.Proto, text)
				}
				if name == "big" && resp.ContentLength != int64(len(body)) {
					t.Errorf("%s: %d bytes came, %d were announced", name, len(body), resp.ContentLength)
				}
				if tag := resp.Header.Get("Etag"); resp.Header.Get("Content-Encoding") != "" || tag != "" && tag != `W/"strong"` {
					t.Errorf("%s: the head is of another body: %v", name, resp.Header)
				}
			}
		}
		for _, r := range l.upstream.requests() {
			if r.Header.Get("Authorization") != "Bearer "+realValue {
				t.Fatalf("the server saw %v", r.Header)
			}
		}
	}
}

// A name of a field that is a value goes with what it names, whatever became of its letters.
func TestNamesOfFieldsHoldNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	const name = "tok-zq8str-4vwxy-ab2cd3ef5gh6"
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", name+"-behind")
		w.Header().Set("X-"+name, "named")
		_, _ = io.WriteString(w, "body")
		w.Header().Set(name+"-behind", "named")
	}), withKey, func(c *Config) {
		c.Scrubber = knows{c.Scrubber, scrub.New([]scrub.Pair{{Value: strings.ToUpper(name)}})}
	})
	for _, h2 := range []bool{false, true} {
		if _, _, text := ask(t, l.version(h2), broker, http.MethodGet, "https://good.test/"); !strings.Contains(text, "body") || strings.Contains(strings.ToLower(text), name) {
			t.Errorf("the answer is %s", text)
		}
	}
}

// knows is a scrubber with values of its own.
type knows struct {
	Scrubber
	set *scrub.Set
}

func (k knows) Values() *scrub.Set { return k.set }

// A host that no credential is for can have got a value from one that has: its answers keep their lengths.
func TestOtherHosts(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := []byte("it is " + realValue)
		if coding := r.URL.Query().Get("coding"); coding != "" {
			w.Header().Set("Content-Encoding", coding)
			body = compress(t, coding, string(body))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}), withKey)
	c := l.version(false)
	get := func(query string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x.wild.test/"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip, other")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	want := "it is " + broker.Placeholder("mine")[:len(realValue)]
	if resp, body := get(""); body != want || resp.ContentLength != int64(len(want)) {
		t.Errorf("%q came, %d bytes announced", body, resp.ContentLength)
	}
	if _, body := get("?coding=gzip"); body != want {
		t.Errorf("%q came", body)
	}
	if resp, _ := get("?coding=other"); resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "other" {
		t.Errorf("what cannot be read was not let through: %v", resp.Header)
	}
	for _, r := range l.upstream.requests() {
		if r.Header.Get("Accept-Encoding") != "gzip, other" {
			t.Errorf("the server saw %v", r.Header)
		}
	}
}

// TestAValueIsNotFetchedInParts: an agent that asked for a range that ends within a value, and then for the rest, got both.
func TestAValueIsNotFetchedInParts(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "log.txt", time.Time{}, strings.NewReader("GET / "+r.Header.Get("Authorization")))
	}), withKey)
	cut := len("GET / Bearer ") + len(realValue)/2
	for _, h2 := range []bool{false, true} {
		for _, part := range []string{fmt.Sprintf("bytes=0-%d", cut), fmt.Sprintf("bytes=%d-", cut), fmt.Sprintf("bytes=0-%d,%d-", cut, cut+1)} {
			resp, body, _ := ask(t, l.version(h2), broker, http.MethodGet, "https://good.test/log.txt", "Range", part, "If-Range", `"x"`)
			if resp.StatusCode != http.StatusOK || body != "GET / Bearer "+broker.Placeholder("mine") {
				t.Errorf("%s gives %s: %s", part, resp.Status, body)
			}
		}
	}
}

// A server that is told a credential is asked for what can be read, and what cannot be is refused.
func TestWhatCannotBeReadIsRefused(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	answers := map[string]http.Header{
		"unknown":  {"Content-Encoding": {"compress"}},
		"behind":   {"Content-Encoding": {"gzip", "sdch"}},
		"often":    {"Content-Encoding": {"gzip, gzip, gzip, gzip, gzip"}},
		"part":     {"X-Status": {"206"}, "Content-Range": {"bytes 0-9/20"}},
		"delta":    {"X-Status": {"226"}, "Im": {"gzip"}},
		"connect":  {"Content-Type": {"application/connect+json"}, "Connect-Content-Encoding": {"gzip"}},
		"messages": {"Content-Type": {"application/grpc"}, "Grpc-Encoding": {"gzip"}},
		"telling":  {"Content-Encoding": {realValue}},
	}
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		for name, values := range answers[r.URL.Query().Get("how")] {
			w.Header()[name] = values
			if name == "X-Status" {
				status, _ = strconv.Atoi(values[0])
			}
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}), withKey)
	n := 0
	for _, h2 := range []bool{false, true} {
		for name := range answers {
			resp, body, text := ask(t, l.version(h2), broker, http.MethodGet, "https://good.test/?how="+name, "Accept-Encoding", "compress;q=1, br;q=0.5, *", "Grpc-Accept-Encoding", "gzip", "Connect-Accept-Encoding", "gzip", "A-Im", "gzip")
			if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "could hold a credential and cannot be read") || holds(text) {
				t.Errorf("%s: %s: %s", name, resp.Status, text)
			}
			n += 3 // the decision, the use, the end
		}
	}
	_, _, _ = ask(t, l.version(false), broker, http.MethodGet, "https://good.test/?how=none", "Accept-Encoding", "sdch")
	seen := l.upstream.requests()
	for i, want := range append(make([]string, len(seen)-1), identity) {
		if want == "" {
			want = "br;q=0.5"
		}
		if h := seen[i].Header; h.Get("Accept-Encoding") != want || h.Get("Grpc-Accept-Encoding")+h.Get("Connect-Accept-Encoding")+h.Get("A-Im") != "" {
			t.Errorf("the server saw %v", h)
		}
	}
	for _, e := range l.log.await(t, n+3) {
		if holds(fmt.Sprintf("%+v", e)) {
			t.Errorf("the event holds the value: %+v", e)
		}
	}
}

// What breaks off, or is not what it says, ends the answer: it never passes as it is.
func TestBrokenCodings(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		coding := r.URL.Query().Get("coding")
		w.Header().Set("Content-Encoding", coding)
		body := compress(t, coding, strings.Repeat("much ", 1000))
		if r.URL.Query().Has("not") {
			body = []byte(r.Header.Get("Authorization") + strings.Repeat(" plain", 100))
		}
		_, _ = w.Write(body[:len(body)/2])
	}), withKey)
	for _, coding := range []string{"gzip", "deflate", "br", "zstd"} {
		for _, query := range []string{"", "&not"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://good.test/?coding="+coding+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+broker.Placeholder("mine"))
			resp, err := l.version(false).Do(req)
			if err != nil {
				continue // it was ended before anything was sent
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil || holds(string(body)) {
				t.Errorf("%s%s: ended well with %.100q", coding, query, body)
			}
		}
	}
}

func TestAnswersWithoutABodyAreNotDecoded(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		if status, _ := strconv.Atoi(r.URL.Query().Get("status")); status != 0 {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Length", "0")
	}), withKey)
	for _, h2 := range []bool{false, true} {
		for _, request := range []string{"GET 204", "GET 304", "GET ", "HEAD "} {
			method, status, _ := strings.Cut(request, " ")
			resp, body, text := ask(t, l.version(h2), broker, method, "https://good.test/?status="+status)
			if body != "" || holds(text) || resp.Header.Get("X-Echo") != "Bearer "+broker.Placeholder("mine") {
				t.Errorf("%s: %s", request, text)
			}
		}
	}
}

func TestABombTakesNoMemory(t *testing.T) {
	const size = 128 << 20
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		coding := r.URL.Query().Get("coding")
		w.Header().Set("Content-Encoding", coding)
		var out io.WriteCloser
		switch coding {
		case "gzip":
			out = gzip.NewWriter(w)
		case "br":
			out = brotli.NewWriterLevel(w, 1)
		default:
			out, _ = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		}
		zeros := make([]byte, 1<<20)
		for range size >> 20 {
			if _, err := out.Write(zeros); err != nil {
				return
			}
		}
		_ = out.Close()
	}), withKey)
	for _, coding := range []string{"gzip", "br", "zstd"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://good.test/?coding="+coding, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+broker.Placeholder("mine"))
		resp, err := l.version(false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, size/2); err != nil {
			t.Fatalf("%s: %v", coding, err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > size/2 {
			t.Errorf("%s: %d MB are in use", coding, m.HeapAlloc>>20)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size/2 {
			t.Errorf("%s: %d bytes, %v", coding, n, err)
		}
		_ = resp.Body.Close()
	}
	if err := l.proxy.Close(); err != nil || l.proxy.opened.Load() != 0 {
		t.Errorf("%d codings are still read, %v", l.proxy.opened.Load(), err)
	}
}

func TestOpenCodingsAreBounded(t *testing.T) {
	p := &Proxy{}
	p.opened.Store(maxOpened)
	d := &decoded{under: io.NopCloser(bytes.NewReader(compress(t, "gzip", "text"))), begin: decoders["gzip"], proxy: p}
	if _, err := d.Read(make([]byte, 10)); err != errCodings || p.opened.Load() != maxOpened {
		t.Errorf("one too many: %v", err)
	}
	p.opened.Add(-1)
	_ = d.Close()
	d = &decoded{under: io.NopCloser(bytes.NewReader(compress(t, "gzip", "text"))), begin: decoders["gzip"], proxy: p}
	if n, err := d.Read(make([]byte, 10)); n != 4 || p.opened.Load() != maxOpened {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _ = d.Close(); p.opened.Load() != maxOpened-1 {
		t.Error("it is still counted")
	}
}

// Nothing of a stream waits for more to come, but what tells of a value.
func TestStreamsAreNotHeldUp(t *testing.T) {
	for _, coding := range []string{"", "gzip", "br", "zstd"} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprint(coding, h2), func(t *testing.T) {
				pieces, clock := make(chan string), newPausing()
				withKey, broker := keyed(t, "ghp_")
				l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					out, flush := streaming(w, coding)
					for piece := range pieces {
						_, _ = io.WriteString(out, piece)
						flush()
					}
					if c, ok := out.(io.Closer); ok {
						_ = c.Close()
					}
				}), withKey, waiting(func(is *limits) { is.pause = clock.pause }))
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://good.test/", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+broker.Placeholder("mine"))
				answered := make(chan *http.Response, 1)
				go func() {
					resp, err := l.version(h2).Do(req)
					if err != nil {
						t.Error(err)
						cancel()
					}
					answered <- resp
				}()
				pieces <- "data: one\n\n"
				resp := <-answered
				if resp == nil {
					return
				}
				defer func() { _ = resp.Body.Close() }()
				in := bufio.NewReader(resp.Body)
				expect := func(want string) {
					t.Helper()
					got := make([]byte, len(want))
					if n, err := io.ReadFull(in, got); err != nil || string(got) != want {
						t.Fatalf("%q came, %v; want %q", got[:n], err, want)
					}
				}
				expect("data: one\n\n")
				pieces <- "a " + realValue[:6]
				expect("a ")
				clock.pass(t)
				expect(realValue[:6]) // "ghp_Zq" is what everybody knows, and two characters
				pieces <- realValue[6:20]
				clock.pass(t) // which tells something, so it stays
				pieces <- realValue[20:] + " b"
				close(pieces)
				expect(broker.Placeholder("mine")[6:] + " b")
				if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
					t.Errorf("%q came behind it, %v", rest, err)
				}
			})
		}
	}
}

// streaming gives a writer in a coding that sends what it has when it is flushed.
func streaming(w http.ResponseWriter, coding string) (out io.Writer, flush func()) {
	var packed interface {
		io.Writer
		Flush() error
	}
	switch coding {
	case "gzip":
		packed = gzip.NewWriter(w)
	case "deflate":
		packed = zlib.NewWriter(w)
	case "br":
		packed = brotli.NewWriter(w)
	case "zstd":
		packed, _ = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	default:
		return w, w.(http.Flusher).Flush
	}
	w.Header().Set("Content-Encoding", coding)
	return packed, func() {
		_ = packed.Flush()
		w.(http.Flusher).Flush()
	}
}

// What a server says where no answer is expected shows in a reason: there too it tells nothing.
func TestReasonsHoldNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	says := map[string]string{
		"no HTTP": "it is " + realValue + ", this server says\r\n\r\n",
		"header":  "HTTP/1.1 200 OK\r\nbad header " + realValue + "\r\n\r\n",
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: " + realValue + "\r\n\r\n",
	}
	for n := 120; n < 240; n += 20 { // a reason is cut somewhere here
		says[fmt.Sprint("behind ", n)] = "HTTP/1.1 " + strings.Repeat("x", n) + realValue + "\r\n\r\n"
	}
	for name, say := range says {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, say)
				_ = conn.Close()
			}), withKey)
			resp, _, text := ask(t, l.version(false), broker, http.MethodGet, "https://good.test/")
			if resp.StatusCode != http.StatusBadGateway || strings.Contains(text, realValue[:12]) {
				t.Errorf("the answer is %s", text)
			}
			for _, e := range l.log.await(t, 3) {
				if e.Kind != event.NetResponse {
					continue
				}
				if e.Reason == "" || strings.Contains(e.Reason, realValue[:12]) {
					t.Errorf("the event is %+v", e)
				}
			}
		})
	}
}

// Nor does what is wrong with a credential, whoever says it.
func TestRefusalsOfCredentialsHoldNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, nil, withKey, func(c *Config) { c.Injector = complaining{} })
	resp, body, text := ask(t, l.version(false), broker, http.MethodGet, "https://good.test/")
	if resp.StatusCode != http.StatusForbidden || holds(text) || strings.Count(body, broker.Placeholder("mine")) != 2 {
		t.Errorf("the answer is %s", text)
	}
	for _, e := range l.only(3) {
		if holds(fmt.Sprintf("%+v", e)) {
			t.Errorf("the event is %+v", e)
		}
	}
}

// complaining is an injector that says what it should not.
type complaining struct{}

func (complaining) Inject(context.Context, *http.Request, policy.Host, bool) (string, error) {
	return "mine", complaint{}
}

type complaint struct{}

func (complaint) Error() string { return "the source said " + realValue }
func (complaint) Hint() string  { return "replace " + realValue }

// Answers that only announce another one never come inside.
func TestInterimAnswersHoldNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "done")
	}), withKey)
	for range 2 { // the second goes another way
		conn := l.tunnel("good.test:443", "good.test")
		answer := l.sayOn(conn, "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\nAuthorization: Bearer "+broker.Placeholder("mine")+"\r\n\r\n")
		if !strings.Contains(answer, "done") || holds(answer) {
			t.Errorf("the answer is %q", answer)
		}
	}
}
