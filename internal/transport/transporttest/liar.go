//go:build linux

package transporttest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

const liarAs = "test-liar"

// Liar gives a command that speaks as a shim does, in a network namespace of its own, and tells lie. Files of
// the command's ExtraFiles are sockets that it may pass on as its own.
func Liar(dir, lie string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{liarAs, dir, lie}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
	}
	return cmd
}

// Lies are all that must be refused before Accept returns, in either mode but for those of PassLies.
func Lies() []string {
	return []string{"hang up", "no hello", "old version", "garbage", "two messages", "endless line", "half a line",
		"rights beside hello", "wrong count", "another message", "speaks on"}
}

// PassLies are those about descriptors.
func PassLies() []string {
	return []string{"none", "fewer", "more", "very many", "same twice", "duplicate", "other port", "other address", "swapped", "ipv6",
		"not listening", "accepted", "connected udp", "udp for tcp", "tcp for udp", "mptcp", "raw", "unix", "pipe", "file",
		"epoll", "third namespace", "host first", "host last", "host all", "rights and count of others"}
}

// liar is a conversation that is not held as it should be.
type liar struct {
	conn *net.UnixConn
	read *bufio.Reader
}

// becomeLiar returns when the host has hung up, which is how it refuses.
func becomeLiar(dir, lie string) error {
	runtime.LockOSThread()
	if err := loopbackUp(); err != nil {
		return err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, filepath.Base(shimwire.Socket))})
	if err != nil {
		return err
	}
	l := &liar{conn, bufio.NewReader(conn)}
	if lie == "hang up" {
		return conn.Close()
	}
	if err := l.talk(lie); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, l.read)
	if errors.Is(err, unix.ECONNRESET) { // the host hung up on unread words
		err = nil
	}
	return err
}

func (l *liar) talk(lie string) error {
	hello := shimwire.Message{Hello: &shimwire.Hello{Version: shimwire.Version, PID: 1}}
	switch lie {
	case "no hello":
		return l.say(shimwire.Message{Listeners: &shimwire.Listeners{Count: 3}})
	case "old version":
		return l.say(shimwire.Message{Hello: &shimwire.Hello{Version: shimwire.Version + 1, PID: 1}})
	case "garbage":
		return l.raw([]byte("{\"hello\":1}\n"))
	case "two messages":
		return l.raw([]byte("{\"hello\":{\"version\":1,\"pid\":1}}\n{\"hello\":{\"version\":1,\"pid\":1}}\n"))
	case "half a line":
		return errors.Join(l.raw([]byte("{\"hello\":")), l.conn.CloseWrite())
	case "endless line":
		err := l.raw(make([]byte, 2*shimwire.MaxMessage))
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		return err
	case "rights beside hello":
		fds, err := sockets([]shimwire.Listen{tcp("127.0.0.1:3128")})
		return errors.Join(err, l.say(hello, fds...))
	}
	if err := l.say(hello); err != nil {
		return err
	}
	m, err := shimwire.Read(l.read)
	if err != nil || m.Config == nil {
		return fmt.Errorf("no config: %w", err)
	}
	return l.listeners(lie, *m.Config)
}

func (l *liar) listeners(lie string, cfg shimwire.Config) error {
	agreed := shimwire.Message{Listeners: &shimwire.Listeners{Count: len(cfg.Listen)}}
	var fds []int
	if cfg.Mode == shimwire.Pass {
		var err error
		if fds, err = sockets(cfg.Listen); err != nil {
			return err
		}
	}
	switch lie {
	case "wrong count":
		agreed.Listeners.Count++
	case "rights and count of others":
		fds = append(fds, fds[0])
		agreed.Listeners.Count++
	case "another message":
		return l.say(shimwire.Message{Started: &shimwire.Started{PID: 2}})
	case "speaks on":
		line, err := shimwire.Encode(agreed)
		if err != nil {
			return err
		}
		return l.raw(append(line, line...), fds...)
	case "again":
		if err := l.say(agreed, fds...); err != nil {
			return err
		}
		if _, err := shimwire.Read(l.read); err != nil { // Ready: the first was believed
			return err
		}
		return l.say(agreed, fds...)
	case "rights beside the self-test":
		if err := l.say(agreed, fds...); err != nil {
			return err
		}
		if _, err := shimwire.Read(l.read); err != nil {
			return err
		}
		r, _, err := os.Pipe()
		if err != nil {
			return err
		}
		return l.say(shimwire.Message{SelfTest: &shimwire.SelfTest{}}, int(r.Fd()))
	}
	fds, err := twist(lie, cfg.Listen, fds)
	if err != nil {
		return fmt.Errorf("preparing %q: %w", lie, err)
	}
	return l.say(agreed, fds...)
}

