// Package later knows what the person's own tools would execute after a run: which files, read or changed by an
// agent, become programs or orders once they lie in the person's repository.
//
// It owns one data file, later.toml: an entry is a few patterns, a reason in plain words, and an example that a test
// holds it to. Match is pure; it reads no file but what its caller hands it.
package later

import (
	"io/fs"
	"strings"
	"unicode/utf8"
)

// File is one side of a change. Read gives its content, at most MaxRead bytes of it; nil is a side that is absent.
type File struct {
	Mode fs.FileMode // permission bits, and the type
	Read func() ([]byte, error)
}

// MaxRead is how much of a file is looked at where its content decides.
const MaxRead = 1 << 20

// Match says why the person's own tools would execute, or obey, what lies at path (slash-separated, below the
// repository) after the change from before to after; "" is that they would not. What was deleted executes nothing.
func Match(path string, before, after *File) string { return "" }

// Fold gives a name as file systems that ignore case see it, without the characters that HFS+ passes over.
func Fold(name string) string {
	if !utf8.ValidString(name) {
		return foldASCII(name) // such a name means the same bytes everywhere, or nothing
	}
	return strings.ToLower(strings.ToUpper(strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)))
}

func foldASCII(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
