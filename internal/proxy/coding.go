package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	maxCodings = 4       // of one answer, one around the other
	maxOpened  = 128     // codings that are read at once, over all answers: each has a window in memory
	maxWindow  = 8 << 20 // of zstd, as RFC 9659 bounds it
	identity   = "identity"
)

// decoders begin to read each coding that is known. They are called once something is there to be read.
var decoders = map[string]func(*bufio.Reader) (io.Reader, error){
	"gzip":    newMembers,
	"x-gzip":  newMembers,
	"deflate": newDeflate,
	"br":      func(r *bufio.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	"zstd": func(r *bufio.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	},
}

// readable keeps of an Accept-Encoding header what can be read here.
func readable(accepted []string) string {
	var kept []string
	for _, value := range accepted {
		for part := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(part, ";")
			if decoders[strings.ToLower(strings.TrimSpace(name))] != nil {
				kept = append(kept, strings.TrimSpace(part))
			}
		}
	}
	if len(kept) == 0 {
		return identity
	}
	return strings.Join(kept, ", ")
}

// codingsOf lists the codings of a body, the outermost last. False means that not all of them are known.
func codingsOf(h http.Header) (codings []string, ok bool) {
	for _, value := range h["Content-Encoding"] {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" || name == identity {
				continue
			}
			if decoders[name] == nil {
				return nil, false
			}
			codings = append(codings, name)
		}
	}
	return codings, len(codings) <= maxCodings
}

// decode has an answer's body read without its codings.
func (p *Proxy) decode(resp *http.Response, codings []string) {
	for _, coding := range slices.Backward(codings) {
		resp.Body = &decoded{under: resp.Body, begin: decoders[coding], proxy: p}
	}
	h := resp.Header
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Digest", "Content-Digest"} { // they are about the coded body
		delete(h, name)
	}
	if resp.ContentLength != 0 {
		delete(h, "Content-Length")
		resp.ContentLength = -1
	}
	for i, tag := range h["Etag"] {
		if strings.HasPrefix(tag, `"`) {
			h["Etag"][i] = "W/" + tag // these are other bytes
		}
	}
}

// decoded is a body without one of its codings. It gives what can be decoded of what has come.
type decoded struct {
	under io.ReadCloser
	begin func(*bufio.Reader) (io.Reader, error)
	proxy *Proxy

	in   *bufio.Reader
	out  io.Reader
	err  error
	once sync.Once
}

var errCodings = errors.New("too many compressed answers are read at once")

func (d *decoded) Read(p []byte) (int, error) {
	if d.err == nil && d.out == nil {
		d.err = d.open()
	}
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.out.Read(p)
	if errors.Is(err, io.EOF) { // what stands behind it is no part of it, but trailers come with the end
		if _, rest := io.Copy(io.Discard, d.in); rest != nil {
			err = rest
		}
	}
	d.err = err
	return n, err
}

func (d *decoded) open() error {
	if d.proxy.opened.Add(1) > maxOpened {
		d.proxy.opened.Add(-1)
		return errCodings
	}
	d.in = bufio.NewReaderSize(d.under, smallBuffer)
	_, err := d.in.Peek(1)
	if err == nil { // or it is empty, which is not coded at all
		d.out, err = d.begin(d.in)
	}
	if d.out == nil {
		d.proxy.opened.Add(-1)
	}
	return err
}

// Close frees what decoding took. Nobody reads meanwhile.
func (d *decoded) Close() error {
	d.once.Do(func() {
		if closer, ok := d.out.(interface{ Close() }); ok { // zstd's
			closer.Close()
		}
		if d.out != nil {
			d.proxy.opened.Add(-1)
		}
		if d.err == nil {
			d.err = http.ErrBodyReadAfterClose
		}
	})
	return d.under.Close()
}

// newDeflate reads deflate with the frame that it should have, and without it, as some servers send it.
func newDeflate(r *bufio.Reader) (io.Reader, error) {
	head, err := r.Peek(2)
	if err == nil && head[0]&0x0F == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(r)
	}
	return flate.NewReader(r), nil
}

// members reads gzip, one member after the other: what is left of one does not wait for the next.
type members struct {
	in  *bufio.Reader
	one *gzip.Reader
	end bool
}

func newMembers(r *bufio.Reader) (io.Reader, error) {
	one, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	one.Multistream(false)
	return &members{in: r, one: one}, nil
}

func (m *members) Read(p []byte) (int, error) {
	for {
		if m.end {
			if err := m.next(); err != nil {
				return 0, err
			}
		}
		n, err := m.one.Read(p)
		if m.end = errors.Is(err, io.EOF); m.end {
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next begins the next member. What is none is left unread, as everybody else does.
func (m *members) next() error {
	magic, err := m.in.Peek(2)
	if err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return io.EOF
	}
	if err := m.one.Reset(m.in); err != nil {
		return unexpected(err)
	}
	m.one.Multistream(false)
	m.end = false
	return nil
}
