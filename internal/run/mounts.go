package run

import (
	"bufio"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SealSubmounts adds, after each read-only bind, a read-only bind of every mount below its source: a bind takes the
// mounts below along, and "ro" reaches only the top one, so that /usr read-only would leave a /usr/local on a disk of
// its own writable. mountinfo is the text of /proc/self/mountinfo.
func SealSubmounts(mounts []Mount, mountinfo io.Reader) ([]Mount, error) {
	points, err := mountPoints(mountinfo)
	if err != nil {
		return nil, err
	}
	var out []Mount
	taken := map[string]bool{} // what the caller mounts there itself is the caller's to seal
	for _, m := range mounts {
		taken[m.Target] = true
	}
	for _, m := range mounts {
		out = append(out, m)
		if m.Type != "bind" || !m.ReadOnly {
			continue
		}
		for _, p := range points {
			rel, ok := below(m.Source, p)
			if target := filepath.Join(m.Target, rel); ok && !taken[target] {
				taken[target] = true
				out = append(out, Mount{Type: "bind", Source: p, Target: target, ReadOnly: true})
			}
		}
	}
	return out, nil
}

// below gives path relative to dir when it lies below it.
func below(dir, path string) (string, bool) {
	prefix := strings.TrimSuffix(filepath.Clean(dir), "/") + "/"
	if !strings.HasPrefix(path, prefix) {
		return "", false
	}
	return strings.TrimPrefix(path, prefix), true
}

// mountPoints reads the fifth field of each line, with its octal escapes, and sorts parents before children.
func mountPoints(r io.Reader) ([]string, error) {
	var out []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) > 4 {
			out = append(out, unescapeOctal(f[4]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), s.Err()
}

func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
