package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"agentbox/internal/atomicfile"
)

// LoginStore is where a login is kept. Its errors hold nothing of it.
type LoginStore interface {
	Place() string // for messages
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, text []byte) error

	// Lock keeps others who refresh the login out, this agentbox's and the agent's own, until unlock is called.
	Lock(ctx context.Context) (unlock func(), err error)
}

// LoginFile is a login in a file of the person's own.
type LoginFile struct {
	Path    string   // absolute
	Outside string   // a directory that agents see: a file in it is refused, however it is reached; "" is none
	Locks   []string // as logins.Login has them
	Tip     string   // how to log in
	Busy    func()   // called when somebody else holds a lock; nil: nothing
}

// Place is the path.
func (f LoginFile) Place() string { return f.Path }

// Load reads the file. One that others can read is no secret any more.
func (f LoginFile) Load(context.Context) ([]byte, error) {
	path, info, err := f.find()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, f.unread(err)
	}
	defer func() { _ = file.Close() }() // only read
	now, err := file.Stat()
	if err != nil || !os.SameFile(info, now) {
		return nil, &LoginError{Text: f.Path + " changed while it was read", Tip: "try again", Passing: true, Err: err}
	}
	text, err := io.ReadAll(io.LimitReader(file, maxAnswer))
	if err != nil {
		return text, f.unread(err)
	}
	return text, nil
}

// find follows links and sees that the file is the person's alone.
func (f LoginFile) find() (path string, info fs.FileInfo, err error) {
	if within(f.Path, f.Outside) {
		return "", nil, &LoginError{Text: f.Path + " lies in the repository, where the agent reads and writes", Tip: "keep the login out of it; " + f.Tip}
	}
	if path, err = filepath.EvalSymlinks(f.Path); err == nil {
		info, err = os.Lstat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, &LoginError{Text: "there is no login: " + f.Path + " does not exist", Tip: f.Tip, Passing: true, Err: err}
	case err != nil:
		return "", nil, f.unread(err)
	case !info.Mode().IsRegular():
		return "", nil, &LoginError{Text: f.Path + " is not a file", Tip: f.Tip}
	case info.Mode().Perm()&0o077 != 0:
		return "", nil, &LoginError{Text: fmt.Sprintf("%s can be read or changed by others (mode %o)", f.Path, info.Mode().Perm()), Tip: "chmod 600 " + f.Path}
	}
	return path, info, nil
}

func (f LoginFile) unread(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &LoginError{Text: fmt.Sprintf("%s can't be read: %s", f.Path, err), Tip: f.Tip, Err: err}
}

// Save replaces the file that the path leads to. It is the old one or the new one, whole, with the same mode.
func (f LoginFile) Save(_ context.Context, text []byte) error {
	path, info, err := f.find()
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text, info.Mode().Perm())
}

// Lock takes the agent's own locks.
func (f LoginFile) Lock(ctx context.Context) (unlock func(), err error) {
	dir := resolved(filepath.Dir(f.Path))
	var names []string
	for _, name := range f.Locks {
		names = append(names, strings.ReplaceAll(name, "{dir}", dir))
	}
	return lockDirs(ctx, names, f.Busy)
}

// LoginKeyring is a login in the keyring. The agent itself does not look there.
type LoginKeyring struct {
	Account string
	Keyring Keeper
	State   string // a directory of agentbox's own, for the lock
}

// Keeper reads and writes a keyring. Keyring is one.
type Keeper interface {
	Getter
	Set(ctx context.Context, name string, value Secret) error
}

// Place names the account.
func (k LoginKeyring) Place() string { return fmt.Sprintf("%q in the keyring", k.Account) }

// Load asks the keyring.
func (k LoginKeyring) Load(ctx context.Context) ([]byte, error) {
	value, err := k.Keyring.Get(ctx, k.Account)
	return []byte(value.Reveal()), err
}

// Save puts the login in the place of the one that is there.
func (k LoginKeyring) Save(ctx context.Context, text []byte) error {
	return k.Keyring.Set(ctx, k.Account, New(string(text)))
}

// Lock keeps other runs out.
func (k LoginKeyring) Lock(ctx context.Context) (unlock func(), err error) {
	return lockDirs(ctx, []string{filepath.Join(k.State, "login-"+k.Account+".lock")}, nil)
}

// Times of a lock. Whoever refreshes has a minute: then it counts as dead, as agents have it too.
const (
	lockStale = time.Minute
	lockWait  = 20 * time.Second
	lockLook  = 100 * time.Millisecond
)

// lockDirs makes directories, in order: who made one holds the lock. That is the convention of agents, which tells by the
// age of a directory whether its maker lives.
func lockDirs(ctx context.Context, names []string, busy func()) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	var held []string
	unlock = func() {
		for _, name := range held {
			_ = os.Remove(name) // it is empty, or somebody took it for dead
		}
	}
	for _, name := range names {
		if err := lockDir(ctx, name, busy); err != nil {
			unlock()
			return nil, err
		}
		held = append(held, name)
	}
	return unlock, nil
}

func lockDir(ctx context.Context, name string, busy func()) error {
	look := time.NewTicker(lockLook) // the kernel tells of no directory that goes
	defer look.Stop()
	for {
		err := os.Mkdir(name, 0o700)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > lockStale {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
			continue
		}
		if busy != nil {
			busy()
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return &LoginError{Text: "somebody else is refreshing the login, and holds " + name, Tip: "try again; if nobody is, remove that directory", Passing: true}
		}
	}
}
