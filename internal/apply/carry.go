package apply

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"agentbox/internal/changes"
)

// carry does what is wanted: first what goes, the deepest first; then directories, from the top; then files and links; then
// the modes of directories.
func (a *applier) carry(wants []want) error {
	slices.SortFunc(wants, func(x, y want) int { return compareWays(string(x.Path), string(y.Path)) })
	down := slices.Clone(wants)
	slices.Reverse(down)
	for _, phase := range []struct {
		wants []want
		does  func(c changes.Change) bool
		do    func(want, changes.Change) (*step, error)
	}{
		{down, goes, a.remove},
		{wants, comes, a.makeDir},
		{wants, isLeaf, a.put},
		{down, turns, a.turn},
	} {
		for _, w := range phase.wants {
			c, ok := a.list[string(w.Path)]
			if !ok || !phase.does(c) {
				continue
			}
			if err := a.one(func() (*step, error) { return phase.do(w, c) }, c.Path); err != nil {
				return err
			}
		}
		if err := a.flush(); err != nil {
			return err
		}
	}
	return nil
}

// compareWays sorts what is above before what is below it.
func compareWays(x, y string) int {
	return slices.Compare(strings.Split(x, "/"), strings.Split(y, "/"))
}

func goes(c changes.Change) bool {
	return c.Before.Kind != changes.Absent && (c.After.Kind == changes.Absent || (c.Before.Kind == changes.Dir) != (c.After.Kind == changes.Dir))
}

func comes(c changes.Change) bool { return c.After.Kind == changes.Dir && c.Before.Kind != changes.Dir }
func isLeaf(c changes.Change) bool {
	return c.After.Kind == changes.File || c.After.Kind == changes.Link
}
func turns(c changes.Change) bool { return c.After.Kind == changes.Dir && c.Before.Kind == changes.Dir }

// maxBatch is how many steps share their writes of the journal.
const maxBatch = 64

// one decides on one path and queues the step.
func (a *applier) one(decide func() (*step, error), rel string) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	if o, told := a.told[rel]; told && (o.Result == Stale || o.Result == Conflict || o.Result == Failed) {
		return nil
	}
	st, err := decide()
	if err != nil {
		return a.failed(rel, err)
	}
	if st == nil {
		return nil
	}
	st.again = decide
	a.batch = append(a.batch, st)
	if len(a.batch) >= maxBatch || st.alone() {
		return a.flush()
	}
	return nil
}

// failed tells an error that concerns one path, and gives back one that concerns all.
func (a *applier) failed(rel string, err error) error {
	switch {
	case a.isFatal(err):
		return err
	case errors.Is(err, errLink), errors.Is(err, errNotDir):
		a.tell(rel, Conflict, err.Error()+": the agent's version stays in the run")
	case errors.Is(err, errStale):
		a.tell(rel, Stale, err.Error())
	case errors.Is(err, fs.ErrNotExist) && a.list[rel].After.Kind == changes.Absent:
		a.tell(rel, Already, "")
	default:
		a.tell(rel, Failed, err.Error())
	}
	return nil
}

// flush writes down what the queued steps will do, does it, and writes down that it was done.
func (a *applier) flush() error {
	batch := a.batch
	a.batch = nil
	defer func() {
		for _, st := range batch {
			st.place.close()
		}
	}()
	if len(batch) == 0 {
		return nil
	}
	var readies []record
	for _, st := range batch {
		readies = append(readies, st.rec)
	}
	a.at("before ready")
	err := a.syncUndo()
	if err == nil {
		err = fatal(a.journal.write(readies...))
	}
	if err != nil {
		for _, st := range batch {
			st.discard()
		}
		return err
	}
	a.at("after ready")
	again, err := a.commitAll(batch)
	if err != nil {
		return err
	}
	for _, st := range again {
		if err := a.retry(st); err != nil {
			return err
		}
	}
	return nil
}

// commitAll does the steps and gives those to decide anew.
func (a *applier) commitAll(batch []*step) (again []*step, err error) {
	var settled []record
	var known []changes.Known
	for _, st := range batch {
		err := a.commit(st)
		a.at("after a commit")
		rec := record{What: done, N: st.rec.N}
		switch {
		case err == nil:
			a.told[st.rec.Told.Path] = *st.rec.Told
			if st.rec.Next != nil {
				known = append(known, *st.rec.Next)
			}
		case a.isFatal(err):
			return nil, err // the journal says ready: Resume and Undo look what is there
		default:
			rec.What = dropped
			st.discard()
			if errors.Is(err, errMoved) {
				again = append(again, st)
			} else if err := a.undone(st, err); err != nil {
				return nil, err
			}
		}
		settled = append(settled, rec)
	}
	if err := syncAll(batch); err != nil {
		return nil, fatal(err)
	}
	a.at("before done")
	if err := a.know(known...); err != nil {
		return nil, err
	}
	a.at("after the bases")
	if err := a.journal.write(settled...); err != nil {
		return nil, fatal(err)
	}
	a.at("after done")
	return again, nil
}

// undone tells why a step did not happen.
func (a *applier) undone(st *step, err error) error {
	rel := st.rec.Told.Path
	if st.shape() == rmdir && isNotEmpty(err) {
		a.tell(rel, Kept, "it still holds what was not deleted")
		return nil
	}
	return a.failed(rel, err)
}

// retry decides anew on a path that changed between the look and the deed.
func (a *applier) retry(st *step) error {
	if st.tries == 3 {
		a.tell(st.rec.Told.Path, Failed, "it changes all the time")
		return nil
	}
	next, err := st.again()
	if err != nil {
		return a.failed(st.rec.Told.Path, err)
	}
	if next == nil {
		return nil
	}
	next.again, next.tries = st.again, st.tries+1
	a.batch = append(a.batch, next)
	return a.flush()
}

// beside gives the name of the agent's version beside a person's file.
func beside(rel, run string, n int) string {
	suffix := ".agentbox-" + run
	if n > 1 {
		suffix += "-" + string(rune('0'+n))
	}
	name := path.Base(rel)
	if over := len(name) + len(suffix) - 255; over > 0 {
		name = name[:max(len(name)-over, 1)]
	}
	return path.Join(path.Dir(rel), name+suffix)
}
