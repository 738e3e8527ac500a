package changes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Change.Mark has two parts: what the file system tells of a path, and, of a file, the digest of what was looked at.
// The first alone is not enough: through a mapping of its memory a file is written to without any of its times changing.
const content = " content "

// ErrChanged says that the agent changed a file after it was listed.
var ErrChanged = errors.New("the agent changed it after it was listed")

// digest names what was looked at of a file: its first MaxDiff+1 bytes.
func digest(data []byte) string {
	sum := sha256.Sum256(data[:min(len(data), MaxDiff+1)])
	return hex.EncodeToString(sum[:])
}

// Stat gives the part of a Change.Mark that the file system tells.
func Stat(mark string) string {
	stat, _, _ := strings.Cut(mark, content)
	return stat
}

// holds says whether data is what the mark was made of; one without a digest is of nothing that was looked at.
func holds(mark string, data []byte) bool {
	_, want, ok := strings.Cut(mark, content)
	return !ok || want == digest(data)
}

// Shown says whether a text is what the mark of a change was made of, and so what the person was shown.
func Shown(mark string, data []byte) bool {
	return strings.Contains(mark, content) && holds(mark, data)
}

// ShownFile is Shown of a file.
func ShownFile(mark string, f *os.File) (bool, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, MaxDiff+1))
	return err == nil && Shown(mark, data), err
}

// Mark gives the first part of the Change.Mark of what an open file of the agent's is now.
func Mark(f *os.File) (string, error) {
	var n node
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		return "", err
	}
	return n.mark(), nil
}
