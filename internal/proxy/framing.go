package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

const (
	maxHead      = 256 << 10 // bytes of one request line with its headers
	maxChunkLine = 4 << 10   // bytes of one chunk's size line or of one trailer line
	maxTrailers  = 64 << 10  // bytes of all trailers of a request
)

// refusedHead is handed to net/http in place of a head that is not let through: it answers 400 in its turn, after
// responses that are still being written, and closes.
var refusedHead = []byte("refused\r\n\r\n")

type phase int

const (
	inHead     phase = iota
	inLength         // n bytes of body are left
	inChunk          // n bytes of a chunk and its line end are left
	inSize           // a chunk's size line comes next
	inTrailers       // trailer lines come next, n bytes of them were seen
	inTunnel         // everything is passed
	atEnd            // nothing is passed any more
)

// strictConn stands below net/http's server and passes on only requests that can be read in one way: net/http
// accepts folded headers, bare line feeds, and Content-Length beside Transfer-Encoding. It follows the framing of
// each request, so that every head is checked, pipelined ones too.
type strictConn struct {
	net.Conn
	to      target                         // where requests lead; the zero value for the explicit proxy's own connections
	refused func(to target, reason string) // called at most once, for a request that never reached a handler

	buf    []byte // what one read of Conn fills
	in     []byte // read, not yet examined in full
	out    []byte // examined, not yet passed on
	phase  phase
	n      int64
	line   int    // inHead: where the line being read begins in in
	seen   int    // inHead: how much of in was searched
	whole  bool   // out ends with a head that was not yet counted as passed
	reason string // why a head was replaced by refusedHead

	mu      sync.Mutex
	passed  int // heads handed to net/http
	handled int // heads that reached a handler
	told    bool
	partial bool // a head was begun
}

func newStrictConn(conn net.Conn, to target, refused func(target, string)) *strictConn {
	return &strictConn{Conn: conn, to: to, refused: refused}
}

// Read gives net/http the bytes that were found good.
func (c *strictConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.out) == 0 {
		switch c.phase {
		case inLength, inChunk, inTunnel:
			return c.pass(p)
		case atEnd:
			return 0, io.EOF
		default:
			if err := c.advance(); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	if len(c.out) == 0 {
		c.drained()
	}
	return n, nil
}

// drained counts a head as passed on once all of it was. While a request is being served, net/http reads one byte
// ahead, which may be the next head's first: that says nothing yet about whether it is going to look at it.
func (c *strictConn) drained() {
	switch {
	case c.phase == atEnd:
		c.tell(c.reason)
	case c.whole:
		c.whole = false
		c.mark(func() { c.passed++ })
	}
}

// advance reads until the next head, size line or trailer line is whole.
func (c *strictConn) advance() error {
	switch c.phase {
	case inHead:
		return c.readHead()
	case inSize:
		return c.readSize()
	default:
		return c.readTrailer()
	}
}

// pass hands on bytes of a body or of a tunnel.
func (c *strictConn) pass(p []byte) (int, error) {
	if c.phase != inTunnel && int64(len(p)) > c.n {
		p = p[:c.n]
	}
	var n int
	var err error
	if len(c.in) > 0 {
		n = copy(p, c.in)
		c.consume(n)
	} else {
		n, err = c.Conn.Read(p)
	}
	if c.phase == inTunnel {
		return n, err
	}
	c.n -= int64(n)
	if c.n == 0 {
		c.phase = map[phase]phase{inLength: inHead, inChunk: inSize}[c.phase]
	}
	return n, err
}

func (c *strictConn) consume(n int) {
	c.in = c.in[n:]
	if len(c.in) == 0 {
		c.in = nil
	}
}

// fill reads more; a timeout leaves what was read for the next call, as net/http's background read needs.
func (c *strictConn) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, 4096)
	}
	n, err := c.Conn.Read(c.buf)
	if n > 0 {
		c.in = append(c.in, c.buf[:n]...)
		return nil
	}
	return err
}

