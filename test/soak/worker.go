package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// kind is one kind of request, and how often of a thousand it is sent.
type kind struct {
	name string
	of   int
	do   func(w *worker, ctx context.Context) error
}

func kinds() []kind {
	return []kind{
		{"HTTP/1.1, kept alive", 480, (*worker).kept}, {"HTTP/2 stream", 300, (*worker).stream}, {"spliced, kept alive", 80, (*worker).spliced},
		{"plain HTTP", 50, (*worker).plain}, {"refused by path", 30, (*worker).refusedPath}, {"refused by name", 10, (*worker).refusedName},
		{"HTTP/1.1, new connection", 10, (*worker).fresh}, {"spliced, new connection", 5, (*worker).freshSpliced}, {"raw TCP", 10, (*worker).raw},
		{"WebSocket", 8, (*worker).socket}, {"server-sent events", 8, (*worker).events}, {"large body, both ways", 3, (*worker).big},
		{"client vanishes", 6, (*worker).vanish},
	}
}

// worker is one client with its connections.
type worker struct {
	s       *soak
	random  *rand.Rand
	kinds   []kind
	h1, h2  *http.Client
	through *http.Client // spliced
	http    *http.Client // without TLS
}

func (s *soak) newWorker(seed uint64) *worker {
	w := &worker{s: s, random: rand.New(rand.NewPCG(seed, uint64(s.begun.Load()))), kinds: kinds()}
	w.h1 = s.client(&tls.Config{RootCAs: s.roots, NextProtos: []string{"http/1.1"}}, false)
	w.h2 = s.client(&tls.Config{RootCAs: s.roots}, true)
	w.through = s.client(&tls.Config{RootCAs: s.direct}, true)
	w.http = s.client(nil, false)
	return w
}

func (s *soak) client(config *tls.Config, h2 bool) *http.Client {
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.place.Addr}), TLSClientConfig: config, ForceAttemptHTTP2: h2, DisableCompression: true,
		},
	}
}

func (w *worker) close() {
	for _, c := range []*http.Client{w.h1, w.h2, w.through, w.http} {
		c.CloseIdleConnections()
	}
}

// one sends one request of a kind that chance picks, and says whether it went as it had to.
func (w *worker) one(ctx context.Context) (string, error) {
	at := w.random.IntN(1000)
	for _, k := range w.kinds {
		if at -= k.of; at < 0 {
			return k.name, k.do(w, ctx)
		}
	}
	return "none", errors.New("the kinds do not add up to a thousand")
}

func (w *worker) kept(ctx context.Context) error {
	return w.hello(ctx, w.h1, "https://"+inspectedName, 1)
}

func (w *worker) stream(ctx context.Context) error {
	return w.hello(ctx, w.h2, "https://"+inspectedName, 2)
}

func (w *worker) spliced(ctx context.Context) error {
	return w.hello(ctx, w.through, "https://"+splicedName, 2)
}

func (w *worker) plain(ctx context.Context) error {
	return w.hello(ctx, w.http, "http://"+plainName, 1)
}

func (w *worker) fresh(ctx context.Context) error {
	c := w.s.client(&tls.Config{RootCAs: w.s.roots, NextProtos: []string{"http/1.1"}}, false)
	defer c.CloseIdleConnections()
	return w.hello(ctx, c, "https://"+inspectedName, 1)
}

func (w *worker) freshSpliced(ctx context.Context) error {
	c := w.s.client(&tls.Config{RootCAs: w.s.direct}, true)
	defer c.CloseIdleConnections()
	return w.hello(ctx, c, "https://"+splicedName, 2)
}

// ask sends a request and gives the answer with its whole body.
// ask gives the answer, whose body it has read and closed.
func (w *worker) ask(ctx context.Context, c *http.Client, method, to string, body io.Reader) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.placeholder(req.URL.Hostname()))
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return resp, got, err
}

// placeholder may go to its own host alone.
func (w *worker) placeholder(host string) string {
	if host == inspectedName {
		return w.s.place.Placeholder
	}
	return "none"
}

func (w *worker) hello(ctx context.Context, c *http.Client, base string, major int) error {
	token := fmt.Sprint(w.random.Uint64())
	resp, got, err := w.ask(ctx, c, http.MethodGet, base+"/hello?"+token, nil) //nolint:bodyclose // ask closes it
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || string(got) != "hello "+token:
		return fmt.Errorf("%s: %s, %q", base, resp.Status, got)
	case resp.ProtoMajor != major:
		return fmt.Errorf("%s: the answer came by %s", base, resp.Proto)
	}
	return nil
}

