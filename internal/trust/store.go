package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agentbox/internal/atomicfile"
	"agentbox/internal/layerfiles"
)

const (
	recordVersion = 1
	maxRecord     = 16 << 20 // bytes of a record's file
	lockName      = "lock"
)

// ErrChanged says that what is accepted for a repository became something else since the caller looked.
var ErrChanged = errors.New("another agentbox changed what is accepted for this repository")

// Store keeps a record a repository, in files of mode 0600 in Dir, which need not exist (mode 0700).
type Store struct {
	Dir string

	uid func() int // os.Getuid when nil
}

// Record is what was last accepted for a repository.
type Record struct {
	Version  int               `json:"version"`
	Repo     string            `json:"repo"`  // the real path
	Files    map[string][]byte `json:"files"` // as Snapshot gives them
	Hash     string            `json:"hash"`  // of Files
	Accepted time.Time         `json:"accepted"`
	Explicit bool              `json:"explicit"` // a person was asked; otherwise it widened nothing
	Agentbox string            `json:"agentbox"` // the version that wrote it
}

// Acceptance is what to record.
type Acceptance struct {
	Repo     string            // any path of the repository
	Files    map[string][]byte // as Snapshot gave them
	Base     string            // Hash of the record that the files were judged against; "" when there was none
	Explicit bool
	Time     time.Time
	Agentbox string
}

func (s Store) owner() int {
	if s.uid != nil {
		return s.uid()
	}
	return os.Getuid()
}

// Get gives the record of a repository, and whether there is one. A record that cannot be trusted to be what was written
// is an error.
func (s Store) Get(repo string) (Record, bool, error) {
	real, err := realPath(repo)
	if err != nil {
		return Record{}, false, err
	}
	return s.get(real)
}

func (s Store) get(real string) (Record, bool, error) {
	r, err := s.read(recordName(real))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	if err == nil && r.Repo != real {
		err = s.broken(recordName(real), fmt.Errorf("it is about %q, not %q", r.Repo, real))
	}
	if err != nil {
		return Record{}, false, err
	}
	return r, true, nil
}

// Accept records files as accepted for a repository and gives the record. ErrChanged, wrapped, when the record is no
// longer the one that Base names, unless it holds these very files already. A repository without files or record gets
// none: that is what no record means.
func (s Store) Accept(a Acceptance) (Record, error) {
	real, err := realPath(a.Repo)
	if err != nil {
		return Record{}, err
	}
	want := Record{Version: recordVersion, Repo: real, Files: maps.Clone(a.Files), Hash: Hash(a.Files),
		Accepted: a.Time.UTC().Round(0), Explicit: a.Explicit, Agentbox: a.Agentbox}
	if want.Files == nil {
		want.Files = map[string][]byte{}
	}
	if err := want.check(); err != nil {
		return Record{}, fmt.Errorf("recording what is accepted for %q: %w", real, err)
	}
	unlock, err := s.lock()
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	old, found, err := s.get(real)
	switch {
	case err != nil:
		return Record{}, err
	case found && old.Hash == want.Hash && (old.Explicit || !want.Explicit):
		return old, nil
	case !found && a.Base == "" && len(a.Files) == 0 && !a.Explicit:
		return want, nil
	case old.Hash != a.Base && old.Hash != want.Hash:
		return Record{}, problem("run it again: it will be judged against what is accepted now", "recording what is accepted for %q: %w", real, ErrChanged)
	}
	return want, s.write(want)
}

func (s Store) write(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("recording what is accepted for %q: %w", r.Repo, err)
	}
	if len(data) > maxRecord {
		return problem("keep fewer or smaller profiles in .agentbox", "recording what is accepted for %q: it has more than %d bytes", r.Repo, maxRecord)
	}
	return atomicfile.Write(filepath.Join(s.Dir, recordName(r.Repo)), append(data, '\n'), 0o600)
}

// Forget removes the record of a repository, whatever state the record is in; the repository itself may be gone.
// fs.ErrNotExist when there is none.
func (s Store) Forget(repo string) error {
	real, err := realPath(repo)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = filepath.Clean(repo), nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(s.Dir); err != nil {
		return fmt.Errorf("forgetting %q: %w", real, err)
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(filepath.Join(s.Dir, recordName(real))); err != nil {
		return fmt.Errorf("forgetting %q: %w", real, err)
	}
	return nil
}

// List gives all records, by their repositories' paths. Records that cannot be read are in the error; the others are
// given all the same.
func (s Store) List() ([]Record, error) {
	names, err := fs.Glob(layerfiles.Dir(s.Dir, s.owner()), "*.json")
	if err != nil {
		return nil, err
	}
	var records []Record
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue // a write that a crash ended
		}
		r, err := s.read(name)
		if err == nil && recordName(r.Repo) != name {
			err = s.broken(name, fmt.Errorf("it is about %q, which has another file", r.Repo))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // forgotten meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records = append(records, r)
	}
	slices.SortFunc(records, byRepo)
	return records, errors.Join(errs...)
}

// read reads a record's file and checks all that it says of itself.
func (s Store) read(name string) (Record, error) {
	data, err := layerfiles.ReadPrivate(s.Dir, name, s.owner(), maxRecord)
	if err != nil {
		return Record{}, err
	}
	var r Record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Record{}, s.broken(name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Record{}, s.broken(name, errors.New("something follows the record"))
	}
	if err := r.check(); err != nil {
		return Record{}, s.broken(name, err)
	}
	return r, nil
}

// check says what is wrong with a record.
func (r Record) check() error {
	for name := range r.Files {
		if !acceptable(name) {
			return fmt.Errorf("%q is not the name of a layer file", name)
		}
	}
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("it has version %d, and this agentbox knows %d", r.Version, recordVersion)
	case !filepath.IsAbs(r.Repo) || filepath.Clean(r.Repo) != r.Repo:
		return fmt.Errorf("%q is not the path of a repository", r.Repo)
	case r.Files == nil:
		return errors.New("it has no files")
	case r.Hash != Hash(r.Files):
		return errors.New("its hash is not that of its files")
	case r.Accepted.IsZero():
		return errors.New("it has no time")
	}
	return nil
}

func (s Store) broken(name string, err error) error {
	path := filepath.Join(s.Dir, name)
	return problem(fmt.Sprintf("remove %q and look at the repository's profiles anew: the next run asks about all that they widen", path),
		"reading what was accepted, %q: %w", path, err)
}

// lock makes the directory and waits until no other agentbox changes it.
func (s Store) lock() (unlock func(), err error) {
	if err := privateDir(s.Dir, s.owner(), true); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(s.Dir, lockName))
}

func lockFile(path string) (unlock func(), err error) {
	release, err := atomicfile.Lock(path)
	if err != nil {
		return nil, err
	}
	return func() { _ = release() }, nil
}

// privateDir makes a directory that only its owner may write, and with closed only its owner may enter.
func privateDir(dir string, uid int, closed bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return problem("make it yours", "making %q: %w", dir, err)
	}
	if err := layerfiles.CheckDir(dir, uid); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if closed && info.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

func recordName(real string) string { return digest(real) + ".json" }

// realPath is the name by which a repository is known.
func realPath(repo string) (string, error) {
	if !filepath.IsAbs(repo) {
		return "", fmt.Errorf("finding the repository %q: the path is not absolute", repo)
	}
	real, err := filepath.EvalSymlinks(repo)
	if err != nil {
		return "", fmt.Errorf("finding the repository %q: %w", repo, err)
	}
	return real, nil
}
