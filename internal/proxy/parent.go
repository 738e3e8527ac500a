package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"agentbox/internal/policy"
)

const (
	parentTimeout  = 30 * time.Second // to reach the parent, and to be let through by it
	maxParentHead  = 64 << 10         // bytes of what it answers to a CONNECT
	maxParentHeads = 5                // interim answers and the final one
)

// Parent is a proxy of the person's network, through which everything goes but what is said to be dialled directly.
type Parent struct {
	Scheme  string // "http", "https", "socks5" or "socks5h"; with "socks5" alone are names resolved, and addresses checked, here
	Address string // "host:port"; the person chose it, so it may lead anywhere
	User    string // "" logs in nowhere

	// Password is asked for with each connection, and only when there is a User. Its error goes to the agent, so it
	// holds no secret.
	Password func(context.Context) (string, error)

	Direct   []string       // hosts that are dialled directly: canonical names, and "*.name" for all below one
	DirectTo []netip.Prefix // and those whose addresses all lie in one of these
}

// parentError says why a parent let nothing through, in words of our own: what it answered is not repeated.
type parentError struct {
	reason  string
	address bool // another address of the same name may do
	account bool // the name and the password were not taken
}

func (e *parentError) Error() string { return "the upstream proxy " + e.reason }

// parent speaks to a Parent.
type parent struct {
	Parent
	tls     *tls.Config // nil for those that are spoken to in the clear
	timeout time.Duration

	// A password that was not taken is not given again: accounts are locked after a few such attempts, and programs
	// inside try again and again. One that was taken before is: then it is the parent that wavers.
	taken   atomic.Bool
	refused atomic.Pointer[parentError]
}

func newParent(config *Parent, roots *x509.CertPool) (*parent, error) {
	if config == nil {
		return nil, nil
	}
	name, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, fmt.Errorf("reading the upstream proxy's address: %w", err)
	}
	p := &parent{Parent: *config, timeout: parentTimeout}
	switch p.Scheme {
	case "http", "socks5", "socks5h":
	case "https":
		p.tls = &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	default:
		return nil, fmt.Errorf("reading the upstream proxy: %q is not a kind of proxy", p.Scheme)
	}
	if p.User != "" && p.Password == nil {
		return nil, errors.New("reading the upstream proxy: a user without a password")
	}
	return p, nil
}

// resolvesHere reports whether names are resolved by this side of the parent.
func (p *parent) resolvesHere() bool { return p.Scheme == "socks5" }

// passes reports a host that is dialled without the parent, by its name.
func (p *parent) passes(host policy.Host) bool {
	return slices.ContainsFunc(p.Direct, func(name string) bool {
		below, wild := strings.CutPrefix(name, "*")
		return name == host.String() || wild && strings.HasSuffix(host.String(), below)
	})
}

// holds reports whether all addresses are such that they are dialled without the parent.
func (p *parent) holds(addrs []netip.Addr) bool {
	outside := func(addr netip.Addr) bool {
		return !slices.ContainsFunc(p.DirectTo, func(prefix netip.Prefix) bool { return prefix.Contains(addr.Unmap()) })
	}
	return len(addrs) > 0 && !slices.ContainsFunc(addrs, outside)
}

// connectAny has the parent connect to the first of some addresses, which were checked, that it can reach. It tries them
// in turn, and no other where it is not the address that is refused.
func (p *parent) connectAny(ctx context.Context, to []netip.AddrPort) (conn net.Conn, err error) {
	for _, addr := range to {
		conn, err = p.connect(ctx, addr.String())
		var said *parentError
		if err == nil || !errors.As(err, &said) || !said.address {
			return conn, err
		}
	}
	return nil, err
}

// connect gives a connection through the parent to target, "name:port" or "ip:port".
func (p *parent) connect(ctx context.Context, target string) (net.Conn, error) {
	if refused := p.refused.Load(); refused != nil {
		return nil, refused
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	login, err := p.login(ctx)
	if err != nil {
		return nil, p.explain(ctx, err)
	}
	raw, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, p.explain(ctx, fmt.Errorf("reaching it: %w", err))
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, err := p.ask(ctx, raw, target, login)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		return nil, p.explain(ctx, err)
	}
	p.taken.Store(true)
	return conn, nil
}

// account is whom the parent is told that it is.
type account struct{ user, password string }

func (p *parent) login(ctx context.Context) (*account, error) {
	if p.User == "" {
		return nil, nil
	}
	password, err := p.Password(ctx)
	if err != nil {
		return nil, &parentError{reason: "can't be logged in to: " + err.Error()}
	}
	return &account{p.User, password}, nil
}

func (p *parent) ask(ctx context.Context, conn net.Conn, target string, login *account) (net.Conn, error) {
	if p.Scheme == "socks5" || p.Scheme == "socks5h" {
		return conn, socks5(conn, target, login)
	}
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	return httpConnect(conn, target, login)
}

// explain keeps what was ended from inside as it is, and says of all else that it was the parent.
func (p *parent) explain(ctx context.Context, err error) error {
	var said *parentError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &said):
		if said.account && !p.taken.Load() {
			p.refused.Store(said)
		}
		return said
	case errors.As(err, &certificate):
		return &parentError{reason: "was not trusted: " + certificateReason(certificate)}
	case ctx.Err() != nil:
		return &parentError{reason: "did not answer in time"}
	case errors.Is(err, errNotHTTP), errors.Is(err, errNotSOCKS):
		return &parentError{reason: err.Error()}
	}
	return &parentError{reason: "could not be reached or hung up: " + shorten(err.Error())}
}

var errNotHTTP = errors.New("does not answer as an HTTP proxy does")

// httpConnect asks an HTTP proxy for a tunnel. Not a byte behind its answer is lost, and not more than maxParentHead of
// the answer is read.
func httpConnect(conn net.Conn, target string, login *account) (net.Conn, error) {
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if login != nil {
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(login.user+":"+login.password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(conn, maxParentHead))
	status, err := finalStatus(r)
	switch {
	case err != nil:
		return nil, err
	case status/100 == 2:
		ahead, _ := r.Peek(r.Buffered())
		return replay(conn, ahead), nil
	case status == http.StatusProxyAuthRequired && login == nil:
		return nil, &parentError{reason: "wants a name and a password (407)"}
	case status == http.StatusProxyAuthRequired:
		return nil, &parentError{reason: "does not take the name and the password that it was given (407)", account: true}
	}
	return nil, &parentError{reason: fmt.Sprintf("answered %d%s", status, after(" ", http.StatusText(status)))}
}

func after(separator, s string) string {
	if s == "" {
		return ""
	}
	return separator + s
}

// finalStatus reads the heads of answers until one is no interim one.
func finalStatus(r *bufio.Reader) (int, error) {
	for range maxParentHeads {
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it has none: what follows belongs to the tunnel
		var timeout net.Error
		switch {
		case errors.As(err, &timeout):
			return 0, err
		case err != nil:
			return 0, errNotHTTP
		case resp.StatusCode/100 != 1:
			return resp.StatusCode, nil
		}
	}
	return 0, errNotHTTP
}
