package commits

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What an agent may have the host's git read.
const (
	maxRefs   = 1000    // branches that are taken
	maxAdvert = 4 << 20 // bytes of the list of refs
	maxName   = 200     // bytes of a branch's name: a file with the suffix .lock is made for each part of it
)

// carried is where HEAD goes by on its way: "HEAD" as a source that is not there would fail a whole fetch.
const carried = "refs/agentbox/HEAD"

// Script is what sh runs beside the run's repository, with its git directory for an argument: first the commits that its
// branches name are told, as one that is not there would end a whole fetch, then git-upload-pack speaks.
const Script = `{ git --git-dir="$1" rev-parse -q --verify HEAD; git --git-dir="$1" for-each-ref --format='%(objectname)' refs/heads; } 2>/dev/null |
git --git-dir="$1" cat-file --batch-check='%(objectname) %(objecttype)' 2>/dev/null; echo; exec git upload-pack --strict "$1"`

// Relay hands on what Script says (protocol 0) to the host's git: of its refs HEAD and the branches whose
// names git takes, of its abilities those that are needed, then the rest up to limit bytes. It gives how many refs
// were left out.
func Relay(from io.Reader, to io.Writer, limit int64) (left int, err error) {
	in := bufio.NewReaderSize(from, 64<<10)
	there, err := readThere(in)
	if err != nil {
		return 0, fmt.Errorf("reading the run's branches: %w", err)
	}
	a := advert{there: there, dirs: map[string]bool{}, names: map[string]bool{}}
	if err := a.read(in); err != nil {
		return 0, fmt.Errorf("reading the run's branches: %w", err)
	}
	if _, err := to.Write(a.bytes()); err != nil {
		return 0, err
	}
	n, err := io.Copy(to, io.LimitReader(in, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("the run's commits are larger than %d bytes", limit)
	}
	return a.left, err
}

// advert is the list of refs that begins the protocol.
type advert struct {
	abilities   string
	empty       string // the name of no object, as long as the others
	refs        []string
	shallow     []string
	there       map[string]bool // commits
	names, dirs map[string]bool
	left, size  int
}

// readThere reads which commits are there, up to an empty line.
func readThere(in *bufio.Reader) (map[string]bool, error) {
	there := map[string]bool{}
	for size := 0; ; {
		l, err := in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if size += len(l); size > maxAdvert {
			return nil, fmt.Errorf("there are more than %d bytes of them", maxAdvert)
		}
		if len(l) == 1 {
			return there, nil
		}
		if id, kind, _ := strings.Cut(string(l[:len(l)-1]), " "); kind == "commit" && isID(id) {
			there[id] = true
		}
	}
}

var errAdvert = errors.New("the list is not what git-upload-pack writes")

func (a *advert) read(in *bufio.Reader) error {
	for first := true; ; first = false {
		line, err := readPacket(in)
		if err != nil {
			return err
		}
		if line == nil {
			return nil
		}
		if a.size += len(line); a.size > maxAdvert {
			return fmt.Errorf("it is longer than %d bytes", maxAdvert)
		}
		if err := a.line(strings.TrimSuffix(string(line), "\n"), first); err != nil {
			return err
		}
	}
}

func (a *advert) line(text string, first bool) error {
	if first {
		var abilities string
		text, abilities, _ = strings.Cut(text, "\x00")
		a.abilities = wanted(abilities)
	}
	if id, ok := strings.CutPrefix(text, "shallow "); ok && isID(id) {
		a.shallow = append(a.shallow, text)
		return nil
	}
	id, name, ok := strings.Cut(text, " ")
	if !ok || !isID(id) {
		return errAdvert
	}
	if first {
		a.empty = strings.Repeat("0", len(id))
	}
	if len(id) != len(a.empty) {
		return errAdvert
	}
	a.ref(id, name)
	return nil
}

// ref takes a ref, or leaves it out. Others than branches are not counted: nobody misses them.
func (a *advert) ref(id, name string) {
	if name == "HEAD" && a.there[id] {
		a.add(id, carried)
	}
	branch, ok := strings.CutPrefix(name, "refs/heads/")
	if !ok {
		return
	}
	if !a.there[id] || !validBranch(branch) || len(a.refs) >= maxRefs || !a.fits(name) {
		a.left++
		return
	}
	a.add(id, name)
}

// fits reports whether name can stand beside the names before: none is taken twice, or both as a file and a directory.
func (a *advert) fits(name string) bool {
	if a.names[name] || a.dirs[name] {
		return false
	}
	for at := name; ; {
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			return true
		}
		if at = at[:i]; a.names[at] {
			return false
		}
	}
}

func (a *advert) add(id, name string) {
	if a.names[name] {
		return
	}
	a.names[name] = true
	for at := name; strings.Contains(at, "/"); {
		at = at[:strings.LastIndexByte(at, '/')]
		a.dirs[at] = true
	}
	a.refs = append(a.refs, id+" "+name)
}

func (a *advert) bytes() []byte {
	var b bytes.Buffer
	lines := a.refs
	if len(lines) == 0 {
		lines = []string{a.empty + " capabilities^{}"}
	}
	for i, l := range lines {
		if i == 0 {
			l += "\x00" + a.abilities
		}
		writePacket(&b, l+"\n")
	}
	for _, s := range a.shallow {
		writePacket(&b, s)
	}
	b.WriteString("0000")
	return b.Bytes()
}

// wanted keeps the abilities that a fetch needs. Without a side band nothing that the server says reaches a person.
func wanted(abilities string) string {
	var out []string
	for _, word := range strings.Fields(abilities) {
		switch word {
		case "multi_ack", "multi_ack_detailed", "no-done", "thin-pack", "ofs-delta", "shallow", "no-progress",
			"object-format=sha1", "object-format=sha256":
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

// readPacket gives one packet's content, nil for a flush.
func readPacket(in io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || n > 65520 || n > 0 && n < 5 {
		return nil, errAdvert
	}
	if n == 0 {
		return nil, nil
	}
	line := make([]byte, n-4)
	_, err = io.ReadFull(in, line)
	return line, err
}

func writePacket(b *bytes.Buffer, line string) { fmt.Fprintf(b, "%04x%s", len(line)+4, line) }

func isID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil && s == strings.ToLower(s)
}

// validBranch reports whether git takes "refs/heads/"+name (git-check-ref-format(1)), and a file system too.
func validBranch(name string) bool {
	if name == "" || len(name) > 4*maxName || strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f") || strings.HasSuffix(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "@" || len(part) > maxName || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' })
}
