package rootfs

import (
	"crypto/md5"  //nolint:gosec // the format: by which certificate a trust object is of
	"crypto/sha1" //nolint:gosec // the same
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// nssDir holds the database that Chromium, and what is built on it, reads besides the roots that it brings along.
const nssDir = ".pki/nssdb"

// Numbers of NSS, in the form in which it stores them.
const (
	nssCertificate = "\x00\x00\x00\x01"
	nssTrust       = "\xce\x53\x43\x53"
	nssX509        = "\x00\x00\x00\x00"
	nssIssuer      = "\xce\x53\x43\x52" // may sign certificates for this use
	nssVerify      = "\xce\x53\x43\x53" // is nothing by itself for this use
	nssYes, nssNo  = "\x01", "\x00"
)

// nss seeds the person's NSS database with the run's CA as one that may sign for servers, and for nothing else.
func (b *builder) nss() error {
	if b.opt.Untrusting {
		return nil
	}
	own, err := ownCertificate(b.opt.CA)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.opt.User.Home, nssDir)
	if _, err := os.Lstat(filepath.Join(b.root, dir)); !errors.Is(err, fs.ErrNotExist) {
		b.warnings = append(b.warnings, "~/"+nssDir+" is the profile's own: browsers may not know the run's certificate")
		return nil
	}
	certificates, err1 := nssCertificates(own)
	keys, err2 := nssKeys()
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("writing NSS's database: %w", err)
	}
	return errors.Join(b.seedFile(filepath.Join(dir, "cert9.db"), File{Content: certificates}),
		b.seedFile(filepath.Join(dir, "key4.db"), File{Content: keys}))
}

func nssColumns() []string { return slices.Concat(lines(nssData)...) }

// nssKeys is a key4.db without a key or a password, so that nothing in cert9.db is signed: NSS signs it when it first
// writes there.
func nssKeys() ([]byte, error) { return sqliteDatabase("nssPrivate", nssColumns(), nil) }

// nssCertificates writes a certificate and the trust in it as a cert9.db.
func nssCertificates(cert *x509.Certificate) ([]byte, error) {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, err
	}
	sum, short := sha1.Sum(cert.Raw), md5.Sum(cert.Raw) //nolint:gosec // the format
	key := sha1.Sum(cert.RawSubjectPublicKeyInfo)       //nolint:gosec // a name, no proof
	return sqliteDatabase("nssPublic", nssColumns(), []map[string]string{
		{
			"a0": nssCertificate, "a1": nssYes, "a2": nssNo, "a3": "agentbox run CA", "a11": string(cert.Raw), "a80": nssX509,
			"a81": string(cert.RawIssuer), "a82": string(serial), "a101": string(cert.RawSubject), "a102": string(key[:]), "a170": nssYes,
		},
		{
			"a0": nssTrust, "a1": nssYes, "a2": nssNo, "a81": string(cert.RawIssuer), "a82": string(serial), "a170": nssYes,
			"ace536358": nssIssuer,                                                 // servers
			"ace536359": nssVerify, "ace53635a": nssVerify, "ace53635b": nssVerify, // clients, code, mail
			"ace536360": nssNo, "ace5363b4": string(sum[:]), "ace5363b5": string(short[:]),
		},
	})
}
