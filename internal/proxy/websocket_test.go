package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // for clients that ask for it
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"agentbox/internal/scrub"
	"agentbox/internal/secrets"
)

// frame is one frame as a server sends it.
func frame(first byte, payload string) string {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	return string(out) + payload
}

const (
	wsText, wsBinary, wsMore, wsPing, wsClose = 0x81, 0x82, 0x00, 0x89, 0x88
	wsBegin, wsLast                           = 0x01, 0x80
)

// throughFrames passes bytes through in pieces of a size.
func throughFrames(t testing.TB, raw string, size int, releases bool) (string, error) {
	t.Helper()
	set := scrub.New([]scrub.Pair{{Value: realValue, Placeholder: strings.Repeat("P", len(realValue)+9)}})
	f := newFrames(func() *scrub.Set { return set })
	var out bytes.Buffer
	for len(raw) > 0 {
		n := min(size, len(raw))
		got, err := f.take([]byte(raw[:n]))
		if err != nil {
			return out.String(), err
		}
		out.Write(got)
		if releases {
			out.Write(f.Release())
		}
		raw = raw[n:]
	}
	out.Write(f.end())
	return out.String(), nil
}

func TestFramesKeepTheirForm(t *testing.T) {
	p := strings.Repeat("P", len(realValue))
	long := strings.Repeat("g", 70_000)
	for name, tc := range map[string]struct{ raw, want string }{
		"none":            {frame(wsText, "hello") + frame(wsPing, "") + frame(wsText, "") + frame(wsClose, "\x03\xe8bye"), ""},
		"text":            {frame(wsText, "it is "+realValue+"!"), frame(wsText, "it is "+p+"!")},
		"binary, long":    {frame(wsBinary, long+realValue+long), frame(wsBinary, long+p+long)},
		"middle":          {frame(wsText, strings.Repeat("x", 200)+realValue), frame(wsText, strings.Repeat("x", 200)+p)},
		"control":         {frame(wsPing, realValue) + frame(wsClose, "\x03\xe8"+realValue), frame(wsPing, p) + frame(wsClose, "\x03\xe8"+p)},
		"across frames":   {frame(wsBegin, "a "+realValue[:20]) + frame(wsLast, realValue[20:]+" b"), frame(wsBegin, "a "+p[:20]) + frame(wsLast, p[20:]+" b")},
		"around a ping":   {frame(wsBegin, realValue[:20]) + frame(wsPing, "1") + frame(wsPing, "") + frame(wsMore, realValue[20:25]) + frame(wsMore, "") + frame(wsLast, realValue[25:]), frame(wsBegin, p[:20]) + frame(wsPing, "1") + frame(wsPing, "") + frame(wsMore, p[20:25]) + frame(wsMore, "") + frame(wsLast, p[25:])},
		"nearly":          {frame(wsBegin, realValue[:20]) + frame(wsPing, "1") + frame(wsLast, "no") + frame(wsText, realValue[:39]), ""},
		"across messages": {frame(wsText, realValue[:5]) + frame(wsText, realValue[5:]), frame(wsText, realValue[:5]) + frame(wsText, p[5:])},
		"cut":             {frame(wsText, "hello")[:4] + "", ""},
		"cut in a head":   {frame(wsText, "hello") + "\x81", ""},
	} {
		want := tc.want
		if want == "" {
			want = tc.raw
		}
		for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			for _, releases := range []bool{false, true} {
				if releases && name != "text" && name != "none" {
					continue // what is released is another part of the value each time
				}
				got, err := throughFrames(t, tc.raw, size, releases)
				if releases {
					got = strings.ReplaceAll(got, "ghp_Zq8", p[:7])
				}
				if err != nil || got != want && !releases || len(got) != len(want) || holds(got) {
					t.Errorf("%s in pieces of %d: %v\n got %.200q\nwant %.200q", name, size, err, got, want)
				}
			}
		}
	}
}

