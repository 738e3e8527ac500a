package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"agentbox/internal/policy"
)

// ClientCertificate is one of the person's, which is shown to those hosts alone when they ask for one.
type ClientCertificate struct {
	Hosts       []policy.Host
	Certificate tls.Certificate
}

func certificatesOf(list []ClientCertificate) (map[policy.Host]*tls.Certificate, error) {
	out := map[policy.Host]*tls.Certificate{}
	for i := range list {
		for _, host := range list[i].Hosts {
			if out[host] != nil {
				return nil, fmt.Errorf("reading the client certificates: two are for %s", host)
			}
			out[host] = &list[i].Certificate
		}
	}
	return out, nil
}

// dialTLS is for transports whose servers differ in what certificate they are shown. addr is "name:port".
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := splitAuthority(addr)
	if err != nil {
		return nil, err
	}
	conn, err := d.dialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTLS)
	defer cancel()
	secure := tls.Client(conn, d.tlsFor(host))
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// tlsFor is how host is spoken to: verified for its name, and shown no certificate but its own.
func (d *dialer) tlsFor(host policy.Host) *tls.Config {
	config := &tls.Config{
		RootCAs: d.roots, ServerName: host.String(), MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	if own := d.certificates[host]; own != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return config
}
