package proxy

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	maxHead   = 256 << 10 // bytes of one request line with its headers
	maxFields = 1024      // header lines of one request
)

// phase says what of a body comes next.
type phase int

const (
	atEnd      phase = iota // nothing
	inLength                // n bytes
	inSize                  // a chunk's size line
	inChunk                 // n bytes of a chunk and its line end
	inTrailers              // trailer lines
)

// framing is what follows a head.
type framing struct {
	phase  phase
	length int64 // of the body, for inLength
	last   bool  // no request comes after this one
	expect bool  // the client waits for a 100 before it sends the body
}

// parseHead reads a head that ends with its empty line, every line ending with CRLF, in the one way in which it can be
// read: what is ambiguous is an error. Names and values share raw's memory.
func parseHead(raw string) (*http.Request, framing, error) {
	line, rest := cutLine(raw)
	method, target, proto, err := requestLine(line)
	if err != nil {
		return nil, framing{}, err
	}
	f := fields{header: make(http.Header, 8)}
	for rest != "" {
		if line, rest = cutLine(rest); line == "" {
			break
		}
		if err := f.add(line); err != nil {
			return nil, framing{}, err
		}
	}
	req := &http.Request{Method: method, RequestURI: target, Header: f.header, Proto: proto, ProtoMajor: 1, ProtoMinor: int(proto[len(proto)-1] - '0')}
	if err := f.address(req); err != nil {
		return nil, framing{}, err
	}
	frame, err := f.framing(req)
	return req, frame, err
}

// cutLine gives the first line of s without its end, and what follows it.
func cutLine(s string) (line, rest string) {
	i := strings.IndexByte(s, '\n')
	return s[:i-1], s[i+1:]
}

func requestLine(line string) (method, target, proto string, err error) {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, _ = strings.Cut(rest, " ")
	switch {
	case !isToken(method) || target == "":
		err = errors.New("the request line is not valid")
	case hasControl(target):
		err = errors.New("the request's target holds a control character")
	case proto != "HTTP/1.1" && proto != "HTTP/1.0":
		err = errors.New("the request is not HTTP/1.1")
	case !isTarget(method, target):
		err = errors.New("the request's target is neither a path nor a URL")
	}
	return method, target, proto, err
}

