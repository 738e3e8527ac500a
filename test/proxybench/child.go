//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// child is a process that ends when its input does.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	place  place
	said   *tail
	kill   bool // it does not look at its input
	output sync.WaitGroup
}

// tail keeps the last of what a process says, to tell it when something goes wrong.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if excess := len(t.kept) - 2000; excess > 0 {
		t.kept = t.kept[excess:]
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.kept), []byte("\n"))
	return string(lines[len(lines)-1])
}

// spawn starts a process with pipes.
func spawn(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, said: &tail{}}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = c.said
	c.in, c.out = in, bufio.NewReaderSize(out, 1<<20)
	return c, cmd.Start()
}

// play starts a part of this program and waits until it serves.
func (b *bench) play(ctx context.Context, name string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, name, b.work)
	cmd.Env = append(os.Environ(), serverEnv+"="+b.server)
	return b.greet(cmd, name)
}

// greet starts a process that tells its place in its first line.
func (b *bench) greet(cmd *exec.Cmd, name string) (*child, error) {
	c, err := spawn(cmd)
	if err != nil {
		return nil, err
	}
	if err := readLine(c.out, &c.place); err != nil {
		c.stop()
		return nil, fmt.Errorf("starting %s: %w: %s", name, err, c.said.last())
	}
	b.children = append(b.children, c)
	return c, nil
}

// until starts a program that is not ours and waits for a line with sign in what it prints.
func (b *bench) until(cmd *exec.Cmd, sign string) (*child, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, said: &tail{}, kill: true}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	ready := make(chan bool, 1)
	c.output.Go(func() { c.listen(out, sign, ready) })
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	select {
	case ok := <-ready:
		if ok {
			b.children = append(b.children, c)
			return c, nil
		}
		c.stop()
		return nil, fmt.Errorf("starting %s: %s", filepath.Base(cmd.Path), c.said.last())
	case <-patience.C:
		c.stop()
		return nil, fmt.Errorf("starting %s: it does not say %q within a minute: %s", filepath.Base(cmd.Path), sign, c.said.last())
	}
}

// listen takes all that a program prints, so that it never blocks, and tells when the sign was there, or the end.
func (c *child) listen(out *os.File, sign string, ready chan<- bool) {
	defer func() { _ = out.Close() }()
	lines := bufio.NewReader(out)
	for told := false; ; {
		line, err := lines.ReadString('\n')
		_, _ = c.said.Write([]byte(line))
		if !told && strings.Contains(line, sign) {
			told = true
			ready <- true
		}
		if err != nil {
			if !told {
				ready <- false
			}
			return
		}
	}
}

// stop ends a process and waits for it.
func (c *child) stop() {
	if c.in != nil {
		_ = c.in.Close()
	}
	if c.kill {
		_ = c.cmd.Process.Kill()
	}
	_ = c.cmd.Wait()
	c.output.Wait()
}

// ask has a client do a job.
func (c *child) ask(j job) (outcome, error) {
	if err := tell(c.in, j); err != nil {
		return outcome{}, fmt.Errorf("%w: %s", err, c.said.last())
	}
	var o outcome
	if err := readLine(c.out, &o); err != nil {
		return o, fmt.Errorf("%w: %s", err, c.said.last())
	}
	return o, o.err()
}

// resident is a process's memory in MB, with that of the processes that it started.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	total := 0.0
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err != nil {
				return 0, err
			}
			total += kb / 1024
		}
	}
	for _, one := range below(pid) {
		more, _ := resident(one)
		total += more
	}
	return total, nil
}

// ticks is how many of the kernel's clock ticks a second has on every Linux that Go runs on.
const ticks = 100

// worked is the processor time, in seconds, that a contender's proxy has taken so far, with what it started. It tells
// what a proxy costs even where other programs keep the machine busy.
func (c *contender) worked() float64 {
	switch {
	case c.proxy != nil:
		return workedAlone(c.proxy.cmd.Process.Pid)
	case c.child == nil:
		return 0
	case c.inside:
		return workedAlone(c.child.cmd.Process.Pid)
	}
	return worked(c.child.cmd.Process.Pid)
}

func worked(pid int) float64 {
	total := workedAlone(pid)
	for _, one := range below(pid) {
		total += worked(one)
	}
	return total
}

// workedAlone leaves out what the process started. The kernel counts the time of its threads in nanoseconds; where it does
// not, that of the process in ticks.
func workedAlone(pid int) float64 {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	total := 0.0
	for _, name := range threads {
		text, _ := os.ReadFile(name)
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			n, _ := strconv.ParseFloat(fields[0], 64)
			total += n / 1e9
		}
	}
	if total > 0 {
		return total
	}
	return ticked(pid)
}

func ticked(pid int) (total float64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, text := range fields[11:13] { // utime and stime
		n, _ := strconv.ParseFloat(text, 64)
		total += n / ticks
	}
	return total
}

// below are the processes that pid started and that still run.
func below(pid int) (children []int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, text := range strings.Fields(string(data)) {
		if one, err := strconv.Atoi(text); err == nil {
			children = append(children, one)
		}
	}
	return children
}
