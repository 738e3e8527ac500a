package profiles

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentbox/internal/policy"
)

const passwordHint = `store it with "agentbox secret set corp-proxy" and write proxy_password = { keyring = "corp-proxy" }, or name a variable: { env = "CORP_PROXY_PASSWORD" }`

// HostPaths is one file of the person's machine, or a list of them.
type HostPaths []HostPath

// ProxyURL is "http://proxy.corp.example:3128": a kind of proxy, its address and nothing else.
type ProxyURL string

// UnmarshalText takes the kinds http, https, socks5 and socks5h. What may hold a password is not repeated.
func (p *ProxyURL) UnmarshalText(text []byte) error {
	if strings.Contains(string(text), "@") {
		return hinted{"the URL of a proxy holds a name or a password", `write them beside it: proxy_user = "ann" and proxy_password = { keyring = "corp-proxy" }`}
	}
	bad := hinted{fmt.Sprintf("%q is not the URL of a proxy", text), `write it as "http://proxy.example.com:3128"; https, socks5 and socks5h are the other kinds`}
	u, err := url.Parse(string(text))
	if err != nil || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || u.Hostname() == "" {
		return bad
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !isProxyHost(u.Hostname()) {
		return bad
	}
	var port Port
	if n, err := strconv.Atoi(u.Port()); err != nil || port.unmarshalInt(int64(n)) != nil {
		return hinted{fmt.Sprintf("%q names no port", text), fmt.Sprintf("write it as %q", u.Scheme+"://"+net.JoinHostPort(u.Hostname(), "3128"))}
	}
	*p = ProxyURL(u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), u.Port()))
	return nil
}

// isProxyHost takes addresses and names of one label too: a proxy is the person's own choice.
func isProxyHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := policy.ParseHost("a." + s + ".example")
	return err == nil
}

// Parts are the kind and the "host:port".
func (p ProxyURL) Parts() (scheme, address string) {
	scheme, address, _ = strings.Cut(string(p), "://")
	return scheme, address
}

// ProxyUser is whom a proxy knows the person as.
type ProxyUser string

// UnmarshalText refuses what ends a name in one of the ways in which it is sent.
func (u *ProxyUser) UnmarshalText(text []byte) error {
	if s := string(text); s == "" || len(s) > 255 || strings.Contains(s, ":") || !plainText(s) {
		return hinted{"this is not a user of a proxy", "a name has 1 to 255 bytes, and no colon in it: a password stands in proxy_password"}
	}
	*u = ProxyUser(text)
	return nil
}

// mayHoldPassword reports a value that was refused and that people put passwords into: it is not shown.
func mayHoldPassword(dst any, text string) bool {
	switch dst.(type) {
	case *ProxyURL:
		return strings.Contains(text, "@")
	case *ProxyUser:
		return true
	}
	return false
}

// NoProxy says what is dialled directly: "db.corp.example", "*.corp.example", or addresses, "10.0.0.0/8".
type NoProxy string

// UnmarshalText gives names their canonical form. It chooses a way and allows nothing, so "*.internal" will do.
func (n *NoProxy) UnmarshalText(text []byte) error {
	s := string(text)
	if prefix, err := netip.ParsePrefix(s); err == nil {
		*n = NoProxy(prefix.Masked().String())
		return nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		*n = NoProxy(netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()).String())
		return nil
	}
	rest, wild := strings.CutPrefix(s, "*.")
	if wild {
		rest = "a." + rest
	}
	host, err := policy.ParseHost(rest)
	if err != nil {
		return hinted{fmt.Sprintf("%q is neither a name of hosts nor a range of addresses", s), `write "db.corp.example", "*.corp.example" or "10.0.0.0/8"`}
	}
	*n = NoProxy(host.String())
	if wild {
		*n = NoProxy("*" + strings.TrimPrefix(host.String(), "a"))
	}
	return nil
}

// LoadConfig reads the person's configuration. The error is Problems.
func LoadConfig(data []byte, file string) (Config, error) {
	c, _, _, err := alone(newSource(file, User, data), (*document).checkConfig)
	return c, err
}

func (d *document) checkConfig(c *Config) {
	u := c.Upstream
	at := func(key string) []string { return []string{"upstream", key} }
	if u.Proxy == "" {
		for _, key := range []string{"proxy_user", "proxy_password", "no_proxy"} {
			if d.has(at(key)...) && !d.has(at("proxy")...) {
				d.key(at(key), "missing-key", `write proxy = "http://proxy.example.com:3128" beside it, or leave it out`, "upstream.%s is of no use without upstream.proxy", key)
			}
		}
	}
	user, password := d.has(at("proxy_user")...), d.has(at("proxy_password")...)
	switch {
	case user && !password:
		d.key(at("proxy_user"), "missing-key", passwordHint, "upstream.proxy_user needs upstream.proxy_password")
	case password && !user:
		d.key(at("proxy_password"), "missing-key", `write proxy_user = "ann" beside it`, "upstream.proxy_password needs upstream.proxy_user")
	}
	if p := u.ProxyPassword; p != nil && p.Keyring == "" && p.Env == "" {
		d.value(at("proxy_password"), "empty-source", passwordHint, "upstream.proxy_password does not say where the password is")
	}
	d.checkCertificates(u.ClientCertificates)
	if t := c.Approvals.Timeout; time.Duration(t) > maxQuestion {
		d.value([]string{"approvals", "timeout"}, "bad-value", `write "24h" or less`, "%s is too long for a program to wait", t)
	}
}

// maxQuestion is the longest that a question may wait for its answer.
const maxQuestion = 24 * time.Hour

func (d *document) checkCertificates(list []ClientCertificate) {
	seen := map[policy.Host]bool{}
	for i, c := range list {
		at := []string{"upstream", "client_certificate", index(i), "hosts"}
		if len(c.Hosts) == 0 && d.has(at...) {
			d.value(at, "empty-list", `name the hosts that it is shown to: hosts = ["api.corp.example"]`, "a client certificate is for no host")
		}
		for j, host := range c.Hosts {
			if !host.IsZero() && seen[host] {
				d.value(append(slices.Clone(at), index(j)), "duplicate", "a host is shown one certificate", "%q has a client certificate already", host)
			}
			seen[host] = true
		}
	}
}

// Under gives an absolute path, home standing for "~".
func (p HostPath) Under(home string) string {
	if rest, ok := strings.CutPrefix(string(p), "~/"); ok {
		return path.Join(home, rest)
	}
	return string(p)
}
