package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
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

// absolute asks for names with their trailing dot, so that no search domain of this machine is tried.
type absolute struct{ resolver *net.Resolver }

func (a absolute) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return a.resolver.LookupNetIP(ctx, network, host+".")
}

// addressError says that a name leads where nothing is ever dialled.
type addressError struct {
	host  policy.Host
	class policy.Class
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s resolves to an address that is not public (%s)", e.host, e.class)
}

// dialer connects to names: it resolves once, checks every answer and dials an address that it checked.
type dialer struct {
	resolver Resolver
	fixed    map[policy.Host]netip.AddrPort
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
		return dialOne(ctx, fixed)
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range addrs {
		conn, err := dialOne(ctx, netip.AddrPortFrom(addr, port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// resolve gives the addresses of a name, or none when a single one of them is not public.
func (d *dialer) resolve(ctx context.Context, host policy.Host) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host.String())
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("looking up %s: no address", host)
	}
	for _, addr := range addrs {
		if class := policy.ClassifyAddr(addr); class != policy.Public {
			return nil, &addressError{host, class}
		}
	}
	return addrs[:min(len(addrs), maxAddresses)], nil
}

func dialOne(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	plain := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return plain.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
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
