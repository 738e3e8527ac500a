package gitwire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// MaxBatch is how much of a request of Git LFS is read. Its client sends a hundred objects at a time.
const MaxBatch = 1 << 20

// ErrBatch says that what a request of Git LFS asks for cannot be read in one way only.
var ErrBatch = errors.New("the request of Git LFS is not one JSON object that names its operation once")

// ReadBatch reads the whole body of an LFS batch request: OpFetch for a download, OpPush for an upload. named is false for an
// object that names no operation. It gives every byte that it took as well, whatever the error.
func ReadBatch(r io.Reader, grow func(n int) bool) (op Op, named bool, taken []byte, err error) {
	taken, err = readAll(r, MaxBatch, grow)
	if err != nil {
		return OpPush, true, taken, err
	}
	op, named, err = batchOperation(taken)
	return op, named, taken, err
}

func readAll(r io.Reader, limit int, grow func(n int) bool) ([]byte, error) {
	var taken []byte
	for {
		if grow != nil && !grow(4096) {
			return taken, ErrBatch
		}
		room := make([]byte, 4096)
		n, err := r.Read(room)
		taken = append(taken, room[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return taken, nil
		case err != nil:
			return taken, err
		case len(taken) > limit:
			return taken, ErrBatch
		}
	}
}

// batchOperation finds the one "operation" of the outermost object. Programs disagree on which of two keys counts, and
// on whether "Operation" is one.
func batchOperation(body []byte) (Op, bool, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return OpPush, true, ErrBatch
	}
	found := ""
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return OpPush, true, ErrBatch
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return OpPush, true, ErrBatch
		}
		name, _ := key.(string)
		if !strings.EqualFold(name, "operation") {
			continue
		}
		if found != "" || name != "operation" || json.Unmarshal(value, &found) != nil || found == "" {
			return OpPush, true, ErrBatch
		}
	}
	if _, err := d.Token(); err != nil {
		return OpPush, true, ErrBatch
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return OpPush, true, ErrBatch
	}
	switch found {
	case "":
		return OpPush, false, nil
	case "download":
		return OpFetch, true, nil
	}
	return OpPush, true, nil
}
