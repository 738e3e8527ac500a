package eventlog

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/event"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.FixedZone("", 3600))

func clock() time.Time { return noon }

func create(t *testing.T) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	w, err := Create(path, "run1", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w, path
}

func readAll(t *testing.T, path string) (events []event.Event, problems []error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := NewReader(f)
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return events, problems
		case err != nil:
			problems = append(problems, err)
		default:
			events = append(events, e)
		}
	}
}

func TestWriterStampsAndOrders(t *testing.T) {
	w, path := create(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := w.Emit(event.Event{Kind: event.NetRequest, Status: i, Run: "forged", Seq: 99}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	events, problems := readAll(t, path)
	if len(events) != 50 || len(problems) != 0 {
		t.Fatalf("%d events, problems %v", len(events), problems)
	}
	for i, e := range events {
		if e.Seq != uint64(i+1) || e.Run != "run1" || !e.Time.Equal(noon) || e.Time.Location() != time.UTC {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestAgentBytesCannotForgeALine(t *testing.T) {
	w, path := create(t)
	evil := "/x\n{\"seq\":7,\"kind\":\"run.end\"}\n\x00\u2028\x1b[2J"
	if err := w.Emit(event.Event{Kind: event.NetRequest, Path: evil, Detail: map[string]string{evil: evil}}); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(path)
	if n := strings.Count(string(raw), "\n"); n != 1 || strings.ContainsAny(string(raw), "\x00\x1b") {
		t.Fatalf("raw log is %q", raw)
	}
	if events, _ := readAll(t, path); len(events) != 1 || events[0].Path != evil {
		t.Fatalf("read back %+v", events)
	}
}

func TestCreateTakesNoExistingFileAndNoLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if _, err := Create(path, "r", clock); err == nil {
			t.Errorf("%s was taken", path)
		}
	}
}

func TestEmitAfterCloseFailsButIsNoFailure(t *testing.T) {
	w, _ := create(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Emit(event.Event{Kind: event.RunEnd}); !errors.Is(err, ErrClosed) {
		t.Errorf("emit: %v", err)
	}
	if w.Err() != nil || closed(w.Failed()) {
		t.Errorf("closing counts as a failure: %v", w.Err())
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestFullDeviceStopsTheLogForGood(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(f, "r", clock)
	first := w.Emit(event.Event{Kind: event.NetRequest})
	if !errors.Is(first, unix.ENOSPC) || !closed(w.Failed()) || !errors.Is(w.Err(), unix.ENOSPC) {
		t.Fatalf("first: %v, err: %v", first, w.Err())
	}
	if second := w.Emit(event.Event{Kind: event.NetRequest}); !errors.Is(second, first) {
		t.Errorf("second: %v", second)
	}
}

// The disk fills in the middle of a line: the log must refuse from then on, though later, smaller writes would fit
// again, and a reader must get every whole line and be told where the torn one is.
func TestDiskFullInTheMiddleOfALine(t *testing.T) {
	if path := os.Getenv("EVENTLOG_FILL"); path != "" {
		fill(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "events.jsonl")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFullInTheMiddleOfALine$")
	cmd.Env = append(os.Environ(), "EVENTLOG_FILL="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	events, problems := readAll(t, path)
	var torn *LineError
	if len(events) != 3 || len(problems) != 1 || !errors.As(problems[0], &torn) || !torn.Torn || torn.Line != 4 {
		t.Fatalf("%d events, problems %v", len(events), problems)
	}
}

// fill runs in a process of its own, because a limit on file sizes holds for the whole process.
func fill(t *testing.T, path string) {
	w, err := Create(path, "r", clock)
	if err != nil {
		t.Fatal(err)
	}
	emit := func(n int) error { return w.Emit(event.Event{Kind: event.NetRequest, Path: strings.Repeat("x", n)}) }
	for range 3 {
		if err := emit(100); err != nil {
			t.Fatal(err)
		}
	}
	limit := unix.Rlimit{Cur: 1000, Max: 1000}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := emit(2000); err == nil {
		t.Fatal("a line went through the limit")
	}
	if err := unix.Ftruncate(int(w.file.Fd()), 900); err != nil { // room again
		t.Fatal(err)
	}
	if err := emit(1); err == nil || !closed(w.Failed()) {
		t.Fatalf("the log went on after a failure: %v", err)
	}
}

func TestReaderNamesABadLineAndGoesOn(t *testing.T) {
	r := NewReader(strings.NewReader("{\"seq\":1}\nnonsense\n{\"seq\":2}\n{\"kind\":\"x\"}\n"))
	var got []string
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if line := (*LineError)(nil); errors.As(err, &line) {
			got = append(got, "bad "+strconv.Itoa(line.Line)+" at "+strconv.FormatInt(line.Offset, 10))
			continue
		}
		got = append(got, strconv.FormatUint(e.Seq, 10))
	}
	if want := []string{"1", "bad 2 at 10", "2", "bad 4 at 29"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFollowSeesWhatIsThereAndWhatComes(t *testing.T) {
	w, path := create(t)
	emit(t, w, event.RunStart, event.NetRequest)
	seen := make(chan event.Event)
	ended := make(chan error, 1)
	go func() {
		ended <- Follow(t.Context(), path, 2, func(e event.Event) error { seen <- e; return nil })
	}()
	if e := <-seen; e.Seq != 2 {
		t.Fatalf("first is %+v", e)
	}
	for seq := uint64(3); seq < 20; seq++ {
		emit(t, w, event.NetResponse)
		if e := <-seen; e.Seq != seq {
			t.Fatalf("got %+v, want %d", e, seq)
		}
	}
	emit(t, w, event.RunEnd)
	<-seen
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestFollowWaitsForTheRestOfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ended := make(chan error, 1)
	var got []uint64
	first := make(chan struct{}, 8)
	go func() {
		ended <- Follow(t.Context(), path, 0, func(e event.Event) error {
			got = append(got, e.Seq)
			first <- struct{}{}
			return nil
		})
	}()
	write(t, f, "{\"seq\":1}\n{\"seq\":2,")
	<-first
	write(t, f, "\"kind\":")
	write(t, f, "\"run.end\"}\n")
	if err := <-ended; err != nil || !reflect.DeepEqual(got, []uint64{1, 2}) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	w, path := create(t)
	emit(t, w, event.RunStart)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		ended <- Follow(ctx, path, 0, func(event.Event) error { close(started); return nil })
	}()
	<-started
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v", err)
	}
}

func TestFanoutKeepsOrderAndGivesNothingUnlogged(t *testing.T) {
	w, _ := create(t)
	var got recorder
	f := NewFanout(w, &got, failing{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { _ = f.Emit(event.Event{Kind: event.NetRequest}) })
	}
	wg.Wait()
	for i, e := range got {
		if e.Seq != uint64(i+1) || e.Run != "run1" {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	_ = w.Close()
	if err := f.Emit(event.Event{Kind: event.NetRequest}); err == nil || len(got) != 50 {
		t.Fatalf("an unlogged event was handed on: %v, %d", err, len(got))
	}
}

type recorder []event.Event

func (r *recorder) Emit(e event.Event) error { *r = append(*r, e); return nil }

type failing struct{}

func (failing) Emit(event.Event) error { return errors.New("dropped") }

func emit(t *testing.T, w *Writer, kinds ...event.Kind) {
	t.Helper()
	for _, k := range kinds {
		if err := w.Emit(event.Event{Kind: k}); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func TestFanoutCleansWhatItHandsOn(t *testing.T) {
	w, path := create(t)
	var got recorder
	f := NewFanout(w, &got)
	f.Clean(func(s string) string { return strings.ReplaceAll(s, "v4lue", "placeholder") })
	if err := f.Emit(event.Event{Kind: event.NetResponse, Path: "/v4lue", Reason: "the server said v4lue"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "v4lue") || !strings.Contains(string(text), "the server said placeholder") {
		t.Errorf("the log holds %s, %v", text, err)
	}
	if len(got) != 1 || got[0].Path != "/placeholder" || got[0].Reason != "the server said placeholder" {
		t.Errorf("the others got %+v", got)
	}
}
