package secrets

import (
	"bytes"
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

// inBody finds a placeholder, and tells whose it is where all of it is there in plain.
func (b *Broker) inBody(text []byte) (credential string, seen bool) {
	for rest := text; ; {
		i := bytes.Index(rest, []byte(marker))
		if i < 0 {
			break
		}
		if rest = rest[i:]; len(rest) >= idLength {
			return b.owner(string(rest[:idLength])), true
		}
		rest = rest[len(marker):]
	}
	for _, form := range b.scan.forms {
		if bytes.Contains(text, []byte(form)) {
			return "", true
		}
	}
	return "", false
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
