package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// A program that does not take the certificate says so in an alert, and the person is told what that means; any other
// end of a handshake is told as it is.
func TestAProgramThatDoesNotTrustTheAuthority(t *testing.T) {
	const trust = "does not trust the run's certificate authority"
	pinned := func([][]byte, [][]*x509.Certificate) error { return errors.New("pinned") }
	for name, c := range map[string]struct {
		config *tls.Config
		trusts bool
	}{
		"its own roots, TLS 1.3": {&tls.Config{RootCAs: x509.NewCertPool()}, false},
		"its own roots, TLS 1.2": {&tls.Config{RootCAs: x509.NewCertPool(), MaxVersion: tls.VersionTLS12}, false},
		"a pin":                  {&tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: pinned}, false},
		"no version in common":   {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, http.NotFoundHandler())
			c.config.ServerName = "good.test"
			conn := tls.Client(l.connect("good.test:443"), c.config)
			if err := conn.HandshakeContext(t.Context()); err == nil {
				t.Fatal("the handshake came off")
			}
			_ = conn.Close()
			e := l.only(1)[0]
			if e.Kind != event.NetRefused || e.Host != "good.test" || strings.Contains(e.Reason, trust) == c.trusts {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// OpenSSL's own command sends its alert in the clear, in TLS 1.3.
func TestOpenSSLDoesNotTrustTheAuthority(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			l := newLab(t, http.NotFoundHandler())
			out, err := exec.CommandContext(t.Context(), "openssl", "s_client", version, "-proxy", l.addr, "-connect", "good.test:443",
				"-servername", "good.test", "-no-CAfile", "-no-CAstore", "-no-CApath", "-verify_return_error").CombinedOutput()
			if err == nil {
				t.Fatalf("it trusts the authority:\n%s", out)
			}
			if e := l.only(1)[0]; e.Kind != event.NetRefused || !strings.Contains(e.Reason, "(tls: unknown certificate authority)") {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// A program that hangs up without a word, when it has seen the certificate.
func TestAProgramThatHangsUpOnTheCertificate(t *testing.T) {
	l := newLab(t, http.NotFoundHandler())
	conn := l.connect("good.test:443")
	config := &tls.Config{ServerName: "good.test", InsecureSkipVerify: true, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
		return errors.Join(conn.Close(), errors.New("seen"))
	}}
	if err := tls.Client(conn, config).HandshakeContext(t.Context()); err == nil {
		t.Fatal("the handshake came off")
	}
	if e := l.only(1)[0]; e.Kind != event.NetRefused || !strings.Contains(e.Reason, "hung up on the run's certificate") {
		t.Errorf("event %+v", e)
	}
}
