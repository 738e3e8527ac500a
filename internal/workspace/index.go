package workspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// indexEntry is what is needed of an entry of git's index.
type indexEntry struct {
	path    string
	gitlink bool // a commit of another repository: git runs itself in there
	unseen  bool // marked assume-unchanged or skip-worktree: git does not look for changes
}

var errIndex = errors.New("not an index that can be read")

// readIndex gives the entries of a git directory's index (versions 2 to 4), in its order: by path. common is where its
// configuration is.
func readIndex(git, common string) ([]indexEntry, error) {
	data, err := readRegular(filepath.Join(git, "index"), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	hash, err := objectHash(common)
	if err != nil {
		return nil, err
	}
	return parseIndex(data, hash)
}

func parseIndex(data []byte, hash int) ([]indexEntry, error) {
	if len(data) < 12+hash || string(data[:4]) != "DIRC" {
		return nil, errIndex
	}
	version := binary.BigEndian.Uint32(data[4:])
	count := binary.BigEndian.Uint32(data[8:])
	if version < 2 || version > 4 {
		return nil, errIndex
	}
	rest := data[12 : len(data)-hash]
	var out []indexEntry
	previous := ""
	for range count {
		e, size, err := parseIndexEntry(rest, hash, version, previous)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		previous = e.path
		rest = rest[size:]
	}
	// A split index keeps most entries in another file.
	if bytes.HasPrefix(rest, []byte("link")) {
		return nil, errors.New("a split index is not supported")
	}
	return out, nil
}

func parseIndexEntry(b []byte, hash int, version uint32, previous string) (indexEntry, int, error) {
	head := 40 + hash + 2
	if len(b) < head {
		return indexEntry{}, 0, errIndex
	}
	mode := binary.BigEndian.Uint32(b[24:])
	flags := binary.BigEndian.Uint16(b[40+hash:])
	unseen := flags&0x8000 != 0
	if flags&0x4000 != 0 && version >= 3 {
		if len(b) < head+2 {
			return indexEntry{}, 0, errIndex
		}
		unseen = unseen || binary.BigEndian.Uint16(b[head:])&0x4000 != 0
		head += 2
	}
	at := head
	prefix := ""
	if version == 4 {
		strip, n := indexVarint(b[min(at, len(b)):])
		if n == 0 || strip > uint64(len(previous)) {
			return indexEntry{}, 0, errIndex
		}
		prefix = previous[:len(previous)-int(strip)]
		at += n
	}
	if at > len(b) {
		return indexEntry{}, 0, errIndex
	}
	length := bytes.IndexByte(b[at:], 0)
	if length < 0 {
		return indexEntry{}, 0, errIndex
	}
	size := at + length + 1
	if version < 4 {
		size = (at + length + 8) &^ 7
	}
	if size > len(b) {
		return indexEntry{}, 0, errIndex
	}
	return indexEntry{path: prefix + string(b[at:at+length]), gitlink: mode&0o170000 == 0o160000, unseen: unseen}, size, nil
}

// indexVarint reads git's offset encoding; n is 0 when there is none.
func indexVarint(b []byte) (v uint64, n int) {
	for n < len(b) && n < 9 {
		c := b[n]
		n++
		v |= uint64(c & 0x7f)
		if c&0x80 == 0 {
			return v, n
		}
		v = (v + 1) << 7
	}
	return 0, 0
}
