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
		n, form := next(b.scan.sieve, text[at:])
		if n < 0 {
			return "", seen
		}
		at += n
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
	loose bool        // the marker is found in any case
	width int         // of the window: the length of the shortest form
	skip  [4096]uint8 // by the hash of two bytes
}

func newSieve(forms []string, loose bool) *sieve {
	s := &sieve{forms: forms, loose: loose, width: len(marker)}
	for _, f := range forms {
		s.width = min(s.width, len(f))
	}
	for i := range s.skip {
		s.skip[i] = uint8(s.width - 1) //nolint:gosec // a few
	}
	for _, f := range forms {
		for i := 1; i < s.width; i++ {
			s.stop(f[i-1:i+1], loose && f == marker, s.width-1-i)
		}
	}
	return s
}

// stop has the window move by n at most where it ends in pair.
func (s *sieve) stop(pair string, loose bool, n int) {
	spellings := []string{pair}
	if loose {
		lower, upper := strings.ToLower(pair), strings.ToUpper(pair)
		spellings = []string{lower, upper, lower[:1] + upper[1:], upper[:1] + lower[1:]}
	}
	for _, p := range spellings {
		at := hashOf(p[0], p[1])
		s.skip[at] = min(s.skip[at], uint8(n)) //nolint:gosec // a few
	}
}

func hashOf(a, b byte) int { return (int(a)<<5 ^ int(b)) & 4095 }

// strides gives how far a text can be passed in full strides. Four at a time, none of which waits for the one before.
func strides[text string | []byte](s *sieve, t text) (passed int) {
	full := s.width - 1
	for ; len(t) >= 3*full+2; passed, t = passed+4*full, t[min(4*full, len(t)):] {
		a, b := s.skip[hashOf(t[0], t[1])], s.skip[hashOf(t[full], t[full+1])]
		c, d := s.skip[hashOf(t[2*full], t[2*full+1])], s.skip[hashOf(t[3*full], t[3*full+1])]
		if min(a, b, c, d) != uint8(full) { //nolint:gosec // a few
			break
		}
	}
	return passed
}

// next gives the place of the first form in t, or -1.
func next[text string | []byte](s *sieve, t text) (at int, form string) {
	for end := s.width - 1; end < len(t); {
		end += strides(s, t[end-1:])
		if end >= len(t) {
			break
		}
		if n := s.skip[hashOf(t[end-1], t[end])]; n > 0 {
			end += int(n)
			continue
		}
		at := end - s.width + 1
		for _, f := range s.forms {
			if len(t)-at >= len(f) && s.is(f, string(t[at:at+len(f)])) {
				return at, f
			}
		}
		end++
	}
	return -1, ""
}

func (s *sieve) is(form, text string) bool {
	return text == form || s.loose && form == marker && strings.EqualFold(text, form)
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
