package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"agentbox/internal/event"
)

// forgetful takes events and keeps none.
type forgetful struct{}

func (forgetful) Emit(event.Event) error { return nil }

func benchClients(b *testing.B, handler http.HandlerFunc) map[string]func() *http.Client {
	l := newLab(b, handler, func(c *Config) { c.Events = forgetful{} })
	upstream := x509.NewCertPool()
	upstream.AddCert(l.authority.cert)
	direct := l.upstream.server.Listener.Addr().String()
	return map[string]func() *http.Client{
		"proxy": func() *http.Client {
			return &http.Client{Transport: &http.Transport{
				Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr}), TLSClientConfig: &tls.Config{RootCAs: l.roots}, MaxIdleConnsPerHost: 64,
			}}
		},
		"direct": func() *http.Client {
			return &http.Client{Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, network, direct)
				},
				TLSClientConfig: &tls.Config{RootCAs: upstream}, MaxIdleConnsPerHost: 64,
			}}
		},
	}
}

func benchGet(b *testing.B, client *http.Client) {
	resp, err := client.Get("https://good.test/")
	if err != nil {
		b.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Error(err)
	}
	_ = resp.Body.Close()
}

func BenchmarkSmall(b *testing.B) {
	clients := benchClients(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "small") })
	for _, way := range []string{"direct", "proxy"} {
		b.Run(way, func(b *testing.B) {
			client := clients[way]()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					benchGet(b, client)
				}
			})
		})
	}
}

func BenchmarkBig(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 64<<20)
	clients := benchClients(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	for _, way := range []string{"direct", "proxy"} {
		b.Run(way, func(b *testing.B) {
			client := clients[way]()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				benchGet(b, client)
			}
		})
	}
}
