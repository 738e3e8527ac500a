package changes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Known is what an apply or an undo left at a path, and what it started from: what both sides have in common from then
// on. An apply appends it to <work>/bases.jsonl; the last one of a path counts.
type Known struct {
	Path    Name   `json:"path"`
	Written State  `json:"written"`          // what lies at the path since
	Digest  string `json:"digest,omitempty"` // … and its content, when it is a file, or MomentOf it, when it is a directory. As long as that is so, the person changed nothing
	Base    State  `json:"base"`             // else: the common ancestor
	File    string `json:"file,omitempty"`   // its content, a file below <work>; "" for none that is known
	Merged  bool   `json:"merged,omitempty"` // what was written holds changes of the person's too: Base counts always
	Forget  bool   `json:"forget,omitempty"` // nothing is known of this path any more
}

// Escaped gives the record as it stands in JSON, where what is not UTF-8 would not come back.
func (k Known) Escaped() Known {
	k.Written.Link, k.Base.Link = url.PathEscape(k.Written.Link), url.PathEscape(k.Base.Link)
	return k
}

// Unescaped is the opposite of Escaped.
func (k Known) Unescaped() (Known, error) {
	written, err1 := url.PathUnescape(k.Written.Link)
	base, err2 := url.PathUnescape(k.Base.Link)
	k.Written.Link, k.Base.Link = written, base
	return k, errors.Join(err1, err2)
}

// MomentOf names the last change of an open directory itself, for Known.Digest.
func MomentOf(dir *os.File) (string, error) {
	var n node
	if err := unix.Fstat(int(dir.Fd()), &n.st); err != nil {
		return "", err
	}
	return n.moment(), nil
}

// KnownFile is the name of the record below <work>.
const KnownFile = "bases.jsonl"

// Name is a path in a JSON text. What is not UTF-8 there would not come back, so it is escaped as in a URL.
type Name string

// MarshalText implements encoding.TextMarshaler.
func (n Name) MarshalText() ([]byte, error) { return []byte(url.PathEscape(string(n))), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Name) UnmarshalText(text []byte) error {
	s, err := url.PathUnescape(string(text))
	*n = Name(s)
	return err
}

// readKnown reads the record; the last line may have been cut off by a crash.
func (s *Source) readKnown() (map[string]Known, error) {
	f, err := os.Open(filepath.Join(s.Work, KnownFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	known := map[string]Known{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var k Known
		if len(bytes.TrimSpace(lines.Bytes())) == 0 || json.Unmarshal(lines.Bytes(), &k) != nil {
			continue
		}
		k, err := k.Unescaped()
		if err != nil {
			continue
		}
		if k.Forget {
			delete(known, string(k.Path))
		} else {
			known[string(k.Path)] = k
		}
	}
	return known, lines.Err()
}
