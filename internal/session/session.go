package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names in a session's directories.
const (
	PlanFile    = "plan.json"    // state
	EventsFile  = "events.jsonl" // state
	metaFile    = "meta.json"    // state
	endFile     = "end.json"     // state
	lockFile    = "lock"         // state
	socketFile  = "control.sock" // runtime
	markerFile  = ".agentbox-run"
	sessionsDir = "sessions"
	unfinished  = ".new-" // prefix of a session that is being made
)

// Died is the reason of a session whose process ended without saying how.
const Died = "supervisor died"

// Meta is what a session says of itself from its start on.
type Meta struct {
	ID        string    `json:"id"` // set by Create
	Profile   string    `json:"profile"`
	Repo      string    `json:"repo"`
	Argv      []string  `json:"argv,omitempty"`
	Container string    `json:"container,omitempty"` // set by Create: "agentbox-" and the id
	Engine    string    `json:"engine,omitempty"`    // URI of the Podman service, "" for the default
	PID       int       `json:"pid"`                 // set by Create; for people, never for liveness
	Started   time.Time `json:"started"`             // UTC; set by the caller
}

// End is how a session ended.
type End struct {
	Time     time.Time `json:"time"` // UTC
	ExitCode int       `json:"exit_code"`
	Reason   string    `json:"reason"` // one plain phrase
}

// Info is a session seen from outside.
type Info struct {
	Meta
	Dir        string `json:"dir"`         // in the state
	RuntimeDir string `json:"runtime_dir"` // may be gone
	Live       bool   `json:"live"`
	End        *End   `json:"end,omitempty"` // nil while it lives, and for the dead before Tidy
}

// Session is a session of this process. Close it with End.
type Session struct {
	Meta       Meta
	Dir        string // in the state; the files in it are the owner's to write
	RuntimeDir string // private; removed by End
	lock       *os.File
	server     *server
}

// NewID gives an id that sorts by time: "20260102-150405-x7k2".
func NewID(random io.Reader, now time.Time) (string, error) {
	const letters = "abcdefghjkmnpqrstuvwxyz023456789" // 32, none that looks like another
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("making a session id: %w", err)
	}
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return now.UTC().Format("20060102-150405-") + string(b[:]), nil
}

// Create registers a session of this process and makes its directories. On an error nothing is left.
func Create(paths Paths, meta Meta, random io.Reader) (*Session, error) {
	uid := os.Getuid()
	sessions := filepath.Join(paths.State, sessionsDir)
	for _, dir := range []string{paths.State, sessions, paths.Runtime} {
		if err := ensure(dir, uid); err != nil {
			return nil, fmt.Errorf("creating a session: %w", err)
		}
	}
	for range 100 {
		id, err := NewID(random, meta.Started)
		if err != nil {
			return nil, err
		}
		meta.ID, meta.Container, meta.PID = id, "agentbox-"+id, os.Getpid()
		s, err := create(paths, meta)
		if !errors.Is(err, fs.ErrExist) {
			return s, err
		}
	}
	return nil, errors.New("creating a session: no free id")
}

// create makes the state directory under another name first: one that can be seen is locked and complete.
func create(paths Paths, meta Meta) (_ *Session, err error) {
	s := &Session{
		Meta:       meta,
		Dir:        stateDir(paths, meta.ID),
		RuntimeDir: filepath.Join(paths.Runtime, meta.ID),
	}
	making := filepath.Join(filepath.Dir(s.Dir), unfinished+meta.ID)
	if err := os.Mkdir(making, 0o700); err != nil {
		return nil, fmt.Errorf("creating a session: %w", explain(making, err))
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(making)
			err = fmt.Errorf("creating a session: %w", explain(making, err))
			if s.lock != nil {
				_ = s.lock.Close()
			}
		}
	}()
	// Those who look whether it is locked hold it for a moment.
	if s.lock, err = takeLock(filepath.Join(making, lockFile), unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err := writeJSON(making, metaFile, meta); err != nil {
		return nil, err
	}
	// Renaming onto an empty directory would succeed, but a session's directory never is empty.
	if err := os.Rename(making, s.Dir); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) {
			err = fs.ErrExist
		}
		return nil, err
	}
	if err := s.makeRuntime(); err != nil {
		_ = os.RemoveAll(s.Dir)
		return nil, err
	}
	return s, nil
}

