package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"agentbox/internal/changes"
)

func undo(ctx context.Context, s *changes.Source, at func(string)) (Report, error) {
	a, err := newApplier(ctx, s, at)
	if err != nil {
		return Report{}, err
	}
	defer a.close()
	return a.undoRest()
}

// undoRest takes back what stands, after settling what was cut short.
func (a *applier) undoRest() (Report, error) {
	open, from := unended(a.journal.records)
	if open != nil {
		if err := a.takeUp(open, from); err != nil {
			return a.report(), err
		}
	}
	steps, settled := standing(a.journal.records)
	steps = slices.DeleteFunc(steps, func(r record) bool { return settled[r.N] != done })
	if len(steps) == 0 && open == nil {
		return a.report(), nil
	}
	kept := map[string]Outcome{}
	for rel, o := range a.told {
		if o.Result == Kept {
			kept[rel] = o
		}
	}
	a.told = kept
	if err := a.begin(undoes, nil); err != nil {
		return a.report(), err
	}
	slices.Reverse(steps)
	for _, r := range steps {
		if err := a.takeBack(r); err != nil {
			return a.report(), err
		}
	}
	if err := a.flush(); err != nil {
		return a.report(), err
	}
	if err := a.tighten(); err != nil {
		return a.report(), err
	}
	a.at("before the end")
	return a.report(), a.journal.write(record{What: undone})
}

// takeBack queues the opposite of one step. What is queued must not hide what it looks at.
func (a *applier) takeBack(r record) error {
	if slices.ContainsFunc(a.batch, func(st *step) bool { return st.rec.Path == r.Path || st.shape() != inverse(r) }) {
		if err := a.flush(); err != nil {
			return err
		}
	}
	return a.one(func() (*step, error) { return a.opposite(r) }, string(r.Path))
}

// inverse is what takes a step back.
func inverse(r record) shape {
	return map[shape]shape{putNew: unlink, putOver: putOver, unlink: putNew, rmdir: mkdir, mkdir: rmdir, setMode: setMode}[r.shape()]
}

func (a *applier) opposite(r record) (*step, error) {
	rel := string(r.Path)
	p, was, err := a.target(rel, false)
	if errors.Is(err, fs.ErrNotExist) && r.Before.Kind == changes.Absent {
		a.restored(rel)
		return nil, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLink) || errors.Is(err, errNotDir) {
		a.tell(rel, Kept, "its directory is gone"+a.liesIn(r))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := a.back(p, was, r)
	if st == nil {
		p.close()
	}
	return st, err
}

// liesIn says where what was there before lies.
func (a *applier) liesIn(r record) string {
	if r.Backup == "" {
		return ""
	}
	return "; what was there before lies in " + filepath.Join(a.s.Work, r.Backup)
}

// restored tells that a path is as it was, unless something else was told of it.
func (a *applier) restored(rel string) {
	if _, told := a.told[rel]; !told {
		a.tell(rel, Restored, "")
	}
}

func (a *applier) back(p *place, was pin, r record) (*step, error) {
	rel := string(r.Path)
	ours, err := a.asLeft(p, was, r)
	if err != nil {
		return nil, err
	}
	if !ours {
		asBefore, err := a.asFound(p, was, r)
		if asBefore || err != nil {
			a.restored(rel)
			return nil, err
		}
		a.tell(rel, Kept, "it changed after it was applied"+a.liesIn(r))
		return nil, nil
	}
	st := a.next(p, rel, was, r.Before, Outcome{Path: rel, Result: Restored})
	st.rec.Was, st.rec.Next = r.Will, r.Prev
	switch inverse(r) {
	case unlink:
		st.rec.Temp = a.tempName()
		return st, nil
	case putNew, putOver:
		return st, a.fill(st, func(to *os.File) error { return a.fromBackup(to, r) })
	}
	return st, nil
}

// asLeft says that a path is as the step left it.
func (a *applier) asLeft(p *place, was pin, r record) (bool, error) {
	if r.shape() == setMode {
		return was.kind() == r.After.Kind && (was.perm() == r.After.Mode || a.isLoose(r)), nil
	}
	return holds(p, p.name, r.After, r.Will)
}

// asFound says that a path is as the step found it.
func (a *applier) asFound(p *place, was pin, r record) (bool, error) {
	if r.shape() == setMode {
		return was.kind() == r.Before.Kind && was.perm() == r.Before.Mode, nil
	}
	return holds(p, p.name, r.Before, r.Was)
}

func (a *applier) isLoose(r record) bool {
	mode, loose := a.loose[string(r.Path)]
	return loose && mode == r.After.Mode
}

// fromBackup writes what a step replaced.
func (a *applier) fromBackup(to *os.File, r record) error {
	f, err := os.Open(filepath.Join(a.s.Work, r.Backup))
	if err != nil {
		return fmt.Errorf("putting back what was there: %w", err)
	}
	defer f.Close()
	_, err = copySparse(to, f)
	return err
}
