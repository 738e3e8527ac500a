package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
)

// pair writes a certificate and its key, and gives both files.
func pair(t *testing.T, dir, name string, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	write(t, cert, 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, 0o600, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})))
	return cert, key
}

func write(t *testing.T, file string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

func TestRoutingIsRead(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, aKey := pair(t, dir, "a", now.Add(time.Hour))
	b, _ := pair(t, dir, "b", now.Add(time.Hour))
	host, err := policy.ParseHost("api.good.test")
	if err != nil {
		t.Fatal(err)
	}
	out, err := readRouting(plan.Upstream{
		CA: []string{a, b}, Hosts: map[string]string{"c.good.test": "127.0.0.1:1"},
		Proxy:              &plan.UpstreamProxy{Scheme: "http", Address: "p:1", User: "ann", Direct: []string{"*.corp"}, DirectTo: []string{"10.0.0.0/8"}},
		ClientCertificates: []plan.ClientCertificate{{Hosts: []policy.Host{host}, Cert: a, Key: aKey}},
	}, func(context.Context) (string, error) { return "x", nil }, now)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(out.roots), "BEGIN CERTIFICATE") != 2 || len(out.fixed) != 1 || len(out.certificates) != 1 || out.certificates[0].Hosts[0] != host ||
		out.parent.User != "ann" || out.parent.Password == nil || out.parent.Direct[0] != "*.corp" || out.parent.DirectTo[0].String() != "10.0.0.0/8" {
		t.Errorf("got %+v", out)
	}
	if out, err := readRouting(plan.Upstream{}, nil, now); err != nil || out.parent != nil || out.roots != nil {
		t.Errorf("nothing: %+v, %v", out, err)
	}
	if _, err := readRouting(plan.Upstream{Proxy: &plan.UpstreamProxy{Scheme: "http", Address: "p:1", User: "ann"}}, nil, now); err == nil {
		t.Error("a user without a password was taken")
	}
}

func TestRoutingThatCannotBeUsed(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, aKey := pair(t, dir, "a", now.Add(time.Hour))
	_, bKey := pair(t, dir, "b", now.Add(time.Hour))
	old, oldKey := pair(t, dir, "old", now.Add(-time.Minute))
	text, locked := filepath.Join(dir, "text"), filepath.Join(dir, "locked")
	write(t, text, 0o600, "hello")
	write(t, locked, 0o600, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	open := map[os.FileMode]string{}
	for _, mode := range []os.FileMode{0o604, 0o640, 0o602, 0o610} {
		data, err := os.ReadFile(aKey)
		if err != nil {
			t.Fatal(err)
		}
		open[mode] = filepath.Join(dir, "key-"+mode.String())
		write(t, open[mode], mode, string(data))
	}
	cert := func(cert, key string) plan.Upstream {
		return plan.Upstream{ClientCertificates: []plan.ClientCertificate{{Cert: cert, Key: key}}}
	}
	for _, c := range []struct {
		u          plan.Upstream
		text, hint string
	}{
		{plan.Upstream{CA: []string{a, "/nowhere.pem"}}, "reading upstream.ca: open /nowhere.pem", "[upstream] ca"},
		{plan.Upstream{CA: []string{a, text}}, "holds no PEM certificate", "[upstream] ca"},
		{plan.Upstream{CA: []string{dir}}, "is no file of certificates", "[upstream] ca"},
		{cert("/nowhere.pem", aKey), "/nowhere.pem", "client_certificate"}, {cert(a, "/nowhere.key"), "/nowhere.key", "client_certificate"},
		{cert(a, bKey), "are no certificate and its key", "client_certificate"}, {cert(a, text), "are no certificate and its key", "client_certificate"},
		{cert(old, oldKey), "expired on", "renew"}, {cert(a, locked), "is encrypted", "passphrase"},
		{cert(a, open[0o604]), "can be read by others (mode 604)", "chmod 600 "}, {cert(a, open[0o640]), "can be read by others (mode 640)", "chmod 600 "},
		{cert(a, open[0o602]), "can be read by others", "chmod 600 "}, {cert(a, open[0o610]), "can be read by others", "chmod 600 "},
	} {
		_, err := readRouting(c.u, nil, now)
		var said *Failure
		if !errors.As(err, &said) || said.Code != CodeRefused || !strings.Contains(said.Text, c.text) || !strings.Contains(said.Hint, c.hint) || strings.Contains(said.Text, "BEGIN") {
			t.Errorf("want %q: got %v", c.text, err)
		}
	}
}
