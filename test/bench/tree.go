package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// perDir is how many files a directory of a large repository holds.
const perDir = 20

// makeLarge makes a git repository as a clone leaves it: files files of bytes in all, perDir in a directory, one pack, and an
// index that was just written.
func makeLarge(ctx context.Context, repo string, files int, bytes int64) error {
	if err := os.MkdirAll(repo, 0o755); err != nil {
		return err
	}
	if err := git(ctx, repo, "init", "-q", "-b", "main"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "git", "-c", "core.compression=1", "fast-import", "--quiet", "--depth=0")
	cmd.Dir, cmd.Stderr = repo, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w := bufio.NewWriterSize(in, 1<<20)
	writeCommit(w, files, int(bytes/int64(max(1, files))))
	if err := w.Flush(); err != nil {
		return err
	}
	if err := in.Close(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("making a repository: git fast-import: %w", err)
	}
	return git(ctx, repo, "reset", "-q", "--hard", "main")
}

// writeCommit writes one commit as git fast-import reads it. A write that fails is the flush's to tell.
func writeCommit(w io.Writer, files, size int) {
	fmt.Fprintf(w, "commit refs/heads/main\ncommitter bench <bench@example.com> 1700000000 +0000\ndata 5\nlarge\n")
	for i := range files {
		content := strings.Repeat(fmt.Sprintf("line of file number %d, which says nothing\n", i), size/40+1)[:size]
		fmt.Fprintf(w, "M %s inline %s\ndata %d\n%s\n", largeMode(i), largeName(i), len(content), content)
	}
}

// largeName is the path of the i-th file. Some have names that tools obey, as in any large repository.
func largeName(i int) string {
	dir := i / perDir
	name := fmt.Sprintf("file%02d", i%perDir)
	switch i % perDir {
	case 0:
		name = "README.md"
	case 1:
		name += ".json"
	case 2, 3, 4, 5:
		name += ".py"
	case 6, 7, 8, 9, 10, 11:
		name += ".ts"
	case 12:
		name += ".sh"
	default:
		name += ".txt"
	}
	if i%(50*perDir) == 1 {
		name = "package.json"
	}
	return fmt.Sprintf("part%03d/pack%02d/%s", dir/50, dir%50, name)
}

func largeMode(i int) string {
	if i%perDir == 12 {
		return "755"
	}
	return "644"
}

func git(ctx context.Context, repo string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=bench", "-c", "user.email=bench@example.com"}, args...)...)
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a repository: git %s: %w: %s", args[0], err, lastLine(string(out)))
	}
	return nil
}
