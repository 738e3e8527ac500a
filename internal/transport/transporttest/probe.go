//go:build linux

package transporttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds what a part waits for; a healthy run never gets near it.
const patience = 20 * time.Second

// probe is an agent: it does what its first argument says and prints what it saw.
func probe(args []string) int {
	parts := map[string]func([]string) error{
		"dial": probeDial, "udp": probeUDP, "half": probeHalf, "flood": probeFlood, "orphans": probeOrphans, "pid1": probePID1,
	}
	f := parts[args[0]]
	if f == nil {
		fmt.Fprintln(os.Stderr, "no such probe:", args)
		return 99
	}
	if err := f(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe", args, err)
		return 98
	}
	return 0
}

// probeDial prints what each address answers.
func probeDial(addrs []string) error {
	for _, a := range addrs {
		c, err := net.Dial("tcp4", a)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(c)
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
		fmt.Println(string(text))
	}
	return nil
}

// probeUDP sends datagrams from several sockets and prints each answer.
func probeUDP(args []string) error {
	for i := range 3 {
		c, err := net.Dial("udp4", args[0])
		if err != nil {
			return err
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		for j := range 2 {
			if _, err := fmt.Fprintf(c, "question %d.%d", i, j); err != nil {
				return err
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			fmt.Println(string(buf[:n]))
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// probeHalf closes its direction first and reads the answer after, then the other way round.
func probeHalf(args []string) error {
	c, err := net.Dial("tcp4", args[0])
	if err != nil {
		return err
	}
	tcp := c.(*net.TCPConn)
	if _, err := io.WriteString(tcp, "question"); err != nil {
		return err
	}
	if err := tcp.CloseWrite(); err != nil {
		return err
	}
	text, err := io.ReadAll(tcp)
	fmt.Println(string(text))
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	if c, err = net.Dial("tcp4", args[1]); err != nil {
		return err
	}
	text, err = io.ReadAll(c) // the host has closed its direction
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "after %s", text)
	return errors.Join(err, c.Close())
}

// probeFlood echoes a megabyte over many connections at once.
func probeFlood(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	errs := make(chan error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs <- echo(args[0], byte(i)) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func echo(addr string, fill byte) error {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	data := bytes.Repeat([]byte{fill}, 64<<10)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes came back", len(got))
	}
	return nil
}

// probeOrphans makes processes whose parent ends before them and waits until PID 1 has collected each.
func probeOrphans([]string) error {
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "(exec sh -c 'echo $$ >&3') & exit 0"}, &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr, w}})
		if err != nil {
			return err
		}
		_, waitErr := p.Wait()
		text, err := func() ([]byte, error) { _ = w.Close(); return io.ReadAll(r) }()
		if err := errors.Join(waitErr, err, r.Close()); err != nil {
			return err
		}
		pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
		if err != nil {
			return err
		}
		for end := time.Now().Add(patience); unix.Kill(pid, 0) == nil; runtime.Gosched() {
			if time.Now().After(end) {
				return fmt.Errorf("process %d is never collected", pid)
			}
		}
	}
	return nil
}

// probePID1 attacks the shim from the agent's side and prints what succeeds.
func probePID1([]string) error {
	runtime.LockOSThread()
	if err := unix.PtraceAttach(1); err == nil {
		fmt.Println("ptrace attaches to PID 1")
	}
	for _, f := range []string{"/proc/1/mem", "/proc/1/environ", "/proc/1/maps"} {
		if file, err := os.Open(f); err == nil {
			if _, err := file.Read(make([]byte, 1)); err == nil || f == "/proc/1/mem" {
				fmt.Println(f, "opens")
			}
		}
	}
	for fd := range 64 {
		name := fmt.Sprintf("/proc/1/fd/%d", fd)
		if target, err := os.Readlink(name); err == nil {
			fmt.Println(name, "is seen to be", target)
		}
		if _, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			fmt.Println(name, "opens")
		}
	}
	if _, err := os.Readlink("/proc/1/exe"); err == nil {
		fmt.Println("/proc/1/exe can be read")
	}
	pidfd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	for fd := range 64 {
		if _, err := unix.PidfdGetfd(pidfd, fd, 0); err == nil {
			fmt.Println("pidfd_getfd takes descriptor", fd)
		}
	}
	return nil
}