func (w *worker) refusedPath(ctx context.Context) error {
	c := w.h1
	if w.random.IntN(2) == 0 {
		c = w.h2
	}
	resp, _, err := w.ask(ctx, c, http.MethodGet, "https://"+inspectedName+"/denied/thing", nil) //nolint:bodyclose // ask closes it
	if err == nil && resp.StatusCode != http.StatusForbidden {
		err = fmt.Errorf("a denied path was answered %s", resp.Status)
	}
	return err
}

func (w *worker) refusedName(ctx context.Context) error {
	conn, err := w.connect(ctx, deniedName+":443", "403")
	if err != nil {
		return err
	}
	return conn.Close()
}

// patience bounds a connection.
const patience = time.Minute

// connect opens a connection to the proxy and asks for a tunnel, which has to be answered with status.
func (w *worker) connect(ctx context.Context, authority, status string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", w.s.place.Addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", authority); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	head, err := readHead(conn)
	if err == nil && !strings.HasPrefix(head, "HTTP/1.1 "+status) {
		err = fmt.Errorf("CONNECT %s: %q", authority, head)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// readHead reads byte by byte, so that nothing behind the head is taken.
func readHead(conn net.Conn) (string, error) {
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := io.ReadFull(conn, one); err != nil {
			return string(head), fmt.Errorf("reading the proxy's answer: %w", err)
		}
	}
	return string(head), nil
}

func (w *worker) tunnel(ctx context.Context) (net.Conn, error) {
	conn, err := w.connect(ctx, inspectedName+":443", "200")
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: w.s.roots, ServerName: inspectedName, NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// raw sends something that is neither TLS nor HTTP, ends its side and reads what comes back.
func (w *worker) raw(ctx context.Context) error {
	conn, err := w.connect(ctx, fmt.Sprintf("%s:%d", tcpName, tcpPort), "200")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	sent := bytes.Repeat([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), 1+w.random.IntN(1000))
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err == nil && !bytes.Equal(got, sent) {
		err = fmt.Errorf("%d bytes of %d came back", len(got), len(sent))
	}
	return err
}

func (w *worker) socket(ctx context.Context) error {
	conn, err := w.tunnel(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	config, err := websocket.NewConfig("wss://"+inspectedName+"/echo", "https://"+inspectedName)
	if err != nil {
		return err
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		return err
	}
	for i := range 5 {
		sent := strings.Repeat("message ", 1+w.random.IntN(200))
		if err := websocket.Message.Send(ws, sent); err != nil {
			return err
		}
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil {
			return err
		}
		if got != sent {
			return fmt.Errorf("message %d came back as another", i)
		}
	}
	return ws.Close()
}

// events reads three events and leaves.
func (w *worker) events(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := w.h1
	if w.random.IntN(2) == 0 {
		c = w.h2
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+inspectedName+"/events", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for seen := 0; seen < 3; {
		if !lines.Scan() {
			return fmt.Errorf("the stream ended after %d events: %w", seen, lines.Err())
		}
		if strings.HasPrefix(lines.Text(), "data:") {
			seen++
		}
	}
	return nil
}

func (w *worker) big(ctx context.Context) error {
	c := w.h1
	if w.random.IntN(2) == 0 {
		c = w.h2
	}
	resp, got, err := w.ask(ctx, c, http.MethodPost, "https://"+inspectedName+"/big", bytes.NewReader(make([]byte, bigSize))) //nolint:bodyclose // ask closes it
	if err == nil && (len(got) != bigSize || resp.Header.Get("X-Taken") != fmt.Sprint(bigSize)) {
		err = fmt.Errorf("%d bytes came, %s went", len(got), resp.Header.Get("X-Taken"))
	}
	return err
}

// vanish is a client that goes away in the middle of something. Nothing can be expected of the answer.
func (w *worker) vanish(ctx context.Context) error {
	manner := w.random.IntN(5)
	if manner < 2 {
		conn, err := w.connect(ctx, inspectedName+":443", "200")
		if err != nil {
			return err
		}
		if manner == 1 { // within a handshake
			_, _ = conn.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1})
		}
		return reset(conn)
	}
	conn, err := w.tunnel(ctx)
	if err != nil {
		return err
	}
	part := []string{
		"POST /big HTTP/1.1\r\nHost: " + inspectedName + "\r\nContent-Length: 1000000\r\n\r\nonly this",
		"GET /big HTTP/1.1\r\nHost: " + inspectedName + "\r\n\r\n", "GET /hel",
	}[manner-2]
	if _, err := io.WriteString(conn, part); err != nil {
		return errors.Join(err, conn.Close())
	}
	if manner == 3 {
		if _, err := io.ReadFull(conn, make([]byte, 1024)); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	return reset(conn.(*tls.Conn).NetConn())
}

// reset ends a connection without a word.
func reset(conn net.Conn) error {
	return errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close())
}
