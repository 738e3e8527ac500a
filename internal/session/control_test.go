//go:build linux

package session

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStopWaitsForTheEnd(t *testing.T) {
	dir := t.TempDir()
	paths := pathsIn(dir)
	cmd, id := role(t, "owner", dir, nil)
	info, err := Find(paths, id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(info)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.State != "running" || st.Allowed != 3 {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := c.Stop(t.Context(), "a person asked", false); err != nil {
		t.Fatal(err)
	}
	info, err = Find(paths, id)
	if err != nil || info.Live || info.End == nil || info.End.Reason != "a person asked" || exists(info.RuntimeDir) {
		t.Errorf("after stop: %+v, %v", info, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(info); err == nil {
		t.Error("a dead session was reached")
	}
}

// serve gives a session that serves in a runtime directory whose path is longer than a socket's may be.
func serve(t *testing.T, uid int) (*Session, *fake, Info) {
	t.Helper()
	paths := newPaths(t)
	paths.Runtime = filepath.Join(paths.Runtime, strings.Repeat("long", 40))
	s := create1(t, paths)
	h := &fake{stops: make(chan string, 1)}
	if err := s.serve(h, uid); err != nil {
		t.Fatal(err)
	}
	info, err := Find(paths, s.Meta.ID)
	if err != nil {
		t.Fatal(err)
	}
	return s, h, info
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	s, h, info := serve(t, os.Getuid())
	c, err := Dial(info)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- c.Stop(ctx, "x", true) }()
	<-h.stops
	cancel()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got %v", err)
	}
	h.mu.Lock()
	if !h.forced {
		t.Error("force got lost")
	}
	h.mu.Unlock()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
}

func TestAnotherUserIsRefused(t *testing.T) {
	s, h, info := serve(t, os.Getuid()+1)
	c, err := Dial(info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(t.Context(), request{Op: "stop"}); err == nil {
		t.Error("another user's stop was taken")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
	if len(h.stops) != 0 {
		t.Error("another user's stop reached the run")
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s, h, info := serve(t, os.Getuid())
	for _, bad := range []string{"{}\n", "[1]\n", "x\n", `{"op":"stop"` + strings.Repeat(" ", maxLine) + "}\n", `{"op":"run"}` + "\n"} {
		c, err := Dial(info)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c.conn, bad); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c.conn).ReadString('\n')
		if err != nil || !strings.Contains(line, `"ok":false`) {
			t.Errorf("%.20q: %q, %v", bad, line, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(h.stops) != 0 {
		t.Error("a bad request stopped the run")
	}
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
}

func TestEndClosesIdleConnections(t *testing.T) {
	s, _, info := serve(t, os.Getuid())
	var conns []net.Conn
	for range maxConnections + 5 {
		c, err := Dial(info)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.conn)
	}
	if err := s.End(End{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlives the session")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestACredentialIsCut(t *testing.T) {
	_, _, info := serve(t, os.Getuid())
	c, err := Dial(info)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for name, want := range map[string]bool{"mine": true, "other": false} {
		if found, err := c.Cut(t.Context(), name, "it leaked"); err != nil || found != want {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	if _, err := c.Cut(t.Context(), "stuck", "it leaked"); err == nil || !strings.Contains(err.Error(), "not revoked: it leaked") {
		t.Errorf("stuck: %v", err)
	}
}