// twist replaces one of fds, which are as agreed (TCP, TCP, UDP), or changes how many there are.
func twist(lie string, asked []shimwire.Listen, fds []int) ([]int, error) {
	const host = 3 // the first of ExtraFiles
	replace := func(i int) func(int, error) ([]int, error) {
		return func(fd int, err error) ([]int, error) {
			fds[i] = fd
			return fds, err
		}
	}
	switch lie {
	case "none":
		return nil, nil
	case "fewer":
		return fds[:2], nil
	case "more":
		return append(fds, fds[0]), nil
	case "very many":
		return slices.Repeat([]int{fds[0]}, 250), nil
	case "same twice":
		return []int{fds[0], fds[0], fds[2]}, nil
	case "duplicate":
		fd, err := unix.Dup(fds[0])
		return []int{fds[0], fd, fds[2]}, err
	case "swapped":
		return []int{fds[1], fds[0], fds[2]}, nil
	case "other port":
		return replace(0)(open(unix.AF_INET, unix.SOCK_STREAM, 0, &unix.SockaddrInet4{Port: 9999, Addr: [4]byte{127, 0, 0, 1}}, true))
	case "other address":
		return replace(0)(open(unix.AF_INET, unix.SOCK_STREAM, 0, &unix.SockaddrInet4{Port: port(asked[0]), Addr: [4]byte{127, 0, 0, 2}}, true))
	case "ipv6":
		mapped := &unix.SockaddrInet6{Port: port(asked[0]), Addr: netip.MustParseAddr("::ffff:127.0.0.9").As16()}
		return replace(0)(open(unix.AF_INET6, unix.SOCK_STREAM, 0, mapped, true))
	case "not listening", "accepted":
		_ = unix.Close(fds[0])
		return replace(0)(bound(lie, asked[0]))
	case "connected udp":
		return fds, unix.Connect(fds[2], address(asked[2]))
	case "udp for tcp":
		return replace(0)(open(unix.AF_INET, unix.SOCK_DGRAM, 0, address(asked[0]), false))
	case "tcp for udp":
		return replace(2)(open(unix.AF_INET, unix.SOCK_STREAM, 0, address(asked[2]), true))
	case "mptcp":
		_ = unix.Close(fds[0])
		return replace(0)(open(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, address(asked[0]), true))
	case "raw":
		return replace(2)(open(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP, address(asked[2]), false))
	case "unix":
		return replace(0)(open(unix.AF_UNIX, unix.SOCK_STREAM, 0, &unix.SockaddrUnix{Name: "@liar"}, true))
	case "pipe":
		var p [2]int
		err := unix.Pipe(p[:])
		return replace(1)(p[0], err)
	case "file":
		return replace(1)(unix.Open("/proc/self/exe", unix.O_RDONLY, 0))
	case "epoll":
		return replace(2)(unix.EpollCreate1(0))
	case "third namespace":
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp())
		if err != nil {
			return nil, err
		}
		others, err := sockets(asked)
		if err != nil {
			return nil, err
		}
		return replace(2)(others[2], nil)
	case "host first":
		return replace(0)(host, nil)
	case "host last":
		return replace(2)(host+2, nil)
	case "host all":
		return []int{host, host + 1, host + 2}, nil
	}
	return fds, nil
}

// bound gives a TCP socket at the address that was agreed, in a state that was not.
func bound(lie string, l shimwire.Listen) (int, error) {
	if lie == "not listening" {
		return open(unix.AF_INET, unix.SOCK_STREAM, 0, address(l), false)
	}
	fd, err := open(unix.AF_INET, unix.SOCK_STREAM, 0, address(l), true)
	if err != nil {
		return -1, err
	}
	if _, err := net.Dial("tcp4", l.Addr); err != nil {
		return -1, err
	}
	accepted, _, err := unix.Accept(fd)
	return accepted, err
}

func sockets(asked []shimwire.Listen) (fds []int, err error) {
	for _, l := range asked {
		kind := unix.SOCK_STREAM
		if l.Network == "udp4" {
			kind = unix.SOCK_DGRAM
		}
		fd, err := open(unix.AF_INET, kind, 0, address(l), kind == unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func open(family, kind, protocol int, at unix.Sockaddr, listen bool) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET { // two at one address, where the host asks for that
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return -1, err
		}
	}
	if err := unix.Bind(fd, at); err != nil {
		return -1, err
	}
	if listen {
		err = unix.Listen(fd, 10)
	}
	return fd, err
}

func address(l shimwire.Listen) *unix.SockaddrInet4 {
	a := netip.MustParseAddrPort(l.Addr)
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

func port(l shimwire.Listen) int { return int(netip.MustParseAddrPort(l.Addr).Port()) }

func (l *liar) say(m shimwire.Message, fds ...int) error {
	line, err := shimwire.Encode(m)
	if err != nil {
		return err
	}
	return l.raw(line, fds...)
}

func (l *liar) raw(data []byte, fds ...int) error {
	if len(fds) == 0 {
		_, err := l.conn.Write(data)
		return err
	}
	_, _, err := l.conn.WriteMsgUnix(data, unix.UnixRights(fds...), nil)
	return err
}
