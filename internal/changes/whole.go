package changes

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"strings"

	"agentbox/internal/layerfiles"
)

// Whole reads both sides of a change whole; what is no file is empty. It is false where one is larger than limit, or what it
// was at the start can't be read.
func (s *Source) Whole(ctx context.Context, c Change, limit int) (before, after []byte, whole bool, err error) {
	bases, err := s.Finder()
	if err != nil {
		return nil, nil, false, err
	}
	defer bases.Close()
	one, two, err := s.sides(ctx, bases, c, limit)
	if err != nil || one.tooLarge() || two.tooLarge() || !one.known && c.Before.Kind == File {
		return nil, nil, false, err
	}
	return one.data, two.data, true, nil
}

// SameContent says whether a file, however large, holds what it held before.
func (s *Source) SameContent(ctx context.Context, c Change) (bool, error) {
	if c.Before.Kind != File || c.After.Kind != File {
		return false, nil
	}
	a, err := s.Ancestor(ctx, c.Path)
	if err != nil {
		return false, err
	}
	f, err := s.AfterFile(c.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	same, err := a.SameContent(ctx, f)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return same, err
}

// Namer gives the names that the repository's git has for contents.
func (s *Source) Namer(ctx context.Context) (func(content []byte) string, error) {
	algorithm := sha1.New
	if s.Base.Git != "" {
		cmd, err := layerfiles.GitCommand(ctx, s.Work, "--git-dir="+s.Base.Git, "rev-parse", "--show-object-format")
		if err != nil {
			return nil, err
		}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("asking git how it names contents: %w", err)
		}
		if strings.TrimSpace(string(out)) == "sha256" {
			algorithm = sha256.New
		}
	}
	return func(content []byte) string { return blobName(algorithm(), content) }, nil
}

func blobName(h hash.Hash, content []byte) string {
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}
