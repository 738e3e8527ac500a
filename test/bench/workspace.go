package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// largeRepo is a repository at which the review mode is measured, beside one that holds nothing.
type largeRepo struct {
	*bench
	files        int
	large, empty string
	changed      int // files, among all
}

// workspace measures what the review mode costs on a repository of many files: its start, looking at and taking a few changes, and
// work inside. Its runs are kept in the scratch directory, on the file system of the repositories.
func (b *bench) workspace(ctx context.Context) error {
	state := filepath.Join(b.work, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Setenv("XDG_STATE_HOME", state)); err != nil {
		return err
	}
	l := largeRepo{bench: b, files: b.files, large: filepath.Join(b.work, "large"), empty: filepath.Join(b.work, "empty"), changed: 10}
	if err := errors.Join(makeLarge(ctx, l.large, b.files, int64(b.megabytes)<<20), makeLarge(ctx, l.empty, 1, 10)); err != nil {
		return err
	}
	if err := l.module(); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nthe review mode, %d files of %d MB in all\n", b.files, b.megabytes)
	l.starts(ctx)
	l.changes(ctx)
	l.inside(ctx)
	l.copies(ctx)
	return nil
}

// module makes a Go module of many small packages, which builds without a network.
func (l largeRepo) module() error {
	const packages = 100
	dir := filepath.Join(l.large, "module")
	files := map[string]string{"go.mod": "module bench\n\ngo 1.21\n"}
	main := "package main\n\nimport (\n\t\"encoding/json\"\n\t\"os\"\n"
	var sum strings.Builder
	for i := range packages {
		files[fmt.Sprintf("p%d/p.go", i)] = fmt.Sprintf("package p%d\n\nimport \"strconv\"\n\nfunc F() string { return strconv.Itoa(%d) }\n", i, i)
		main += fmt.Sprintf("\t\"bench/p%d\"\n", i)
		fmt.Fprintf(&sum, " + p%d.F()", i)
	}
	files["main.go"] = main + ")\n\nfunc main() { _ = json.NewEncoder(os.Stdout).Encode(\"\"" + sum.String() + ") }\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// starts compares the time until the agent has said something.
func (l largeRepo) starts(ctx context.Context) {
	for _, mode := range []string{"review", "readonly", "direct"} {
		target := 0.0
		if mode == "review" {
			target = 1.1
		}
		argv := []string{l.agentbox, "run", "shell", "--quiet", "--workspace", mode, "--", "echo", "here"}
		l.measure(ctx, pair{name: "start, " + mode + ": many files vs none", rounds: l.rounds, target: target,
			one: firstWord(l.large, argv...), other: firstWord(l.empty, argv...)})
	}
	review := firstWord(l.large, l.agentbox, "run", "shell", "--quiet", "--workspace", "review", "--", "echo", "here")
	few := max(2, l.rounds/7)
	l.measure(ctx, pair{name: "start, review vs cp -a", rounds: few, one: review,
		other: made(filepath.Join(l.work, "copied"), command(l.work, "cp", "-a", l.large, filepath.Join(l.work, "copied")))})
	tree := filepath.Join(l.work, "worktree")
	l.measure(ctx, pair{name: "start, review vs git worktree add", rounds: few, one: review,
		other: made(tree, command(l.large, "git", "worktree", "add", "-q", "-f", "--detach", tree))})
}

// firstWord is an act that runs a program to its end, and tells when it began to say something.
func firstWord(dir string, argv ...string) act {
	return func(ctx context.Context) (time.Duration, error) {
		var said strings.Builder
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir, cmd.Stderr = dir, &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		_, err = io.ReadFull(out, make([]byte, 1))
		took := time.Since(begin)
		_, rest := io.Copy(io.Discard, out)
		if err := errors.Join(err, rest, cmd.Wait()); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, lastLine(said.String()))
		}
		return took, nil
	}
}

// made is an act that makes a directory, which is removed again outside of its time.
func made(dir string, do act) act {
	return func(ctx context.Context) (time.Duration, error) {
		took, err := do(ctx)
		return took, errors.Join(err, os.RemoveAll(dir))
	}
}

