//go:build linux

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// tty is the descriptor of the container's terminal, where it has one.
const tty = 0

// execSpec is what the exec role does before it becomes the agent. It comes over a socket, so that the agent's
// environment never reaches the runtime of the shim.
type execSpec struct {
	Path   string   `json:"path"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Nproc  uint64   `json:"nproc"`
	Nofile uint64   `json:"nofile"`
}

// specFD is where the exec role finds the socket, which harden has marked to end with it.
const specFD = 3

// startError is why the agent could not be started; Kind is one of shimwire's.
type startError struct {
	kind string
	err  error
}

func (e *startError) Error() string { return e.err.Error() }

// startAgent starts a in a process group of its own, in the foreground of the terminal if it has one, and
// returns when it has become the agent's program.
func startAgent(a shimwire.Agent) (pid int, err error) {
	if len(a.Argv) == 0 {
		return 0, &startError{shimwire.ErrInternal, errors.New("no command is given")}
	}
	file, err := lookPath(a.Argv[0], a.Env, a.Dir)
	if err != nil {
		return 0, err
	}
	if a.Terminal {
		if err := takeTerminal(a.Size); err != nil {
			return 0, &startError{shimwire.ErrInternal, err}
		}
	}
	pid, err = launch(execSpec{Path: file, Argv: a.Argv, Env: a.Env, Dir: a.Dir, Nproc: a.Nproc, Nofile: a.Nofile}, a.Terminal)
	return pid, err
}

// lookPath finds name on the PATH of env. Relative directories on it are passed over: what they name depends on
// where the agent is.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		file := name
		if !path.IsAbs(file) {
			file = path.Join(dir, file)
		}
		return file, executable(file)
	}
	var found error = &startError{shimwire.ErrNotFound, fmt.Errorf("%q is not found on the agent's PATH", name)}
	for _, d := range strings.Split(lookupEnv(env, "PATH"), ":") {
		if name == "" || !path.IsAbs(d) {
			continue
		}
		file := path.Join(d, name)
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if e := new(startError); errors.As(err, &e) && e.kind == shimwire.ErrNotExecutable {
			found = err
		}
	}
	return "", found
}

func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return &startError{shimwire.ErrNotFound, fmt.Errorf("%q is not there", file)}
	case err != nil:
		return &startError{shimwire.ErrNotExecutable, err}
	case st.IsDir():
		return &startError{shimwire.ErrNotExecutable, fmt.Errorf("%q is a directory", file)}
	}
	if err := unix.Access(file, unix.X_OK); err != nil {
		return &startError{shimwire.ErrNotExecutable, fmt.Errorf("%q: %w", file, err)}
	}
	return nil
}

// lookupEnv gives the last value of key, as a shell would see it.
func lookupEnv(env []string, key string) string {
	value := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			value = v
		}
	}
	return value
}

// takeTerminal makes the shim the leader of the terminal's session, which a runtime has done already as a rule,
// and sets the size.
func takeTerminal(size shimwire.Size) error {
	if _, err := unix.IoctlGetTermios(tty, unix.TCGETS); err != nil {
		return fmt.Errorf("a terminal is expected on standard input: %w", err)
	}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		if _, err := unix.Setsid(); err != nil {
			return fmt.Errorf("starting a session: %w", err)
		}
	}
	if _, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP); err != nil {
		if err := unix.IoctlSetInt(tty, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("taking the controlling terminal: %w", err)
		}
	}
	return resize(size)
}

// resize sets the terminal's size; the kernel tells its foreground group.
func resize(size shimwire.Size) error {
	if size.Rows == 0 || size.Cols == 0 {
		return nil
	}
	if err := unix.IoctlSetWinsize(tty, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols}); err != nil {
		return fmt.Errorf("resizing the terminal: %w", err)
	}
	return nil
}

// launch forks the exec role, hands it spec and waits until it has become the agent or says why not.
func launch(spec execSpec, terminal bool) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, &startError{shimwire.ErrInternal, fmt.Errorf("making a socket pair: %w", err)}
	}
	ours := os.NewFile(uintptr(pair[0]), "spec")
	defer ours.Close()
	attr := &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if terminal {
		attr.Sys.Foreground, attr.Sys.Ctty = true, tty
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"agentbox-shim", execRole}, attr)
	closeFD(pair[1])
	if err != nil {
		return 0, &startError{shimwire.ErrInternal, fmt.Errorf("forking: %w", err)}
	}
	return pid, converse(ours, spec)
}

// converse sends spec and reads what went wrong; the end of the socket without a word is success.
func converse(sock *os.File, spec execSpec) error {
	if err := json.NewEncoder(sock).Encode(spec); err != nil {
		return &startError{shimwire.ErrInternal, fmt.Errorf("telling the agent's process what to run: %w", err)}
	}
	if err := shutdown(sock, unix.SHUT_WR); err != nil {
		return &startError{shimwire.ErrInternal, err}
	}
	answer, err := io.ReadAll(sock)
	if err != nil {
		return &startError{shimwire.ErrInternal, fmt.Errorf("waiting for the agent to start: %w", err)}
	}
	if len(answer) == 0 {
		return nil
	}
	kind, text, _ := strings.Cut(string(answer), ":")
	return &startError{kind, errors.New(text)}
}

// becomeAgent is the exec role: limits, directory, clean signals, exec. It returns only when that failed, and
// has then said so on the socket.
func becomeAgent() int {
	runtime.LockOSThread()
	sock := os.NewFile(specFD, "spec")
	err := prepare(sock)
	e := new(startError)
	if !errors.As(err, &e) {
		e = &startError{shimwire.ErrInternal, err}
	}
	_, _ = fmt.Fprintf(sock, "%s:%v", e.kind, e.err)
	return exitNotFound
}

func prepare(sock *os.File) error {
	spec, err := readSpec(sock)
	if err != nil {
		return fmt.Errorf("reading what to run: %w", err)
	}
	if err := setLimits(spec); err != nil {
		return err
	}
	if err := os.Chdir(spec.Dir); err != nil {
		return fmt.Errorf("entering the directory: %w", err)
	}
	if err := resetSignals(); err != nil {
		return err
	}
	err = syscall.Exec(spec.Path, spec.Argv, spec.Env)
	return &startError{shimwire.ErrNotExecutable, fmt.Errorf("running %q: %w", spec.Path, err)}
}

// readSpec reads sock to its end: one byte left in it, such as the line's end behind the value, and closing it resets the
// connection, which the other side would take for a failure.
func readSpec(sock io.Reader) (spec execSpec, err error) {
	text, err := io.ReadAll(sock)
	if err != nil {
		return spec, err
	}
	return spec, json.Unmarshal(text, &spec)
}

// setLimits lowers the limits of this process; none is raised above what it was given.
func setLimits(spec execSpec) error {
	if err := syscall.Setrlimit(unix.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switching off core dumps: %w", err)
	}
	for _, l := range []struct {
		name  string
		what  int
		value uint64
	}{{"nproc", unix.RLIMIT_NPROC, spec.Nproc}, {"nofile", unix.RLIMIT_NOFILE, spec.Nofile}} {
		if l.value == 0 {
			continue
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(l.what, &now); err != nil {
			return fmt.Errorf("reading the limit %s: %w", l.name, err)
		}
		n := min(l.value, now.Max)
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("setting the limit %s: %w", l.name, err)
		}
	}
	return nil
}

// resetSignals gives every signal its default action and blocks none: an ignored one would stay so in the agent.
func resetSignals() error {
	var zero [4]uint64 // struct sigaction of the kernel with SIG_DFL
	for sig := 1; sig <= 64; sig++ {
		if sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) {
			continue
		}
		// SIGURG of the runtime's preemption is ignored by default too
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&zero)), 0, 8, 0, 0)
		if errno != 0 {
			return fmt.Errorf("resetting signal %d: %w", sig, errno)
		}
	}
	return unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
}
