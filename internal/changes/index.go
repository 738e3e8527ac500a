package changes

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"agentbox/internal/layerfiles"
)

// blob is what the index of the start said of a path.
type blob struct {
	mode string // git's: 100644, 100755 or 120000
	id   string
}

func (b blob) state() State {
	switch b.mode {
	case "120000":
		return State{Kind: Link}
	case "100755":
		return State{Kind: File, Mode: 0o755}
	}
	return State{Kind: File, Mode: 0o644}
}

// startIndex reads what the index of the start named, once.
func (s *Source) startIndex(ctx context.Context) (x index, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if !s.read {
		if s.index, err = s.readIndex(ctx); err != nil {
			return index{}, err
		}
		s.read = true
	}
	return s.index, nil
}

func (s *Source) readIndex(ctx context.Context) (index, error) {
	file := filepath.Join(s.Work, "base.index")
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(data) == 0 || s.Base.Git == "" {
		return index{}, nil
	}
	if err != nil {
		return index{}, err
	}
	if x, ok := parseIndex(data); ok {
		return x, nil
	}
	blobs, err := s.askIndex(ctx, file)
	return index{blobs: blobs}, err
}

// askIndex has git read it. Git obeys nothing of the repository's here.
func (s *Source) askIndex(ctx context.Context, index string) (map[string]blob, error) {
	cmd, err := layerfiles.GitCommand(ctx, s.Work, "--git-dir="+s.Base.Git, "ls-files", "--stage", "-z", "--full-name")
	if err != nil {
		return nil, err
	}
	cmd.Dir = s.Base.Root
	cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+index, "GIT_WORK_TREE="+s.Base.Root)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("reading the index of the start: %w", err)
	}
	return parseStage(out), nil
}

func parseStage(out []byte) map[string]blob {
	blobs := map[string]blob{}
	for line := range bytes.SplitSeq(out, []byte{0}) {
		head, name, ok := strings.Cut(string(line), "\t")
		f := strings.Fields(head)
		if ok && len(f) == 3 && f[2] == "0" && f[0] != "160000" { // neither a conflict nor a submodule
			blobs[name] = blob{mode: f[0], id: f[1]}
		}
	}
	return blobs
}

// openBlob reads a blob of at most MaxDiff bytes out of the repository.
func (s *Source) openBlob(ctx context.Context, b blob) (io.ReadCloser, error) {
	cmd, err := layerfiles.GitCommand(ctx, s.Work, "--git-dir="+s.Base.Git, "cat-file", "blob", b.id)
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(bufio.NewReader(out), MaxDiff+1))
	if len(data) > MaxDiff {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		return nil, fmt.Errorf("reading what was there at the start: %w", errTooLarge)
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("reading what was there at the start: %w", err)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

var errTooLarge = errors.New("it is too large to be compared")

// holds says whether content of the size is that of the blob.
func (b blob) holds(r io.Reader, size int64) (bool, error) {
	var h hash.Hash
	if len(b.id) == 2*sha256.Size {
		h = sha256.New()
	} else {
		h = sha1.New()
	}
	fmt.Fprintf(h, "blob %d\x00", size)
	if n, err := io.Copy(h, r); err != nil || n != size {
		return false, err
	}
	return hex.EncodeToString(h.Sum(nil)) == b.id, nil
}
