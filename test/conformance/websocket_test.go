package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"agentbox/internal/event"
)

// readHead reads an answer's head byte by byte, so that nothing behind it is taken.
func readHead(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		_, err := io.ReadFull(conn, one)
		must(t, err)
		head = append(head, one...)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	must(t, err)
	return resp
}

// echo is a server that takes WebSockets and knows nothing of frames: for the case whose number stands in the path it
// sends what the case has it send, and keeps all that comes until the end of the connection.
type echo struct {
	cases []wsCase
	mu    sync.Mutex
	got   map[int]chan taken
}

// taken is what came to the server: the request, and the bytes after it.
type taken struct {
	request *http.Request
	bytes   []byte
	err     error
}

func (e *echo) of(i int) chan taken {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.got[i] == nil {
		e.got[i] = make(chan taken, 1)
	}
	return e.got[i]
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || i < 0 || i >= len(e.cases) {
		http.NotFound(w, r)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	if e.cases[i].extensions != "" {
		answer += "Sec-WebSocket-Extensions: " + e.cases[i].extensions + "\r\n"
	}
	if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
		e.of(i) <- taken{r, nil, err}
		return
	}
	e.of(i) <- e.exchange(e.cases[i], r, conn, rw.Reader)
}

// exchange sends and receives at once. The side that the case names closes when it has sent and received everything.
func (e *echo) exchange(c wsCase, r *http.Request, conn net.Conn, in io.Reader) taken {
	var sending sync.WaitGroup
	var sent error
	sending.Go(func() { sent = c.send(conn, c.down) })
	got := make([]byte, len(c.up))
	n, err := io.ReadFull(in, got)
	sending.Wait()
	if err == nil && !c.serverCloses {
		var rest []byte
		rest, err = io.ReadAll(in)
		got, n = append(got, rest...), n+len(rest)
	}
	return taken{r, got[:n], errors.Join(err, sent)}
}

// through carries out one case and compares every byte of both directions.
func (l *lab) through(t *testing.T, e *echo, i int, authority string) {
	t.Helper()
	c := e.cases[i]
	conn := l.dial(t, authority)
	host, _, _ := net.SplitHostPort(authority)
	head := fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n", i, host)
	if c.extensions != "" {
		head += "Sec-WebSocket-Extensions: " + c.extensions + "\r\n"
	}
	_, err := io.WriteString(conn, head+"\r\n")
	must(t, err)
	answer := readHead(t, conn)
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade was answered %s", answer.Status)
	}
	if got := answer.Header.Get("Sec-WebSocket-Extensions"); got != c.extensions {
		t.Errorf("extensions %q came back as %q", c.extensions, got)
	}
	down, err := l.exchange(c, conn)
	if err != nil {
		t.Errorf("the client's side: %v", err)
	}
	up := <-e.of(i)
	if up.err != nil {
		t.Errorf("the server's side: %v", up.err)
	}
	if got := up.request.Header.Get("Sec-WebSocket-Extensions"); got != c.extensions {
		t.Errorf("extensions %q went out as %q", c.extensions, got)
	}
	same(t, "client to server", up.bytes, c.up)
	same(t, "server to client", down, c.down)
	l.counted(t, i, c)
}

func (l *lab) exchange(c wsCase, conn net.Conn) ([]byte, error) {
	var sending sync.WaitGroup
	var sent error
	sending.Go(func() { sent = c.send(conn, c.up) })
	got := make([]byte, len(c.down))
	n, err := io.ReadFull(conn, got)
	sending.Wait()
	if err == nil && c.serverCloses {
		var rest []byte
		rest, err = io.ReadAll(conn)
		got, n = append(got, rest...), n+len(rest)
	}
	_ = conn.Close()
	return got[:n], errors.Join(err, sent)
}

// counted looks at the event that the proxy left.
func (l *lab) counted(t *testing.T, i int, c wsCase) {
	t.Helper()
	e := l.log.next(t, event.NetResponse, fmt.Sprintf("/%d", i))
	if e.Status != http.StatusSwitchingProtocols || e.BytesUp != int64(len(c.up)) || e.BytesDown != int64(len(c.down)) {
		t.Errorf("the event says status %d, %d bytes up, %d down; %d and %d were sent", e.Status, e.BytesUp, e.BytesDown, len(c.up), len(c.down))
	}
}

func same(t *testing.T, way string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d bytes arrived of %d; they differ from byte %d on", way, len(got), len(want), at)
}

// TestWebSocket sends the cases of Autobahn's suite through the proxy. What an end makes of a frame is the end's
// business: what the proxy owes both is every byte, in order, and the end of the stream when it is there.
func TestWebSocket(t *testing.T) {
	for way, authority := range map[string]string{"wss": name + ":443", "ws": "plain." + name + ":80"} {
		t.Run(way, func(t *testing.T) {
			e := &echo{cases: allCases(), got: map[int]chan taken{}}
			l := newLab(t, e)
			for i, c := range e.cases {
				t.Run(c.id, func(t *testing.T) { l.through(t, e, i, authority) })
			}
			t.Logf("%d cases", len(e.cases))
		})
	}
}
