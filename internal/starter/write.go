package starter

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// Write puts a file below top, a directory that exists and is trusted. Of rel, "DIR/FILE" or "FILE", nothing is: a link
// in either place is refused, the directory is made if it is not there, and the file is whole or not there. An existing
// file is kept, with an error that is fs.ErrExist, unless replace says otherwise; then it must be a regular file.
func Write(top, rel string, data []byte, replace bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %q: %w", path.Join(top, rel), err)
		}
	}()
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	dir, err := directory(root, path.Dir(rel))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	base := path.Base(rel)
	if err := free(dir, base, replace); err != nil {
		return err
	}
	temporary := "." + base + ".tmp-" + rand.Text()
	defer func() { _ = dir.Remove(temporary) }()
	if err := create(dir, temporary, data); err != nil {
		return err
	}
	return name(dir, temporary, base, replace)
}

// directory opens a directory of root, which must be one and no link to one.
func directory(root *os.Root, name string) (*os.Root, error) {
	if err := root.Mkdir(name, 0o755); err != nil && name != "." && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.IsDir() {
		return nil, fmt.Errorf("%q is not a directory, or is a link", name)
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	// A link that took its place in the meantime leads elsewhere.
	if now, err := dir.Stat("."); err != nil || !os.SameFile(before, now) {
		return nil, errors.Join(fmt.Errorf("%q changed while it was opened", name), err, dir.Close())
	}
	return dir, nil
}

// free reports what stands in the way of a file of that name.
func free(dir *os.Root, base string, replace bool) error {
	switch info, err := dir.Lstat(base); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is there and is not a regular file")
	case !replace:
		return fs.ErrExist
	}
	return nil
}

// create writes a new file, to the disk.
func create(dir *os.Root, name string, data []byte) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// name gives a written file its name. Linking, unlike renaming, never takes the place of another file.
func name(dir *os.Root, temporary, base string, replace bool) error {
	take := dir.Link
	if replace {
		take = dir.Rename
	}
	if err := take(temporary, base); err != nil {
		return err
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	// Some file systems cannot sync a directory; there the name is as durable as it gets.
	_ = d.Sync()
	return d.Close()
}
