package workspace

import (
	"crypto/sha1" //nolint:gosec // git's own checksum of an index
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unseen gives the layer an index of its own in which what is hidden and tracked is marked skip-worktree: git inside takes
// it for unchanged, and what is committed there keeps it as it was. Without that mark `git commit -a` would commit it
// empty, or gone.
func (b *builder) unseen(s Survey) error {
	if len(s.Tracked) == 0 {
		return nil
	}
	hash, err := objectHash(b.repo.Common)
	if err != nil {
		return err
	}
	data, err := readRegular(filepath.Join(b.repo.Git, "index"), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	marked, err := skipWorktree(data, hash, func(path string) bool { return s.Tracked[path] })
	if err != nil {
		return fmt.Errorf("marking what is hidden in the index that is seen inside: %w", err)
	}
	place, err := b.indexPlace()
	if err != nil {
		return fmt.Errorf("marking what is hidden: %w", err)
	}
	if err := os.Remove(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("marking what is hidden: %w", err)
	}
	if err := os.WriteFile(place, marked, 0o644); err != nil {
		return fmt.Errorf("marking what is hidden: %w", err)
	}
	return nil
}

// indexPlace is where the index is made so that it is seen inside. That of a linked worktree lies deeper in the git directory.
func (b *builder) indexPlace() (string, error) {
	below, err := filepath.Rel(b.repo.Common, b.repo.Git)
	if err != nil {
		return "", err
	}
	at := ""
	for name := range strings.SplitSeq(below, "/") {
		at = filepath.Join(at, name)
		dir := b.layer.place(b.repo, at)
		if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return "", err
		}
		if err := alike(filepath.Join(b.repo.Common, at), dir); err != nil {
			return "", err
		}
	}
	return b.layer.place(b.repo, filepath.Join(below, "index")), nil
}

func objectHash(common string) (int, error) {
	entries, err := readConfig(filepath.Join(common, "config"))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.name() == "extensions.objectformat" && e.value == "sha256" {
			return sha256.Size, nil
		}
	}
	return sha1.Size, nil
}

const (
	indexStage    = 0x3000 // of the flags: which side of a conflict
	indexExtended = 0x4000 // of the flags: there are more
	indexSkip     = 0x4000 // of those: skip-worktree
)

// skipWorktree writes an index anew, as version 3, with a mark on the entries of some paths. What other versions of git keep
// beside the entries is left out but for what describes them.
func skipWorktree(data []byte, hash int, mark func(path string) bool) ([]byte, error) {
	if _, err := parseIndex(data, hash); err != nil {
		return nil, err
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	out := make([]byte, 0, len(data)+len(data)/8)
	out = append(out, "DIRC\x00\x00\x00\x03"...)
	out = append(out, data[8:12]...)
	rest := data[12 : len(data)-hash]
	previous := ""
	for range count {
		e, size, err := parseIndexEntry(rest, hash, version, previous)
		if err != nil {
			return nil, err
		}
		out = appendIndexEntry(out, rest, hash, version, e, mark(e.path))
		previous, rest = e.path, rest[size:]
	}
	rest, err := indexExtensions(rest)
	if err != nil {
		return nil, err
	}
	return sumIndex(append(out, rest...), hash), nil
}

// appendIndexEntry writes the entry that b begins with. One of a conflict, and the commit of another repository, get no mark.
func appendIndexEntry(out, b []byte, hash int, version uint32, e indexEntry, mark bool) []byte {
	fixed := 40 + hash
	flags, more := binary.BigEndian.Uint16(b[fixed:]), uint16(0)
	if version >= 3 && flags&indexExtended != 0 {
		more = binary.BigEndian.Uint16(b[fixed+2:])
	}
	if mark && flags&indexStage == 0 && !e.gitlink {
		more |= indexSkip
	}
	if flags &^= indexExtended; more != 0 {
		flags |= indexExtended
	}
	start := len(out)
	out = binary.BigEndian.AppendUint16(append(out, b[:fixed]...), flags)
	if more != 0 {
		out = binary.BigEndian.AppendUint16(out, more)
	}
	out = append(out, e.path...)
	return append(out, make([]byte, 8-(len(out)-start)%8)...)
}

// indexExtensions keeps the trees and resolved conflicts, which the marks do not touch. Others can be made again, or speak of
// places in the file; those that git must understand (in lower case) change what the entries mean.
func indexExtensions(b []byte) (kept []byte, err error) {
	for len(b) > 0 {
		if len(b) < 8 || uint64(len(b)-8) < uint64(binary.BigEndian.Uint32(b[4:])) {
			return nil, errIndex
		}
		size := 8 + int(binary.BigEndian.Uint32(b[4:]))
		switch name := string(b[:4]); {
		case name == "TREE", name == "REUC", name == "sdir":
			kept = append(kept, b[:size]...)
		case name[0] < 'A' || name[0] > 'Z':
			return nil, fmt.Errorf("its part %q is not known", name)
		}
		b = b[size:]
	}
	return kept, nil
}

func sumIndex(data []byte, hash int) []byte {
	if hash == sha256.Size {
		sum := sha256.Sum256(data)
		return append(data, sum[:]...)
	}
	sum := sha1.Sum(data) //nolint:gosec // git's own
	return append(data, sum[:]...)
}

// trackedOf gives the paths that git tracks and that are hidden, and which of the hidden ones these are or lie in.
func trackedOf(index []indexEntry, root string, hidden []string) (paths, tops map[string]bool) {
	whole := make(map[string]bool, len(hidden))
	for _, h := range hidden {
		whole[strings.TrimPrefix(h, root+"/")] = true
	}
	paths, tops = map[string]bool{}, map[string]bool{}
	for _, e := range index {
		for at := e.path; at != ""; at = at[:max(0, strings.LastIndexByte(at, '/'))] {
			if whole[at] {
				paths[e.path], tops[at] = true, true
				break
			}
		}
	}
	return paths, tops
}
