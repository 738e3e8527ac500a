package scrub

// Stream takes values out of bytes that come in pieces. It is used by one goroutine at a time.
type Stream struct {
	set    func() *Set
	fitted bool

	held  []byte // undecided
	sent  int    // of held, what was passed on all the same
	spare []byte
	out   []byte
}

// NewStream makes a stream. It asks for the set at each piece, so a value that is learned meanwhile counts from there on.
// What stands in the place of a value has its length if fitted, or else its own.
func NewStream(set func() *Set, fitted bool) *Stream {
	return &Stream{set: set, fitted: fitted}
}

// Next takes a piece and gives what can be passed on by now. That is good until the next call, and may be the piece.
func (s *Stream) Next(p []byte) []byte { return s.step(p, false) }

// End gives the rest.
func (s *Stream) End() []byte { return s.step(nil, true) }

func (s *Stream) step(p []byte, final bool) []byte {
	set := s.set()
	data := p
	if len(s.held) > 0 {
		s.held = append(s.held, p...)
		data = s.held
	}
	if set.Empty() {
		rest := data[min(s.sent, len(data)):]
		s.held, s.sent = nil, 0
		return rest
	}
	c := scan{set: set, data: data, final: final}
	s.out = c.run(s.out[:0], s.sent, s.fitted)
	out := s.out
	if !c.changed {
		out = data[min(s.sent, c.from):c.from]
	}
	s.keep(data[c.from:], max(0, s.sent-c.from))
	return out
}

// keep holds bytes back. They may lie in held, and so may what was just given.
func (s *Stream) keep(rest []byte, sent int) {
	s.held, s.spare = append(s.spare[:0], rest...), s.held
	s.sent = sent
}

// Waiting reports whether something is held that was not passed on.
func (s *Stream) Waiting() bool { return len(s.held) > s.sent }

// Release gives what is held if it tells nothing of a value: a few characters of it behind what its placeholder begins
// with too. It is remembered, so that the rest of a value is found.
func (s *Stream) Release() []byte {
	if !s.Waiting() || len(s.held) > s.tells() {
		return nil
	}
	return s.ReleaseAll()
}

// ReleaseAll gives all that is held, and remembers it.
func (s *Stream) ReleaseAll() []byte {
	out := s.held[s.sent:]
	s.sent = len(s.held)
	return out
}

// tells is how long what is held may be and tell nothing.
func (s *Stream) tells() int {
	set, n := s.set(), -1
	for _, i := range set.starts[s.held[0]] {
		f := &set.forms[i]
		if len(f.text) > len(s.held) && f.text[:len(s.held)] == string(s.held) && (n < 0 || f.tells < n) {
			n = f.tells
		}
	}
	if n < 0 { // something in it is escaped
		return untold
	}
	return n
}
