// Command bench measures agentbox beside what it competes with, in pairs (one, other, one, other …) so that a noisy
// machine disturbs both alike, and prints the median of the ratios. It judges nothing: its exit code is 0 whatever
// the numbers are, and a comparison that cannot be made says why.
//
// It runs as the person whose Podman it measures. `make bench` arranges that.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.agentbox, "agentbox", "bin/agentbox", "the program to measure")
	flag.StringVar(&b.srt, "srt", "", "Anthropic's srt, to compare with (empty: leave it out)")
	flag.IntVar(&b.rounds, "n", 20, "pairs of each comparison")
	flag.BoolVar(&b.onlyWorkspace, "workspace", false, "measure the review mode on a large repository, and nothing else")
	flag.IntVar(&b.files, "files", 100_000, "with -workspace: files of the large repository")
	flag.IntVar(&b.megabytes, "megabytes", 2048, "with -workspace: its size without git's own")
	flag.Parse()
	if err := b.run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one measurement with all its parts.
type bench struct {
	agentbox, srt string
	rounds        int
	work          string // scratch directory
	repo          string // a small git repository in it
	out           io.Writer

	onlyWorkspace    bool
	files, megabytes int
}

func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	b.out = out
	if b.agentbox, err = filepath.Abs(b.agentbox); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp("", "agentbox-bench-"); err != nil {
		return err
	}
	defer b.tidy()
	if b.onlyWorkspace {
		b.header()
		defer b.footer()
		return b.workspace(ctx)
	}
	b.repo = filepath.Join(b.work, "repo")
	if err := makeRepo(ctx, b.repo, 40, 10); err != nil {
		return err
	}
	b.header()
	b.starts(ctx)
	b.inside(ctx)
	b.memory(ctx)
	b.decisions(ctx)
	b.size()
	b.footer()
	return nil
}

func (b *bench) footer() {
	fmt.Fprintf(b.out, "\nload at the end: %s. This says nothing on a busy machine: compare ratios, and only within one run.\n", load())
}

// tidy removes the scratch directory. Podman may have left files of subordinate ids in it, which only the user
// namespace can remove.
func (b *bench) tidy() {
	if os.RemoveAll(b.work) != nil {
		_ = exec.Command("podman", "unshare", "rm", "-rf", b.work).Run()
	}
}

func (b *bench) header() {
	podman, err := exec.Command("podman", "version", "--format", "{{.Client.Version}}").Output()
	if err != nil {
		podman = []byte("none")
	}
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	fmt.Fprintf(b.out, "agentbox bench: Podman %s, %d processors, load %s, %d pairs\n", bytes.TrimSpace(podman),
		bytes.Count(cpus, []byte("\nprocessor"))+1, load(), b.rounds)
	fmt.Fprintf(b.out, "times are min / median / max; ratios are taken pair by pair\n\n")
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	if len(fields) < 1 {
		return "unknown"
	}
	return fields[0]
}

// act does what is measured and says how long it took.
type act func(ctx context.Context) (time.Duration, error)

// pair is one comparison. Ratio is one over other, or, for speed, other over one.
type pair struct {
	name       string
	one, other act
	target     float64 // 0 is none
	speed      bool    // the ratio is of speeds: at least target, instead of at most
	atMost     float64 // milliseconds that one may take; 0 is no such target
	rounds     int
}

// measure runs a pair and prints its line. What fails is told, and measured no further.
func (b *bench) measure(ctx context.Context, p pair) {
	var ones, others, ratios []float64
	for i := -1; i < p.rounds; i++ { // the first warms up
		x, y, err := both(ctx, p, i%2 == 0)
		if err != nil {
			fmt.Fprintf(b.out, "%-44s not measured: %v\n", p.name, err)
			return
		}
		if i < 0 {
			continue
		}
		ones, others = append(ones, x), append(others, y)
		if p.speed {
			x, y = y, x
		}
		ratios = append(ratios, x/y)
	}
	fmt.Fprintf(b.out, "%-44s %s  vs  %s\n%44s ratio %s  %s\n", p.name, millis(ones), millis(others), "", spread(ratios, "%.2f"), verdict(median(ratios), p))
	if p.atMost > 0 {
		fmt.Fprintf(b.out, "%44s %s\n", "", against(median(ones), p.atMost, "ms"))
	}
}

// both runs the two halves of a pair, in the order asked for, and returns milliseconds.
func both(ctx context.Context, p pair, swap bool) (one, other float64, err error) {
	first, second := p.one, p.other
	if swap {
		first, second = second, first
	}
	a, err := first(ctx)
	if err != nil {
		return 0, 0, err
	}
	c, err := second(ctx)
	if err != nil {
		return 0, 0, err
	}
	if swap {
		a, c = c, a
	}
	return a.Seconds() * 1000, c.Seconds() * 1000, nil
}

func verdict(got float64, p pair) string {
	if p.target == 0 {
		return ""
	}
	sign, met := "at most", got <= p.target
	if p.speed {
		sign, met = "at least", got >= p.target
	}
	word := "met"
	if !met {
		word = "MISSED"
	}
	return fmt.Sprintf("(target: %s %.2f, %s)", sign, p.target, word)
}

func millis(xs []float64) string { return spread(xs, "%.0f") + " ms" }

func spread(xs []float64, format string) string {
	return fmt.Sprintf(format+" / "+format+" / "+format, slices.Min(xs), median(xs), slices.Max(xs))
}

// median returns the middle value; xs must not be empty.
func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// command is an act that runs a program to its end in dir.
func command(dir string, argv ...string) act {
	return func(ctx context.Context) (time.Duration, error) {
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir, cmd.Stderr = dir, &said
		begin := time.Now()
		err := cmd.Run()
		took := time.Since(begin)
		if err != nil {
			return 0, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, lastLine(said.String()))
		}
		return took, nil
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// worker is a shell that runs one line after another and tells the nanoseconds each took, so that the start of a
// container is not part of what is measured.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const workerScript = `while IFS= read -r line; do
  s=$(date +%s%N); eval "$line" >/dev/null 2>&1 </dev/null; rc=$?; e=$(date +%s%N); echo "$rc $((e-s))"
done`

func startWorker(ctx context.Context, dir string, argv ...string) (*worker, error) {
	argv = append(argv, "bash", "-c", workerScript)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &worker{cmd: cmd, in: in, out: bufio.NewReader(out)}, cmd.Start()
}

// does is the act of running one line in the worker.
func (w *worker) does(line string) act {
	return func(context.Context) (time.Duration, error) {
		if _, err := fmt.Fprintln(w.in, line); err != nil {
			return 0, err
		}
		answer, err := w.out.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("the shell ended early: %w", err)
		}
		var rc int
		var ns int64
		if _, err := fmt.Sscan(answer, &rc, &ns); err != nil || rc != 0 {
			return 0, fmt.Errorf("%q answered %q", line, strings.TrimSpace(answer))
		}
		return time.Duration(ns), nil
	}
}

// stop ends the worker and waits for it.
func (w *worker) stop() {
	_ = w.in.Close()
	_ = w.cmd.Wait()
}
