package transport

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOnlyOwnContainersConnectAsOthers(t *testing.T) {
	inside := exec.Command("cat")
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	end, err := inside.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	if err := inNamespaceOf(inside.Process.Pid, os.Getuid()); err != nil {
		t.Errorf("a container of this user is refused: %v", err)
	}
	if err := inNamespaceOf(inside.Process.Pid, os.Getuid()+1); err == nil {
		t.Error("a container of another user is taken")
	}
	if err := inNamespaceOf(os.Getpid(), os.Getuid()); err == nil {
		t.Error("a process of no container is taken")
	}
	if err := end.Close(); err != nil {
		t.Error(err)
	}
	if err := inside.Wait(); err != nil {
		t.Error(err)
	}
}

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
