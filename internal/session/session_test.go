//go:build linux

package session

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this test program play another process.
const roleEnv = "SESSION_TEST_ROLE"

var started = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "owner":
		owner()
	case "readonly", "full":
		fmt.Println(badDisk(os.Getenv(roleEnv)))
	}
}

// owner holds a session in the directory of the last argument until it is killed or told to stop.
func owner() {
	s, err := Create(pathsIn(os.Args[len(os.Args)-1]), Meta{Profile: "p", Started: started}, rand.Reader)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	h := &fake{stops: make(chan string, 1)}
	if err := s.Serve(h); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(s.Meta.ID)
	reason := <-h.stops
	if err := s.End(End{ExitCode: 137, Reason: reason}); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// badDisk is what Create says on a file system that is read-only or full.
func badDisk(role string) error {
	dir := os.Args[len(os.Args)-1]
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		return err
	}
	paths := pathsIn(dir)
	for _, d := range []string{paths.State, paths.Runtime} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if role == "full" {
		f, err := os.Create(filepath.Join(dir, "fill"))
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	} else if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	_, err := Create(paths, Meta{Started: started}, rand.Reader)
	var p *Problem
	if !errors.As(err, &p) {
		return fmt.Errorf("no hint: %w", err)
	}
	left, _ := os.ReadDir(filepath.Join(paths.State, sessionsDir))
	return fmt.Errorf("%w | %s | %d left", err, p.Hint, len(left))
}

type fake struct {
	mu     sync.Mutex
	forced bool
	stops  chan string
	asked
}

func (f *fake) Status() Status { return Status{State: "running", Allowed: 3} }
func (f *fake) Cut(credential, reason string) (bool, error) {
	if credential == "stuck" {
		return true, errors.New("not revoked: " + reason)
	}
	return credential == "mine", nil
}

func (f *fake) Stop(reason string, force bool) {
	f.mu.Lock()
	f.forced = force
	f.mu.Unlock()
	f.stops <- reason
}

func pathsIn(dir string) Paths {
	return Paths{State: filepath.Join(dir, "state", "agentbox"), Runtime: filepath.Join(dir, "run", "agentbox")}
}

func newPaths(t *testing.T) Paths {
	t.Helper()
	dir := t.TempDir()
	return pathsIn(dir)
}

