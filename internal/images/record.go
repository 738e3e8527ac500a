package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentbox/internal/atomicfile"
)

// format changes when the same Containerfile would be built into something else.
const format = 1

// Key names the result of a build: of the same text, files and settings it is the same. Under names whose rules it is built
// under: what one repository's network let in, or kept out, is nothing that another one's agent should find in its root.
func Key(f File, contextDigest, under string) string {
	sum := sha256.New()
	part := func(s string) { fmt.Fprintf(sum, "%d:%s", len(s), s) }
	part("agentbox build " + strconv.Itoa(format))
	part(f.Script(nil).Text)
	for _, name := range slices.Sorted(maps.Keys(f.Args)) {
		part(name + "=" + f.Args[name])
	}
	part(contextDigest)
	part(under)
	return hex.EncodeToString(sum.Sum(nil))
}

// Base is an image that a build began with.
type Base struct {
	Ref    string `json:"ref"`              // as the Containerfile has it
	ID     string `json:"id"`               // in the engine's store
	Digest string `json:"digest,omitempty"` // of its manifest, where it has one
}

// Record is one build.
type Record struct {
	Version int       `json:"version"`
	Key     string    `json:"key"`
	Image   string    `json:"image"` // its id
	Profile string    `json:"profile,omitempty"`
	File    string    `json:"file"` // the Containerfile, as it was named
	Repo    string    `json:"repo,omitempty"`
	Bases   []Base    `json:"bases"`
	Built   time.Time `json:"built"`
	Used    time.Time `json:"used"`
}

// Store keeps the records, one a key, in Dir (mode 0700). An image is found again by these alone, never by what is written
// on it: anybody can write labels.
type Store struct{ Dir string }

const maxRecord = 64 << 10

var keyForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })

func (s Store) path(key string) string { return filepath.Join(s.Dir, key+".json") }

// Get gives the record of a key. One that is not as it was written counts as none: the worst that follows is a build.
func (s Store) Get(key string) (Record, bool) {
	info, err := os.Lstat(s.path(key))
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxRecord {
		return Record{}, false
	}
	data, err := os.ReadFile(s.path(key))
	if err != nil {
		return Record{}, false
	}
	var r Record
	if json.Unmarshal(data, &r) != nil || r.Version != format || r.Key != key || !keyForm().MatchString(r.Image) {
		return Record{}, false
	}
	return r, true
}

// Put keeps a record.
func (s Store) Put(r Record) error {
	r.Version = format
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(s.path(r.Key), append(data, '\n'), 0o600)
}

// Forget removes a record.
func (s Store) Forget(key string) error {
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List gives all records, those last used first.
func (s Store) List() ([]Record, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, e := range entries {
		if key, ok := strings.CutSuffix(e.Name(), ".json"); ok && keyForm().MatchString(key) {
			if r, ok := s.Get(key); ok {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Key, b.Key)) })
	return out, nil
}