// isTarget reports whether a target has one of the forms of RFC 9112 for its method. net/url takes "https:x/y" too,
// as a URL without a path.
func isTarget(method, target string) bool {
	switch {
	case method == http.MethodConnect:
		return true // an authority, which is judged as a name
	case target == "*":
		return method == http.MethodOptions
	case target[0] == '/':
		return true
	}
	scheme, rest, isURL := strings.Cut(target, "://")
	isURL = isURL && rest != "" && !strings.ContainsAny(rest[:1], "/?#")
	return isURL && strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// fields is a head's header, with what framing depends on apart.
type fields struct {
	header  http.Header
	host    string
	hosts   int
	lengths int
	codings int
	count   int
}

func (f *fields) add(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return errors.New("a header line is folded or has no valid name")
	}
	value = strings.Trim(value, " \t")
	if strings.IndexFunc(value, func(r rune) bool { return r != '\t' && isControl(r) }) >= 0 {
		return errors.New("a header value holds a control character")
	}
	if f.count++; f.count > maxFields {
		return errors.New("the request has too many header lines")
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	switch name {
	case "Host":
		f.host = value
		f.hosts++
		return nil
	case "Content-Length":
		f.lengths++
	case "Transfer-Encoding":
		f.codings++
	}
	f.header[name] = append(f.header[name], value)
	return nil
}

// address fills in where the request leads.
func (f *fields) address(req *http.Request) (err error) {
	switch {
	case f.hosts > 1:
		return errors.New("the request has more than one Host header")
	case f.hosts == 0 && req.ProtoMinor == 1:
		return errors.New("the request has no Host header")
	case !httpguts.ValidHostHeader(f.host):
		return errors.New("the request's Host header is not valid")
	}
	authority := req.Method == http.MethodConnect && req.RequestURI[0] != '/'
	text := req.RequestURI
	if authority {
		text = "http://" + text
	}
	if req.URL, err = url.ParseRequestURI(text); err != nil {
		return errors.New("the request's target is not a valid URL")
	}
	if authority {
		req.URL.Scheme = ""
	}
	req.Host = f.host
	if req.URL.Host != "" {
		if !authority && f.hosts == 1 && !sameAuthority(req.RequestURI, f.host) {
			return errors.New("the request names one host in its target and another in its Host header")
		}
		req.Host = req.URL.Host
	}
	return nil
}

// sameAuthority compares what a URL and a Host header name, as they are written; clients leave the default port out of
// either.
func sameAuthority(target, host string) bool {
	_, named, _ := strings.Cut(target, "://")
	if i := strings.IndexAny(named, "/?"); i >= 0 {
		named = named[:i]
	}
	return strings.EqualFold(strings.TrimSuffix(named, ":80"), strings.TrimSuffix(host, ":80"))
}

// framing says what follows the head, and tells the request.
func (f *fields) framing(req *http.Request) (framing, error) {
	frame := framing{last: req.ProtoMinor == 0 || lists(req.Header, "Connection", "close")}
	switch {
	case f.lengths > 1:
		return frame, errors.New("the request has more than one Content-Length header")
	case f.lengths > 0 && f.codings > 0:
		return frame, errors.New("the request has Content-Length beside Transfer-Encoding")
	}
	if err := f.measure(req, &frame); err != nil {
		return frame, err
	}
	if frame.phase == atEnd {
		req.Body = http.NoBody
		return frame, nil
	}
	if req.Method == http.MethodConnect || isWebSocket(req.Header) {
		return frame, errors.New("a request that asks for a tunnel has a body")
	}
	frame.expect = req.ProtoMinor == 1 && lists(req.Header, "Expect", "100-continue")
	return frame, nil
}

func (f *fields) measure(req *http.Request, frame *framing) error {
	if f.codings > 0 {
		if f.codings > 1 || !strings.EqualFold(req.Header["Transfer-Encoding"][0], "chunked") || req.ProtoMinor != 1 {
			return errors.New("the request's Transfer-Encoding is not chunked")
		}
		frame.phase = inSize
		req.ContentLength, req.TransferEncoding = -1, []string{"chunked"}
		delete(req.Header, "Transfer-Encoding")
		req.Trailer = announced(req.Header)
		return nil
	}
	if f.lengths == 0 {
		return nil
	}
	digits := req.Header["Content-Length"][0]
	length, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.Trim(digits, "0123456789") != "" {
		return errors.New("the request's Content-Length is not a number")
	}
	if length > 0 {
		frame.phase, frame.length, req.ContentLength = inLength, length, length
	}
	return nil
}

// announced gives the trailers that a header announces, without values.
func announced(h http.Header) http.Header {
	var trailer http.Header
	for _, value := range h["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if !mayTrail(name) {
				continue
			}
			if trailer == nil {
				trailer = http.Header{}
			}
			trailer[name] = nil
		}
	}
	return trailer
}

// mayTrail reports whether a field may stand behind a body: nothing that frames, routes or identifies the message.
func mayTrail(name string) bool {
	switch name {
	case "Host", "Authorization", "Cookie", "Set-Cookie", "Content-Type", "Content-Encoding", "Content-Range":
		return false
	}
	return isToken(name) && httpguts.ValidTrailerHeader(name) && !strings.HasPrefix(name, "Proxy-")
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func hasControl(s string) bool { return strings.IndexFunc(s, isControl) >= 0 }

func isToken(s string) bool {
	for i := range len(s) {
		if !httpguts.IsTokenRune(rune(s[i])) {
			return false
		}
	}
	return s != ""
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

// lists reports whether one of a header's values lists a token.
func lists(h http.Header, name, token string) bool {
	for _, value := range h[name] {
		if hasToken(value, token) {
			return true
		}
	}
	return false
}

func isWebSocket(h http.Header) bool {
	return lists(h, "Connection", "upgrade") && lists(h, "Upgrade", "websocket")
}
