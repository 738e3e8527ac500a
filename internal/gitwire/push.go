package gitwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a push may ask for at once.
const (
	MaxPush     = 1 << 20 // bytes before the objects
	MaxCommands = 10_000
	maxShallow  = 10_000
	maxOptions  = 1_000
)

// Command is one line of a push. Old and New are object names in lower-case hexadecimal.
type Command struct {
	Old, New string
	Ref      string // valid by the rules of git check-ref-format, below "refs/"
}

// Create reports whether the ref must not exist yet. A server refuses the command where it does.
func (c Command) Create() bool { return isZero(c.Old) }

// Delete reports whether the ref is to go.
func (c Command) Delete() bool { return isZero(c.New) }

// Push is what stands before the objects of a push.
type Push struct {
	Commands     []Command
	Capabilities []string
}

// Has reports whether the client named a capability, as in "atomic".
func (p Push) Has(capability string) bool { return slices.Contains(p.Capabilities, capability) }

// Errors of ReadPush that say what to do instead.
var (
	ErrSigned = errors.New("the push is signed (push certificates are not passed on); push without --signed, or with push.gpgSign=false")
	ErrTooBig = fmt.Errorf("the push names more than %d refs, or has more than %d bytes before its objects; push fewer refs at once", MaxCommands, MaxPush)
)

// ReadPush reads the commands of a push from the body of a POST to git-receive-pack, up to the first four bytes of
// the objects. It gives every byte that it took as well, whatever the error, and takes none that it does not need, so
// that these bytes before the rest of r are the whole body again. grow, unless nil, is asked before n more bytes are
// kept; where it says no, the push is too big.
//
// Commands that are not exactly in the form that git writes are an error. So is anything but objects after them,
// which a server might read as more commands.
func ReadPush(r io.Reader, grow func(n int) bool) (Push, []byte, error) {
	p := &packetReader{r: r, limit: MaxPush, grow: grow}
	push, err := readPush(p)
	if errors.Is(err, errTooLong) {
		err = ErrTooBig
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return Push{}, p.taken, err
	}
	return push, p.taken, nil
}

func readPush(p *packetReader) (Push, error) {
	l := commandList{seen: map[string]bool{}}
	for {
		kind, payload, err := p.next()
		switch {
		case err != nil:
			return Push{}, err
		case kind == Flush:
			return l.push, l.finish(p)
		case kind != Data:
			return Push{}, errors.New("the list of commands ends with something else than a flush packet")
		}
		if err := l.add(payload); err != nil {
			return Push{}, err
		}
	}
}

// commandList gathers commands.
type commandList struct {
	push    Push
	seen    map[string]bool
	shallow int
	width   int // of object names
}

// add reads one line before the flush.
func (l *commandList) add(payload []byte) error {
	line, capabilities, has := bytes.Cut(payload, []byte{0})
	switch {
	case bytes.HasPrefix(line, []byte("push-cert")):
		return ErrSigned
	case has && len(l.push.Commands) > 0:
		return errors.New("capabilities stand behind another command than the first")
	case has:
		if err := l.capabilities(capabilities); err != nil {
			return err
		}
	}
	text := strings.TrimSuffix(string(line), "\n")
	if name, ok := strings.CutPrefix(text, "shallow "); ok {
		l.shallow++
		if has || l.shallow > maxShallow || !l.isName(name) {
			return errors.New("a line that says where the client's history is cut is not valid")
		}
		return nil
	}
	return l.command(text)
}

func (l *commandList) capabilities(list []byte) error {
	for _, c := range list {
		if (c < ' ' || c > '~') && c != '\n' {
			return errors.New("the capabilities hold a control character")
		}
	}
	l.push.Capabilities = strings.Fields(string(list))
	return nil
}

func (l *commandList) command(text string) error {
	old, rest, _ := strings.Cut(text, " ")
	now, ref, ok := strings.Cut(rest, " ")
	switch {
	case !ok || !l.isName(old) || !l.isName(now):
		return errors.New("a command of the push is not of the form \"old new ref\"")
	case isZero(old) && isZero(now):
		return errors.New("a command of the push creates nothing and deletes nothing")
	case !ValidRef(ref):
		return fmt.Errorf("%s is no valid name of a ref", Shown(ref))
	case l.seen[ref]:
		return fmt.Errorf("%s is updated twice in one push", Shown(ref))
	case len(l.push.Commands) == MaxCommands:
		return ErrTooBig
	}
	l.seen[ref] = true
	l.push.Commands = append(l.push.Commands, Command{old, now, ref})
	return nil
}

// isName reports whether s is an object's name, of the same kind as those before.
func (l *commandList) isName(s string) bool {
	if l.width == 0 {
		l.width = len(s)
	}
	return len(s) == l.width && IsObjectName(s)
}

// finish reads what stands between the commands and the objects, and sees that objects, or nothing, follow.
func (l *commandList) finish(p *packetReader) error {
	const sha1, sha256 = 40, 64
	want := sha1
	if l.push.Has("object-format=sha256") {
		want = sha256
	}
	if l.width != 0 && l.width != want {
		return errors.New("the object names of the push are not of the kind that its capabilities name")
	}
	if l.push.Has("push-options") && len(l.push.Commands) > 0 {
		if err := skipOptions(p); err != nil {
			return err
		}
	}
	next, err := p.take(lengthDigits)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case string(next) != "PACK" || len(l.push.Commands) == 0:
		return errors.New("something else than objects follows the commands of the push")
	}
	return nil
}

func skipOptions(p *packetReader) error {
	for range maxOptions {
		kind, _, err := p.next()
		if err != nil || kind == Flush {
			return err
		}
		if kind != Data {
			return errors.New("the list of push options ends with something else than a flush packet")
		}
	}
	return ErrTooBig
}

// IsObjectName reports whether s is the name of an object, of either kind, in lower case.
func IsObjectName(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

func isZero(name string) bool { return strings.Trim(name, "0") == "" }

// ValidRef reports whether git would take s as the name of a ref that can be pushed to (git check-ref-format), in the one
// spelling that it has.
func ValidRef(s string) bool {
	if !strings.HasPrefix(s, "refs/") || len(s) > 1000 || strings.HasSuffix(s, ".") || strings.Contains(s, "..") || strings.Contains(s, "@{") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`~^:?*[\`, c) >= 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

const maxShown = 120 // bytes of a name that are repeated

// Shown is a name as an agent sent it, short and without anything that could redraw a screen or forge a line.
func Shown(s string) string {
	cut := s[:min(len(s), maxShown)]
	for i := range len(cut) {
		if c := cut[i]; c <= ' ' || c > '~' {
			cut = strconv.QuoteToASCII(cut)
			break
		}
	}
	if len(s) > maxShown {
		cut += "…"
	}
	return cut
}
