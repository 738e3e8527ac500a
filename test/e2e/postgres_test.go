package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// The numbers that a connection to Postgres begins with.
const (
	wantsTLS = 80877103
	wantsGSS = 80877104
)

// postgres stands for a Postgres server: it agrees to TLS, lets everybody in, and answers each query with "works".
func (w *town) postgres() string {
	w.t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(w.t, err)
	w.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = w.speakPostgres(conn); _ = conn.Close() }()
		}
	}()
	return listener.Addr().String()
}

func (w *town) speakPostgres(conn net.Conn) error {
	for {
		body, err := postgresBody(conn)
		if err != nil {
			return err
		}
		switch binary.BigEndian.Uint32(body) {
		case wantsGSS:
			_, err = conn.Write([]byte("N"))
		case wantsTLS:
			_, err = conn.Write([]byte("S"))
			conn = tls.Server(conn, &tls.Config{GetCertificate: w.certificate})
		default:
			return answerQueries(conn)
		}
		if err != nil {
			return err
		}
	}
}

func answerQueries(conn net.Conn) error {
	hello := postgresMessage('R', "\x00\x00\x00\x00") + postgresMessage('S', "server_version\x0015.0\x00") + postgresMessage('S', "client_encoding\x00UTF8\x00") + postgresMessage('Z', "I")
	if _, err := io.WriteString(conn, hello); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	for {
		kind, err := in.ReadByte()
		if err != nil {
			return err
		}
		if _, err := postgresBody(in); err != nil || kind != 'Q' {
			return err
		}
		column := "\x00\x01word\x00" + "\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"
		rows := postgresMessage('T', column) + postgresMessage('D', "\x00\x01\x00\x00\x00\x05works") + postgresMessage('C', "SELECT 1\x00") + postgresMessage('Z', "I")
		if _, err := io.WriteString(conn, rows); err != nil {
			return err
		}
	}
}

func postgresMessage(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body //nolint:gosec // short
}

// postgresBody reads what has its own length before it.
func postgresBody(in io.Reader) ([]byte, error) {
	var size uint32
	if err := binary.Read(in, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size < 4 || size > 1<<16 {
		return nil, errors.New("reading a message: a strange length")
	}
	body := make([]byte, size-4)
	_, err := io.ReadFull(in, body)
	return body, err
}
