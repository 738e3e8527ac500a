//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// multiplexed is a connection of the client that carries many requests at once.
type multiplexed struct {
	conn *tls.Conn
	over *http2.ClientConn //nolint:staticcheck // net/http offers no connection of its own to count streams on
	way  way
}

func dial2(ctx context.Context, w way, config *tls.Config) (*multiplexed, error) {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := open(ctx, w, config)
	if err != nil {
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		return nil, errors.Join(fmt.Errorf("the proxy speaks %q, not HTTP/2", got), conn.Close())
	}
	over, err := new(http2.Transport).NewClientConn(conn) //nolint:staticcheck // the same
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &multiplexed{conn, over, w}, nil
}

func (m *multiplexed) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.way.Name+path, nil)
	if err != nil {
		return nil, err
	}
	if name, value, ok := strings.Cut(m.way.Header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := m.over.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("the answer is %s", resp.Status), resp.Body.Close())
	}
	return resp, err
}

func (m *multiplexed) small(ctx context.Context, want []byte) error {
	resp, err := m.get(ctx, smallPath)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Equal(got, want) {
		err = errBody
	}
	return err
}

// smalls2 asks for small answers by as many streams at once as the job has connections, all on one.
func (l *loader) smalls2(ctx context.Context, j job, config *tls.Config) outcome {
	m, err := dial2(ctx, j.Way, config)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = m.conn.Close() }()
	for range warm {
		if err := m.small(ctx, l.small); err != nil {
			return failed(err)
		}
	}
	end := time.Now().Add(j.For)
	return together(j.Conns, func() (done int, err error) {
		for ; time.Now().Before(end); done++ {
			if err := m.small(ctx, l.small); err != nil {
				return done, err
			}
		}
		return done, nil
	})
}

// perConnection is how many streams hold2 opens on each connection.
const perConnection = 100

// hold2 opens streams, many on a connection, and leaves them open.
func (l *loader) hold2(ctx context.Context, j job, config *tls.Config) outcome {
	var mu sync.Mutex
	return together(j.Count/perConnection, func() (done int, err error) {
		m, err := dial2(ctx, j.Way, config)
		if err != nil {
			return 0, err
		}
		mu.Lock()
		l.held = append(l.held, m.conn)
		mu.Unlock()
		for ; done < perConnection; done++ {
			resp, err := m.get(ctx, streamPath) //nolint:bodyclose // it stays open until the connection is closed
			if err != nil {
				return done, err
			}
			if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data:") {
				return done, fmt.Errorf("the stream begins with %q: %w", line, err)
			}
		}
		return done, nil
	})
}