// changes measures looking at a few changes, and taking them, beside the same in a repository that holds nothing else.
func (l largeRepo) changes(ctx context.Context) {
	edit := fmt.Sprintf("for i in $(seq %d); do mkdir -p part000/pack$i; echo changed >> part000/pack$i/file19.txt; done", l.changed)
	for _, repo := range []string{l.large, l.empty} {
		if _, err := command(repo, l.agentbox, "run", "shell", "--quiet", "--workspace", "review", "--on-exit", "keep", "--", "sh", "-c", edit)(ctx); err != nil {
			fmt.Fprintf(l.out, "%-44s not measured: %v\n", "looking at changes", err)
			return
		}
	}
	stat := []string{l.agentbox, "diff", "--stat"}
	l.measure(ctx, pair{name: fmt.Sprintf("diff --stat, %d changed: many files vs none", l.changed), rounds: l.rounds, atMost: 100,
		one: command(l.large, stat...), other: command(l.empty, stat...)})
	l.measure(ctx, pair{name: fmt.Sprintf("apply --all, %d changed: many files vs none", l.changed), rounds: l.rounds, atMost: 100,
		one: l.applied(l.large), other: l.applied(l.empty)})
	for _, repo := range []string{l.large, l.empty} {
		if _, err := command(repo, l.agentbox, "discard", "--yes")(ctx); err != nil {
			fmt.Fprintf(l.out, "discarding: %v\n", err)
		}
	}
}

// applied is the act of taking all changes, which are put back outside of its time.
func (l largeRepo) applied(repo string) act {
	return func(ctx context.Context) (time.Duration, error) {
		took, err := command(repo, l.agentbox, "apply", "--all")(ctx)
		if err != nil {
			return 0, err
		}
		_, err = command(repo, l.agentbox, "undo")(ctx)
		return took, err
	}
}

// inside compares work in the review mode with the same work in a plain Podman container that has the repository as a bind mount:
// the same root, the same person.
func (l largeRepo) inside(ctx context.Context) {
	const name = "work inside vs a plain bind mount"
	goProgram, err := exec.LookPath("go")
	if err != nil {
		fmt.Fprintf(l.out, "%-44s not measured: %v\n", name, err)
		return
	}
	in, err := startWorker(ctx, l.large, l.agentbox, "run", "shell", "--quiet", "--workspace", "review", "--on-exit", "discard", "--")
	if err != nil {
		fmt.Fprintf(l.out, "%-44s not measured: %v\n", name, err)
		return
	}
	defer in.stop()
	plain, err := l.plain(goProgram)
	var out *worker
	if err == nil {
		out, err = startWorker(ctx, l.large, plain...)
	}
	if err != nil {
		fmt.Fprintf(l.out, "%-44s not measured: %v\n", name, err)
		return
	}
	defer out.stop()
	build := "export GOCACHE=$PWD/.cache-bench GOTOOLCHAIN=local GOFLAGS=-mod=mod HOME=/tmp; rm -rf $GOCACHE; (cd module && " + goProgram + " build -o /dev/null .)"
	for _, w := range []struct {
		what, line string
		rounds     int
	}{
		{"git status", "git status --porcelain", l.rounds},
		{"find, every file", "find . -path ./.git -prune -o -type f -size -1000k -print", l.rounds},
		{"grep, a tenth of the files", "grep -r zzzz part*0 || true", max(3, l.rounds/3)},
		{"go build, empty cache", build, max(3, l.rounds/5)},
	} {
		l.measure(ctx, pair{name: w.what + ": review vs plain bind", one: in.does(w.line), other: out.does(w.line), target: 0.95, speed: true, rounds: w.rounds})
	}
}

// plain is the command line of a container that agentbox has no part in.
func (l largeRepo) plain(goProgram string) ([]string, error) {
	root, err := l.skeleton()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/passwd", "etc/group", "run/.containerenv"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, l.large), 0o755); err != nil {
		return nil, err
	}
	argv := []string{"podman", "run", "--rm", "-i", "--network", "none", "--userns", "keep-id", "--security-opt", "label=disable",
		"-v", "/usr:/usr:ro", "-v", l.large + ":" + l.large, "-w", l.large}
	if real, err := filepath.EvalSymlinks(goProgram); err == nil && !strings.HasPrefix(real, "/usr/") {
		top := filepath.Dir(filepath.Dir(real))
		argv = append(argv, "-v", top+":"+top+":ro")
	}
	return append(argv, "--rootfs", root), nil
}

// copies compares the back end that copies with a full copy.
func (l largeRepo) copies(ctx context.Context) {
	const name = "start, backend = copy vs cp -a"
	config := filepath.Join(l.work, "config")
	profile := filepath.Join(config, "agentbox", "profiles", "copied.toml")
	err := os.MkdirAll(filepath.Dir(profile), 0o700)
	if err == nil {
		err = os.WriteFile(profile, []byte("version = 1\nextends = \"shell\"\n[workspace]\nmode = \"review\"\nbackend = \"copy\"\n"), 0o600)
	}
	if err != nil {
		fmt.Fprintf(l.out, "%-44s not measured: %v\n", name, err)
		return
	}
	copied := filepath.Join(l.work, "copied")
	l.measure(ctx, pair{name: name, rounds: max(2, l.rounds/7),
		one:   firstWord(l.large, "env", "XDG_CONFIG_HOME="+config, l.agentbox, "run", "copied", "--quiet", "--", "echo", "here"),
		other: made(copied, command(l.work, "cp", "-a", l.large, copied))})
}
