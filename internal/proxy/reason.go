package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
)

// reasonOf says in plain words why a server was not reached. It repeats nothing that a server or resolver chose but
// names and dates of certificates.
func reasonOf(err error) string {
	var private *addressError
	var parent *parentError
	var moved *movedError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var netErr net.Error
	switch {
	case errors.As(err, &private):
		return private.Error()
	case errors.As(err, &parent):
		return parent.Error()
	case errors.As(err, &moved):
		return moved.Error()
	case errors.As(err, &certificate):
		return certificateReason(certificate)
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the name does not exist"
	case errors.As(err, &dns):
		return "the name could not be looked up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the server refused the connection"
	case errors.Is(err, context.Canceled):
		return "the program inside gave up"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "the server did not answer in time"
	case errors.Is(err, errUnaskedUpgrade):
		return err.Error()
	}
	return "the connection to the server failed: " + shorten(err.Error())
}

func certificateReason(err *tls.CertificateVerificationError) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "the server's certificate is signed by an authority that is not trusted here"
	case errors.As(err, &name):
		return "the server's certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired or is not valid yet"
	}
	return "the server's certificate is not valid"
}
