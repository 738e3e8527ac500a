package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soak is one measurement.
type soak struct {
	total   int64
	workers int
	out     io.Writer

	servers *servers
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   *bufio.Reader
	place   place
	roots   *x509.CertPool // of the proxy's CA alone
	direct  *x509.CertPool // of the servers' authority

	begun atomic.Int64
	mu    sync.Mutex
	done  map[string]int
	wrong map[string]int
	first map[string]error
}

func (s *soak) run(ctx context.Context) (err error) {
	s.done, s.wrong, s.first = map[string]int{}, map[string]int{}, map[string]error{}
	dir, err := os.MkdirTemp("", "agentbox-soak-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if s.servers, err = newServers(); err != nil {
		return err
	}
	defer s.servers.close()
	if err := s.start(ctx, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.in.Close(), s.cmd.Wait()) }()
	begin := time.Now()
	early, err := s.stretch(ctx, s.total/10)
	if err != nil {
		return err
	}
	late, err := s.stretch(ctx, s.total)
	if err != nil {
		return err
	}
	return s.judge(early, late, time.Since(begin))
}

// start starts the proxy process.
func (s *soak) start(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, self, "proxy", dir)
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	s.lines = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	authority := s.servers.secure.Certificate()
	if err := tell(s.in, orders{
		Roots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})), Fixed: s.servers.places(),
	}); err != nil {
		return err
	}
	s.roots, s.direct = x509.NewCertPool(), x509.NewCertPool()
	s.direct.AddCert(authority)
	if err := readLine(s.lines, &s.place); err != nil {
		return err
	}
	s.roots.AppendCertsFromPEM([]byte(s.place.CA))
	return nil
}

// stretch sends requests until as many were sent as upTo says, lets the proxy come to rest and gives its state.
func (s *soak) stretch(ctx context.Context, upTo int64) (state, error) {
	var all sync.WaitGroup
	for i := range s.workers {
		all.Go(func() {
			w := s.newWorker(uint64(i))
			defer w.close()
			for s.begun.Add(1) <= upTo && ctx.Err() == nil {
				s.count(w.one(ctx))
			}
			s.begun.Add(-1) // this one was not sent
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return state{}, fmt.Errorf("after %d requests: %w", s.begun.Load(), err)
	}
	s.servers.rest()
	st, err := s.settled(ctx)
	fmt.Fprintf(s.out, "after %d requests: heap %.2f MB, %d goroutines, %d descriptors, %s resident\n",
		s.begun.Load(), float64(st.Heap)/1e6, st.Goroutines, st.Descriptors, st.Resident)
	return st, err
}

func (s *soak) count(kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[kind]++
	if err == nil {
		return
	}
	s.wrong[kind]++
	if s.first[kind] == nil {
		s.first[kind] = err
	}
}

// calm is how many readings in a row have to be alike before the proxy counts as being at rest.
const calm = 10

// settled asks the proxy how it is until nothing in it moves any more.
func (s *soak) settled(ctx context.Context) (st state, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for alike := 0; alike < calm; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return st, fmt.Errorf("waiting for the proxy to come to rest (%+v): %w", st, ctx.Err())
		}
		now, err := s.ask()
		if err != nil {
			return st, err
		}
		if alike++; now.Goroutines != st.Goroutines || now.Descriptors != st.Descriptors {
			alike = 0
		}
		st = now
	}
	return st, nil
}

func (s *soak) ask() (st state, err error) {
	if _, err := io.WriteString(s.in, "\n"); err != nil {
		return st, err
	}
	err = readLine(s.lines, &st)
	return st, err
}

// What may be more at the end than after the first tenth: the heap by a tenth and a little (maps do not shrink, pools
// keep buffers), goroutines and descriptors by those of a few connections that the pool holds.
const (
	heapShare = 1.1
	heapSlack = 128 << 10
	someMore  = 16
)

func (s *soak) judge(early, late state, took time.Duration) error {
	for _, kind := range slices.Sorted(maps.Keys(s.done)) {
		fmt.Fprintf(s.out, "  %-28s %8d", kind, s.done[kind])
		if n := s.wrong[kind]; n > 0 {
			fmt.Fprintf(s.out, "  %d went wrong, first: %v", n, s.first[kind])
		}
		fmt.Fprintln(s.out)
	}
	fmt.Fprintf(s.out, "%d requests in %s\n", s.begun.Load(), took.Round(time.Second))
	var errs []error
	if len(s.wrong) > 0 {
		errs = append(errs, fmt.Errorf("%d kinds of requests went wrong", len(s.wrong)))
	}
	if limit := uint64(float64(early.Heap)*heapShare) + heapSlack; late.Heap > limit {
		errs = append(errs, fmt.Errorf("the heap has grown from %d to %d bytes", early.Heap, late.Heap))
	}
	if late.Goroutines > early.Goroutines+someMore {
		errs = append(errs, fmt.Errorf("goroutines have grown from %d to %d", early.Goroutines, late.Goroutines))
	}
	if late.Descriptors > early.Descriptors+someMore {
		errs = append(errs, fmt.Errorf("open descriptors have grown from %d to %d", early.Descriptors, late.Descriptors))
	}
	if len(errs) == 0 {
		fmt.Fprintln(s.out, "heap, goroutines and descriptors are flat")
	}
	return errors.Join(errs...)
}

// resident finds the line of a process's status that tells its memory.
func resident(status string) string {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "unknown"
}
