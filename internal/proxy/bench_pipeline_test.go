package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/eventlog"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
	"agentbox/internal/secrets"
)

// cannedServer speaks TLS and gives the same answer to each head that it reads, with no allocation of its own per
// request, so that what the benchmark counts is the proxy's.
func cannedServer(b *testing.B, certificate tls.Certificate) string {
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(conn)
		}
	}()
	return l.Addr().String()
}

var cannedAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"small\": true}\n")

func answerAll(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := conn.Write(cannedAnswer); err != nil {
			return
		}
	}
}

// armedLab is a lab with all that a run has around its proxy: rules by method and path, an event log on the disk and a
// credential that is put into each request.
func armedLab(b *testing.B) (l *lab, header string) {
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	good := mustHost(b, "good.test")
	broker, err := secrets.NewBroker(ctx, []secrets.Credential{{Name: "bench", Source: token("bench-real-" + strings.Repeat("0123456789ab", 3)), Hosts: []policy.Host{good}, Header: "Authorization: Bearer {token}"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	if problems := broker.Problems(ctx); len(problems) > 0 {
		b.Fatal(errors.Join(problems...))
	}
	log, err := eventlog.Create(filepath.Join(b.TempDir(), "events.jsonl"), "bench", time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	issuer := newAuthority(b)
	server := cannedServer(b, issuer.issue(b, time.Now().Add(time.Hour), "good.test"))
	set := policy.Set{Default: policy.Deny, Rules: benchRules(b)}
	l = newLabOf(b, nil, nil, func(c *Config) {
		judge := gate.New(set, log)
		c.Gate, c.Events, c.Injector, c.Scrubber = judge, judge, broker, broker
		c.ExtraRoots, c.Fixed = issuer.pem(), map[policy.Host]string{good: server}
	})
	return l, "Authorization: Bearer " + broker.Placeholder("bench")
}

func benchRules(b *testing.B) []policy.Rule {
	allowed, denied := rule(b, policy.Allow, "good.test", true, 443), rule(b, policy.Deny, "good.test", true, 443)
	allowed.Methods = []string{"GET", "HEAD", "POST"}
	for text, to := range map[string]*policy.Rule{"/api/v1/**": &allowed, "/api/v1/admin/**": &denied} {
		pattern, err := policy.ParsePathPattern(text)
		if err != nil {
			b.Fatal(err)
		}
		to.Paths = []policy.PathPattern{pattern}
	}
	return []policy.Rule{allowed, denied, rule(b, policy.Allow, "*.other.test", true, 443), rule(b, policy.Deny, "bad.other.test", true, 443)}
}

// BenchmarkPipeline is one small inspected request on a warm connection, with everything armed. Client and server
// allocate next to nothing, so allocations are those of the proxy.
func BenchmarkPipeline(b *testing.B) {
	l, header := armedLab(b)
	conn := l.tunnel("good.test:443", "good.test")
	if err := conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		b.Fatal(err)
	}
	request := []byte("GET /api/v1/things HTTP/1.1\r\nHost: good.test\r\nUser-Agent: bench/1\r\nAccept: */*\r\n" + header + "\r\n\r\n")
	in := bufio.NewReader(conn)
	one := func() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if err := readCanned(in); err != nil {
			b.Fatal(err)
		}
	}
	for range 10 {
		one()
	}
	b.ReportAllocs()
	for b.Loop() {
		one()
	}
}

var errCanned = errors.New("the answer is not the server's")

func readCanned(in *bufio.Reader) error {
	first := true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return errCanned
		}
		if first = false; len(line) <= 2 {
			break
		}
	}
	body, err := in.Peek(16)
	if err != nil {
		return err
	}
	if !bytes.Equal(body, cannedAnswer[len(cannedAnswer)-16:]) {
		return errCanned
	}
	_, err = in.Discard(len(body))
	return err
}

// token is a credential's source that always gives the same.
type token string

func (t token) Fetch(context.Context) (secrets.Lease, error) {
	return secrets.Lease{Value: secrets.New(string(t))}, nil
}