func (s *Session) makeRuntime() error {
	if err := os.Mkdir(s.RuntimeDir, 0o700); err != nil {
		return err
	}
	err := os.WriteFile(filepath.Join(s.RuntimeDir, markerFile), []byte(s.Meta.ID+"\n"), 0o600)
	if err != nil {
		_ = os.RemoveAll(s.RuntimeDir)
	}
	return err
}

// End records how the session ended, removes its runtime directory, gives up the lock and only then closes the
// control connections: a client that sees its connection end may rely on the rest. It does all of it whatever fails.
func (s *Session) End(end End) error {
	var stopped error
	if s.server != nil {
		stopped = s.server.stopAccepting()
	}
	err := errors.Join(
		stopped,
		writeJSON(s.Dir, endFile, end),
		os.RemoveAll(s.RuntimeDir),
		s.lock.Close(),
	)
	if s.server != nil {
		s.server.hangUp()
	}
	if err != nil {
		return fmt.Errorf("ending session %s: %w", s.Meta.ID, err)
	}
	return nil
}

func stateDir(paths Paths, id string) string { return filepath.Join(paths.State, sessionsDir, id) }

// takeLock makes a lock file, or opens one, and locks it; how is flock(2)'s.
func takeLock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// held reports whether a process holds the lock of a session's state directory.
func held(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// List gives all sessions, oldest first. One that cannot be read is left out and named in the error, which comes
// with the others.
func List(paths Paths) ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(paths.State, sessionsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var out []Info
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		info, err := load(paths, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, info)
	}
	// an id tells the second only
	slices.SortStableFunc(out, func(a, b Info) int { return a.Started.Compare(b.Started) })
	return out, errors.Join(errs...)
}

func load(paths Paths, id string) (Info, error) {
	info := Info{Dir: stateDir(paths, id), RuntimeDir: filepath.Join(paths.Runtime, id)}
	if err := readJSON(info.Dir, metaFile, &info.Meta); err != nil {
		return info, fmt.Errorf("reading session %s: %w", id, err)
	}
	if info.ID != id {
		return info, fmt.Errorf("reading session %s: it says that it is %q", id, info.ID)
	}
	live, err := held(info.Dir)
	if err != nil {
		return info, fmt.Errorf("reading session %s: %w", id, err)
	}
	info.Live = live
	var end End
	switch err := readJSON(info.Dir, endFile, &end); {
	case err == nil:
		info.End = &end
	case !errors.Is(err, fs.ErrNotExist):
		return info, fmt.Errorf("reading session %s: %w", id, err)
	}
	return info, nil
}

// Find gives the one session whose id, or its last part, starts with prefix. Of several, a single live one wins.
func Find(paths Paths, prefix string) (Info, error) {
	all, err := List(paths)
	matching := slices.DeleteFunc(all, func(i Info) bool { return !matches(i.ID, prefix) })
	if len(matching) > 1 {
		live := slices.DeleteFunc(slices.Clone(matching), func(i Info) bool { return !i.Live })
		if len(live) == 1 {
			matching = live
		}
	}
	switch len(matching) {
	case 1:
		return matching[0], nil
	case 0:
		if err != nil {
			return Info{}, err
		}
		return Info{}, problem("`agentbox ps` lists the runs", "no run %q", prefix)
	}
	var ids []string
	for _, i := range matching {
		ids = append(ids, i.ID)
	}
	return Info{}, problem("give more of the id", "%q is the start of several runs: %s", prefix, strings.Join(ids, ", "))
}

