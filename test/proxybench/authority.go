//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files of the scratch directory.
const (
	serverCA   = "server-ca.pem" // what the proxies trust
	serverCert = "server.pem"
	serverKey  = "server-key.pem"
	proxyCA    = "proxy-ca.pem" // what goproxy signs with: P-256, as agentbox's own
	proxyCAKey = "proxy-ca-key.pem"
	otherCA    = "other-ca.pem" // what the others sign with: RSA, which all of them take; certificate and key in one file
)

// authorities makes the certificates and keys of a measurement in dir.
func authorities(dir string) error {
	server, err := newAuthority("bench server authority", curve)
	if err != nil {
		return err
	}
	leaf, err := curve()
	if err != nil {
		return err
	}
	der, err := server.issue(leaf, inspectedName, splicedName, "*."+manyNames, loopbackName)
	if err != nil {
		return err
	}
	proxy, err := newAuthority("bench proxy authority", curve)
	if err != nil {
		return err
	}
	other, err := newAuthority("bench other authority", rsaKey)
	if err != nil {
		return err
	}
	return errors.Join(
		write(dir, serverCA, block("CERTIFICATE", server.der)),
		write(dir, serverCert, block("CERTIFICATE", der)), writeKey(dir, serverKey, leaf),
		write(dir, proxyCA, block("CERTIFICATE", proxy.der)), writeKey(dir, proxyCAKey, proxy.key),
		writeKey(dir, otherCA, other.key, block("CERTIFICATE", other.der)...),
	)
}

// authority signs certificates.
type authority struct {
	key  any
	der  []byte
	cert *x509.Certificate
}

func curve() (any, error)  { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
func rsaKey() (any, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func public(key any) any {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k.Public()
	case *rsa.PrivateKey:
		return k.Public()
	}
	return nil
}

func newAuthority(name string, newKey func() (any, error)) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public(key), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{key, der, cert}, err
}

func (a *authority) issue(key any, names ...string) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, a.cert, public(key), a.key)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(dir, name string, content []byte) error {
	return os.WriteFile(filepath.Join(dir, name), content, 0o600)
}

func writeKey(dir, name string, key any, more ...byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return write(dir, name, append(block("PRIVATE KEY", der), more...))
}
