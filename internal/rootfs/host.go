package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// host is the file system that is looked at, through a directory that stands for its root.
type host string

// real returns where path p of the host is for this process.
func (h host) real(p string) string {
	if h == "" || h == "/" {
		return p
	}
	return filepath.Join(string(h), p)
}

func (h host) lstat(p string) (fs.FileInfo, error) { return os.Lstat(h.real(p)) }

func (h host) isDir(p string) bool {
	r, _, err := h.resolve(p)
	if err != nil {
		return false
	}
	info, err := h.lstat(r)
	return err == nil && info.IsDir()
}

var errTooManyLinks = errors.New("too many links")

// resolve follows every link of the absolute path p and returns where it ends, and each path on the way that
// is a link. A path that does not exist is an error.
func (h host) resolve(p string) (string, []string, error) {
	var hops []string
	todo := components(p)
	at := "/"
	for len(todo) > 0 {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		info, err := h.lstat(next)
		if err != nil {
			return "", hops, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if hops = append(hops, next); len(hops) > 40 {
			return "", hops, fmt.Errorf("resolving %s: %w", p, errTooManyLinks)
		}
		target, err := os.Readlink(h.real(next))
		if err != nil {
			return "", hops, err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(components(target), todo...)
	}
	return at, hops, nil
}

func components(p string) []string {
	var all []string
	for c := range strings.SplitSeq(p, "/") {
		if c != "" && c != "." {
			all = append(all, c)
		}
	}
	return all
}

// glob returns the host paths that match a pattern.
func (h host) glob(pattern string) []string {
	if !strings.ContainsAny(pattern, "*?[") {
		if _, err := h.lstat(pattern); err != nil {
			return nil
		}
		return []string{pattern}
	}
	found, err := filepath.Glob(escapeGlob(h.real("/")) + strings.TrimPrefix(pattern, "/"))
	if err != nil {
		return nil
	}
	for i, f := range found {
		found[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(f, filepath.Clean(h.real("/"))), "/")
	}
	return found
}

// escapeGlob ends in a slash.
func escapeGlob(dir string) string {
	return strings.TrimSuffix(globMeta.Replace(filepath.Clean(dir)), "/") + "/"
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// withinAny reports whether p is one of dirs or below one.
func withinAny(p string, dirs []string) bool {
	for _, d := range dirs {
		if within(p, d) {
			return true
		}
	}
	return false
}
