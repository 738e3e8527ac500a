package transport

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestAnotherPersonIsRefused(t *testing.T) {
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
	if err := samePerson(conn, os.Getuid()); err != nil {
		t.Errorf("this user is refused: %v", err)
	}
	if err := samePerson(conn, os.Getuid()+1); err == nil {
		t.Error("another user is taken")
	}
}
