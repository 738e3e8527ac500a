package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agentbox/internal/scrub"
)

// inPieces gives data in pieces of these lengths, one after the other, again and again.
type inPieces struct {
	data    []byte
	lengths []byte
	n       int
}

func (r *inPieces) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	most := len(r.data)
	if len(r.lengths) > 0 {
		most = 1 + int(r.lengths[r.n%len(r.lengths)])
		r.n++
	}
	n := copy(p, r.data[:min(most, len(r.data))])
	r.data = r.data[n:]
	return n, nil
}

// flushed codes text in blocks that end anywhere: a server sends each when it likes.
func flushed(t testing.TB, coding string, text, lengths []byte) []byte {
	t.Helper()
	var out answerBuffer
	w, flush := streaming(&out, coding)
	pieces := &inPieces{data: bytes.Clone(text), lengths: lengths}
	buf := make([]byte, 256)
	for {
		n, err := pieces.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if _, err := w.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
		flush()
	}
	if c, ok := w.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// answerBuffer is a ResponseWriter for what streaming writes.
type answerBuffer struct{ bytes.Buffer }

func (*answerBuffer) Header() http.Header { return http.Header{} }
func (*answerBuffer) WriteHeader(int)     {}
func (*answerBuffer) Flush()              {}

// FuzzCodings has texts in which bytes from 0x80 on stand for forms of a value, coded in blocks that end anywhere, in one
// coding or in one around the other, and read in pieces that end anywhere.
func FuzzCodings(f *testing.F) {
	const placeholder = "ghp_agbx0PhstR4vWxYaB2cD3eF5gH6iJ7kQL9012"
	raw := hex.EncodeToString([]byte(realValue))
	forms := []string{realValue, raw, strings.ToUpper(raw), url.QueryEscape(realValue), strings.ReplaceAll(realValue, "/", `\/`),
		base64.StdEncoding.EncodeToString([]byte("x:" + realValue)), base64.StdEncoding.EncodeToString([]byte("me:" + realValue)), realValue[:20]}
	codings := []string{"gzip", "deflate", "br", "zstd"}
	set := scrub.New([]scrub.Pair{{Value: realValue, Placeholder: placeholder}})
	f.Fuzz(func(t *testing.T, drawn, blocks, pieces []byte, outer, inner uint8) {
		var text []byte
		for _, b := range drawn[:min(len(drawn), 512)] {
			if b < 0x80 {
				text = append(text, b)
			} else {
				text = append(text, forms[int(b)%len(forms)]...)
			}
		}
		names := []string{codings[int(inner)%len(codings)]}
		coded := flushed(t, names[0], text, blocks)
		if outer >= 0x80 {
			names = append(names, codings[int(outer)%len(codings)])
			coded = flushed(t, names[1], coded, pieces)
		}
		resp := &http.Response{Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(&inPieces{data: coded, lengths: pieces})}
		p := &Proxy{}
		p.decode(resp, names)
		got := scrubAll(t, resp.Body, scrub.NewStream(func() *scrub.Set { return set }, inner >= 0x80))
		whole := scrub.NewStream(func() *scrub.Set { return set }, inner >= 0x80)
		want := string(whole.Next(bytes.Clone(text)))
		if want += string(whole.End()); got != want {
			t.Fatalf("%v of %q in blocks of %v, read in pieces of %v:\n got %q\nwant %q", names, text, blocks, pieces, got, want)
		}
		if holds(got) {
			t.Fatalf("the value is in %q", got)
		}
		if err := resp.Body.Close(); err != nil || p.opened.Load() != 0 {
			t.Fatalf("%d codings are left open, %v", p.opened.Load(), err)
		}
	})
}

// scrubAll reads to the end, as answers are read.
func scrubAll(t *testing.T, from io.Reader, s *scrub.Stream) string {
	t.Helper()
	var out bytes.Buffer
	buf := make([]byte, 100)
	for {
		n, err := from.Read(buf)
		out.Write(s.Next(buf[:n]))
		if errors.Is(err, io.EOF) {
			out.Write(s.End())
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