func create1(t *testing.T, paths Paths) *Session {
	t.Helper()
	s, err := Create(paths, Meta{Profile: "claude", Repo: "/r", Started: started}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// role starts another process and gives its first line of output.
func role(t *testing.T, name, dir string, attr *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestASessionLivesAndEnds(t *testing.T) {
	paths := newPaths(t)
	s := create1(t, paths)
	info, err := Find(paths, s.Meta.ID[:10])
	if err != nil || !info.Live || info.End != nil || info.Profile != "claude" || info.Container != "agentbox-"+s.Meta.ID {
		t.Fatalf("alive: %+v, %v", info, err)
	}
	for _, dir := range []string{s.Dir, s.RuntimeDir, paths.State, paths.Runtime} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
	if _, err := Tidy(paths, started, func(Info) error { t.Error("a live session is tidied"); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.End(End{Time: started, ExitCode: 7, Reason: "the agent ended"}); err != nil {
		t.Fatal(err)
	}
	info, err = Find(paths, s.Meta.ID)
	if err != nil || info.Live || info.End == nil || info.End.ExitCode != 7 {
		t.Errorf("ended: %+v, %v", info, err)
	}
	if exists(s.RuntimeDir) {
		t.Error("the runtime directory stayed")
	}
	if done, err := Tidy(paths, started, func(Info) error { return nil }); err != nil || len(done) != 0 {
		t.Errorf("tidied %v, %v", done, err)
	}
}

func TestAKilledSessionIsDeadAndTidiedOnce(t *testing.T) {
	dir := t.TempDir()
	paths := pathsIn(dir)
	cmd, id := role(t, "owner", dir, nil)
	info, err := Find(paths, id)
	if err != nil || !info.Live {
		t.Fatalf("before: %+v, %v", info, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	info, err = Find(paths, id)
	if err != nil || info.Live || info.End != nil {
		t.Fatalf("after: %+v, %v", info, err)
	}
	if _, err := Tidy(paths, started, func(Info) error { return errors.New("podman is away") }); err == nil {
		t.Error("a failed removal is not told")
	}
	if !exists(info.RuntimeDir) {
		t.Error("it was given up although its container may be there")
	}
	var removed []string
	done, err := Tidy(paths, started, func(i Info) error { removed = append(removed, i.Container); return nil })
	if err != nil || len(done) != 1 || !slices.Equal(removed, []string{"agentbox-" + id}) || exists(info.RuntimeDir) {
		t.Errorf("tidied %v, %q, %v", done, removed, err)
	}
	info, err = Find(paths, id)
	if err != nil || info.End == nil || info.End.Reason != Died {
		t.Errorf("after tidying: %+v, %v", info, err)
	}
	if done, err := Tidy(paths, started, func(Info) error { return nil }); err != nil || len(done) != 0 {
		t.Errorf("tidied again: %v, %v", done, err)
	}
}

func TestTidyRemovesOrphansAndHalfMadeSessions(t *testing.T) {
	paths := newPaths(t)
	s := create1(t, paths)
	if err := s.End(End{}); err != nil {
		t.Fatal(err)
	}
	orphan, foreign := filepath.Join(paths.Runtime, "x"), filepath.Join(paths.Runtime, "y")
	half := filepath.Join(paths.State, sessionsDir, unfinished+"z")
	for _, d := range []string{orphan, foreign, half} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(orphan, markerFile), filepath.Join(half, metaFile), filepath.Join(half, lockFile)} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Tidy(paths, started, func(Info) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if exists(orphan) || exists(half) || !exists(foreign) {
		t.Errorf("orphan %v, half-made %v, foreign %v", exists(orphan), exists(half), exists(foreign))
	}
}

func TestTwentyAtOnceAreDistinctAndNeverSeenDead(t *testing.T) {
	paths := newPaths(t)
	sessions := make([]*Session, 20)
	errs := make([]error, 20)
	var makers, watcher sync.WaitGroup
	quit := make(chan struct{})
	watcher.Go(func() {
		for {
			all, err := List(paths)
			if err != nil {
				t.Error(err)
			}
			for _, i := range all {
				if !i.Live {
					t.Errorf("%s is seen dead", i.ID)
				}
			}
			if _, err := Tidy(paths, started, func(Info) error { return nil }); err != nil {
				t.Error(err)
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	})
	// Few distinct ids, so that they collide.
	for i := range sessions {
		makers.Go(func() { sessions[i], errs[i] = Create(paths, Meta{Started: started}, &fewIDs{}) })
	}
	makers.Wait()
	close(quit)
	watcher.Wait()
	seen := map[string]bool{}
	for i, s := range sessions {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if seen[s.Meta.ID] {
			t.Errorf("%s twice", s.Meta.ID)
		}
		seen[s.Meta.ID] = true
	}
	for _, s := range sessions {
		if err := s.End(End{}); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(paths.Runtime); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// fewIDs counts up: every reader of it makes the same ids.
type fewIDs struct{ n byte }

func (f *fewIDs) Read(p []byte) (int, error) {
	clear(p)
	p[len(p)-1] = f.n % 32
	f.n++
	return len(p), nil
}

func TestFindTellsAmbiguousAndUnknown(t *testing.T) {
	paths := newPaths(t)
	a, err := Create(paths, Meta{Started: started}, &fewIDs{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Create(paths, Meta{Started: started}, &fewIDs{n: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(paths, "2026"); err == nil || !strings.Contains(err.Error(), a.Meta.ID+", "+b.Meta.ID) {
		t.Errorf("got %v", err)
	}
	if got, err := Find(paths, "aaab"); err != nil || got.ID != b.Meta.ID {
		t.Errorf("by the last part: %v, %v", got.ID, err)
	}
	for _, bad := range []string{"", "nope", "../x"} {
		if _, err := Find(paths, bad); err == nil {
			t.Errorf("%q was found", bad)
		}
	}
	if err := b.End(End{}); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(paths, "2026"); err != nil || got.ID != a.Meta.ID {
		t.Errorf("the live one: %v, %v", got.ID, err)
	}
	if err := a.End(End{}); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedSessionHidesNoOther(t *testing.T) {
	paths := newPaths(t)
	s := create1(t, paths)
	defer func() { _ = s.End(End{}) }()
	bad := filepath.Join(paths.State, sessionsDir, "bad")
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, metaFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := List(paths)
	if err == nil || !strings.Contains(err.Error(), "reading session bad") || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := Find(paths, s.Meta.ID); err != nil {
		t.Error(err)
	}
}

func TestBadDisksAreTold(t *testing.T) {
	for name, want := range map[string]string{"readonly": "read-only file system | the file system is read-only", "full": "no space left on device | the disk is full"} {
		attr := &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
		}
		cmd, line := role(t, name, t.TempDir(), attr)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line, want) || !strings.HasSuffix(line, "| 0 left") {
			t.Errorf("%s: %s", name, line)
		}
	}
}

// A helper that outlives the killed session may still make what it was asked for: the session stays until it has gone.
func TestTidyComesBackForASessionThatIsStillServed(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	paths := pathsIn(dir)
	if err := os.MkdirAll(paths.Runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	s := create1(t, paths)
	l, err := net.Listen("unix", filepath.Join(s.RuntimeDir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lock.Close(); err != nil { // as the kernel does when the process is killed
		t.Fatal(err)
	}
	removed := 0
	tidy := func() int {
		done, err := Tidy(paths, started, func(Info) error { removed++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return len(done)
	}
	if n := tidy(); n != 0 || removed != 1 {
		t.Errorf("while it is served: %d done, %d removed", n, removed)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := tidy(); n != 1 || removed != 2 || exists(s.RuntimeDir) {
		t.Errorf("when it is not: %d done, %d removed", n, removed)
	}
}

func TestListIsInTheOrderOfTheStarts(t *testing.T) {
	paths := newPaths(t)
	var want, got []string
	for i := range 20 { // all in one second
		s, err := Create(paths, Meta{Profile: "p", Started: started.Add(time.Duration(i) * time.Millisecond)}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, s.Meta.ID)
		t.Cleanup(func() { _ = s.End(End{}) })
	}
	all, err := List(paths)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		got = append(got, i.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIDsSortByTime(t *testing.T) {
	a, err := NewID(rand.Reader, started)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewID(rand.Reader, started.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if a >= b || len(a) != len("20260102-150405-x7k2") {
		t.Errorf("%s, %s", a, b)
	}
	if _, err := NewID(strings.NewReader("x"), started); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestInfoIsPlainJSON(t *testing.T) {
	data, err := json.Marshal(Info{Meta: Meta{ID: "x"}, Live: true})
	if err != nil || !strings.Contains(string(data), `"id":"x"`) || !strings.Contains(string(data), `"live":true`) {
		t.Errorf("%s, %v", data, err)
	}
}
