package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agentbox/internal/policy"
)

func poolOf(a *authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// client issues a certificate for a person.
func (a *authority) client(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// asking is a TLS server that asks for a certificate and says whose it got, over HTTP/2 too.
func asking(t *testing.T, a, clients *authority, names ...string) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, who+" by "+r.Proto)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, time.Now().Add(time.Hour), names...)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: poolOf(clients)}
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestClientCertificatesAreShownToTheirHostsAlone(t *testing.T) {
	clients := newAuthority(t)
	for _, through := range []bool{false, true} {
		r := newCorporate(t, serveHTTPProxy)
		servers := newAuthority(t)
		addr := asking(t, servers, clients, "good.test", "x.wild.test", "pinned.wild.test")
		lab := newLab(t, nil, func(c *Config) {
			c.ExtraRoots = servers.pem()
			c.ClientCertificates = []ClientCertificate{
				{Hosts: []policy.Host{mustHost(t, "good.test")}, Certificate: clients.client(t, "ann")},
				{Hosts: []policy.Host{mustHost(t, "pinned.wild.test")}, Certificate: clients.client(t, "bob")},
			}
			c.Fixed = map[policy.Host]string{}
			for _, name := range []string{"good.test", "x.wild.test", "pinned.wild.test"} {
				c.Fixed[mustHost(t, name)] = addr
				r.servers[name+":443"] = addr
			}
			if through {
				c.Fixed, c.Parent = nil, r.parent("http")
			}
		})
		for host, who := range map[string]string{"good.test": "ann", "pinned.wild.test": "bob", "x.wild.test": "nobody"} {
			for range 2 {
				if resp, body := get(t, lab.client(), "https://"+host+"/"); resp.StatusCode != 200 || body != who+" by HTTP/2.0" {
					t.Errorf("through a proxy %v, %s: got %d %q", through, host, resp.StatusCode, body)
				}
			}
		}
	}
}

// A server that is not verified sees no certificate either.
func TestAnUnverifiedServerSeesNoClientCertificate(t *testing.T) {
	clients := newAuthority(t)
	addr := asking(t, newAuthority(t), clients, "good.test")
	l := newLab(t, nil, func(c *Config) {
		c.ClientCertificates = []ClientCertificate{{Hosts: []policy.Host{mustHost(t, "good.test")}, Certificate: clients.client(t, "ann")}}
		c.Fixed = map[policy.Host]string{mustHost(t, "good.test"): addr}
	})
	if resp, body := get(t, l.client(), "https://good.test/"); resp.StatusCode != 502 || !strings.Contains(body, "certificate") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestTwoClientCertificatesForOneHost(t *testing.T) {
	one := ClientCertificate{Hosts: []policy.Host{mustHost(t, "good.test")}}
	if _, err := newDialer(Config{ClientCertificates: []ClientCertificate{one, one}}, nil); err == nil {
		t.Error("taken")
	}
}