func TestFramesThatBreakTheProtocol(t *testing.T) {
	for name, raw := range map[string]string{
		"compressed":         frame(0xC1, "hello"),
		"masked":             "\x81\x85abcdhello",
		"a kind of its own":  frame(0x83, "hello"),
		"another control":    frame(0x8B, "hello"),
		"a long ping":        frame(wsPing, strings.Repeat("x", 126)),
		"a ping in parts":    frame(0x09, "x"),
		"a length below 0":   "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"pings without end":  frame(wsBegin, realValue[:20]) + strings.Repeat(frame(wsPing, strings.Repeat("x", 125)), 600),
		"no end of no frame": strings.Repeat(frame(wsText, "x"), 10) + "\xff\x01x",
	} {
		if out, err := throughFrames(t, raw, 4096, false); err != errFrames {
			t.Errorf("%s: %v after %d bytes", name, err, len(out))
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(wsBegin, "a "+realValue[:20])+frame(wsPing, "1")+frame(wsLast, realValue[20:]+" b")), uint8(3))
	f.Add([]byte(frame(wsText, realValue)+frame(wsBinary, strings.Repeat("x", 300))), uint8(1))
	f.Add([]byte("\x81\xff"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, size uint8) {
		whole, err := throughFrames(t, string(raw), len(raw)+1, false)
		pieces, pieced := throughFrames(t, string(raw), int(size)+1, false)
		switch {
		case (err == nil) != (pieced == nil):
			t.Fatalf("as a whole %v, in pieces %v", err, pieced)
		case err == nil && (whole != pieces || len(whole) != len(raw)):
			t.Fatalf("%q became\n%q as a whole and\n%q in pieces", raw, whole, pieces)
		}
	})
}

// socketServer answers WebSocket handshakes, then sends what it is told to, with TOKEN for the credential that came.
func socketServer(extensions, say string, heads chan<- http.Header) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heads <- r.Header.Clone()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Echo: %s\r\n%s\r\n", r.Header.Get("Authorization"), extensions)
		_, _ = io.WriteString(conn, say)
		_, _ = conn.Read(make([]byte, 1))
	})
}

func upgrade(l *lab, broker *secrets.Broker, host string) string {
	conn := l.tunnel(host+":443", host)
	if _, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"+
		map[bool]string{true: "Authorization: Bearer " + broker.Placeholder("mine") + "\r\n"}[host == "good.test"]+"\r\n"); err != nil {
		l.t.Error(err)
	}
	in := bufio.NewReader(conn)
	var out strings.Builder
	for !strings.HasSuffix(out.String(), "END") && !strings.HasSuffix(out.String(), "}\n") {
		b, err := in.ReadByte()
		if err != nil {
			break
		}
		out.WriteByte(b)
	}
	return out.String()
}

func TestWebSocketHoldsNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	p := broker.Placeholder("mine")
	heads := make(chan http.Header, 1)
	l := newLab(t, socketServer("", frame(wsBegin, "it is "+realValue[:9])+frame(wsPing, "")+frame(wsLast, realValue[9:])+frame(wsText, "END"), heads), withKey)
	answer := upgrade(l, broker, "good.test")
	if !strings.HasPrefix(answer, "HTTP/1.1 101 ") || holds(answer) || !strings.Contains(answer, "X-Echo: Bearer "+p+"\r\n") ||
		!strings.HasSuffix(answer, frame(wsBegin, "it is "+p[:9])+frame(wsPing, "")+frame(wsLast, p[9:len(realValue)])+frame(wsText, "END")) {
		t.Errorf("the answer is %q", answer)
	}
	if h := <-heads; h.Get("Sec-Websocket-Extensions") != "" || h.Get("Authorization") != "Bearer "+realValue {
		t.Errorf("the server saw %v", h)
	}
}

