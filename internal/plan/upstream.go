package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

func upstream(in Inputs) Upstream { return UpstreamOf(in.Config, in.Host.User.Home) }

// UpstreamOf is what the person's configuration says, made absolute.
func UpstreamOf(person profiles.Config, home string) Upstream {
	config := person.Upstream
	u := Upstream{Proxy: upstreamProxy(config)}
	for _, ca := range config.CA {
		u.CA = append(u.CA, ca.Under(home))
	}
	for host, endpoint := range config.Hosts {
		if u.Hosts == nil {
			u.Hosts = map[string]string{}
		}
		u.Hosts[host.String()] = string(endpoint)
	}
	for _, c := range config.ClientCertificates {
		u.ClientCertificates = append(u.ClientCertificates, ClientCertificate{slices.Clone(c.Hosts), c.Cert.Under(home), c.Key.Under(home)})
	}
	return u
}

func upstreamProxy(config profiles.Upstream) *UpstreamProxy {
	if config.Proxy == "" {
		return nil
	}
	p := &UpstreamProxy{User: string(config.ProxyUser)}
	p.Scheme, p.Address = config.Proxy.Parts()
	if from := config.ProxyPassword; from != nil {
		p.Password = Source{Keyring: string(from.Keyring), Env: string(from.Env)}
	}
	for _, n := range config.NoProxy {
		if _, err := netip.ParsePrefix(string(n)); err == nil {
			p.DirectTo = append(p.DirectTo, string(n))
		} else {
			p.Direct = append(p.Direct, string(n))
		}
	}
	return p
}

// upstream shows the person's own routing. All of it is loud: it is not in the profile, and some of it goes past checks.
func (t *page) upstream(u Upstream, rules []policy.Rule) {
	for _, host := range sortedKeys(u.Hosts) {
		t.line(true, "", "%s is dialled at %s (your config.toml)", clean(host), clean(u.Hosts[host]))
	}
	t.upstreamProxy(u.Proxy)
	for _, ca := range u.CA {
		t.line(true, "", "servers may use certificates of %s (your config.toml)", clean(ca))
	}
	for _, c := range u.ClientCertificates {
		t.line(true, "", "%s may ask for your certificate %s%s (your config.toml)", shortList(hostNames(c.Hosts), maxHosts), clean(c.Cert), notShown(c.Hosts, rules))
	}
}

func (t *page) upstreamProxy(p *UpstreamProxy) {
	if p == nil {
		return
	}
	as := ""
	if p.User != "" {
		as = fmt.Sprintf(" as %s, with the password of %s", clean(p.User), clean(passwordFrom(p.Password)))
	}
	t.line(true, "", "everything else goes through the proxy %s://%s%s (your config.toml)", clean(p.Scheme), clean(p.Address), as)
	if p.Resolves() {
		t.line(true, "", "that proxy resolves the names: that none of them leads to this machine, to a private network or to a cloud's metadata is NOT checked here")
	}
	if direct := append(append([]string{}, p.Direct...), p.DirectTo...); len(direct) > 0 {
		t.line(true, "", "not through it, but directly: %s", clean(shortList(direct, maxHosts)))
	}
}

func passwordFrom(s Source) string {
	var out []string
	if s.Env != "" {
		out = append(out, "$"+s.Env)
	}
	if s.Keyring != "" {
		out = append(out, "the keyring ("+s.Keyring+")")
	}
	return strings.Join(out, " or ")
}

// notShown names the hosts that are not asked by agentbox but by the programs inside, which have no such certificate.
func notShown(hosts []policy.Host, rules []policy.Rule) string {
	var out []string
	for _, host := range hosts {
		for _, r := range rules {
			if unseen(r) && r.Host.Match(host) {
				out = append(out, host.String())
				break
			}
		}
	}
	return wrapped(" · not for ", clean(shortList(out, maxHosts)), ", which is not inspected")
}
