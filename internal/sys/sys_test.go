package sys

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestPeerIsThisPerson(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if uid, err := PeerUID(conn); err != nil || uid != os.Getuid() {
		t.Errorf("uid %d, %v, want %d", uid, err, os.Getuid())
	}
}

func TestRenamesReplaceNothingAndExchange(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir.Name(), name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd := int(dir.Fd())
	if err := Renameat2(fd, "a", fd, "b", RenameNoReplace); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file was replaced: %v", err)
	}
	if err := Renameat2(fd, "a", fd, "b", RenameExchange); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir.Name(), "a")); err != nil || string(got) != "b" {
		t.Errorf("a holds %q, %v", got, err)
	}
}

func TestDeviceIsTheSameInOnePlace(t *testing.T) {
	dir := t.TempDir()
	one, err1 := os.Stat(dir)
	two, err2 := os.Stat(filepath.Dir(dir))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if DeviceOf(one) == 0 || DeviceOf(one) != DeviceOf(two) {
		t.Errorf("%d and %d", DeviceOf(one), DeviceOf(two))
	}
}
