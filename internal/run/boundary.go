package run

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"agentbox/internal/gate"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/proxy"
	"agentbox/internal/shimwire"
	"agentbox/internal/synthdns"
	"agentbox/internal/transport"
)

// Secrets is a run's credentials: placeholders for the agent, real values for the proxy.
type Secrets interface {
	proxy.Injector // and proxy.Answerer, where there are logins
	proxy.Scrubber
	Placeholder(name string) string
}

// boundary is the living half of the boundary: what serves the container's listeners.
type boundary struct {
	plan    plan.Plan
	canary  string // a "host:port" that no rule allows
	issuer  *proxy.CA
	gate    *gate.Gate
	proxy   *proxy.Proxy
	table   *synthdns.Table
	names   *synthdns.Server
	serving sync.WaitGroup
}

func newBoundary(p plan.Plan, log Log, secrets Secrets, password Password, history proxy.Ancestry, asking Asking, now time.Time) (*boundary, error) {
	b := &boundary{plan: p, canary: "canary-" + randomName() + ".invalid.test:443"}
	var err error
	if b.issuer, err = proxy.NewCA(now); err != nil {
		return nil, err
	}
	network := p.Network()
	b.gate = asking.gate(network, log)
	out, err := readRouting(p.Binding.Upstream, password, now)
	if err != nil {
		return nil, err
	}
	b.proxy, err = proxy.New(proxy.Config{CA: b.issuer, Gate: b.gate, Events: b.gate, Injector: secrets, Scrubber: secrets,
		ExtraRoots: out.roots, Fixed: out.fixed, Parent: out.parent, ClientCertificates: out.certificates, Private: network.Private, Canary: b.canary,
		GitRules: len(network.Git) > 0, Ancestry: history,
		Suggest: func(r policy.Request) string { return plan.RuleFor(r, policy.Allow) }})
	if err != nil {
		return nil, err
	}
	b.table = synthdns.NewTable()
	b.names = synthdns.NewServer(b.table, b.gate.Reachable, b.gate)
	return b, nil
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// ca is the certificate that the container trusts.
func (b *boundary) ca() []byte { return b.issuer.PEM() }

// address is the synthetic address of a name, for /etc/hosts.
func (b *boundary) address(h policy.Host) netip.Addr { return b.table.Assign(h) }

// listen is what the container's programs can connect to.
func (b *boundary) listen() []shimwire.Listen {
	out := []shimwire.Listen{
		{Network: "tcp4", Addr: netip.AddrPortFrom(loopback, plan.ProxyPort).String()},
		{Network: "udp4", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), plan.DNSPort).String()},
		{Network: "tcp4", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), plan.DNSPort).String()},
	}
	for _, p := range b.plan.Binding.ListenTCP {
		out = append(out, shimwire.Listen{Network: "tcp4", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), p).String()})
	}
	return out
}

// serve serves the listeners until they end, with the container.
func (b *boundary) serve(listeners []transport.Bound) error {
	want := b.listen()
	if len(listeners) != len(want) {
		return fmt.Errorf("serving the container: %d listeners, want %d", len(listeners), len(want))
	}
	b.serving.Go(func() { _ = b.proxy.ServeProxy(listeners[0].TCP) })
	b.serving.Go(func() { _ = b.names.ServeUDP(listeners[1].UDP) })
	b.serving.Go(func() { _ = b.names.ServeTCP(listeners[2].TCP) })
	for i, p := range b.plan.Binding.ListenTCP {
		l := listeners[3+i].TCP
		b.serving.Go(func() { _ = b.proxy.ServeDirect(l, p, b.table.Lookup) })
	}
	return nil
}

// close ends what serves and waits for it. Nothing waits for a person by then.
func (b *boundary) close() error {
	err := errors.Join(b.gate.Close(), b.proxy.Close(), b.names.Close())
	b.serving.Wait()
	return err
}
