package run

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/proxy"
)

// Password reads the upstream proxy's password when it is first wanted. Its error holds no secret: it is shown.
type Password func(context.Context) (string, error)

// routing is the person's own way out, read and checked.
type routing struct {
	roots        []byte
	fixed        map[policy.Host]string
	parent       *proxy.Parent
	certificates []proxy.ClientCertificate
}

// readRouting gives a *Failure for what the person has to mend.
func readRouting(u plan.Upstream, password Password, now time.Time) (out routing, err error) {
	for _, file := range u.CA {
		pem, err := readRoots(file)
		if err != nil {
			return routing{}, err
		}
		out.roots = append(append(out.roots, pem...), '\n')
	}
	out.fixed = map[policy.Host]string{}
	for name, addr := range u.Hosts {
		h, err := policy.ParseHost(name)
		if err != nil {
			return routing{}, err
		}
		out.fixed[h] = addr
	}
	for _, c := range u.ClientCertificates {
		pair, err := readPair(c, now)
		if err != nil {
			return routing{}, err
		}
		out.certificates = append(out.certificates, proxy.ClientCertificate{Hosts: c.Hosts, Certificate: pair})
	}
	out.parent, err = parentOf(u.Proxy, password)
	return out, err
}

// NewClient makes a client for agentbox's own requests, that goes the person's way out. A *Failure is for the person to mend.
func NewClient(u plan.Upstream, password Password, now time.Time) (*http.Client, error) {
	out, err := readRouting(u, password, now)
	if err != nil {
		return nil, err
	}
	return proxy.NewClient(proxy.Config{ExtraRoots: out.roots, Fixed: out.fixed, Parent: out.parent, ClientCertificates: out.certificates})
}

func parentOf(p *plan.UpstreamProxy, password Password) (*proxy.Parent, error) {
	if p == nil {
		return nil, nil
	}
	if p.User != "" && password == nil {
		return nil, errors.New("reading upstream.proxy: nothing reads its password")
	}
	out := &proxy.Parent{Scheme: p.Scheme, Address: p.Address, User: p.User, Password: password, Direct: p.Direct}
	for _, text := range p.DirectTo {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("reading upstream.no_proxy: %w", err)
		}
		out.DirectTo = append(out.DirectTo, prefix)
	}
	return out, nil
}

func unusable(key, hint, format string, args ...any) *Failure {
	return &Failure{Code: CodeRefused, Text: "reading upstream." + key + ": " + fmt.Sprintf(format, args...), Hint: hint}
}

func readRoots(file string) ([]byte, error) {
	hint := "correct [upstream] ca in your config.toml"
	pem, _, err := readPEM(file)
	if err != nil {
		return nil, unusable("ca", hint, "%s", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return nil, unusable("ca", hint, "%s holds no PEM certificate", file)
	}
	return pem, nil
}

// readPair reads a client certificate. A key that others can read is nobody's own any more, so it is refused.
func readPair(c plan.ClientCertificate, now time.Time) (tls.Certificate, error) {
	key, hint := "client_certificate", "correct [[upstream.client_certificate]] in your config.toml"
	cert, _, err := readPEM(c.Cert)
	if err != nil {
		return tls.Certificate{}, unusable(key, hint, "%s", err)
	}
	private, mode, err := readPEM(c.Key)
	switch {
	case err != nil:
		return tls.Certificate{}, unusable(key, hint, "%s", err)
	case mode.Perm()&0o077 != 0:
		return tls.Certificate{}, unusable(key, "chmod 600 "+c.Key, "the key %s can be read by others (mode %o)", c.Key, mode.Perm())
	case bytes.Contains(private, []byte("ENCRYPTED")):
		return tls.Certificate{}, unusable(key, "store it without its passphrase in a file that only you can read", "the key %s is encrypted", c.Key)
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return tls.Certificate{}, unusable(key, hint, "%s and %s are no certificate and its key: %s", c.Cert, c.Key, err)
	}
	if leaf := pair.Leaf; leaf != nil && now.After(leaf.NotAfter) {
		return tls.Certificate{}, unusable(key, "renew it", "the certificate %s expired on %s", c.Cert, leaf.NotAfter.Format(time.DateOnly))
	}
	return pair, nil
}

// readPEM reads a file whole, and gives the mode of what was read.
func readPEM(file string) ([]byte, os.FileMode, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	const most = 4 << 20 // a bundle of every authority there is has a quarter of that
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, 0, fmt.Errorf("%s is no file of certificates", file)
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	return data, info.Mode(), err
}
