package secrets

import (
	"strings"

	"agentbox/internal/policy"
)

// maxWatched is how much of a body is looked at.
const maxWatched = 1 << 20

// idLength is how much of a placeholder, from its marker on, tells whose it is.
const idLength = len(marker) + 16

// Watch gives what looks at the body of a request to a host while it passes, piece by piece, for placeholders. It says
// once in a run, for each host and credential, that there was one; of one that is encoded or of another run the name
// is "". Such a request is not held up: agents tell their model what is in their environment, and a placeholder is
// worth nothing outside. Only the first MiB is looked at.
func (b *Broker) Watch(host policy.Host) (look func(piece []byte) (credential string, seen bool)) {
	w := watcher{broker: b, host: host}
	return w.look
}

type watcher struct {
	broker *Broker
	host   policy.Host
	n      int
	tail   []byte // the end of what was looked at, which may be the beginning of a placeholder
}

type sighting struct {
	host       policy.Host
	credential string
}

func (w *watcher) look(piece []byte) (credential string, seen bool) {
	if room := maxWatched - w.n; len(piece) > room {
		piece = piece[:room]
	}
	if len(piece) == 0 {
		return "", false
	}
	w.n += len(piece)
	var seam [2 * idLength]byte
	joint := append(append(seam[:0], w.tail...), piece[:min(len(piece), idLength)]...)
	for _, text := range [][]byte{joint, piece} {
		if credential, seen = w.broker.inBody(text); seen {
			break
		}
	}
	if len(piece) < idLength {
		w.tail = append(w.tail, piece...)
		w.tail = w.tail[max(0, len(w.tail)-idLength+1):]
	} else {
		w.tail = append(w.tail[:0], piece[len(piece)-idLength+1:]...)
	}
	return credential, seen && w.broker.firstSight(sighting{w.host, credential})
}

// inBody finds a placeholder, and tells whose it is where enough of it is there in plain.
func (b *Broker) inBody(text []byte) (credential string, seen bool) {
	for at := 0; ; at++ {
		next, form := b.scan.sieve.next(text[at:])
		if next < 0 {
			return "", seen
		}
		at += next
		switch rest := text[at:]; {
		case form != marker:
			seen = true
		case len(rest) >= idLength:
			return b.owner(string(rest[:idLength])), true
		}
	}
}

// sieve finds the marker and its encoded forms in one pass that looks at few of a text's bytes: for each pair of them it
// knows how far the nearest end of a form can be.
type sieve struct {
	forms []string
	width int         // of the window: the length of the shortest form
	skip  [4096]uint8 // by the hash of two bytes
}

func newSieve(forms []string) *sieve {
	s := &sieve{forms: forms, width: len(marker)}
	for _, f := range forms {
		s.width = min(s.width, len(f))
	}
	for i := range s.skip {
		s.skip[i] = uint8(s.width - 1) //nolint:gosec // a few
	}
	for _, f := range forms {
		for i := 1; i < s.width; i++ {
			at := hashOf(f[i-1], f[i])
			s.skip[at] = min(s.skip[at], uint8(s.width-1-i)) //nolint:gosec // a few
		}
	}
	return s
}

func hashOf(a, b byte) int { return (int(a)<<5 ^ int(b)) & 4095 }

// strides gives how far a text can be passed in full strides. Four at a time, none of which waits for the one before.
func (s *sieve) strides(text []byte) (passed int) {
	full := s.width - 1
	for ; len(text) >= 3*full+2; passed, text = passed+4*full, text[min(4*full, len(text)):] {
		a, b := s.skip[hashOf(text[0], text[1])], s.skip[hashOf(text[full], text[full+1])]
		c, d := s.skip[hashOf(text[2*full], text[2*full+1])], s.skip[hashOf(text[3*full], text[3*full+1])]
		if min(a, b, c, d) != uint8(full) { //nolint:gosec // a few
			break
		}
	}
	return passed
}

// next gives the place of the first form in text, or -1.
func (s *sieve) next(text []byte) (at int, form string) {
	for end := s.width - 1; end < len(text); {
		end += s.strides(text[end-1:])
		if end >= len(text) {
			break
		}
		if n := s.skip[hashOf(text[end-1], text[end])]; n > 0 {
			end += int(n)
			continue
		}
		at := end - s.width + 1
		for _, f := range s.forms {
			if len(text)-at >= len(f) && string(text[at:at+len(f)]) == f {
				return at, f
			}
		}
		end++
	}
	return -1, ""
}

func (b *Broker) owner(id string) string {
	for _, h := range b.held {
		if strings.Contains(h.placeholder, id) {
			return h.Name
		}
	}
	return ""
}

func (b *Broker) firstSight(s sighting) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[s] {
		return false
	}
	if b.seen == nil {
		b.seen = map[sighting]bool{}
	}
	b.seen[s] = true
	return true
}
