package conformance

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// wsCase is one of Autobahn's: what the client sends, and what the server does. The numbers of the classes are
// Autobahn's own; what its fuzzing client sends, the server sends too, without masks.
type wsCase struct {
	id           string
	up, down     []byte
	chop         int    // bytes of a write; 0: all at once
	extensions   string // that both agree on
	serverCloses bool   // else the client does
}

func (c wsCase) send(to io.Writer, all []byte) error {
	step := c.chop
	if step == 0 {
		step = max(len(all), 1)
	}
	for at := 0; at < len(all); at += step {
		if _, err := to.Write(all[at:min(at+step, len(all))]); err != nil {
			return err
		}
	}
	return nil
}

// Opcodes of frames.
const (
	opContinue = 0
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10
)

// frame is one WebSocket frame. What would be against the protocol can be said: that is the point.
type frame struct {
	op      byte
	more    bool // FIN is not set
	rsv     byte // 1 to 7
	payload []byte
}

func (f frame) bytes(masked bool) []byte {
	first := f.op | f.rsv<<4
	if !f.more {
		first |= 0x80
	}
	out := []byte{first}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch n := len(f.payload); {
	case n < 126:
		out = append(out, mask|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, mask|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, mask|127), uint64(n))
	}
	if !masked {
		return append(out, f.payload...)
	}
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	out = append(out, key[:]...)
	for i, b := range f.payload {
		out = append(out, b^key[i&3])
	}
	return out
}

func caseOf(id string, frames ...frame) wsCase {
	c := wsCase{id: id}
	for _, f := range frames {
		c.up = append(c.up, f.bytes(true)...)
		c.down = append(c.down, f.bytes(false)...)
	}
	return c
}

func (c wsCase) chopped(n int) wsCase { c.chop = n; return c }

func (c wsCase) closedByServer() wsCase { c.serverCloses = true; return c }

func text(s string) frame   { return frame{op: opText, payload: []byte(s)} }
func blob(p []byte) frame   { return frame{op: opBinary, payload: p} }
func ping(p string) frame   { return frame{op: opPing, payload: []byte(p)} }
func pong(p string) frame   { return frame{op: opPong, payload: []byte(p)} }
func begin(s string) frame  { return frame{op: opText, more: true, payload: []byte(s)} }
func middle(s string) frame { return frame{op: opContinue, more: true, payload: []byte(s)} }
func last(s string) frame   { return frame{op: opContinue, payload: []byte(s)} }

func closing(code uint16, reason string) frame {
	return frame{op: opClose, payload: append(binary.BigEndian.AppendUint16(nil, code), reason...)}
}

// bye is how most cases end.
func bye() frame { return closing(1000, "") }

func allCases() (all []wsCase) {
	for _, class := range []func() []wsCase{framing, pings, reservedBits, opcodes, fragments, utf8s, closes, limits, deflated} {
		all = append(all, class()...)
	}
	return all
}

// noise is the same in each run.
func noise(n int) []byte {
	p := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(p)
	return p
}

func framing() (all []wsCase) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		all = append(all,
			caseOf(fmt.Sprintf("1.1.%d", i+1), text(strings.Repeat("*", n)), bye()),
			caseOf(fmt.Sprintf("1.2.%d", i+1), blob(bytes.Repeat([]byte{0xfe}, n)), bye()).closedByServer())
	}
	return append(all,
		caseOf("1.1.8", text(strings.Repeat("*", 65536)), bye()).chopped(997),
		caseOf("1.2.8", blob(bytes.Repeat([]byte{0xfe}, 65536)), bye()).chopped(997))
}

func pings() []wsCase {
	long := string(noise(125))
	ten := make([]frame, 0, 11)
	for i := range 10 {
		ten = append(ten, ping(fmt.Sprintf("payload-%d", i)))
	}
	ten = append(ten, bye())
	return []wsCase{
		caseOf("2.1", ping(""), bye()), caseOf("2.2", ping("Hello, world!"), bye()), caseOf("2.3", ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), bye()),
		caseOf("2.4", ping(long), bye()), caseOf("2.5", ping(long+"x"), bye()).closedByServer(), caseOf("2.6", ping(long), bye()).chopped(1),
		caseOf("2.7", pong(""), bye()), caseOf("2.8", pong("unsolicited"), bye()), caseOf("2.9", pong("unsolicited"), ping("ping"), bye()),
		caseOf("2.10", ten...), caseOf("2.11", ten...).chopped(1),
	}
}

