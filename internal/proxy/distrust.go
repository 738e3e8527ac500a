package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
)

// Alerts by which a program says that it does not take a certificate. RFC 8446, 6.2 tells their differences, programs do not.
const (
	alertBadCertificate         tls.AlertError = 42
	alertUnsupportedCertificate tls.AlertError = 43
	alertCertificateUnknown     tls.AlertError = 46
	alertUnknownCA              tls.AlertError = 48

	alertBadRecord tls.AlertError = 20
)

// handshakeReason says in plain words why TLS with a program inside came to nothing.
func handshakeReason(err error, heard *lastWords) string {
	const help = ": docs/TRUST.md says where programs look, and inspect = false passes a host through unopened"
	alert := alertOf(err, heard)
	switch {
	case slices.Contains([]tls.AlertError{alertBadCertificate, alertUnsupportedCertificate, alertCertificateUnknown, alertUnknownCA}, alert):
		return "the program does not trust the run's certificate authority, or pins another certificate (" + alert.Error() + ")" + help
	case heard.answered && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return "the program hung up on the run's certificate, and may not trust its authority, or pin another one" + help
	}
	return "TLS inside the tunnel: " + shorten(err.Error())
}

// alertOf gives the alert by which the program ended a handshake, or 0, which none of ours is. Package tls has no name for
// the type of an alert that came over a connection, only for its text.
func alertOf(err error, heard *lastWords) tls.AlertError {
	var op *net.OpError
	switch {
	case !errors.As(err, &op):
		return 0
	case op.Op == "remote error":
		for a := range tls.AlertError(255) {
			if a.Error() == op.Err.Error() {
				return a
			}
		}
	case op.Op == "local error" && op.Err.Error() == alertBadRecord.Error():
		return heard.alert()
	}
	return 0
}

// lastWords is a connection that remembers the end of what was read from it. OpenSSL, where it does not trust a
// certificate in TLS 1.3, says so before it has keys to say it with, which package tls takes for a record that is broken.
type lastWords struct {
	net.Conn
	end      []byte
	answered bool // something was written to it
	over     bool // nothing more is remembered
}

// alertRecord is how a record begins that holds an alert and is not encrypted; its level and its number follow.
const alertRecord = "\x15\x03\x03\x00\x02"

func (c *lastWords) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.over {
		c.end = append(c.end, b[max(0, n-len(alertRecord)-2):n]...)
		c.end = bytes.Clone(c.end[max(0, len(c.end)-len(alertRecord)-2):])
	}
	return n, err
}

func (c *lastWords) Write(b []byte) (int, error) {
	c.answered = true
	return c.Conn.Write(b)
}

func (c *lastWords) alert() tls.AlertError {
	if len(c.end) != len(alertRecord)+2 || !bytes.HasPrefix(c.end, []byte(alertRecord)) {
		return 0
	}
	return tls.AlertError(c.end[len(c.end)-1])
}