func TestWebSocketsThatCannotBeRead(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	heads := make(chan http.Header, 2)
	extended := "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	l := newLab(t, socketServer(extended, frame(0xC1, "packed")+"END", heads), withKey)
	if answer := upgrade(l, broker, "good.test"); !strings.HasPrefix(answer, "HTTP/1.1 502 ") || strings.Contains(answer, "packed") || holds(answer) {
		t.Errorf("compression that was not asked for: %q", answer)
	}
	if answer := upgrade(l, broker, "x.wild.test"); !strings.Contains(answer, "packed") {
		t.Errorf("of a host without a credential: %q", answer)
	}
	<-heads
	if h := <-heads; h.Get("Sec-Websocket-Extensions") != "permessage-deflate" {
		t.Errorf("the server without a credential saw %v", h)
	}
	broken := newLab(t, socketServer("", frame(0xC1, "packed")+"END", heads), withKey)
	if answer := upgrade(broken, broker, "good.test"); !strings.HasPrefix(answer, "HTTP/1.1 101 ") || strings.Contains(answer, "packed") {
		t.Errorf("frames that break the protocol: %q", answer)
	}
	events := broken.log.await(t, 3)
	if last := events[len(events)-1]; !strings.Contains(last.Reason, "breaks the protocol") {
		t.Errorf("the event is %+v", last)
	}
}

// tellingService answers with the credential that came, in each place that gRPC has.
func tellingService() *grpc.ServiceDesc {
	sent := func(ctx context.Context) string {
		md, _ := metadata.FromIncomingContext(ctx)
		return strings.Join(md.Get("authorization"), "")
	}
	return &grpc.ServiceDesc{ServiceName: "tell", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Once", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var s string
			if err := decode(&s); err != nil {
				return nil, err
			}
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-before", sent(ctx), "x-before-bin", sent(ctx)))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-behind", sent(ctx)))
			if s == "fail" {
				return nil, status.Error(codes.DataLoss, "50% of "+sent(ctx))
			}
			s = "it is " + sent(ctx) + ", and more"
			return &s, nil
		},
	}}}
}

func TestGRPCHoldsNoValue(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	p := broker.Placeholder("mine")
	l := newLab(t, nil, withKey, func(c *Config) {
		a := newAuthority(t)
		c.ExtraRoots = append(c.ExtraRoots, a.pem()...)
		cert := a.issue(t, time.Now().Add(time.Hour), "good.test")
		c.Fixed[mustHost(t, "good.test")] = grpcServerOf(t, &cert, tellingService())
	})
	conn := l.grpcClient("good.test:443", l.roots)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+p)
	for _, in := range []string{"ok", "fail"} {
		out := ""
		var header, trailer metadata.MD
		err := conn.Invoke(ctx, "/tell/Once", &in, &out, grpc.Header(&header), grpc.Trailer(&trailer))
		all := fmt.Sprint(out, header, trailer, err)
		if holds(all) || !strings.Contains(all, "x-behind:[Bearer "+p+"]") {
			t.Errorf("%s: %s", in, all)
		}
		want := "it is Bearer " + p[:len(realValue)] + ", and more"
		if in == "ok" && (err != nil || out != want) || in == "fail" && (status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "50% of Bearer "+p) {
			t.Errorf("%s: %q, %v", in, out, err)
		}
	}
	in, out := strings.Repeat("ok ", 100), ""
	err := conn.Invoke(ctx, "/tell/Once", &in, &out, grpc.UseCompressor("gzip")) // then this server compresses its answer too
	if err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a compressed message: %q, %v", out, err)
	}
}

// A server that closes leaves nothing behind, and one that goes on after the client left is closed.
func TestWebSocketEnds(t *testing.T) {
	withKey, broker := keyed(t, "ghp_")
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+frame(wsBegin, "a "+r.Header.Get("Authorization")[:30]))
		_ = conn.Close()
	}), withKey)
	if answer := upgrade(l, broker, "good.test"); !strings.HasSuffix(answer, frame(wsBegin, "a Bearer "+realValue[:23])) {
		t.Errorf("what was held did not come with the end: %q", answer)
	}
}