func (c *strictConn) readHead() error {
	for {
		if len(c.in) > 0 {
			c.mark(func() { c.partial = true })
		}
		end, err := c.findHeadEnd()
		if err != nil {
			c.refuse(err.Error())
			return nil
		}
		if end > 0 {
			c.takeHead(end)
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// findHeadEnd looks for the empty line; 0 means that it has not come yet.
func (c *strictConn) findHeadEnd() (int, error) {
	for ; c.seen < len(c.in); c.seen++ {
		if c.seen >= maxHead {
			return 0, fmt.Errorf("the request's head is longer than %d bytes", maxHead)
		}
		if c.in[c.seen] != '\n' {
			continue
		}
		if c.seen == 0 || c.in[c.seen-1] != '\r' {
			return 0, errors.New("a line of the request ends without a carriage return")
		}
		if c.seen-c.line == 1 {
			return c.seen + 1, nil
		}
		c.line = c.seen + 1
	}
	return 0, nil
}

func (c *strictConn) takeHead(end int) {
	head := c.in[:end:end]
	f, err := checkHead(head)
	if err != nil {
		c.refuse(err.Error())
		return
	}
	c.out, c.phase, c.n = head, f.phase, f.length
	c.consume(end)
	c.line, c.seen = 0, 0
	c.whole = true
	c.mark(func() { c.partial = false })
}

func (c *strictConn) readLine(limit int) ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 && i < limit {
			line := c.in[: i+1 : i+1]
			c.consume(i + 1)
			return line, nil
		}
		if len(c.in) >= limit {
			return nil, errLongLine
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

var errLongLine = errors.New("a line of a chunked body is too long")

// readSize passes a chunk's size line. In a body a refusal can only be an error: net/http then ends the request.
func (c *strictConn) readSize() error {
	line, err := c.readLine(maxChunkLine)
	if err != nil {
		return c.broken(err)
	}
	digits, ok := strings.CutSuffix(string(line), "\r\n")
	digits, _, _ = strings.Cut(digits, ";")
	size, err := strconv.ParseUint(strings.TrimRight(digits, " \t"), 16, 62)
	if err != nil || !ok {
		return c.broken(errors.New("a chunk of the body has no valid size"))
	}
	c.out = line
	if size == 0 {
		c.phase, c.n = inTrailers, 0
	} else {
		c.phase, c.n = inChunk, int64(size)+2
	}
	return nil
}

func (c *strictConn) readTrailer() error {
	line, err := c.readLine(maxChunkLine)
	if err != nil {
		return c.broken(err)
	}
	c.n += int64(len(line))
	if c.n > maxTrailers || !bytes.HasSuffix(line, []byte("\r\n")) || line[0] == ' ' || line[0] == '\t' {
		return c.broken(errors.New("the trailers of the body are not valid"))
	}
	c.out = line
	if len(line) == 2 {
		c.phase, c.n = inHead, 0
	}
	return nil
}

// broken ends the connection for a body that cannot be followed; an error of the network is passed as it is.
func (c *strictConn) broken(err error) error {
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, io.EOF) {
		return err
	}
	c.phase = atEnd
	return err
}

func (c *strictConn) refuse(reason string) {
	c.out, c.phase, c.in = refusedHead, atEnd, nil
	c.reason = reason
	c.mark(func() { c.partial = true })
}

func (c *strictConn) mark(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// reached says that one more head has a handler, which answers for it from here on.
func (c *strictConn) reached() { c.mark(func() { c.handled++ }) }

func (c *strictConn) tell(reason string) {
	c.mu.Lock()
	told := c.told
	c.told = true
	c.mu.Unlock()
	if !told {
		c.refused(c.to, reason)
	}
}

// Close closes the connection. A head that no handler saw was refused by net/http, or was not answered any more.
func (c *strictConn) Close() error {
	c.mu.Lock()
	unseen, partial := c.passed > c.handled, c.partial
	c.mu.Unlock()
	switch {
	case unseen:
		c.tell("the request is not valid HTTP")
	case partial:
		c.tell("the connection ended before a request's head was whole, or valid")
	}
	return c.Conn.Close()
}

// CloseWrite lets net/http's last words arrive before the connection ends.
func (c *strictConn) CloseWrite() error { return closeWrite(c.Conn) }

// framing is what follows a head: its phase, and for inLength the bytes of body.
type framing struct {
	phase  phase
	length int64
}

// checkHead reads a head that ends with its empty line, every line ending with CRLF.
func checkHead(head []byte) (framing, error) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	method, authority, proto, err := checkRequestLine(lines[0])
	if err != nil {
		return framing{}, err
	}
	h := headFields{}
	for _, line := range lines[1:] {
		if err := h.add(line); err != nil {
			return framing{}, err
		}
	}
	if authority != "" && h.hosts == 1 && !sameAuthority(authority, h.host) {
		return framing{}, errors.New("the request names one host in its target and another in its Host header")
	}
	return h.framing(method, proto)
}

// sameAuthority compares what an http:// target and a Host header name; clients leave the default port out of either.
func sameAuthority(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, ":80"), strings.TrimSuffix(b, ":80"))
}

// checkRequestLine gives the authority of an absolute-form target, else "".
func checkRequestLine(line string) (method, authority, proto string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[1] == "" {
		return "", "", "", errors.New("the request line is not valid")
	}
	if strings.IndexFunc(parts[1], isControl) >= 0 {
		return "", "", "", errors.New("the request's target holds a control character")
	}
	if parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return "", "", "", errors.New("the request is not HTTP/1.1")
	}
	if !isTarget(parts[0], parts[1]) {
		return "", "", "", errors.New("the request's target is neither a path nor a URL")
	}
	if _, rest, ok := strings.Cut(parts[1], "://"); ok && parts[1][0] != '/' {
		authority, _, _ = strings.Cut(rest, "/")
		authority, _, _ = strings.Cut(authority, "?")
	}
	return parts[0], authority, parts[2], nil
}

