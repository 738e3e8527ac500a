package workspace

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// The largest files of a repository that are read. Git's own are far below.
const (
	maxText  = 16 << 20
	maxIndex = 1 << 30
)

// readRegular reads a file of a repository, which may come from anybody: what is no regular file is refused, and not
// waited for.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", quote(path))
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", quote(path), limit>>20)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
