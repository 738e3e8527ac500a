package changes

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sort"
)

// index is what the index of the start named. Where few paths are asked for among very many, what costs is to make
// something of each: so nothing is made but a table of where the entries are.
type index struct {
	data    []byte
	entries []uint32        // where each begins, in the order of their paths
	blobs   map[string]blob // in place of both, where the file was git's to read
}

// Parts of an index's file: see gitformat-index.
const (
	indexHead  = 12
	entryMode  = 24
	entryID    = 40
	entryFlags = entryID + idSize
	idSize     = 20
	longName   = 0xfff  // in the flags: the name is at least as long
	stages     = 0x3000 // … a conflict
	extended   = 0x4000 // … there are two bytes more
)

// parseIndex takes the forms of an index that are common and can be searched: versions 2 and 3, SHA-1, whole. ok is false for
// everything else, which is git's to read, and for what does not come out even: it is of another form then.
func parseIndex(data []byte) (x index, ok bool) {
	if len(data) < indexHead+idSize || string(data[:4]) != "DIRC" || uint64(len(data)) > 1<<32-1 {
		return x, false
	}
	version, count := binary.BigEndian.Uint32(data[4:]), int(binary.BigEndian.Uint32(data[8:]))
	if version != 2 && version != 3 || count > len(data)/(entryFlags+2) {
		return x, false
	}
	x = index{data: data[:len(data)-idSize], entries: make([]uint32, 0, count)}
	at := indexHead
	var before []byte
	for range count {
		name, next := x.entry(at)
		if next == 0 || bytes.Compare(before, name) > 0 {
			return index{}, false
		}
		x.entries = append(x.entries, uint32(at))
		before, at = name, next
	}
	return x, x.optional(at)
}

// entry gives the name of the entry at a place, and where the next one begins; 0 when it is none.
func (x index) entry(at int) (name []byte, next int) {
	if at+entryFlags+2 > len(x.data) {
		return nil, 0
	}
	flags := binary.BigEndian.Uint16(x.data[at+entryFlags:])
	begin := at + entryFlags + 2
	if flags&extended != 0 {
		begin += 2
	}
	if begin >= len(x.data) {
		return nil, 0
	}
	size := int(flags & longName)
	if size == longName {
		if size = bytes.IndexByte(x.data[begin:], 0); size < longName {
			return nil, 0
		}
	}
	end := begin + size
	next = at + (end-at+8)&^7
	if size == 0 || next > len(x.data) || bytes.IndexByte(x.data[begin:end], 0) >= 0 || len(bytes.Trim(x.data[end:next], "\x00")) > 0 {
		return nil, 0
	}
	return x.data[begin:end], next
}

// optional says that what follows the entries are whole extensions that can be left out. Those that can't, as that of an index in
// two files, have names in small letters.
func (x index) optional(at int) bool {
	for at < len(x.data) {
		if at+8 > len(x.data) || x.data[at] < 'A' || x.data[at] > 'Z' {
			return false
		}
		size := binary.BigEndian.Uint32(x.data[at+4:])
		if uint64(at)+8+uint64(size) > uint64(len(x.data)) {
			return false
		}
		at += 8 + int(size)
	}
	return true
}

// find gives what was named of a path: neither a conflict nor a submodule.
func (x index) find(path string) (b blob, ok bool) {
	if x.blobs != nil {
		b, ok = x.blobs[path]
		return b, ok
	}
	i := sort.Search(len(x.entries), func(i int) bool {
		name, _ := x.entry(int(x.entries[i]))
		return string(name) >= path
	})
	if i == len(x.entries) {
		return blob{}, false
	}
	at := int(x.entries[i])
	name, _ := x.entry(at)
	if string(name) != path || binary.BigEndian.Uint16(x.data[at+entryFlags:])&stages != 0 {
		return blob{}, false
	}
	mode := binary.BigEndian.Uint32(x.data[at+entryMode:])
	return blob{mode: fmt.Sprintf("%06o", mode), id: hex.EncodeToString(x.data[at+entryID : at+entryID+idSize])}, mode != 0o160000
}
