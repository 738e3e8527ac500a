// Package shimbin carries the built shims inside agentbox and lays them on disk, where containers bind them.
//
// It owns the file names in the directory it is given and what they hold; package shim owns the program. The
// shims are built by hack/build-shim before agentbox is; a build without them compiles and says so when asked.
package shimbin

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

//go:embed bin
var embedded embed.FS

// ErrNotBuilt says that the shim is not part of this agentbox.
var ErrNotBuilt = errors.New("this agentbox was built without its shim; use make build")

// Check reports whether this agentbox has a shim for this machine's architecture: nil or ErrNotBuilt.
func Check() error {
	if _, err := fs.Stat(embedded, "bin/agentbox-shim-linux-"+runtime.GOARCH); err != nil {
		return ErrNotBuilt
	}
	return nil
}

// Install writes the shim for containers of this machine's architecture into dir, which must exist and belong
// to the caller, and returns its path. The name tells the content; a file that holds anything else is replaced.
func Install(dir string) (string, error) { return install(embedded, runtime.GOARCH, dir) }

func install(files fs.FS, arch, dir string) (string, error) {
	program, err := fs.ReadFile(files, "bin/agentbox-shim-linux-"+arch)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotBuilt
	}
	if err != nil {
		return "", fmt.Errorf("reading the embedded shim: %w", err)
	}
	// The checksum only keeps versions apart; what makes the file the right one is that its content is compared.
	path := filepath.Join(dir, fmt.Sprintf("agentbox-shim-%s-%08x", arch, crc32.Checksum(program, crc32.MakeTable(crc32.Castagnoli))))
	if intact(path, program) {
		return path, nil
	}
	if err := replace(path, program); err != nil {
		return "", fmt.Errorf("installing the shim: %w", err)
	}
	return path, nil
}

// intact reports whether path is a plain executable file of exactly that content, which nobody else may write.
func intact(path string, want []byte) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o755 || st.Size() != int64(len(want)) {
		return false
	}
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, want)
}

// replace writes beside path and renames, so that nobody ever runs half a shim, nor one that is open for writing: no
// process is forked meanwhile, which would hold the file open for as long as it takes to become another program.
func replace(path string, program []byte) (err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp(filepath.Dir(path), ".agentbox-shim-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(program)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
