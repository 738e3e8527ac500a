package changes

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// block is the unit in which zeros are passed over.
const block = 4096

// Blocks calls each with every block of f that holds anything but zeros. Holes are not read, so that a file of a
// petabyte with nothing in it costs nothing.
func Blocks(f *os.File, each func(at int64, data []byte) error) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64*block)
	for at := int64(0); ; {
		if at, err = nextData(f, at); err != nil || at < 0 {
			return info.Size(), err
		}
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return info.Size(), ignoreEOF(err)
		}
		for i := 0; i < n; i += block {
			part := buf[i:min(i+block, n)]
			if bytes.Count(part, []byte{0}) == len(part) {
				continue
			}
			if err := each(at+int64(i), part); err != nil {
				return 0, err
			}
		}
		at += int64(n)
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// nextData gives where data goes on, at a block's edge; -1 at the end.
func nextData(f *os.File, at int64) (int64, error) {
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return -1, nil
	case err != nil: // a file system that doesn't know
		return at, nil
	}
	return max(at, next-next%block), nil
}

// Digest names the content of f: its size, and every block that is not zeros.
func Digest(f *os.File) (string, error) {
	h := sha256.New()
	var place [8]byte
	size, err := Blocks(f, func(at int64, data []byte) error {
		binary.BigEndian.PutUint64(place[:], uint64(at))
		h.Write(place[:])
		h.Write(data)
		return nil
	})
	if err != nil {
		return "", err
	}
	binary.BigEndian.PutUint64(place[:], uint64(size))
	h.Write(place[:])
	return hex.EncodeToString(h.Sum(nil)), nil
}

// EqualFiles compares the contents of two files of one size, and stops at the first difference.
func EqualFiles(a, b *os.File) (bool, error) {
	bufA, bufB := make([]byte, 64*block), make([]byte, 64*block)
	for at := int64(0); ; {
		nextA, err := nextData(a, at)
		if err != nil {
			return false, err
		}
		nextB, err := nextData(b, at)
		if err != nil || nextA < 0 && nextB < 0 {
			return err == nil, err
		}
		at = earlier(nextA, nextB)
		na, err := readAt(a, bufA, at)
		if err != nil {
			return false, err
		}
		nb, err := readAt(b, bufB, at)
		if err != nil || na != nb || !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, err
		}
		if na == 0 {
			return true, nil
		}
		at += int64(na)
	}
}

func earlier(a, b int64) int64 {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

func readAt(f *os.File, buf []byte, at int64) (int, error) {
	n, err := f.ReadAt(buf, at)
	return n, ignoreEOF(err)
}
