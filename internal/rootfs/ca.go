package rootfs

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format of OpenSSL's directory names and of Java's key store
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf16"
)

// bundlePaths is where distributions keep the system's roots, in the order in which they are looked for.
func bundlePaths() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Alpine, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
		"/etc/ssl/cert.pem",                                 // Alpine, OpenSSL's own default
		"/etc/ssl/certs/ca-bundle.crt",                      // Fedora, NixOS
		"/etc/pki/tls/cert.pem",                             // Fedora
	}
}

// bundleLinks are names of the bundle that tools have compiled in, besides bundlePaths.
func bundleLinks() []string {
	return []string{
		"/etc/pki/tls/certs/ca-certificates.crt",
		"/etc/ca-certificates/extracted/tls-ca-bundle.pem",
		"/etc/ca-certificates/extracted/ca-certificates.crt",
	}
}

// anchorDirs is where p11-kit, from which GnuTLS and NSS have their roots on these distributions, finds more of them.
func anchorDirs() []string {
	return []string{
		"/etc/pki/ca-trust/source/anchors",          // Fedora
		"/etc/ca-certificates/trust-source/anchors", // Arch
		"/etc/pki/trust/anchors",                    // SUSE
	}
}

// firefoxDirs is where Firefox, and Debian's name of it, reads what it must do.
func firefoxDirs() []string { return []string{"/etc/firefox", "/etc/firefox-esr"} }

// firefoxPolicy makes Firefox take the run's CA.
const firefoxPolicy = `{"policies": {"Certificates": {"Install": ["` + ownCAPath + `"]}}}` + "\n"

const (
	bundlePath = "/etc/ssl/certs/ca-certificates.crt"
	ownCAPath  = "/etc/ssl/certs/agentbox-ca.pem"
)

// hostBundle returns the system's roots, or nothing when the host has none.
func (h host) hostBundle() ([]byte, error) {
	for _, p := range bundlePaths() {
		r, _, err := h.resolve(p)
		if err != nil {
			continue
		}
		data, err := os.ReadFile(h.real(r))
		if err != nil {
			return nil, fmt.Errorf("reading the system's certificates: %w", err)
		}
		return data, nil
	}
	return nil, nil
}

func certificates(data []byte) [][]byte {
	var all [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			all = append(all, block.Bytes)
		}
	}
	return all
}

// ownCertificate returns the run's CA, of which there must be exactly one and no key beside it.
func ownCertificate(data []byte) (*x509.Certificate, error) {
	ders := certificates(data)
	if len(ders) != 1 || bytes.Contains(data, []byte("PRIVATE KEY")) {
		return nil, errors.New("reading the run's certificate: not exactly one, or a key among it")
	}
	cert, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return nil, fmt.Errorf("reading the run's certificate: %w", err)
	}
	return cert, nil
}

// subjectHash returns the name, eight hexadecimal digits, under which OpenSSL looks a CA up in a directory.
func subjectHash(cert *x509.Certificate) (string, error) {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &name); err != nil {
		return "", fmt.Errorf("reading a subject: %w", err)
	}
	var canonical []byte
	for _, rdn := range name {
		der, err := canonicalRDN(rdn)
		if err != nil {
			return "", err
		}
		canonical = append(canonical, der...)
	}
	sum := sha1.Sum(canonical) //nolint:gosec // the format
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:4])), nil
}

type canonicalAttribute struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"utf8"`
}

// canonicalRDN writes strings as UTF-8, in lower case, with single spaces.
func canonicalRDN(rdn pkix.RelativeDistinguishedNameSET) ([]byte, error) {
	var set []canonicalAttribute
	for _, a := range rdn {
		s, ok := a.Value.(string)
		if !ok {
			return nil, fmt.Errorf("reading a subject: attribute %v is not a string", a.Type)
		}
		set = append(set, canonicalAttribute{a.Type, lowerASCII(strings.Join(strings.Fields(s), " "))})
	}
	der, err := asn1.MarshalWithParams(set, "set")
	if err != nil {
		return nil, fmt.Errorf("writing a subject: %w", err)
	}
	return der, nil
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// javaKeyStore writes certificates as a JKS file, which every JDK reads as cacerts, under the password that
// every JDK's own has.
func javaKeyStore(ders [][]byte) []byte {
	var b bytes.Buffer
	u32 := func(v uint32) { b.Write(binary.BigEndian.AppendUint32(nil, v)) }
	str := func(s string) { b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(s)))); b.WriteString(s) }
	u32(0xfeedfeed)
	u32(2)
	u32(uint32(len(ders)))
	for i, der := range ders {
		u32(2) // a trusted certificate
		str(fmt.Sprintf("agentbox-%d", i))
		b.Write(make([]byte, 8)) // when it was made
		str("X.509")
		u32(uint32(len(der)))
		b.Write(der)
	}
	h := sha1.New() //nolint:gosec // the format
	for _, c := range utf16.Encode([]rune("changeit")) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(b.Bytes())
	return h.Sum(b.Bytes())
}

// Bundle is the system's roots with the run's CA behind them.
func Bundle(ca []byte) ([]byte, error) {
	cert, err := ownCertificate(ca)
	if err != nil {
		return nil, err
	}
	data, err := host("/").hostBundle()
	if err != nil {
		return nil, err
	}
	return append(append(data, '\n'), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...), nil
}
