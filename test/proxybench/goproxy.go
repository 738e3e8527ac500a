//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/elazarl/goproxy"
)

// bareGoproxy is goproxy as its documentation shows it, opening every tunnel: no store of certificates, the standard
// library's pool of connections.
func bareGoproxy(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	return goproxyOf(ctx, dir, in, out, func(*goproxy.ProxyHttpServer) {})
}

// tunedGoproxy is the same with what a person who measures would give it next: a store of certificates, and as many
// idle connections and as large buffers as agentbox has.
func tunedGoproxy(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	return goproxyOf(ctx, dir, in, out, func(p *goproxy.ProxyHttpServer) {
		p.CertStore = &certificates{}
		p.Tr.MaxIdleConns, p.Tr.MaxIdleConnsPerHost = 128, 64
		p.Tr.ReadBufferSize, p.Tr.WriteBufferSize = 32<<10, 32<<10
	})
}

// certificates keeps what goproxy signed.
type certificates struct{ kept sync.Map }

func (c *certificates) Fetch(name string, sign func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	if kept, ok := c.kept.Load(name); ok {
		return kept.(*tls.Certificate), nil
	}
	made, err := sign()
	if err == nil {
		c.kept.Store(name, made)
	}
	return made, err
}

func goproxyOf(ctx context.Context, dir string, in io.Reader, out io.Writer, tune func(*goproxy.ProxyHttpServer)) error {
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, proxyCA), filepath.Join(dir, proxyCAKey))
	if err != nil {
		return err
	}
	trusted, err := os.ReadFile(filepath.Join(dir, serverCA))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	p := goproxy.NewProxyHttpServer()
	p.Logger = log.New(io.Discard, "", 0)
	p.Tr = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	open := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&ca)}
	p.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) { return open, host })
	tune(p)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Close() }()
	signed, err := os.ReadFile(filepath.Join(dir, proxyCA))
	if err != nil {
		return err
	}
	if err := tell(out, place{Addr: l.Addr().String(), CA: string(signed)}); err != nil {
		return err
	}
	return untilEnd(in)
}
