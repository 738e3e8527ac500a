package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
)

const inputSize = 4 << 10

// input reads a connection ahead of what is asked for.
type input struct {
	conn net.Conn
	buf  []byte
	r, w int // what was read and not taken yet is buf[r:w]
}

func (in *input) ahead() []byte { return in.buf[in.r:in.w] }

func (in *input) take(n int) []byte {
	taken := in.buf[in.r : in.r+n]
	in.r += n
	return taken
}

// fill reads more, once. What was read stays when it fails.
func (in *input) fill() error {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
		if len(in.buf) != inputSize {
			in.buf = make([]byte, inputSize) // nothing keeps what a long head took
		}
	case in.w == len(in.buf) && in.r > 0:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	case in.w == len(in.buf):
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// Read gives what was read ahead, then what comes.
func (in *input) Read(p []byte) (int, error) {
	if in.r < in.w {
		n := copy(p, in.buf[in.r:in.w])
		in.r += n
		return n, nil
	}
	return in.conn.Read(p)
}

const maxMethod = 64 // bytes

// beginning looks at the first line of a connection's next request, before it is whole: clients of other protocols wait
// for an answer to what will never be a head. What is wrong with a line that names HTTP is said by parseHead. seen is how
// much was looked at before.
func beginning(ahead []byte, seen int) (whole, may bool) {
	line := ahead
	if i := bytes.IndexByte(ahead[seen:], '\n'); i >= 0 {
		line, whole = ahead[:seen+i], true
	}
	method, _, _ := bytes.Cut(line[:min(len(line), maxMethod+1)], []byte(" "))
	if len(method) == 0 || len(method) > maxMethod || !isLetter(method[0]) || !isToken(string(method)) {
		return whole, false
	}
	return whole, !whole || bytes.Contains(line, []byte(" HTTP/"))
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

var (
	errBareLF   = errors.New("a line of the request ends without a carriage return")
	errLongHead = fmt.Errorf("the request's head is longer than %d bytes", maxHead)
)

// headEnd looks for the empty line that ends a head. seen is how far an earlier call came; 0 means that it has not come.
func headEnd(ahead []byte, seen int) (end, searched int, err error) {
	for {
		i := bytes.IndexByte(ahead[seen:], '\n')
		if i < 0 {
			if len(ahead) > maxHead {
				return 0, 0, errLongHead
			}
			return 0, len(ahead), nil
		}
		at := seen + i
		switch {
		case at >= maxHead:
			return 0, 0, errLongHead
		case at == 0 || ahead[at-1] != '\r':
			return 0, 0, errBareLF
		case at == 1 || ahead[at-2] == '\n':
			return at + 1, 0, nil
		}
		seen = at + 1
	}
}

var errLongLine = errors.New("a line of a chunked body is too long")

// line takes one line, its end included, of at most limit bytes.
func (in *input) line(limit int) ([]byte, error) {
	for {
		ahead := in.ahead()
		i := bytes.IndexByte(ahead[:min(len(ahead), limit)], '\n')
		switch {
		case i >= 0:
			return in.take(i + 1), nil
		case len(ahead) >= limit:
			return nil, errLongLine
		}
		if err := in.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// unexpected is what an end means where more has to come.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
