//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// patience bounds every connection of the client, so that a proxy that hangs shows as errors.
const patience = 30 * time.Second

// client speaks HTTP/1.1 on one connection with as little work of its own as can be, so that what is measured is the
// way between it and the server.
type client struct {
	conn  net.Conn
	in    *bufio.Reader
	small []byte // the whole request
	way   way
}

func dial(ctx context.Context, w way, config *tls.Config) (*client, error) {
	conn, err := open(ctx, w, config)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, blockSize), way: w}
	c.small = c.request(smallPath)
	return c, nil
}

// open gives a connection to the server, in TLS.
func open(ctx context.Context, w way, config *tls.Config) (*tls.Conn, error) {
	to := w.Authority
	if w.Proxy != "" {
		to = w.Proxy
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp4", to)
	if err != nil {
		return nil, err
	}
	conn, err := secure(ctx, raw, w, config)
	if err != nil {
		_ = raw.Close()
	}
	return conn, err
}

func secure(ctx context.Context, raw net.Conn, w way, config *tls.Config) (*tls.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if w.Proxy != "" {
		if err := connect(raw, w.Authority); err != nil {
			return nil, err
		}
	}
	conn := tls.Client(raw, config)
	return conn, conn.HandshakeContext(ctx)
}

func connect(raw net.Conn, authority string) error {
	if _, err := io.WriteString(raw, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n"); err != nil {
		return err
	}
	// Nothing comes before the client speaks TLS, so a reader of its own takes nothing that belongs to TLS.
	in := bufio.NewReader(raw)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 || line[9:12] != "200" {
		return fmt.Errorf("CONNECT %s: the answer is %q", authority, line)
	}
	for len(line) > 2 {
		if line, err = in.ReadString('\n'); err != nil {
			return err
		}
	}
	if in.Buffered() > 0 {
		return errors.New("the proxy speaks before the client does")
	}
	return nil
}

func (c *client) request(path string) []byte {
	// The port is left out: the proxies that look names up are told the server's own port by CONNECT.
	host := c.way.Name
	if _, port, err := net.SplitHostPort(c.way.Authority); err == nil && port != "443" && c.way.Proxy != "" {
		host = net.JoinHostPort(host, port)
	}
	line := c.way.Header
	if line == "" {
		line = "Authorization: Bearer bench-0123456789abcdef0123456789abcdef0123456789abcdef"
	}
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: proxybench/1\r\nAccept: application/json\r\n" + line + "\r\n\r\n")
}

var errBody = errors.New("the body is not what the server sent")

// once asks for the small answer and checks it.
func (c *client) once(want []byte) error {
	if _, err := c.conn.Write(c.small); err != nil {
		return err
	}
	length, err := c.head()
	if err != nil {
		return err
	}
	if length < 0 {
		return c.chunks(func(part []byte, at int) bool { return bytes.Equal(part, want[at:at+len(part)]) }, len(want))
	}
	body, err := c.in.Peek(length)
	if err != nil {
		return err
	}
	if !bytes.Equal(body, want) {
		return errBody
	}
	_, err = c.in.Discard(length)
	return err
}

var (
	lengthName   = []byte("content-length:")
	encodingName = []byte("transfer-encoding:")
)

// head reads an answer's head and gives the length of its body, -1 for one in chunks.
func (c *client) head() (length int, err error) {
	length = -1
	chunked := false
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || string(line[9:12]) != "200" {
		return 0, fmt.Errorf("the answer is %q", line)
	}
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if rest, ok := field(line, lengthName); ok {
			if length, err = strconv.Atoi(string(rest)); err != nil {
				return 0, err
			}
		}
		if _, ok := field(line, encodingName); ok {
			chunked = true
		}
	}
	if length < 0 && !chunked {
		return 0, errors.New("the answer tells no length")
	}
	return length, nil
}

func field(line, name []byte) (value []byte, ok bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

// chunks reads a body in chunks, of which same tells whether a part that begins at an offset is right.
func (c *client) chunks(same func(part []byte, at int) bool, want int) error {
	at := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if at+int(size) > want {
			return errBody
		}
		if err := c.exactly(int(size), at, same); err != nil {
			return err
		}
		if _, err := c.in.Discard(2); err != nil {
			return err
		}
		at += int(size)
		if size == 0 {
			break
		}
	}
	if at != want {
		return errBody
	}
	return nil
}

// exactly reads and checks n bytes of a body that begin at an offset.
func (c *client) exactly(n, at int, same func([]byte, int) bool) error {
	for end := at + n; at < end; {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		part, err := c.in.Peek(min(c.in.Buffered(), end-at))
		if err != nil {
			return err
		}
		if !same(part, at) {
			return errBody
		}
		if _, err := c.in.Discard(len(part)); err != nil {
			return err
		}
		at += len(part)
	}
	return nil
}

// big asks for the big answer and checks every byte of it.
func (c *client) big(pattern []byte) error {
	if _, err := c.conn.Write(c.request(bigPath)); err != nil {
		return err
	}
	length, err := c.head()
	if err != nil {
		return err
	}
	same := func(part []byte, at int) bool {
		at %= blockSize
		return bytes.Equal(part, pattern[at:at+len(part)])
	}
	if length < 0 {
		return c.chunks(same, bigSize)
	}
	if length != bigSize {
		return errBody
	}
	return c.exactly(length, 0, same)
}

// stream opens an answer without an end and waits for its first event.
func (c *client) stream() error {
	if _, err := c.conn.Write(c.request(streamPath)); err != nil {
		return err
	}
	if _, err := c.head(); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("data:")) {
			return nil
		}
	}
}

func (c *client) close() { _ = c.conn.Close() }
