package starter

import (
	"bytes"
	"io/fs"
	"time"

	"agentbox/internal/profiles"
)

// Check loads a profile that is not on a disk yet, as the repository's or as the person's own, in the place of one of
// that name. The error is that of profiles.Load.
func Check(data []byte, name string, personal bool, files profiles.Files) (profiles.Loaded, error) {
	if personal {
		files.User = overlay{under: files.User, name: "profiles/" + name + ".toml", data: data}
	} else {
		files.Repo = overlay{under: files.Repo, name: ".agentbox/" + name + ".toml", data: data}
	}
	return profiles.Load(name, files)
}

// overlay puts one file over others, which may be nil.
type overlay struct {
	under fs.FS
	name  string
	data  []byte
}

// Open gives the one file, or one of the others.
func (o overlay) Open(name string) (fs.File, error) {
	switch {
	case name == o.name:
		return &memory{Reader: bytes.NewReader(o.data), name: name}, nil
	case o.under == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.under.Open(name)
}

// memory is a file, and what Stat says of it.
type memory struct {
	*bytes.Reader
	name string
}

func (m *memory) Stat() (fs.FileInfo, error) { return m, nil }
func (m *memory) Close() error               { return nil }
func (m *memory) Name() string               { return m.name }
func (m *memory) Mode() fs.FileMode          { return 0o444 }
func (m *memory) ModTime() time.Time         { return time.Time{} }
func (m *memory) IsDir() bool                { return false }
func (m *memory) Sys() any                   { return nil }
