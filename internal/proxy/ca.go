package proxy

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"

	"agentbox/internal/policy"
)

const (
	caBackdate = 24 * time.Hour
	caLifetime = 90 * 24 * time.Hour
	maxLeaves  = 1024
)

// CA signs the certificates that a run's agent sees. Its private key exists in this process's memory alone and
// dies with it. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[policy.Host]*list.Element // of *leaf
	recent *list.List                    // most recently used first
}

// leaf is made once, by whoever asks first; others wait for it.
type leaf struct {
	host policy.Host
	make func() (*tls.Certificate, error)
}

// NewCA makes a CA for one run that begins at now.
func NewCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "agentbox run CA", Organization: []string{"agentbox"}},
		NotBefore:             now.Add(-caBackdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's certificate: %w", err)
	}
	return &CA{cert: cert, key: key, leaves: map[policy.Host]*list.Element{}, recent: list.New()}, nil
}

// PEM is the CA's certificate, for trust stores.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// leafFor gives the certificate for one host, made at the first call and kept while it is among the most used.
func (ca *CA) leafFor(host policy.Host) (*tls.Certificate, error) {
	cert, err := ca.entry(host).make()
	if err != nil {
		ca.forget(host)
	}
	return cert, err
}

func (ca *CA) entry(host policy.Host) *leaf {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if element, ok := ca.leaves[host]; ok {
		ca.recent.MoveToFront(element)
		return element.Value.(*leaf)
	}
	entry := &leaf{host: host, make: sync.OnceValues(func() (*tls.Certificate, error) { return ca.sign(host) })}
	ca.leaves[host] = ca.recent.PushFront(entry)
	for ca.recent.Len() > maxLeaves {
		oldest := ca.recent.Remove(ca.recent.Back()).(*leaf)
		delete(ca.leaves, oldest.host)
	}
	return entry
}

func (ca *CA) forget(host policy.Host) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if element, ok := ca.leaves[host]; ok {
		ca.recent.Remove(element)
		delete(ca.leaves, host)
	}
}

func (ca *CA) sign(host policy.Host) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for %s: %w", host, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"agentbox"}},
		DNSNames:              []string{host.String()},
		NotBefore:             ca.cert.NotBefore,
		NotAfter:              ca.cert.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", host, err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate for %s: %w", host, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
