package apply

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"agentbox/internal/changes"
)

// The journal has a JSON text a line. A line that says "ready" is on the disk before the repository is touched as it
// says, and one that says "done" after that is on the disk.
const (
	begins  = "begin"  // an apply: what is wanted
	ready   = "ready"  // a step, with all that is needed to finish it or take it back
	done    = "done"   // … happened
	dropped = "drop"   // … did not, and will not
	loosens = "loosen" // a directory's mode, while something in it is written
	ends    = "end"    // the apply is whole
	undoes  = "undo"   // everything before is taken back from here on
	undone  = "undone" // … and was
)

// record is one line.
type record struct {
	What  string `json:"what"`
	N     int    `json:"n,omitempty"`     // ready, done, drop: the step, counted through the whole journal
	Nonce string `json:"nonce,omitempty"` // begin, undo: part of the names of temporary files, which nobody can guess
	Wants []want `json:"wants,omitempty"` // begin

	Moved bool   `json:"moved,omitempty"` // loosen: what Finder.Moved said before
	Inode uint64 `json:"inode,omitempty"`

	Path   changes.Name   `json:"path,omitempty"`
	Before changes.State  `json:"before"`           // of the repository
	After  changes.State  `json:"after"`            // … as the step makes it
	Was    string         `json:"was,omitempty"`    // the digest of a file before
	Will   string         `json:"will,omitempty"`   // … and after
	Backup string         `json:"backup,omitempty"` // what was replaced, below <work>
	Temp   string         `json:"temp,omitempty"`   // the name beside Path where the new file lies first, or the old one last
	Next   *changes.Known `json:"next,omitempty"`   // what both sides have in common when it is done
	Prev   *changes.Known `json:"prev,omitempty"`   // … and when it is taken back
	Told   *Outcome       `json:"told,omitempty"`   // what to report
}

// want is one chosen change.
type want struct {
	Path  changes.Name `json:"path"`
	Mark  string       `json:"mark"`
	Hunks []string     `json:"hunks,omitempty"`
	Yes   bool         `json:"yes,omitempty"` // also to what would execute later
}

// journal appends to <work>/apply.jsonl.
type journal struct {
	f       *os.File
	records []record
}

func openJournal(work string) (*journal, error) {
	records, whole, err := readJournal(work)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(work, "apply.jsonl"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	// What a crash cut off goes, so that the next line stands alone.
	err = f.Truncate(whole)
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err == nil {
		err = syncDir(work)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return &journal{f: f, records: records}, nil
}

// readJournal gives the whole lines, and how long they are together.
func readJournal(work string) (records []record, whole int64, err error) {
	f, err := os.Open(filepath.Join(work, "apply.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the journal: %w", err)
	}
	defer f.Close()
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return records, whole, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("reading the journal: %w", err)
		}
		var rec record
		err = json.Unmarshal(line, &rec)
		if err == nil {
			rec, err = rec.unescaped()
		}
		if err != nil {
			return nil, 0, fmt.Errorf("reading the journal: line %d: %w", len(records)+1, err)
		}
		records, whole = append(records, rec), whole+int64(len(line))
	}
}

// write appends the records; when it returns, they are on the disk. What could not be written whole is taken off again.
func (j *journal) write(records ...record) error {
	if len(records) == 0 {
		return nil
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for _, r := range records {
		if err := enc.Encode(r.escaped()); err != nil {
			return fmt.Errorf("writing the journal: %w", err)
		}
	}
	at, err := j.f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = j.f.Write(text.Bytes())
	}
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		_ = j.f.Truncate(at)
		_, _ = j.f.Seek(at, io.SeekStart)
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.records = append(j.records, records...)
	return nil
}

// escaped gives the record as it stands in JSON: paths and links may be any bytes, and would not come back.
func (r record) escaped() record {
	r.Before.Link, r.After.Link = url.PathEscape(r.Before.Link), url.PathEscape(r.After.Link)
	if r.Told != nil {
		o := *r.Told
		o.Path, o.Beside = url.PathEscape(o.Path), url.PathEscape(o.Beside)
		r.Told = &o
	}
	for _, k := range []**changes.Known{&r.Next, &r.Prev} {
		if *k != nil {
			escaped := (*k).Escaped()
			*k = &escaped
		}
	}
	return r
}

func (r record) unescaped() (record, error) {
	texts := []*string{&r.Before.Link, &r.After.Link}
	if r.Told != nil {
		texts = append(texts, &r.Told.Path, &r.Told.Beside)
	}
	for _, text := range texts {
		plain, err := url.PathUnescape(*text)
		if err != nil {
			return r, err
		}
		*text = plain
	}
	for _, k := range []*changes.Known{r.Next, r.Prev} {
		if k != nil {
			plain, err := k.Unescaped()
			if err != nil {
				return r, err
			}
			*k = plain
		}
	}
	return r, nil
}

func (j *journal) close() { _ = j.f.Close() }

// open gives the last begin or undo that nothing ended, and its place; nil for none.
func unended(records []record) (*record, int) {
	for i := len(records) - 1; i >= 0; i-- {
		switch records[i].What {
		case ends, undone:
			return nil, 0
		case begins, undoes:
			return &records[i], i
		}
	}
	return nil, 0
}

// standing gives the steps that were not taken back, oldest first, and which of them are settled.
func standing(records []record) (steps []record, settled map[int]string) {
	settled = map[int]string{}
	undoing := false
	for _, r := range records {
		switch r.What {
		case begins, undoes:
			undoing = r.What == undoes
		case ready:
			if !undoing {
				steps = append(steps, r)
			}
		case done, dropped:
			settled[r.N] = r.What
		case undone:
			steps = nil
		}
	}
	return steps, settled
}

// steps counts the steps so far.
func (j *journal) steps() (n int) {
	for _, r := range j.records {
		n = max(n, r.N)
	}
	return n
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
