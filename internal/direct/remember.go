package direct

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"agentbox/internal/later"
)

// Remember records what lies below top, and keeps in dir, which it makes, what would execute later. skip are absolute paths
// that the agent does not see: they are left out.
func Remember(ctx context.Context, top string, skip []string, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, keptDir), 0o700); err != nil {
		return fmt.Errorf("remembering what would execute later: %w", err)
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return fmt.Errorf("remembering what would execute later: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	k := keeper{root: root, dir: filepath.Join(dir, keptDir), left: maxKept, record: record{Root: top, Key: rand.Text(), Files: map[string]state{}}}
	err = walk(ctx, root, top, skip, k.visit)
	if err == nil {
		slices.Sort(k.record.Names)
		slices.Sort(k.record.Exact)
		err = write(filepath.Join(dir, recordFile), k.record)
	}
	if err != nil {
		return fmt.Errorf("remembering what would execute later: %w", err)
	}
	return nil
}

// walk visits every file and link below root that is not in a git directory.
func walk(ctx context.Context, root *os.Root, top string, skip []string, visit func(rel string, s state) error) error {
	return fs.WalkDir(root.FS(), ".", func(rel string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && rel == ".":
			return err
		case err != nil:
			return nil // a directory that can't be looked into, or is gone
		case rel != "." && (later.Fold(e.Name()) == ".git" || slices.Contains(skip, filepath.Join(top, rel))):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir() || !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0:
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil // it is gone
		}
		return visit(rel, stateOf(info))
	})
}

type keeper struct {
	root   *os.Root
	dir    string
	left   int64
	record record
}

// visit keeps a file where a change of it could execute: later is asked as if it were new.
func (k *keeper) visit(rel string, s state) error {
	k.record.Names = append(k.record.Names, k.record.hash(rel))
	k.record.Exact = append(k.record.Exact, k.record.exact(rel, s))
	if len(k.record.Files) >= maxFiles {
		return nil
	}
	if later.Match(rel, nil, s.side(nothing)) == "" {
		return nil
	}
	s, ok, err := stat(k.root, rel)
	if err != nil || !ok { // what can't be looked at is as good as gone
		return nil
	}
	if s.Mode.IsRegular() && s.Size <= min(maxFile, k.left) {
		if err := k.keep(rel, &s); err != nil {
			return err
		}
	}
	k.record.Files[rel] = s
	return nil
}

// nothing has later tell by the name alone: an error counts.
func nothing() ([]byte, error) { return nil, fs.ErrInvalid }

func (k *keeper) keep(rel string, s *state) error {
	text, err := content(k.root, rel, maxFile)
	if err != nil {
		return nil // it can't be read, so it can't be put back
	}
	name := strconv.Itoa(len(k.record.Files))
	if err := os.WriteFile(filepath.Join(k.dir, name), text, 0o600); err != nil {
		return err
	}
	s.Kept, s.Sum = name, sum(text)
	k.left -= int64(len(text))
	return nil
}

func sum(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// hash is short, and so goes with a key that the agent does not know: else it could find a name that has the hash of another.
func (r record) hash(text string) uint64 {
	sum := sha256.Sum256([]byte(r.Key + text))
	return binary.BigEndian.Uint64(sum[:])
}

func (r record) exact(rel string, s state) uint64 {
	return r.hash(fmt.Sprintf("%s\x00%d %d", rel, s.Inode, s.Ctime))
}