func matches(id, prefix string) bool {
	last := id[strings.LastIndexByte(id, '-')+1:]
	return prefix != "" && (strings.HasPrefix(id, prefix) || strings.HasPrefix(last, prefix))
}

// Tidy deals with what dead sessions left: remove is called for each (its container, whatever a plain removal of the
// runtime directory cannot do; see ClearBroken), then the runtime directory goes and the end is recorded. Whole work stays.
// A session for which something fails stays for the next Tidy and is named in the error; one that a helper still serves
// stays, too. It gives the sessions that it dealt with.
func Tidy(paths Paths, now time.Time, remove func(Info) error) ([]Info, error) {
	all, err := List(paths)
	errs := []error{err}
	var out []Info
	for _, info := range all {
		if info.Live || info.End != nil && !exists(info.RuntimeDir) && !broken(info) {
			continue
		}
		done, err := tidyOne(info, now, remove)
		if err != nil {
			errs = append(errs, fmt.Errorf("tidying session %s: %w", info.ID, err))
		}
		if done {
			out = append(out, info)
		}
	}
	return out, errors.Join(append(errs, orphans(paths), halfMade(paths))...)
}

func tidyOne(info Info, now time.Time, remove func(Info) error) (bool, error) {
	lock, err := takeLock(filepath.Join(info.Dir, lockFile), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil // another process tidies it
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Close() }()
	late := served(info.RuntimeDir)
	if err := remove(info); err != nil || late {
		return false, err
	}
	if err := os.RemoveAll(info.RuntimeDir); err != nil {
		return false, err
	}
	if info.End == nil {
		if err := writeJSON(info.Dir, endFile, End{Time: now.UTC(), ExitCode: 125, Reason: Died}); err != nil {
			return false, err
		}
	}
	return true, nil
}

// served reports whether a process still listens on a socket in a session's runtime directory: an engine that outlives
// its session may still be making the container that it was asked for. Looking does not keep it alive, as a connection
// would.
func served(dir string) bool {
	sockets, err := os.ReadFile("/proc/net/unix")
	return err == nil && strings.Contains(string(sockets), " "+dir+"/")
}

// orphans removes marked runtime directories whose state is gone.
func orphans(paths Paths) error {
	entries, err := os.ReadDir(paths.Runtime)
	if err != nil {
		return ignoreMissing(err)
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(paths.Runtime, e.Name())
		if e.IsDir() && exists(filepath.Join(dir, markerFile)) && !exists(stateDir(paths, e.Name())) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// halfMade removes sessions whose process died while it made them.
func halfMade(paths Paths) error {
	sessions := filepath.Join(paths.State, sessionsDir)
	entries, err := os.ReadDir(sessions)
	if err != nil {
		return ignoreMissing(err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		dir := filepath.Join(sessions, e.Name())
		// Its maker locks it first and then writes this file: without it, it may be about to be locked.
		if !exists(filepath.Join(dir, metaFile)) {
			continue
		}
		errs = append(errs, removeHalfMade(dir))
	}
	return errors.Join(errs...)
}

// removeHalfMade removes dir if nobody holds its lock. It holds the lock meanwhile: a maker that fails removes what it made
// by itself, and the next one may take the same name as soon as that is gone.
func removeHalfMade(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ignoreMissing(err) // its maker is removing it
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // it is being made
	}
	mine, err := lock.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Lstat(filepath.Join(dir, lockFile)); err != nil || !os.SameFile(mine, there) {
		return ignoreMissing(err) // another stands there by now
	}
	return os.RemoveAll(dir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeJSON writes a file of a session so that a reader sees all of it or none, also after a power cut.
func writeJSON(dir, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return explain(dir, err)
	}
	_, err = tmp.Write(append(data, '\n'))
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return explain(dir, err)
	}
	return nil
}

func readJSON(dir, name string, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
