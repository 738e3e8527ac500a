//go:build linux

package shim

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// canaryTime bounds how long the proxy may take to refuse the canary.
const canaryTime = 5 * time.Second

// selfTest proves the boundary from inside. own are the descriptors above 2 that may be open.
func selfTest(e shimwire.Expect, own map[int]bool) shimwire.SelfTest {
	begin := time.Now()
	var r shimwire.SelfTest
	add := func(name string, err error) {
		c := shimwire.Check{Name: name, OK: err == nil}
		if err != nil {
			c.Detail = err.Error()
		}
		r.Checks = append(r.Checks, c)
	}
	add("interfaces", interfaces())
	add("routes", routes())
	add("unreachable", unreachable())
	s, err := readStatus()
	add("status", err)
	add("capabilities", s.capabilities())
	add("identity", s.identity(e))
	if e.NoNewPrivs {
		add("no new privileges", noNewPrivs())
	}
	if e.Seccomp {
		add("seccomp", s.is("Seccomp", "2"))
	}
	add("not traceable", dumpable())
	add("descriptors", descriptors(own))
	add("read-only", each(e.ReadOnly, readOnly))
	if len(e.Mounts) > 0 {
		add("mounts", mounts(e))
	}
	add("absent", each(e.Absent, absent))
	add("hidden", each(e.Empty, empty))
	add("unreadable", each(e.Unreadable, unreadable))
	if e.Proxy != "" || e.Canary != "" {
		add("canary", canary(e.Proxy, e.Canary))
	}
	r.Micros = time.Since(begin).Microseconds()
	return r
}

func passed(r shimwire.SelfTest) bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return len(r.Checks) > 0
}

// each runs f on every path and gives the first few failures.
func each(paths []string, f func(string) error) error {
	const most = 5
	var errs []error
	failures := 0
	for _, p := range paths {
		err := f(p)
		if err == nil {
			continue
		}
		if failures++; failures <= most {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
		}
	}
	if failures > most {
		errs = append(errs, fmt.Errorf("and %d more", failures-most))
	}
	return errors.Join(errs...)
}

// interfaces insists that no interface but lo is up or has an address. Idle tunnels that the kernel makes in
// every namespace (sit0 …) are harmless.
func interfaces() error {
	dev, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return err
	}
	names, err := interfaceNames(string(dev))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := idle(name); err != nil {
			return err
		}
	}
	return absentOr("/proc/net/if_inet6", onlyLoopback)
}

func idle(name string) error {
	if name == loopback {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("reading the flags of %s: %w", name, err)
	}
	if req.Uint16()&unix.IFF_UP != 0 {
		return fmt.Errorf("interface %s is up", name)
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFADDR, req)
	if err == nil {
		return fmt.Errorf("interface %s has an address", name)
	}
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("reading the address of %s: %w", name, err)
	}
	return nil
}

// routes insists that the kernel knows no way but the loopback.
func routes() error {
	v4, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return err
	}
	if err := routes4(string(v4)); err != nil {
		return err
	}
	return absentOr("/proc/net/ipv6_route", onlyLoopback)
}

// absentOr reads a file of the kernel that is missing where it knows no IPv6.
func absentOr(file string, check func(string) error) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return check(string(text))
}

// unreachable asks the kernel for a way to documentation addresses. Connecting a datagram socket sends nothing.
func unreachable() error {
	v6 := &unix.SockaddrInet6{Port: 9, Addr: netip.MustParseAddr("2001:db8::1").As16()}
	v4 := sockaddr(netip.MustParseAddrPort("192.0.2.1:9"))
	if err := cannotReach(unix.AF_INET, v4); err != nil {
		return err
	}
	return cannotReach(unix.AF_INET6, v6)
}

func cannotReach(family int, to unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := unix.Connect(fd, to); err == nil {
		return fmt.Errorf("the network has a way out (family %d)", family)
	}
	return nil
}

// noNewPrivs asks the kernel by call: gVisor does not write it into status.
func noNewPrivs() error {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	if n != 1 {
		return errors.New("the agent could gain privileges by executing a file")
	}
	return nil
}

func dumpable() error {
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	if n != 0 {
		return fmt.Errorf("dumpable is %d", n)
	}
	return nil
}

func descriptors(own map[int]bool) error {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	open := map[int]string{}
	for _, n := range names {
		fd, ok := number(n.Name())
		if !ok {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + n.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // of the listing itself
		}
		if err != nil {
			return err
		}
		open[fd] = target
	}
	return onlyOwn(open, own)
}

// readOnly tries to write: EROFS proves it, and so does a file system mounted read-only where permission alone
// refused.
func readOnly(file string) error {
	st, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = tryCreate(file)
	} else {
		err = tryWrite(file)
	}
	switch {
	case err == nil:
		return errors.New("it can be written")
	case errors.Is(err, unix.EROFS):
		return nil
	}
	var fs unix.Statfs_t
	if retry(func() error { return unix.Statfs(file, &fs) }) == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return nil
	}
	return fmt.Errorf("a write is refused for another reason than a read-only mount: %w", err)
}

func tryCreate(dir string) error {
	var random [12]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return err
	}
	name := path.Join(dir, fmt.Sprintf(".agentbox-%x", random))
	fd, err := openFile(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	closeFD(fd)
	_ = unix.Unlink(name)
	return nil
}

func tryWrite(file string) error {
	fd, err := openFile(file, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		closeFD(fd)
	}
	return err
}

// absent fails when it cannot tell, too.
func absent(file string) error {
	_, err := os.Lstat(file)
	switch {
	case err == nil:
		return errors.New("it exists")
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil
	}
	return err
}

// empty accepts what is absent, holds nothing, or belongs to somebody else and cannot be opened.
func empty(file string) error {
	st := new(unix.Stat_t)
	err := retry(func() error { return unix.Stat(file, st) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EACCES) && int(st.Uid) != os.Getuid() {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		_, err = f.ReadDir(1)
	} else {
		_, err = f.Read(make([]byte, 1))
	}
	if err == nil {
		return errors.New("it is not empty")
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("it cannot be seen to be empty: %w", err)
	}
	return nil
}

func unreadable(file string) error {
	fd, err := openFile(file, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		closeFD(fd)
		return errors.New("it can be read")
	}
	for _, fine := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.EPERM, unix.ENXIO} {
		if errors.Is(err, fine) {
			return nil
		}
	}
	return err
}

// canary asks the proxy for a host that no policy allows; anything but a plain refusal is a failure.
func canary(proxy, target string) error {
	addr, err := netip.ParseAddrPort(proxy)
	if err != nil || !addr.Addr().Is4() {
		return fmt.Errorf("the proxy's address %q is not an IPv4 address and port", proxy)
	}
	if target == "" || strings.ContainsAny(target, " \r\n") {
		return fmt.Errorf("the canary %q is not a host and port", target)
	}
	conn, err := dialTCP(addr)
	if err != nil {
		return fmt.Errorf("reaching the proxy: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(canaryTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return fmt.Errorf("asking the proxy: %w", err)
	}
	answer := make([]byte, 13)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("reading the proxy's answer: %w", err)
	}
	return refusal(string(answer))
}

// dialTCP connects to a listener of this container: that succeeds or fails at once. An attempt that a signal interrupts, as
// gVisor has the Go runtime's own do, is made again with a new socket: what happens to the old one differs between kernels.
func dialTCP(addr netip.AddrPort) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Connect(fd, sockaddr(addr)); err != nil {
			closeFD(fd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return pollable(fd, "proxy")
}
