//go:build linux

package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"agentbox/internal/changes"

	"golang.org/x/sys/unix"
)

// This test program plays two more parts: the agent, in an overlay of a mount namespace of its own, and an apply that is
// killed.
const (
	agentEnv  = "APPLY_TEST_AGENT"  // an agentPart
	killedEnv = "APPLY_TEST_KILLED" // a killedPart
)

func TestMain(m *testing.M) {
	if text := os.Getenv(agentEnv); text != "" {
		os.Exit(exit(playAgent(text)))
	}
	if text := os.Getenv(killedEnv); text != "" {
		os.Exit(exit(playKilled(text)))
	}
	os.Exit(m.Run())
}

func exit(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// agentPart is what to do in an overlay.
type agentPart struct {
	Lower, Upper, Work, Merged string
	Seed                       uint64 // of the edits
	Script                     string // or a shell script
	Snapshot                   string // where what was seen at the end is written
}

func playAgent(text string) error {
	var p agentPart
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	options := "userxattr,lowerdir=" + p.Lower + ",upperdir=" + p.Upper + ",workdir=" + p.Work
	if err := unix.Mount("overlay", p.Merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting an overlay: %w", err)
	}
	if p.Script != "" {
		cmd := exec.Command("/bin/sh", "-euc", p.Script)
		cmd.Dir = p.Merged
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	} else if err := edit(p.Merged, p.Seed); err != nil {
		return fmt.Errorf("editing: %w", err)
	}
	snap, err := snapshot(p.Merged)
	if err != nil {
		return err
	}
	data, err := json.Marshal(snap)
	if err != nil {
		return err
	}
	return os.WriteFile(p.Snapshot, data, 0o600)
}

// play runs the agent's part.
func play(p agentPart) (tree, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), agentEnv+"="+string(text))
	cmd.SysProcAttr = ownNamespace()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the agent: %w\n%s", err, out)
	}
	data, err := os.ReadFile(p.Snapshot)
	if err != nil {
		return nil, err
	}
	var seen tree
	return seen, json.Unmarshal(data, &seen)
}

// ownNamespace makes a process the root of a user namespace, which outside is nobody but this user, with mounts of its own.
func ownNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// killedPart is an apply, a resumption or an undo that ends by SIGKILL at its n-th act.
type killedPart struct {
	Work string
	Verb string // "apply", "resume" or "undo"
	At   int
}

func playKilled(text string) error {
	var p killedPart
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	s, err := changes.Open(p.Work)
	if err != nil {
		return err
	}
	n := 0
	at := func(string) {
		if n++; n == p.At {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // until the signal is there
		}
	}
	_, err = carryOut(s, p.Verb, at)
	return err
}

// killed runs the part; false says that it came to its end before.
func killed(p killedPart) (bool, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), killedEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == unix.SIGKILL {
			return true, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("%w\n%s", err, out)
	}
	return false, nil
}

// tree is what lies below a directory: by path, in Go's notation for what is not text.
type tree map[string]string

func quoted(rel string) string { return strconv.QuoteToASCII(rel) }

// snapshot describes all below dir: kind, mode, content and target.
func snapshot(dir string) (tree, error) {
	t := tree{}
	err := walk(dir, "", t)
	return t, err
}

func walk(dir, rel string, t tree) error {
	entries, err := os.ReadDir(filepath.Join(dir, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(rel, e.Name())
		info, err := e.Info()
		if err != nil {
			return err
		}
		what, err := describe(filepath.Join(dir, path), info)
		if err != nil {
			return err
		}
		t[quoted(path)] = what
		if info.IsDir() {
			if err := walk(dir, path, t); err != nil {
				if errors.Is(err, fs.ErrPermission) {
					t[quoted(path)] += " closed"
					continue
				}
				return err
			}
		}
	}
	return nil
}

func describe(path string, info fs.FileInfo) (string, error) {
	perm := fmt.Sprintf("%03o", info.Mode().Perm())
	switch {
	case info.Mode().IsRegular():
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrPermission) {
			return "file " + perm + " closed", nil
		}
		return "file " + perm + " " + strconv.QuoteToASCII(squeeze(content)), err
	case info.IsDir():
		return "dir " + perm, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return "link " + strconv.QuoteToASCII(target), err
	}
	return "special", nil
}

// squeeze shortens runs of zeros, so that a large hole is a short text.
func squeeze(content []byte) string {
	s := string(content)
	for n := 1 << 18; n >= 4096; n /= 2 {
		s = strings.ReplaceAll(s, strings.Repeat("\x00", n), "<"+strconv.Itoa(n)+">")
	}
	return s
}

// same reports how two trees differ.
func (t tree) same(tb testing.TB, want tree, what string) {
	tb.Helper()
	for path, is := range t {
		if want[path] != is {
			tb.Errorf("%s: %s is %.300q, want %.300q", what, path, is, want[path])
		}
	}
	for path, is := range want {
		if _, there := t[path]; !there {
			tb.Errorf("%s: %s is absent, want %.300q", what, path, is)
		}
	}
}

// drop forgets a path and all below it.
func (t tree) drop(dir string) {
	for path := range t {
		plain, _ := strconv.Unquote(path)
		if plain == dir || strings.HasPrefix(plain, dir+"/") {
			delete(t, path)
		}
	}
}
