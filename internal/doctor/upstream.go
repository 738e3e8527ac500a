package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"agentbox/internal/profiles"
)

// upstream is about the person's own way out, as config.toml says it: nothing is said where that says nothing.
func (m Machine) upstream() []Finding {
	if m.Upstream == nil {
		return nil
	}
	u, err := m.Upstream()
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return []Finding{{ID: "config", Title: "your config.toml", Status: Fail, Detail: first, Fix: "correct it there; agentbox run shell --dry-run shows the place and what to write"}}
	}
	var found []Finding
	if u.Proxy != "" {
		found = append(found, m.upstreamProxy(u))
	}
	for _, c := range u.ClientCertificates {
		found = append(found, m.clientCertificate(c))
	}
	return found
}

func (m Machine) upstreamProxy(u profiles.Upstream) Finding {
	f := Finding{ID: "upstream-proxy", Title: "upstream proxy", Status: Info, Detail: string(u.Proxy)}
	if scheme, _ := u.Proxy.Parts(); scheme != "socks5" {
		f.Detail += "; it resolves names, so that addresses are not checked here"
	}
	p := u.ProxyPassword
	if p == nil {
		return f
	}
	f.Detail += fmt.Sprintf("; as %s", u.ProxyUser)
	if p.Keyring == "" && m.Getenv(string(p.Env)) == "" {
		f.Status, f.Fix = Warn, "export "+string(p.Env)+"=… before you start agentbox, or keep the password in the keyring: agentbox secret set corp-proxy"
		f.Detail += fmt.Sprintf("; its password is not set in $%s", p.Env)
	}
	return f
}

func (m Machine) clientCertificate(c profiles.ClientCertificate) Finding {
	cert, key := c.Cert.Under(m.Getenv("HOME")), c.Key.Under(m.Getenv("HOME"))
	names := make([]string, len(c.Hosts))
	for i, host := range c.Hosts {
		names[i] = host.String()
	}
	f := Finding{ID: "client-certificate", Title: "client certificate", Status: Info, Detail: cert + " for " + strings.Join(names, ", ")}
	if _, err := os.Stat(filepath.Join(m.Root, cert)); err != nil {
		f.Status, f.Detail, f.Fix = Fail, cert+" cannot be read, or is not there", "correct cert of [[upstream.client_certificate]] in your config.toml"
		return f
	}
	info, err := os.Stat(filepath.Join(m.Root, key))
	switch {
	case err != nil:
		f.Status, f.Detail, f.Fix = Fail, key+" cannot be read, or is not there", "correct key of [[upstream.client_certificate]] in your config.toml"
	case info.Mode().Perm()&0o077 != 0:
		f.Status, f.Detail, f.Fix = Fail, fmt.Sprintf("%s can be read by others (mode %o)", key, info.Mode().Perm()), "chmod 600 "+key
	}
	return f
}
