package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"agentbox/internal/subprocess"
)

// File is a value that is the only line of a file of the person's own.
type File struct {
	Path    string // absolute
	Outside string // a directory that agents see: a file in it is refused, however it is reached; "" is none
}

// Fetch reads the file. One that others can read, or that agents see, is not read: it is no secret.
func (s File) Fetch(context.Context) (Lease, error) {
	if within(s.Path, s.Outside) {
		return Lease{}, &missingError{fmt.Sprintf("%s lies in the repository, where the agent reads and writes", s.Path),
			"move it out, such as to ~/.config, and chmod 600 it", nil}
	}
	f, err := os.OpenFile(s.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not wait
	if err != nil {
		return Lease{}, s.unread(err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return Lease{}, s.unread(err)
	case !info.Mode().IsRegular():
		return Lease{}, &missingError{fmt.Sprintf("%s is not a file", s.Path), s.Tip(), nil}
	case info.Mode().Perm()&0o077 != 0:
		return Lease{}, &missingError{fmt.Sprintf("%s can be read or changed by others (mode %o)", s.Path, info.Mode().Perm()), "chmod 600 " + s.Path, nil}
	}
	out := &subprocess.Output{Most: maxValue}
	defer out.Wipe()
	if err := out.ReadAll(f); err != nil {
		return Lease{}, s.unread(err)
	}
	line, flaw := oneLine(out)
	if flaw != "" {
		return Lease{}, &missingError{fmt.Sprintf("%s holds %s", s.Path, flaw), s.Tip(), nil}
	}
	return Lease{Value: wrap(line)}, nil
}

// within reports whether a path lies in a directory, as it is written or where links lead. "" is no directory.
func within(path, dir string) bool {
	if dir == "" {
		return false
	}
	for _, p := range []string{path, resolved(path)} {
		for _, d := range []string{dir, resolved(dir)} {
			if p == d || strings.HasPrefix(p, strings.TrimSuffix(d, "/")+"/") {
				return true
			}
		}
	}
	return false
}

// resolved is a path without links, or the path itself where there is nothing.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func (s File) unread(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &missingError{fmt.Sprintf("%s can't be read: %s", s.Path, err), s.Tip(), err}
}

// Tip says how to give it a value.
func (s File) Tip() string {
	return "put the token into " + s.Path + ", alone on one line, and chmod 600 it"
}
