package kept

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"agentbox/internal/sys"
)

// Size is what a file or a tree takes on the disk, in bytes, and how many files it has. No link is followed, and no other file
// system entered. Whole is false when some of it could not be looked at: then there is more.
type Size struct {
	Bytes int64
	Files int64
	Whole bool
}

// Measure looks at a path. Nothing there is nothing.
func Measure(path string) Size {
	info, err := os.Lstat(path)
	if err != nil {
		return Size{Whole: errors.Is(err, fs.ErrNotExist)}
	}
	s := Size{Whole: true}
	s.add(info)
	if !info.IsDir() {
		return s
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		s.Whole = false
		return s
	}
	defer func() { _ = root.Close() }() // only read
	s.below(root, ".", sys.DeviceOf(info))
	return s
}

func (s *Size) add(info fs.FileInfo) {
	s.Files++
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Bytes += st.Blocks * 512
	}
}

// deepest bounds how far down a tree is looked at: who made it may have meant to keep us.
const deepest = 256

// below adds what is in a directory.
func (s *Size) below(root *os.Root, dir string, dev uint64) {
	if strings.Count(dir, "/") > deepest {
		s.Whole = false
		return
	}
	d, err := root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		s.Whole = false
		return
	}
	var dirs []string
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			name := dir + "/" + e.Name()
			info, err := root.Lstat(name)
			if err != nil {
				s.Whole = s.Whole && errors.Is(err, fs.ErrNotExist)
				continue
			}
			s.add(info)
			if info.IsDir() && sys.DeviceOf(info) == dev {
				dirs = append(dirs, name)
			}
		}
		if err != nil {
			s.Whole = s.Whole && errors.Is(err, io.EOF)
			break
		}
	}
	_ = d.Close() // only read
	for _, name := range dirs {
		s.below(root, name, dev)
	}
}