func reservedBits() (all []wsCase) {
	for rsv := byte(1); rsv <= 7; rsv++ {
		odd := text("Hello, world!")
		odd.rsv = rsv
		c := caseOf(fmt.Sprintf("3.%d", rsv), text("Hello, world!"), odd, ping(""), bye())
		if rsv == 3 {
			c = c.chopped(1)
		}
		all = append(all, c.closedByServer())
	}
	return all
}

func opcodes() (all []wsCase) {
	for i, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		id := fmt.Sprintf("4.%d.%d", i/5+1, i%5+1)
		payload := []byte("reserved opcode payload")
		if i%5 == 0 {
			payload = nil
		}
		c := caseOf(id, text("Hello, world!"), frame{op: op, payload: payload}, ping(""))
		if i%5 == 4 {
			c = c.chopped(1)
		}
		all = append(all, c.closedByServer())
	}
	return all
}

func fragments() []wsCase {
	four := []frame{begin("fragment1"), ping("pongme 1!"), middle("fragment2"), middle("fragment3"), ping("pongme 2!"), middle("fragment4"), last("fragment5"), bye()}
	return []wsCase{
		caseOf("5.1", frame{op: opPing, more: true, payload: []byte("fragment1")}, last("fragment2")).closedByServer(),
		caseOf("5.2", frame{op: opPong, more: true, payload: []byte("fragment1")}, last("fragment2")).closedByServer(),
		caseOf("5.3", begin("fragment1"), last("fragment2"), bye()), caseOf("5.4", begin("fragment1"), last("fragment2"), bye()).chopped(9),
		caseOf("5.5", begin("fragment1"), last("fragment2"), bye()).chopped(1),
		caseOf("5.6", begin("fragment1"), ping("ping payload"), last("fragment2"), bye()),
		caseOf("5.7", begin("fragment1"), ping("ping payload"), last("fragment2"), bye()).chopped(9),
		caseOf("5.8", begin("fragment1"), ping("ping payload"), last("fragment2"), bye()).chopped(1),
		caseOf("5.9", last("non-continuation payload"), text("Hello, world!")), caseOf("5.10", last("non-continuation payload"), text("Hello, world!")).chopped(24),
		caseOf("5.11", last("non-continuation payload"), text("Hello, world!")).chopped(1),
		caseOf("5.12", middle("non-continuation payload"), text("Hello, world!")), caseOf("5.13", middle("non-continuation payload"), text("Hello, world!")).chopped(24),
		caseOf("5.14", middle("non-continuation payload"), text("Hello, world!")).chopped(1),
		caseOf("5.15", begin("fragment1"), last("fragment2"), middle("fragment3"), begin("fragment4"), last("fragment5")).closedByServer(),
		caseOf("5.16", middle("fragment1"), begin("fragment2"), last("fragment3"), bye()), caseOf("5.17", last("fragment1"), begin("fragment2"), last("fragment3")),
		caseOf("5.18", begin("fragment1"), text("fragment2")), caseOf("5.19", four...), caseOf("5.20", four...).chopped(1),
	}
}

// texts are the octets of Autobahn's class 6: valid UTF-8 of every length, and each way of being none.
func texts() []string {
	return []string{
		"", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd",
		"\x00", "\u0080", "\u0800", "\U00010000", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\x7f", "\u07ff", "\uffff", "\U0010ffff",
		"\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf", "\ud7ff", "\ue000", "\ufffd", "\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80",
		"\x80\xbf\x80\xbf", "\x80\x81\x82\x83\x84\x85", "\xc0 \xc1 \xc2 \xc3 ", "\xe0 \xe1 \xe2 ", "\xf0 \xf1 \xf2 \xf3 \xf4 \xf5 \xf6 \xf7 ", "\xf8 \xf9 \xfa \xfb ",
		"\xfc \xfd ", "\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf",
		"\xfd\xbf\xbf\xbf\xbf", "\xfe", "\xff", "\xfe\xfe\xff\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf",
		"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xed\xad\xbf",
		"\xed\xae\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf", "\ufffe", "\ufeff", "\U0001fffe", "\U0002ffff", "\U000fffff",
	}
}

func utf8s() (all []wsCase) {
	for i, s := range texts() {
		half := len(s) / 2
		all = append(all,
			caseOf(fmt.Sprintf("6.%d.whole", i+1), text(s), bye()).closedByServer(),
			caseOf(fmt.Sprintf("6.%d.split", i+1), begin(s[:half]), ping(""), last(s[half:]), bye()).chopped(1))
	}
	return all
}

