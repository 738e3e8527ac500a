// Package session is the registry of runs: which there are, which of them live, how to reach them, and what the dead
// left behind.
//
// A session has a directory in the state (kept: plan, events, how it ended) and one in the runtime directory (its
// sockets and scratch files, gone when it ends). The process that runs the session owns both through a Session and
// holds a lock on the state directory's `lock` file for as long as it lives: the kernel drops it however the process
// ends, so that liveness never rests on a process id. Whoever else looks reads files and probes the lock; Tidy
// alone changes a dead session. The control socket answers its owner's user only.
package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Paths are agentbox's own directories, absolute. They need not exist.
type Paths struct {
	State   string // …/agentbox, kept over reboots
	Runtime string // …/agentbox, private to the person and gone after a reboot
	Config  string
	Cache   string
}

// Problem is an error with what to do about it.
type Problem struct {
	Err  error
	Hint string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// HintText is the line to show below the error.
func (p *Problem) HintText() string { return p.Hint }

func problem(hint, format string, args ...any) error {
	return &Problem{Err: fmt.Errorf(format, args...), Hint: hint}
}

// FindPaths applies the XDG rules to an environment: a value that is not absolute counts as unset. It creates
// nothing but checks that the runtime directory's parent is private to uid.
func FindPaths(lookup func(string) (string, bool), uid int) (Paths, error) {
	home, _ := lookup("HOME")
	place := func(name, below string) (string, error) {
		if v, ok := lookup(name); ok && filepath.IsAbs(v) {
			return filepath.Join(v, "agentbox"), nil
		}
		if !filepath.IsAbs(home) {
			return "", problem("set HOME", "finding agentbox's directories: neither %s nor HOME is an absolute path", name)
		}
		return filepath.Join(home, below, "agentbox"), nil
	}
	var p Paths
	var errs [3]error
	p.State, errs[0] = place("XDG_STATE_HOME", ".local/state")
	p.Config, errs[1] = place("XDG_CONFIG_HOME", ".config")
	p.Cache, errs[2] = place("XDG_CACHE_HOME", ".cache")
	for _, err := range errs {
		if err != nil {
			return Paths{}, err
		}
	}
	runtime, err := runtimeDir(lookup, uid)
	p.Runtime = runtime
	return p, err
}

// runtimeDir is below XDG_RUNTIME_DIR, else /run/user/UID, else a directory of the person's own in /tmp.
func runtimeDir(lookup func(string) (string, bool), uid int) (string, error) {
	if v, ok := lookup("XDG_RUNTIME_DIR"); ok && filepath.IsAbs(v) {
		if err := checkPrivate(v, uid); err != nil {
			return "", &Problem{Err: fmt.Errorf("using XDG_RUNTIME_DIR: %w", err),
				Hint: "log in as this user (su leaves the other user's environment), or unset XDG_RUNTIME_DIR"}
		}
		return filepath.Join(v, "agentbox"), nil
	}
	standard := filepath.Join("/run/user", strconv.Itoa(uid))
	if checkPrivate(standard, uid) == nil {
		return filepath.Join(standard, "agentbox"), nil
	}
	return filepath.Join("/tmp", "agentbox-"+strconv.Itoa(uid)), nil
}

// checkPrivate wants a directory of uid's that nobody else may write, reached through nothing of another user's.
func checkPrivate(path string, uid int) error {
	if err := checkLinks(path, uid); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		if err := checkOwned(at, uid, at == real); err != nil {
			return err
		}
		if at == "/" {
			return nil
		}
	}
}

// checkLinks refuses links on the way that another user made and can point elsewhere.
func checkLinks(path string, uid int) error {
	for at := filepath.Clean(path); at != "/" && at != "."; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode()&fs.ModeSymlink != 0 && (!ok || int(st.Uid) != uid && st.Uid != systemUID()) {
			return fmt.Errorf("%q is a link of another user's", at)
		}
	}
	return nil
}

// systemUID owns the machine's directories: root, which has another number inside a user namespace.
func systemUID() uint32 {
	var st syscall.Stat_t
	if err := syscall.Stat("/", &st); err != nil {
		return 0
	}
	return st.Uid
}

func checkOwned(path string, uid int, own bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.IsDir():
		return fmt.Errorf("%q is not a directory", path)
	case own && int(st.Uid) != uid, int(st.Uid) != uid && st.Uid != systemUID():
		return fmt.Errorf("%q belongs to another user (uid %d)", path, st.Uid)
	case own && info.Mode().Perm()&0o022 != 0,
		info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("%q can be written by others (mode %v)", path, info.Mode().Perm())
	}
	return nil
}

// ensure makes a directory that only uid may enter, and checks it.
func ensure(path string, uid int) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return explain(path, err)
	}
	if err := checkPrivate(path, uid); err != nil {
		return problem("remove it, or make it yours with mode 0700", "using %q: %w", path, err)
	}
	return nil
}

// explain adds what to do to the errors that a machine's state causes.
func explain(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EROFS):
		hint = "the file system is read-only: set XDG_STATE_HOME and XDG_RUNTIME_DIR to directories that can be written"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "the disk is full: free some space, `agentbox gc` removes what old runs left"
	case errors.Is(err, fs.ErrPermission):
		hint = "make it yours, or set XDG_STATE_HOME and XDG_RUNTIME_DIR to directories that are"
	}
	return problem(hint, "using %q: %w", path, err)
}
