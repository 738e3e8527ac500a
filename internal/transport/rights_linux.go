package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// maxRights is the kernel's limit of descriptors beside one message (SCM_MAX_FD).
const maxRights = 253

// rightsReader reads a connection and collects every descriptor that comes along. Descriptors that plain reads
// would let the kernel discard are thus noticed.
type rightsReader struct {
	conn *net.UnixConn
	fds  []int
}

func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxRights*4))
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(p, oob)
	n, oobn = max(n, 0), max(oobn, 0) // -1 beside an error
	fds, parseErr := parseRights(oob[:oobn])
	r.fds = append(r.fds, fds...)
	switch {
	case err != nil:
		return n, err
	case parseErr != nil:
		return n, parseErr
	case flags&unix.MSG_CTRUNC != 0:
		return n, fmt.Errorf("its descriptors do not fit: %w", ErrProtocol)
	case len(r.fds) > shimwire.MaxListeners:
		return n, fmt.Errorf("it sends more than %d descriptors: %w", shimwire.MaxListeners, ErrProtocol)
	}
	return n, nil
}

// parseRights gives the descriptors in oob, as far as it can be understood.
func parseRights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("reading control messages: %w", err)
	}
	for i := range messages {
		got, parseErr := unix.ParseUnixRights(&messages[i])
		if parseErr != nil {
			err = fmt.Errorf("it sends a control message that is no descriptors: %w", ErrProtocol)
			continue
		}
		fds = append(fds, got...)
	}
	return fds, err
}

func closeFDs(fds []int) error {
	for _, fd := range fds {
		_ = unix.Close(fd) // the descriptor is gone in any case
	}
	return nil
}

// samePerson insists that the other side of conn runs as uid, seen from here: the user namespace of the
// container maps the agent to the person. That nobody else can enter the directory is the first defence.
func samePerson(conn *net.UnixConn, uid int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return fmt.Errorf("asking who connects: %w", err)
	}
	if int(cred.Uid) == uid {
		return nil
	}
	if err := inNamespaceOf(int(cred.Pid), uid); err != nil {
		return fmt.Errorf("uid %d connects, not %d: %w", cred.Uid, uid, err)
	}
	return nil
}

// inNamespaceOf insists that process pid lives in a user namespace that uid made, however deep: gVisor connects
// for the container as a subordinate user, who has no existence outside such a namespace.
func inNamespaceOf(pid, uid int) error {
	const deepest = 32 // the kernel's own limit of nesting
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("asking for its user namespace: %w", err)
	}
	defer func() { _ = unix.Close(ns) }()
	for range deepest {
		parent, err := unix.IoctlRetInt(ns, unix.NS_GET_PARENT)
		if err != nil { // the initial namespace, or this process's own, which is no container
			return fmt.Errorf("it is in no container of uid %d", uid)
		}
		owner, err := unix.IoctlGetUint32(ns, unix.NS_GET_OWNER_UID)
		_ = unix.Close(ns)
		ns = parent
		if err == nil && int(owner) == uid {
			return nil
		}
	}
	return fmt.Errorf("its user namespace is too deep")
}

// adopt makes listeners of fds, which it owns: all of them are exactly what was asked for, or all are closed.
func adopt(asked []shimwire.Listen, fds []int) ([]Bound, error) {
	if err := inspect(asked, fds); err != nil {
		return nil, errors.Join(err, closeFDs(fds))
	}
	bound := make([]Bound, 0, len(fds))
	for i, fd := range fds {
		b, err := wrap(asked[i], fd)
		if err != nil {
			closeAll(bound)
			return nil, errors.Join(err, closeFDs(fds[i+1:]))
		}
		bound = append(bound, b)
	}
	return bound, nil
}