// isTarget reports whether a target has one of the forms of RFC 9112 for its method. net/http takes "https:x/y" too,
// as a URL without a path.
func isTarget(method, target string) bool {
	scheme, rest, isURL := strings.Cut(target, "://")
	switch {
	case method == "CONNECT":
		return true // an authority, which is judged as a name
	case target == "*":
		return method == "OPTIONS"
	case target[0] == '/':
		return true
	}
	isURL = isURL && rest != "" && !strings.ContainsAny(rest[:1], "/?#")
	return isURL && strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// headFields is what framing depends on.
type headFields struct {
	host       string
	hosts      int
	lengths    []string
	codings    []string
	upgrade    bool // Upgrade: websocket
	connection bool // Connection: upgrade
}

func (h *headFields) add(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return errors.New("a header line is folded or has no valid name")
	}
	value = strings.Trim(value, " \t")
	if strings.IndexFunc(value, func(r rune) bool { return r != '\t' && isControl(r) }) >= 0 {
		return errors.New("a header value holds a control character")
	}
	switch strings.ToLower(name) {
	case "host":
		h.host = value
		h.hosts++
	case "content-length":
		h.lengths = append(h.lengths, value)
	case "transfer-encoding":
		h.codings = append(h.codings, value)
	case "upgrade":
		h.upgrade = h.upgrade || hasToken(value, "websocket")
	case "connection":
		h.connection = h.connection || hasToken(value, "upgrade")
	}
	return nil
}

func (h *headFields) framing(method, proto string) (framing, error) {
	switch {
	case h.hosts > 1:
		return framing{}, errors.New("the request has more than one Host header")
	case len(h.lengths) > 1:
		return framing{}, errors.New("the request has more than one Content-Length header")
	case len(h.lengths) > 0 && len(h.codings) > 0:
		return framing{}, errors.New("the request has Content-Length beside Transfer-Encoding")
	case len(h.codings) > 0:
		return h.chunked(method, proto)
	}
	length, err := h.length()
	if err != nil {
		return framing{}, err
	}
	if tunnel := method == "CONNECT" || h.upgrade && h.connection; tunnel {
		if length > 0 {
			return framing{}, errors.New("a request that asks for a tunnel has a body")
		}
		return framing{phase: inTunnel}, nil
	}
	if length == 0 {
		return framing{phase: inHead}, nil
	}
	return framing{phase: inLength, length: length}, nil
}

func (h *headFields) chunked(method, proto string) (framing, error) {
	if len(h.codings) > 1 || !strings.EqualFold(h.codings[0], "chunked") || proto != "HTTP/1.1" {
		return framing{}, errors.New("the request's Transfer-Encoding is not chunked")
	}
	if method == "CONNECT" || h.upgrade && h.connection {
		return framing{}, errors.New("a request that asks for a tunnel has a body")
	}
	return framing{phase: inSize}, nil
}

func (h *headFields) length() (int64, error) {
	if len(h.lengths) == 0 {
		return 0, nil
	}
	digits := h.lengths[0]
	length, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.Trim(digits, "0123456789") != "" {
		return 0, errors.New("the request's Content-Length is not a number")
	}
	return length, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0
}

// hasToken reports whether a comma-separated header value lists a token.
func hasToken(value, token string) bool {
	for part := range strings.SplitSeq(value, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), token) {
			return true
		}
	}
	return false
}
