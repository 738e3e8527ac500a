package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// servers are what the requests lead to.
type servers struct {
	secure, plain *httptest.Server
	echo          net.Listener // what is sent there comes back
	echoing       sync.WaitGroup
}

func newServers() (*servers, error) {
	certificate, err := selfSigned()
	if err != nil {
		return nil, err
	}
	s := &servers{secure: httptest.NewUnstartedServer(handler()), plain: httptest.NewUnstartedServer(handler())}
	s.secure.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.secure.EnableHTTP2 = true
	for _, one := range []*httptest.Server{s.secure, s.plain} {
		one.Config.ErrorLog = log.New(io.Discard, "", 0)
	}
	s.secure.StartTLS()
	s.plain.Start()
	if s.echo, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.echoing.Go(s.serveEcho)
	return s, nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: inspectedName}, DNSNames: []string{inspectedName, splicedName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (s *servers) serveEcho() {
	for {
		conn, err := s.echo.Accept()
		if err != nil {
			return
		}
		s.echoing.Go(func() {
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.Copy(conn, conn)
		})
	}
}

func (s *servers) places() map[string]string {
	secure := s.secure.Listener.Addr().String()
	return map[string]string{
		inspectedName: secure, splicedName: secure, plainName: s.plain.Listener.Addr().String(), tcpName: s.echo.Addr().String(),
	}
}

// rest closes the connections that wait for a request, so that the proxy's pool has none left.
func (s *servers) rest() {
	for _, one := range []*httptest.Server{s.secure, s.plain} {
		one.Config.SetKeepAlivesEnabled(false)
		one.Config.SetKeepAlivesEnabled(true)
	}
}

func (s *servers) close() {
	_ = s.echo.Close()
	s.secure.Close()
	s.plain.Close()
	s.echoing.Wait()
}

const bigSize = 2 << 20

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.TLS.ServerName == inspectedName && r.Header.Get("Authorization") != "Bearer "+realToken {
			http.Error(w, "the credential is missing", http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, "hello %s", r.URL.RawQuery)
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Taken", fmt.Sprint(n))
		block := make([]byte, 32<<10)
		for range bigSize / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done() // until the client leaves
	})
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	return mux
}
