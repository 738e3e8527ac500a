package changes

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// While it is read, the agent goes on: it deletes, it makes anew, and it lays links to the outside in the place of
// directories and files. That ends no list, and nothing from outside is read.
func TestTheAgentWorksMeanwhile(t *testing.T) {
	st := newStage(t, Overlay)
	outside := t.TempDir()
	put(t, outside, "key", "outside\n")
	put(t, st.root, "dir/key", "start\n")
	st.begin()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- swap(ctx, st.upper, outside) }()
	s := st.source()
	for range 300 {
		list, err := s.List(context.Background())
		if err != nil {
			t.Error(err)
			break
		}
		for _, c := range list {
			if c.After.Kind == Link && c.Later == "" {
				t.Errorf("%+v", c)
			}
		}
		for _, path := range []string{"dir/key", "key", "dir/sub/key"} {
			if f, err := s.After(path); err == nil {
				text, _ := io.ReadAll(f)
				f.Close()
				if strings.Contains(string(text), "outside") {
					t.Fatalf("%q was read from outside", path)
				}
			}
		}
	}
	stop()
	must(t, <-ended)
}

// swap changes what lies in dir until ctx ends.
func swap(ctx context.Context, dir, outside string) error {
	sub, file := filepath.Join(dir, "dir"), filepath.Join(dir, "key")
	for ctx.Err() == nil {
		for _, step := range []func() error{
			func() error { return os.MkdirAll(filepath.Join(sub, "sub"), 0o755) },
			func() error { return os.WriteFile(filepath.Join(sub, "key"), []byte("agent's\n"), 0o644) },
			func() error { return os.WriteFile(filepath.Join(sub, "sub", "key"), []byte("agent's\n"), 0o644) },
			func() error { return os.WriteFile(file, []byte("agent's\n"), 0o644) },
			func() error { return os.RemoveAll(sub) },
			func() error { return os.Symlink(outside, sub) },
			func() error { return os.Remove(file) },
			func() error { return os.Symlink(filepath.Join(outside, "key"), file) },
			func() error { return os.Remove(sub) },
			func() error { return os.Remove(file) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}
