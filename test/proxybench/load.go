//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// load is the client: it does one job after another, a line each, and tells the outcome of each in a line.
func load(ctx context.Context, _ string, in io.Reader, out io.Writer) error {
	l := &loader{small: smallBody(), pattern: pattern()}
	defer l.drop()
	if err := tell(out, place{}); err != nil {
		return err
	}
	for jobs := bufio.NewReaderSize(in, 1<<20); ; {
		var j job
		if err := readLine(jobs, &j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := tell(out, l.do(ctx, j)); err != nil {
			return err
		}
	}
}

// loader holds the streams that stay open between two jobs.
type loader struct {
	small, pattern []byte
	held           []io.Closer
}

func (l *loader) do(ctx context.Context, j job) outcome {
	kinds := map[string]func(context.Context, job, *tls.Config) outcome{
		"small": l.smalls, "latency": l.latency, "big": l.bigs, "connect": l.connects, "hold": l.hold, "drop": l.release, "hosts": l.manyHosts,
		"small2": l.smalls2, "hold2": l.hold2,
	}
	kind, ok := kinds[j.Kind]
	if !ok {
		return failed(fmt.Errorf("a job of kind %q", j.Kind))
	}
	if err := j.Way.complete(); err != nil {
		return failed(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(j.Way.Roots))
	before := ownWork()
	o := kind(ctx, j, &tls.Config{RootCAs: roots, ServerName: j.Way.Name, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	o.Worked = ownWork() - before
	return o
}

// ownWork is the processor time that this process has taken so far.
func ownWork() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// complete takes what is left to the environment from there, as any program inside a container would.
func (w *way) complete() error {
	if !w.Env {
		return nil
	}
	proxy, err := url.Parse(os.Getenv("HTTPS_PROXY"))
	if err != nil || proxy.Host == "" {
		return fmt.Errorf("HTTPS_PROXY is %q", os.Getenv("HTTPS_PROXY"))
	}
	w.Proxy = proxy.Host
	if token := os.Getenv("BENCH_TOKEN"); token != "" {
		w.Header = "Authorization: Bearer " + token
	}
	if w.Roots == "" {
		pem, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
		if err != nil {
			return err
		}
		w.Roots = string(pem)
	}
	return nil
}

func failed(err error) outcome { return outcome{Errors: 1, First: err.Error()} }

// warm are the requests of a connection before it is measured.
const warm = 10

// warmed gives connections that have each carried some requests.
func (l *loader) warmed(ctx context.Context, j job, config *tls.Config) (clients []*client, err error) {
	for range j.Conns {
		c, err := dial(ctx, j.Way, config)
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, c)
	}
	for _, c := range clients {
		for range warm {
			if err := c.once(l.small); err != nil {
				closeAll(clients)
				return nil, err
			}
		}
	}
	return clients, nil
}

func closeAll(clients []*client) {
	for _, c := range clients {
		c.close()
	}
}

// tally adds up what several goroutines did.
type tally struct {
	mu  sync.Mutex
	sum outcome
}

func (t *tally) add(done int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Done += done
	if err != nil {
		t.sum.Errors++
		t.sum.First = err.Error()
	}
}

// together runs n copies of do at once, times them, and adds up.
func together(n int, do func() (int, error)) outcome {
	var t tally
	var all sync.WaitGroup
	begin := time.Now()
	for range n {
		all.Go(func() { t.add(do()) })
	}
	all.Wait()
	t.sum.Took = time.Since(begin)
	return t.sum
}

// smalls asks for small answers on warm connections, all at once, for a while.
func (l *loader) smalls(ctx context.Context, j job, config *tls.Config) outcome {
	clients, err := l.warmed(ctx, j, config)
	if err != nil {
		return failed(err)
	}
	defer closeAll(clients)
	next := make(chan *client, len(clients))
	for _, c := range clients {
		next <- c
	}
	end := time.Now().Add(j.For)
	return together(len(clients), func() (done int, err error) {
		for c := <-next; time.Now().Before(end); done++ {
			if err := c.once(l.small); err != nil {
				return done, err
			}
		}
		return done, nil
	})
}

// latency asks for small answers on one warm connection, one by one.
func (l *loader) latency(ctx context.Context, j job, config *tls.Config) outcome {
	j.Conns = 1
	clients, err := l.warmed(ctx, j, config)
	if err != nil {
		return failed(err)
	}
	defer closeAll(clients)
	each := make([]time.Duration, 0, j.Count)
	result := together(1, func() (int, error) {
		for i := range j.Count {
			begin := time.Now()
			if err := clients[0].once(l.small); err != nil {
				return i, err
			}
			each = append(each, time.Since(begin))
		}
		return j.Count, nil
	})
	if len(each) > 0 {
		slices.Sort(each)
		result.Middle = each[len(each)/2]
	}
	return result
}

// bigs asks for the big answer on each of the connections.
func (l *loader) bigs(ctx context.Context, j job, config *tls.Config) outcome {
	clients, err := l.warmed(ctx, j, config)
	if err != nil {
		return failed(err)
	}
	defer closeAll(clients)
	next := make(chan *client, len(clients))
	for _, c := range clients {
		next <- c
	}
	return together(len(clients), func() (int, error) {
		if err := (<-next).big(l.pattern); err != nil {
			return 0, err
		}
		return 1, nil
	})
}

// connects opens connections, each for one request, for a while.
func (l *loader) connects(ctx context.Context, j job, config *tls.Config) outcome {
	end := time.Now().Add(j.For)
	return together(j.Conns, func() (done int, err error) {
		for ; time.Now().Before(end); done++ {
			if err := l.visit(ctx, j.Way, config); err != nil {
				return done, err
			}
		}
		return done, nil
	})
}

func (l *loader) visit(ctx context.Context, w way, config *tls.Config) error {
	c, err := dial(ctx, w, config)
	if err != nil {
		return err
	}
	defer c.close()
	return c.once(l.small)
}

// manyHosts visits hosts that differ, once each.
func (l *loader) manyHosts(ctx context.Context, j job, config *tls.Config) outcome {
	next := make(chan int, j.Count)
	for i := range j.Count {
		next <- j.Offset + i
	}
	close(next)
	return together(j.Conns, func() (done int, err error) {
		for i := range next {
			w, own := j.Way, config.Clone()
			w.Name = fmt.Sprintf("h%d.%s", i, manyNames)
			w.Authority, own.ServerName = net.JoinHostPort(w.Name, "443"), w.Name
			if err := l.visit(ctx, w, own); err != nil {
				return done, err
			}
			done++
		}
		return done, nil
	})
}

// hold opens streams and leaves them open.
func (l *loader) hold(ctx context.Context, j job, config *tls.Config) outcome {
	var mu sync.Mutex
	next := make(chan struct{}, j.Count)
	for range j.Count {
		next <- struct{}{}
	}
	close(next)
	return together(min(j.Count, 8), func() (done int, err error) {
		for range next {
			c, err := dial(ctx, j.Way, config)
			if err != nil {
				return done, err
			}
			mu.Lock()
			l.held = append(l.held, c.conn)
			mu.Unlock()
			if err := c.stream(); err != nil {
				return done, err
			}
			done++
		}
		return done, nil
	})
}

func (l *loader) release(context.Context, job, *tls.Config) outcome {
	n := len(l.held)
	l.drop()
	return outcome{Done: n, Took: 1}
}

func (l *loader) drop() {
	for _, c := range l.held {
		_ = c.Close()
	}
	l.held = nil
}
