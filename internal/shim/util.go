//go:build linux

package shim

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pointer gives the address of b for a system call that takes it as a number.
func pointer(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

func number(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// retry repeats f for as long as a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func openFile(path string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// dialUnix connects to the socket at path and hands the connection to the runtime's poller.
func dialUnix(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	if err := retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("connecting to %s: %w", path, err)
	}
	return pollable(fd, path)
}

// pollable makes a file of fd on which deadlines and close work while another goroutine reads.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("making %s non-blocking: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// control runs f on the descriptor of file.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// shutdown ends one direction of the connection that file is.
func shutdown(file *os.File, how int) error {
	return control(file, func(fd int) error { return unix.Shutdown(fd, how) })
}

// whenReadable runs f when file may be read, again until it no longer gives EAGAIN.
func whenReadable(file *os.File, f func(fd int) error) error {
	return poll(file, f, func(r rawConn, try func(uintptr) bool) error { return r.Read(try) })
}

// whenWritable is whenReadable for writing.
func whenWritable(file *os.File, f func(fd int) error) error {
	return poll(file, f, func(r rawConn, try func(uintptr) bool) error { return r.Write(try) })
}

type rawConn interface {
	Read(func(uintptr) bool) error
	Write(func(uintptr) bool) error
}

func poll(file *os.File, f func(fd int) error, wait func(rawConn, func(uintptr) bool) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = wait(raw, func(fd uintptr) bool {
		inner = retry(func() error { return f(int(fd)) })
		return !errors.Is(inner, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return inner
}

// closeFD closes fd. Nothing can be done about an error, and the descriptor is gone in any case.
func closeFD(fd int) { _ = unix.Close(fd) }

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// address gives the IPv4 address of sa; the zero value for any other family.
func address(sa unix.Sockaddr) netip.AddrPort {
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
}