func closes() (all []wsCase) {
	hello := text("Hello World!")
	all = append(all,
		caseOf("7.1.1", hello, bye()), caseOf("7.1.2", bye(), bye()), caseOf("7.1.3", bye(), ping("")), caseOf("7.1.4", bye(), hello),
		caseOf("7.1.5", begin("fragment1"), bye(), last("fragment2")), caseOf("7.1.6", blob(noise(256<<10)), hello, bye(), ping("")).closedByServer(),
		caseOf("7.3.1", frame{op: opClose}), caseOf("7.3.2", frame{op: opClose, payload: []byte("a")}).closedByServer(), caseOf("7.3.3", bye()),
		caseOf("7.3.4", closing(1000, "Hello World!")), caseOf("7.3.5", closing(1000, strings.Repeat("*", 123))), caseOf("7.3.6", closing(1000, strings.Repeat("*", 124))),
		caseOf("7.5.1", closing(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")))
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, caseOf(fmt.Sprintf("7.7.%d", i+1), closing(code, "")).closedByServer())
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		all = append(all, caseOf(fmt.Sprintf("7.9.%d", i+1), closing(code, "")))
	}
	return append(all, caseOf("7.13.1", closing(5000, "")), caseOf("7.13.2", closing(65535, "")).closedByServer())
}

func limits() (all []wsCase) {
	for i, kb := range []int{64, 256, 1024, 4096, 8192, 16384} {
		all = append(all, caseOf(fmt.Sprintf("9.1.%d", i+1), text(strings.Repeat("*", kb<<10)), bye()),
			caseOf(fmt.Sprintf("9.2.%d", i+1), blob(noise(kb<<10)), bye()).closedByServer())
	}
	big := noise(4 << 20)
	for i, step := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
		all = append(all, caseOf(fmt.Sprintf("9.4.%d", i+1), cut(big, step)...))
	}
	for i, step := range []int{64, 128, 256, 512, 1024, 2048} {
		all = append(all, caseOf(fmt.Sprintf("9.5.%d", i+1), text(strings.Repeat("*", 1<<20)), bye()).chopped(step),
			caseOf(fmt.Sprintf("9.6.%d", i+1), blob(noise(1<<20)), bye()).chopped(step).closedByServer())
	}
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		many := make([]frame, 0, 1001)
		for range 1000 {
			many = append(many, blob(noise(n)))
		}
		all = append(all, caseOf(fmt.Sprintf("9.8.%d", i+1), append(many, bye())...))
	}
	return append(all, caseOf("10.1.1", cut(noise(65536), 1300)...))
}

// cut makes fragments of a message.
func cut(message []byte, step int) (frames []frame) {
	for at := 0; at < len(message); at += step {
		f := frame{op: opContinue, more: at+step < len(message), payload: message[at:min(at+step, len(message))]}
		if at == 0 {
			f.op = opBinary
		}
		frames = append(frames, f)
	}
	return append(frames, bye())
}

// deflated has messages compressed as permessage-deflate does it, under every set of parameters of class 13, with and
// without context between messages.
func deflated() (all []wsCase) {
	agreed := []string{
		"permessage-deflate", "permessage-deflate; client_no_context_takeover; client_max_window_bits=9",
		"permessage-deflate; client_no_context_takeover; client_max_window_bits=15", "permessage-deflate; client_max_window_bits=9",
		"permessage-deflate; client_max_window_bits=15", "permessage-deflate; server_no_context_takeover",
		"permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_no_context_takeover", "x-unknown-extension; a=\"b; c\"",
	}
	sizes := []int{16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072}
	for i, extensions := range agreed {
		for k, size := range sizes {
			c := caseOf(fmt.Sprintf("%d.%d.%d", 12+min(i, 1), i+1, k+1), compressed(size, i == 0 || i == 3 || i == 4, k > 5)...)
			c.extensions, c.serverCloses = extensions, k%2 == 1
			all = append(all, c)
		}
	}
	return all
}

// compressed are messages of size bytes each, of which the first frame has RSV1. context keeps the window between them.
func compressed(size int, context, fragmented bool) (frames []frame) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	for i := range 20 {
		if !context {
			w.Reset(&out)
		}
		out.Reset()
		_, _ = fmt.Fprintf(w, `{"message":%d,"text":%q}`, i, strings.Repeat("agent box ", size/10))
		_ = w.Flush()
		parts := cut(bytes.TrimSuffix(bytes.Clone(out.Bytes()), []byte{0, 0, 0xff, 0xff}), step(out.Len(), fragmented))
		parts = parts[:len(parts)-1]
		parts[0].rsv = 4
		frames = append(frames, parts...)
	}
	return append(frames, bye())
}

func step(n int, fragmented bool) int {
	if fragmented {
		return max(1, n/4)
	}
	return max(1, n)
}
