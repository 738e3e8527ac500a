package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// starts compares the time from command to end of a program that does nothing. The others work on the repository itself, and so
// does what is compared with them; what the review mode adds to that is a row of its own.
func (b *bench) starts(ctx context.Context) {
	ours := command(b.repo, b.agentbox, "run", "shell", "--workspace", "direct", "--", "true")
	b.against(ctx, pair{name: "start: the review mode vs the direct one", one: command(b.repo, b.agentbox, "run", "shell", "--workspace", "review", "--", "true")},
		ours, nil)
	image, err := importImage(ctx)
	b.against(ctx, pair{name: "start: agentbox vs podman run IMAGE", one: ours, target: 1.1},
		command(b.repo, "podman", "run", "--rm", "--network", "none", image, "true"), err)

	skeleton, err := b.skeleton()
	b.against(ctx, pair{name: "start: agentbox vs podman run --rootfs", one: ours, target: 1.3},
		command(b.repo, "podman", "run", "--rm", "--network", "none", "-v", "/usr:/usr:ro", "--rootfs", skeleton, "true"), err)

	if b.srt == "" {
		err = fmt.Errorf("srt is not installed")
	}
	b.against(ctx, pair{name: "start: agentbox vs srt", one: ours, target: 0.6}, command(b.repo, b.srt, "true"), err)
	b.against(ctx, pair{name: "(for scale: podman --rootfs vs podman IMAGE)", one: command(b.repo, "podman", "run", "--rm",
		"--network", "none", "-v", "/usr:/usr:ro", "--rootfs", skeleton, "true")},
		command(b.repo, "podman", "run", "--rm", "--network", "none", image, "true"), nil)
}

// against measures a pair whose other half may have failed to be prepared.
func (b *bench) against(ctx context.Context, p pair, other act, err error) {
	if err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", p.name, err)
		return
	}
	p.other, p.rounds = other, b.rounds
	b.measure(ctx, p)
}

// importImage makes the smallest image that can run true: a static busybox.
func importImage(ctx context.Context) (string, error) {
	const name = "localhost/agentbox-bench"
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", fmt.Errorf("a static busybox is needed (Debian: busybox-static): %w", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(busybox))},
		{Name: "bin/true", Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return "", err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(busybox); err != nil {
				return "", err
			}
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "podman", "import", "-", name)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("podman import: %w: %s", err, lastLine(string(out)))
	}
	return name, nil
}

// skeleton makes a root for the host's own toolchain: empty directories, and links into /usr as on the host.
func (b *bench) skeleton() (string, error) {
	root := filepath.Join(b.work, "skeleton")
	for _, dir := range []string{"usr", "proc", "sys", "dev", "tmp", "run", "etc", "root", "home"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	for _, link := range []string{"bin", "lib", "lib32", "lib64", "sbin"} {
		target, err := os.Readlink("/" + link)
		if err != nil {
			continue // not on this host, or a directory of its own
		}
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			return "", err
		}
	}
	return root, nil
}

// makeRepo makes a git repository of dirs × files files, all committed.
func makeRepo(ctx context.Context, repo string, dirs, files int) error {
	for d := range dirs {
		dir := filepath.Join(repo, fmt.Sprintf("dir%03d", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for f := range files {
			content := strings.Repeat(fmt.Sprintf("line of file %d in %d\n", f, d), 20)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%03d.txt", f)), []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"},
		{"-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "-qm", "start"},
	} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = repo
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("making a repository: git %s: %w: %s", args[0], err, lastLine(string(out)))
		}
	}
	return nil
}

const goProgram = `package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
)

func main() { _ = json.NewEncoder(os.Stdout).Encode(fmt.Sprint(regexp.MustCompile("a"))) }
`

// inside compares work in the sandbox with the same work outside it.
func (b *bench) inside(ctx context.Context) {
	big := filepath.Join(b.work, "big")
	err := makeRepo(ctx, big, 200, 25)
	if err == nil {
		err = os.WriteFile(filepath.Join(big, "go.mod"), []byte("module bench\n\ngo 1.21\n"), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(big, "main.go"), []byte(goProgram), 0o644)
	}
	if err != nil {
		fmt.Fprintf(b.out, "work inside: not measured: %v\n", err)
		return
	}
	in, err := startWorker(ctx, big, b.agentbox, "run", "shell", "--workspace", "direct", "--")
	if err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", "work inside vs outside", err)
		return
	}
	defer in.stop()
	out, err := startWorker(ctx, big)
	if err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", "work inside vs outside", err)
		return
	}
	defer out.stop()
	status := "git status"
	b.measure(ctx, pair{name: "git status, 5,000 files: inside vs outside", one: in.does(status), other: out.does(status),
		target: 0.95, speed: true, rounds: 2 * b.rounds})
	// Each build starts from an empty cache, which lies in the repository for both.
	build := func(cache string) string {
		return "rm -rf " + cache + "; GOCACHE=$PWD/" + cache + " GOTOOLCHAIN=local GOFLAGS=-mod=mod go build -o /dev/null . && rm -rf " + cache
	}
	b.measure(ctx, pair{name: "go build, empty cache: inside vs outside", one: in.does(build(".cache-in")), other: out.does(build(".cache-out")),
		target: 0.95, speed: true, rounds: max(3, b.rounds/5)})
}

// memory tells what agentbox itself takes while its agent idles, after the agent has said that it runs.
func (b *bench) memory(ctx context.Context) {
	const name = "memory of agentbox run, agent idle"
	w, err := startWorker(ctx, b.repo, b.agentbox, "run", "shell", "--workspace", "direct", "--")
	if err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", name, err)
		return
	}
	defer w.stop()
	if _, err := w.does("true")(ctx); err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", name, err)
		return
	}
	pid := strconv.Itoa(w.cmd.Process.Pid)
	rss, err1 := kilobytes("/proc/"+pid+"/status", "VmRSS:")
	pss, err2 := kilobytes("/proc/"+pid+"/smaps_rollup", "Pss:")
	if err1 != nil || err2 != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v %v\n", name, err1, err2)
		return
	}
	fmt.Fprintf(b.out, "%-44s %.1f MB resident, %.1f MB proportional %s\n", name, rss/1024, pss/1024, atMost(rss/1024, 60))
	for _, child := range children(pid) {
		kb, err := kilobytes("/proc/"+child+"/status", "VmRSS:")
		comm, _ := os.ReadFile("/proc/" + child + "/comm")
		if err == nil {
			fmt.Fprintf(b.out, "%-44s %.1f MB resident\n", "  beside it: "+strings.TrimSpace(string(comm)), kb/1024)
		}
	}
}

// kilobytes reads the line of a /proc file that begins with key.
func kilobytes(path, key string) (float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, key)
}

// children returns the processes whose parent is pid.
func children(pid string) []string {
	data, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	return strings.Fields(string(data))
}

func (b *bench) size() {
	const name = "size of the program"
	info, err := os.Stat(b.agentbox)
	if err != nil {
		fmt.Fprintf(b.out, "%-44s not measured: %v\n", name, err)
		return
	}
	mb := float64(info.Size()) / 1e6
	fmt.Fprintf(b.out, "%-44s %.1f MB %s\n", name, mb, atMost(mb, 40))
}

func atMost(got, target float64) string {
	word := "met"
	if got > target {
		word = "MISSED"
	}
	return fmt.Sprintf("(target: at most %.0f MB, %s)", target, word)
}
