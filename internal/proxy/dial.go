package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"agentbox/internal/policy"
)

const (
	resolveTimeout = 15 * time.Second
	dialTimeout    = 15 * time.Second
	maxAddresses   = 8 // addresses of one name that are tried
)

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// addressError says that a name leads where nothing is ever dialled.
type addressError struct {
	host  policy.Host
	class policy.Class
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s resolves to an address that is not public (%s)", e.host, e.class)
}

// movedError says that a connection was about to lead, or led, somewhere else than to the address that was checked.
type movedError struct{ to, got netip.AddrPort }

func (e *movedError) Error() string {
	return fmt.Sprintf("the connection to %s led to %s, and was closed", e.to, e.got)
}

// opener opens a TCP connection. It asks guard about the address that the socket is about to connect to, just before
// it does.
type opener func(ctx context.Context, to netip.AddrPort, guard func(netip.AddrPort) error) (net.Conn, error)

// dialer connects to names: it resolves once, refuses the name when one of its addresses is not public and not
// permitted for that very name, dials an address that it checked, and checks that again when the socket connects.
// Two kinds of hosts are not checked: those of fixed, which the person routed, and those that a parent resolves.
type dialer struct {
	names   *nameCache
	private func(policy.Host) []netip.Prefix // may be nil
	fixed   map[policy.Host]netip.AddrPort
	parent  *parent // nil: everything is dialled from here
	open    opener

	roots        *x509.CertPool
	certificates map[policy.Host]*tls.Certificate // of this client, for those hosts alone
}

func newDialer(config Config, roots *x509.CertPool) (*dialer, error) {
	d := &dialer{private: config.Private, fixed: map[policy.Host]netip.AddrPort{}, open: openTCP, roots: roots}
	var ask finder = system{dial: (&net.Dialer{}).DialContext}
	if config.Resolver != nil {
		ask = given{config.Resolver}
	}
	d.names = newNameCache(ask, time.Now)
	for host, text := range config.Fixed {
		to, err := netip.ParseAddrPort(text)
		if err != nil || to.Port() == 0 {
			return nil, fmt.Errorf("reading the fixed address %q of %s: want \"ip:port\"", text, host)
		}
		d.fixed[host] = to
	}
	var err error
	if d.certificates, err = certificatesOf(config.ClientCertificates); err != nil {
		return nil, err
	}
	d.parent, err = newParent(config.Parent, roots)
	return d, err
}

// dialContext has the shape that http.Transport wants; addr is "name:port".
func (d *dialer) dialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	host, port, err := splitAuthority(addr)
	if err != nil {
		return nil, err
	}
	return d.dial(ctx, host, port)
}

func (d *dialer) dial(ctx context.Context, host policy.Host, port uint16) (net.Conn, error) {
	if fixed, ok := d.fixed[host]; ok {
		return openTCP(ctx, fixed, func(netip.AddrPort) error { return nil })
	}
	if d.parent != nil && !d.parent.resolvesHere() && !d.parent.passes(host) {
		return d.dialUnresolved(ctx, host, port)
	}
	addrs, err := d.lookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	if d.parent == nil || d.parent.passes(host) || d.parent.holds(addrs) {
		return d.dialDirect(ctx, host, port, addrs)
	}
	if err := d.checkAll(host, addrs); err != nil {
		return nil, err
	}
	return d.parent.connectAny(ctx, interleave(addrs, port, maxAddresses))
}

// dialUnresolved leaves a name to a parent that resolves names itself, but for one that can be resolved here and leads to
// where is dialled without the parent. That is a choice of the way and allows nothing.
func (d *dialer) dialUnresolved(ctx context.Context, host policy.Host, port uint16) (net.Conn, error) {
	if len(d.parent.DirectTo) > 0 {
		if addrs, err := d.lookUp(ctx, host); err == nil && d.parent.holds(addrs) {
			return d.dialDirect(ctx, host, port, addrs)
		}
	}
	return d.parent.connect(ctx, net.JoinHostPort(host.String(), strconv.Itoa(int(port))))
}

// dialDirect connects to one of a name's addresses, unless a single one of them may not be dialled.
func (d *dialer) dialDirect(ctx context.Context, host policy.Host, port uint16, addrs []netip.Addr) (net.Conn, error) {
	if err := d.checkAll(host, addrs); err != nil {
		return nil, err
	}
	conn, err := race(ctx, interleave(addrs, port, maxAddresses), d.connectTo(host))
	if err != nil {
		d.names.forget(host)
		return nil, err
	}
	return conn, nil
}

// lookUp gives the addresses of a name, not checked; there is at least one.
func (d *dialer) lookUp(ctx context.Context, host policy.Host) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := d.names.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("looking up %s: no address", host)
	}
	return addrs, nil
}

func (d *dialer) checkAll(host policy.Host, addrs []netip.Addr) error {
	for _, addr := range addrs {
		if err := d.check(host, addr); err != nil {
			return err
		}
	}
	return nil
}

// check says why an address may not be dialled for host.
func (d *dialer) check(host policy.Host, addr netip.Addr) error {
	var granted []netip.Prefix
	if d.private != nil {
		granted = d.private(host)
	}
	if policy.Permits(granted, addr) {
		return nil
	}
	return &addressError{host, policy.ClassifyAddr(addr)}
}

// connectTo dials addresses of host, and closes what connected to anything else.
func (d *dialer) connectTo(host policy.Host) connect {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		same := func(got netip.AddrPort) error {
			if got != to {
				return &movedError{to, got}
			}
			return d.check(host, got.Addr())
		}
		conn, err := d.open(ctx, to, same)
		if err != nil {
			return nil, err
		}
		if err := same(plainAddr(conn.RemoteAddr())); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func openTCP(ctx context.Context, to netip.AddrPort, guard func(netip.AddrPort) error) (net.Conn, error) {
	plain := net.Dialer{
		Timeout: dialTimeout, KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			got, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("reading the address of a socket: %w", err)
			}
			return guard(netip.AddrPortFrom(got.Addr().Unmap(), got.Port()))
		},
	}
	return plain.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
}

// plainAddr is the zero AddrPort for what is no TCP address.
func plainAddr(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	got := tcp.AddrPort()
	return netip.AddrPortFrom(got.Addr().Unmap(), got.Port())
}

// splitAuthority reads "name:port"; both must be there.
func splitAuthority(authority string) (policy.Host, uint16, error) {
	name, digits, err := net.SplitHostPort(authority)
	if err != nil {
		return policy.Host{}, 0, fmt.Errorf("%q is not a name and a port", shorten(authority))
	}
	port, err := parsePort(digits)
	if err != nil {
		return policy.Host{}, 0, err
	}
	host, err := policy.ParseHost(name)
	if err != nil {
		return policy.Host{}, port, err
	}
	return host, port, nil
}

func parsePort(digits string) (uint16, error) {
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || digits[0] == '+' {
		return 0, fmt.Errorf("%q is not a port", shorten(digits))
	}
	return uint16(port), nil
}
