package proxy

import (
	"encoding/binary"

	"agentbox/internal/scrub"
)

const (
	maxFrameHead = 10       // bytes, of a frame from a server
	maxControl   = 125      // bytes of a control frame
	maxQueued    = 64 << 10 // bytes of frames that wait behind what is held
)

// Parts of a frame's first two bytes.
const (
	frameFinal   = 0x80
	frameFlags   = 0x70
	frameKind    = 0x0F
	frameControl = 0x08
	frameMasked  = 0x80
	frameLength  = 0x7F
)

// wsFrames takes values out of the frames that a server sends over a WebSocket. No length changes, so frames stay as they
// are; a value is found across the frames of a message, with control frames between them. Where a message ends, all of it
// is passed on: a value that goes on in the next one loses that part of it.
type wsFrames struct {
	set    func() *scrub.Set
	stream *scrub.Stream

	head    []byte // of the frame that begins
	left    uint64 // bytes of the frame that are to come
	control bool   // it is a control frame, which body gathers
	final   bool   // it ends its message
	body    []byte

	queue  []queued // what is to be passed on, in this order
	queues int      // bytes of frames in it
	out    []byte
}

// queued is bytes, or a number of bytes that are still with the stream.
type queued struct {
	raw  []byte
	owed uint64
}

func newFrames(set func() *scrub.Set) *wsFrames {
	return &wsFrames{set: set, stream: scrub.NewStream(set, true)}
}

// take takes a piece and gives what can be passed on by now, good until the next call.
func (f *wsFrames) take(p []byte) ([]byte, error) {
	f.out = f.out[:0]
	for len(p) > 0 {
		if f.left == 0 && !f.control {
			var err error
			if p, err = f.begin(p); err != nil {
				return nil, err
			}
			continue
		}
		n := int(min(uint64(len(p)), f.left))
		f.left -= uint64(n)
		if f.control {
			f.body = append(f.body, p[:n]...)
		} else {
			f.give(f.stream.Next(p[:n]))
		}
		p = p[n:]
		f.ended()
	}
	if f.queues > maxQueued {
		return nil, errFrames
	}
	return f.out, nil
}

// begin takes bytes of a frame's head.
func (f *wsFrames) begin(p []byte) (rest []byte, err error) {
	n := min(len(p), f.want()-len(f.head))
	f.head = append(f.head, p[:n]...)
	if len(f.head) < 2 || len(f.head) < f.want() {
		return p[n:], nil
	}
	first, length := f.head[0], f.head[1]&frameLength
	switch f.left = uint64(length); length {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	}
	f.control, f.final = first&frameControl != 0, first&frameFinal != 0
	kind := first & frameKind
	switch {
	case first&frameFlags != 0, f.head[1]&frameMasked != 0, kind > 2 && kind < 8, kind > 10, f.left>>63 != 0,
		f.control && (f.left > maxControl || !f.final):
		return nil, errFrames
	}
	f.queueRaw(f.head)
	f.head = f.head[:0]
	if !f.control && f.left > 0 {
		f.queue = append(f.queue, queued{owed: f.left})
	}
	f.ended()
	return p[n:], nil
}

// want is how long the head is, as far as that is known.
func (f *wsFrames) want() int {
	if len(f.head) < 2 {
		return 2
	}
	switch f.head[1] & frameLength {
	case 126:
		return 4
	case 127:
		return maxFrameHead
	}
	return 2
}

// ended is called when there may be nothing left of a frame.
func (f *wsFrames) ended() {
	switch {
	case f.left > 0:
	case f.control:
		f.queueRaw([]byte(f.set().Fit(string(f.body))))
		f.control, f.body = false, f.body[:0]
	case f.final:
		f.give(f.stream.ReleaseAll())
	}
}

func (f *wsFrames) queueRaw(raw []byte) {
	f.queue = append(f.queue, queued{raw: append([]byte(nil), raw...)})
	f.queues += len(raw)
	f.give(nil)
}

// give passes on bytes of the stream, and what waits behind them.
func (f *wsFrames) give(p []byte) {
	done := 0
	for done < len(f.queue) {
		q := &f.queue[done]
		n := min(uint64(len(p)), q.owed)
		f.out = append(append(f.out, p[:n]...), q.raw...)
		p, q.owed = p[n:], q.owed-n
		if q.owed > 0 {
			break
		}
		f.queues -= len(q.raw)
		done++
	}
	f.queue = append(f.queue[:0], f.queue[done:]...)
}

// Waiting reports whether something of a frame is held.
func (f *wsFrames) Waiting() bool { return f.stream.Waiting() }

// Release gives what of it tells nothing, and what waited behind it.
func (f *wsFrames) Release() []byte {
	f.out = f.out[:0]
	f.give(f.stream.Release())
	return f.out
}

// end gives the rest.
func (f *wsFrames) end() []byte {
	f.out = f.out[:0]
	f.give(f.stream.End())
	return append(append(f.out, f.set().Fit(string(f.body))...), f.head...)
}