// wrap makes a listener of fd, which it owns.
func wrap(l shimwire.Listen, fd int) (Bound, error) {
	f := os.NewFile(uintptr(fd), l.Network+" "+l.Addr)
	defer func() { _ = f.Close() }() // the net package keeps a duplicate
	var b Bound
	var err error
	if l.Network == "udp4" {
		b = Bound{Listen: l}
		b.UDP, err = net.FilePacketConn(f)
	} else {
		b = Bound{Listen: l}
		b.TCP, err = net.FileListener(f)
	}
	if err != nil {
		return Bound{}, fmt.Errorf("taking the listener %s %s over: %w", l.Network, l.Addr, err)
	}
	return b, nil
}

// inspect holds every descriptor against what was asked for.
func inspect(asked []shimwire.Listen, fds []int) error {
	if len(fds) != len(asked) {
		return fmt.Errorf("it sends %d descriptors, not %d: %w", len(fds), len(asked), ErrProtocol)
	}
	if len(fds) == 0 {
		return nil
	}
	here, err := ownNamespace()
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	var there uint64
	for i, fd := range fds {
		id, ns, err := inspectOne(asked[i], fd)
		if err != nil {
			return fmt.Errorf("checking the listener %s %s: %w", asked[i].Network, asked[i].Addr, err)
		}
		if i == 0 {
			there = ns
		}
		switch {
		case seen[id]:
			return fmt.Errorf("checking the listener %s %s: it is sent twice: %w", asked[i].Network, asked[i].Addr, ErrProtocol)
		case ns == here:
			return fmt.Errorf("checking the listener %s %s: it is in the host's network: %w", asked[i].Network, asked[i].Addr, ErrProtocol)
		case ns != there:
			return fmt.Errorf("checking the listener %s %s: it is in another network than the first: %w", asked[i].Network, asked[i].Addr, ErrProtocol)
		}
		seen[id] = true
	}
	return nil
}

// inspectOne gives the identities of the socket and of its network namespace.
func inspectOne(l shimwire.Listen, fd int) (id, namespace uint64, err error) {
	kind, protocol, listens := unix.SOCK_STREAM, unix.IPPROTO_TCP, 1
	if l.Network == "udp4" {
		kind, protocol, listens = unix.SOCK_DGRAM, unix.IPPROTO_UDP, 0
	}
	for _, o := range []struct {
		name         string
		option, want int
	}{
		{"family", unix.SO_DOMAIN, unix.AF_INET}, {"type", unix.SO_TYPE, kind},
		{"protocol", unix.SO_PROTOCOL, protocol}, {"listening state", unix.SO_ACCEPTCONN, listens},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.option)
		if err != nil {
			return 0, 0, fmt.Errorf("asking for its %s: %w", o.name, errors.Join(err, ErrProtocol))
		}
		if got != o.want {
			return 0, 0, fmt.Errorf("its %s is %d, not %d: %w", o.name, got, o.want, ErrProtocol)
		}
	}
	if err := inspectAddress(l, fd); err != nil {
		return 0, 0, err
	}
	if id, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return 0, 0, fmt.Errorf("asking for its identity: %w", err)
	}
	if namespace, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		return 0, 0, fmt.Errorf("asking for its network: %w", err)
	}
	return id, namespace, nil
}

// inspectAddress insists on the local address, and on no peer.
func inspectAddress(l shimwire.Listen, fd int) error {
	want, err := netip.ParseAddrPort(l.Addr)
	if err != nil {
		return err
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("asking for its address: %w", err)
	}
	in4, ok := local.(*unix.SockaddrInet4)
	if !ok || in4.Addr != want.Addr().As4() || in4.Port != int(want.Port()) {
		return fmt.Errorf("it has another address: %w", ErrProtocol)
	}
	if _, err := unix.Getpeername(fd); !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("it is connected: %w", ErrProtocol)
	}
	return nil
}

// ownNamespace gives the identity of the host's network namespace.
func ownNamespace() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("making a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	id, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("asking for the host's network (it takes Linux 5.14): %w", err)
	}
	return id, nil
}
