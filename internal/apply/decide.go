package apply

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"agentbox/internal/changes"
)

// errStale says that the agent changed a file after it was chosen.
var errStale = errors.New("the agent changed it after it was chosen")

// target opens the place of a path and looks at what is there.
func (a *applier) target(rel string, make bool) (*place, pin, error) {
	p, err := a.place(rel, make)
	if err != nil {
		return nil, pin{}, err
	}
	was, err := pinAt(p.fd(), p.name)
	if err != nil {
		p.close()
		return nil, pin{}, err
	}
	return p, was, nil
}

// remove decides on what the agent deleted, or replaced by another kind.
func (a *applier) remove(_ want, c changes.Change) (*step, error) {
	p, was, err := a.target(c.Path, false)
	if err != nil {
		return nil, err
	}
	st, err := a.removal(p, was, c)
	if st == nil {
		p.close()
	}
	return st, err
}

func (a *applier) removal(p *place, was pin, c changes.Change) (*step, error) {
	told := Outcome{Path: c.Path, Result: Applied}
	switch {
	case was.kind() == changes.Absent:
		if c.After.Kind == changes.Absent {
			a.tell(c.Path, Already, "")
		}
		return nil, nil
	case was.kind() == changes.Dir && c.Before.Kind == changes.Dir:
		st := a.next(p, c.Path, was, changes.State{}, told)
		st.rec.Next = &changes.Known{Path: st.rec.Path, Forget: true}
		st.rec.Prev = &changes.Known{Path: st.rec.Path, Written: st.rec.Before, Base: st.rec.Before}
		return st, nil
	case was.kind() == changes.Special || was.kind() == changes.Dir:
		return nil, a.conflict(c, "something else lies there now", nil)
	}
	anc, err := a.finder.Find(a.ctx, c.Path)
	if err != nil {
		return nil, err
	}
	if !anc.Known || !anc.Same {
		return nil, a.conflict(c, "it changed outside the sandbox too, and stays", nil)
	}
	st := a.next(p, c.Path, was, changes.State{}, told)
	if err := a.backup(st); err != nil {
		return nil, err
	}
	st.rec.Temp = a.tempName()
	st.rec.Next = &changes.Known{Path: st.rec.Path, Base: st.rec.Before, File: st.rec.Backup}
	st.rec.Prev = a.previous(anc, st)
	return st, nil
}

// previous is what both sides have in common again when a step is taken back.
func (a *applier) previous(anc changes.Ancestor, st *step) *changes.Known {
	if anc.Known && anc.Same {
		return &changes.Known{Path: st.rec.Path, Written: st.rec.Before, Digest: st.rec.Was, Base: st.rec.Before, File: st.rec.Backup}
	}
	if k, ok := a.finder.Known(string(st.rec.Path)); ok {
		return &k
	}
	return &changes.Known{Path: st.rec.Path, Forget: true}
}

// makeDir decides on a directory that the agent made.
func (a *applier) makeDir(_ want, c changes.Change) (*step, error) {
	p, was, err := a.target(c.Path, true)
	if err != nil {
		return nil, err
	}
	switch was.kind() {
	case changes.Absent:
		st := a.next(p, c.Path, was, c.After, Outcome{Path: c.Path, Result: Applied})
		st.rec.Next = &changes.Known{Path: st.rec.Path, Written: c.After}
		st.rec.Prev = &changes.Known{Path: st.rec.Path, Forget: true}
		return st, nil
	case changes.Dir:
		a.tell(c.Path, Already, "")
	default:
		err = a.conflict(c, "something else lies there now", nil)
	}
	p.close()
	return nil, err
}

// missing makes a directory that a chosen path needs, as the agent's side has it.
func (a *applier) missing(at *os.Root, rel, part string) error {
	is, _, err := a.s.Look(rel)
	if err != nil {
		return err
	}
	if is.Kind != changes.Dir {
		return fmt.Errorf("%q: %w", rel, errNotDir)
	}
	dir, err := at.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	p := &place{root: at, dir: dir, name: part}
	st := a.next(p, rel, pin{}, is, Outcome{Path: rel, Result: Applied, Why: "what lies in it needs it"})
	st.rec.Prev = &changes.Known{Path: st.rec.Path, Forget: true}
	if err := a.journal.write(st.rec); err != nil {
		return fatal(err)
	}
	if err := a.commit(st); err != nil {
		return err
	}
	a.told[rel] = *st.rec.Told
	if err := dir.Sync(); err != nil {
		return fatal(err)
	}
	return fatal(a.journal.write(record{What: done, N: st.rec.N}))
}

// turn decides on the mode of a directory.
func (a *applier) turn(_ want, c changes.Change) (*step, error) {
	p, was, err := a.target(c.Path, false)
	if err != nil {
		return nil, err
	}
	st, err := a.turned(p, was, c)
	if st == nil {
		p.close()
	}
	return st, err
}

func (a *applier) turned(p *place, was pin, c changes.Change) (*step, error) {
	if was.kind() != changes.Dir {
		return nil, a.conflict(c, "it is no directory any more", nil)
	}
	before, loose := a.loose[c.Path]
	if !loose {
		before = was.perm()
	}
	if before == c.After.Mode && !loose {
		a.tell(c.Path, Already, "")
		return nil, nil
	}
	if c.ChangedOutside {
		return nil, a.conflict(c, "its mode changed outside the sandbox too", nil)
	}
	st := a.next(p, c.Path, was, c.After, Outcome{Path: c.Path, Result: Applied})
	st.rec.Before.Mode = before
	return st, nil
}

// theirs is what the agent's side of a change would make of the path.
type theirs struct {
	state changes.State
	file  *os.File // nil for a link
	text  []byte   // the chosen hunks put into the ancestor; nil: the file as it is
	mark  string   // what was chosen
}

func (t theirs) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}

// theirs opens the agent's side, which must be what was chosen.
func (a *applier) theirs(w want, c changes.Change, anc changes.Ancestor) (theirs, error) {
	state, mark, err := a.s.Look(c.Path)
	if err != nil || mark != changes.Stat(w.Mark) {
		return theirs{}, errors.Join(errStale, notAbsent(err))
	}
	t := theirs{state: state, mark: w.Mark}
	if state.Kind != changes.File {
		return t, nil
	}
	t.file, err = a.s.AfterFile(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return theirs{}, errStale
	}
	if err != nil {
		return theirs{}, err
	}
	if len(w.Hunks) > 0 {
		if t.text, err = a.pick(w, t.file, anc); err != nil {
			t.close()
			return theirs{}, err
		}
		t.state.Size = int64(len(t.text))
	}
	return t, nil
}

func notAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// pick puts the chosen hunks into the ancestor.
func (a *applier) pick(w want, file *os.File, anc changes.Ancestor) ([]byte, error) {
	var before []byte
	if anc.State.Kind == changes.File {
		var err error
		if before, err = bounded(anc.Open(a.ctx)); err != nil {
			return nil, err
		}
	}
	after, err := bounded(io.NopCloser(io.NewSectionReader(file, 0, 1<<62)), nil)
	if err != nil {
		return nil, err
	}
	if !changes.Shown(w.Mark, after) {
		return nil, errStale
	}
	picked, err := changes.Pick(before, after, w.Hunks)
	if changes.NoSuchHunk(err) {
		return nil, fmt.Errorf("%w: %w", errStale, err)
	}
	if picked == nil && err == nil {
		picked = []byte{}
	}
	return picked, err
}

var errLarge = errors.New("it is too large to be compared line by line")

// bounded reads what is compared line by line.
func bounded(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, changes.MaxDiff+1))
	if err == nil && len(data) > changes.MaxDiff {
		err = errLarge
	}
	return data, err
}

// put decides on a file or a link.
func (a *applier) put(w want, c changes.Change) (*step, error) {
	anc, err := a.finder.Find(a.ctx, c.Path)
	if err != nil {
		return nil, err
	}
	t, err := a.theirs(w, c, anc)
	if err != nil {
		return nil, err
	}
	defer t.close()
	p, was, err := a.target(c.Path, true)
	if err != nil {
		return nil, err
	}
	st, err := a.putting(p, was, c, anc, t)
	if st == nil || st.place != p {
		p.close()
	}
	return st, err
}

func (a *applier) putting(p *place, was pin, c changes.Change, anc changes.Ancestor, t theirs) (*step, error) {
	same, err := t.same(p, was)
	if err != nil {
		return nil, err
	}
	mode := mergedMode(anc, was, t)
	switch {
	case same && (t.state.Kind == changes.Link || was.perm() == mode):
		a.tell(c.Path, Already, "")
		return nil, nil
	case same:
		return a.modeOnly(p, was, c, anc, mode)
	case was.kind() == changes.Absent:
		if anc.Known && anc.State.Kind == changes.Absent {
			return a.write(p, was, c, anc, t, t.state)
		}
		return nil, a.conflict(c, "it was deleted outside the sandbox", &t)
	case was.kind() == changes.Dir || was.kind() == changes.Special:
		return nil, a.conflict(c, "something else lies there now", &t)
	case !anc.Known:
		return nil, a.conflict(c, "it changed outside the sandbox too, and nobody knows what it was", &t)
	}
	return a.overwrite(p, was, c, anc, t, mode)
}

// overwrite decides on a file or link that is there, and whose ancestor is known.
func (a *applier) overwrite(p *place, was pin, c changes.Change, anc changes.Ancestor, t theirs, mode fs.FileMode) (*step, error) {
	state := t.state
	if state.Kind == changes.File {
		state.Mode = mode
	}
	unchanged, err := a.unchanged(p, was, anc)
	if err != nil {
		return nil, err
	}
	if unchanged {
		return a.write(p, was, c, anc, t, state)
	}
	if was.kind() != changes.File || anc.State.Kind != changes.File || t.state.Kind != changes.File {
		return nil, a.conflict(c, "it changed outside the sandbox too", &t)
	}
	if t.text == nil {
		asBefore, err := anc.SameContent(a.ctx, t.file)
		if err != nil {
			return nil, err
		}
		if asBefore {
			return a.modeOnly(p, was, c, anc, mode)
		}
	}
	return a.merge(p, was, c, anc, t, state)
}

// unchanged says that the person's side holds what the ancestor held; its mode may be another.
func (a *applier) unchanged(p *place, was pin, anc changes.Ancestor) (bool, error) {
	if anc.Same {
		return true, nil
	}
	if was.kind() != anc.State.Kind {
		return false, nil
	}
	if was.kind() == changes.Link {
		return was.link == anc.State.Link, nil
	}
	f, err := openPinned(p, was)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return anc.SameContent(a.ctx, f)
}

// mergedMode keeps the person's mode where the agent changed none.
func mergedMode(anc changes.Ancestor, was pin, t theirs) fs.FileMode {
	const execute = 0o100
	if was.kind() != changes.File || !anc.Known || anc.State.Kind != changes.File {
		return t.state.Mode
	}
	if t.state.Mode == anc.State.Mode || !anc.Same && t.state.Mode&execute == anc.State.Mode&execute {
		return was.perm()
	}
	return t.state.Mode
}

// same says that the path holds the agent's version already, whatever its mode.
func (t theirs) same(p *place, was pin) (bool, error) {
	if was.kind() != t.state.Kind {
		return false, nil
	}
	if was.kind() == changes.Link {
		return was.link == t.state.Link, nil
	}
	if was.st.Size != t.state.Size {
		return false, nil
	}
	f, err := openPinned(p, was)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if t.text != nil {
		data, err := bounded(f, nil)
		return string(data) == string(t.text), err
	}
	return changes.EqualFiles(f, t.file)
}

// modeOnly changes nothing but a file's mode.
func (a *applier) modeOnly(p *place, was pin, c changes.Change, anc changes.Ancestor, mode fs.FileMode) (*step, error) {
	if was.perm() == mode {
		a.tell(c.Path, Already, "")
		return nil, nil
	}
	f, err := openPinned(p, was)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	after := was.state()
	after.Mode = mode
	st := a.next(p, c.Path, was, after, Outcome{Path: c.Path, Result: Applied})
	if st.rec.Was, err = changes.Digest(f); err != nil {
		return nil, err
	}
	st.rec.Will = st.rec.Was
	if anc.Same {
		st.rec.Next = &changes.Known{Path: st.rec.Path, Written: after, Digest: st.rec.Will, Base: st.rec.Before}
	}
	st.rec.Prev = a.previous(anc, st)
	st.rec.Prev.File = "" // there is no backup, and none is needed
	return st, nil
}

// write puts the agent's version where nothing is, or what it started from.
func (a *applier) write(p *place, was pin, c changes.Change, anc changes.Ancestor, t theirs, state changes.State) (*step, error) {
	if a.waits(p, was, c, state, t.read) {
		return nil, nil
	}
	st := a.next(p, c.Path, was, state, Outcome{Path: c.Path, Result: Applied})
	if err := a.backup(st); err != nil {
		return nil, err
	}
	if err := a.fill(st, t.copyTo); err != nil {
		return nil, err
	}
	if err := a.stillTheirs(st, c, t); err != nil {
		return nil, err
	}
	st.rec.Next = &changes.Known{Path: st.rec.Path, Written: st.rec.After, Digest: st.rec.Will, Base: st.rec.Before, File: st.rec.Backup}
	st.rec.Prev = a.previous(anc, st)
	return st, nil
}

// copyTo writes the agent's version.
func (t theirs) copyTo(to *os.File) error {
	if t.text != nil {
		_, err := to.Write(t.text)
		return err
	}
	if _, err := copySparse(to, t.file); err != nil {
		return err
	}
	// The copy is nobody's but ours: what it holds is what will be there.
	shown, err := changes.ShownFile(t.mark, to)
	if err == nil && !shown {
		err = errStale
	}
	return err
}

// stillTheirs says whether the agent wrote to its file while it was copied.
func (a *applier) stillTheirs(st *step, c changes.Change, t theirs) error {
	if t.file == nil {
		return nil
	}
	now, err := changes.Mark(t.file)
	if err == nil && now == changes.Stat(a.wants[c.Path].Mark) {
		return nil
	}
	st.discard()
	return errors.Join(errStale, err)
}

// conflict leaves the person's side alone and lays the agent's version beside it.
func (a *applier) conflict(c changes.Change, why string, t *theirs) error {
	a.tell(c.Path, Conflict, why)
	if t == nil {
		return nil
	}
	for n := 1; n < 10; n++ {
		rel := beside(c.Path, a.s.Base.Run, n)
		free, err := a.layBeside(c, rel, why, *t)
		if err != nil || free {
			return err
		}
	}
	a.tell(c.Path, Conflict, why+"; other versions lie beside it already, and the agent's stays in the run")
	return nil
}

// layBeside writes the agent's version under another name; false says that something else has it.
func (a *applier) layBeside(c changes.Change, rel, why string, t theirs) (bool, error) {
	p, was, err := a.target(rel, true)
	if err != nil {
		return false, err
	}
	told := Outcome{Path: c.Path, Result: Conflict, Why: why, Beside: rel}
	if was.kind() != changes.Absent {
		same, err := t.same(p, was)
		p.close()
		if same {
			a.told[c.Path] = told
		}
		return same, err
	}
	st := a.next(p, rel, was, t.state, told)
	if err := a.fill(st, t.copyTo); err != nil {
		p.close()
		return false, err
	}
	if err := a.stillTheirs(st, c, t); err != nil {
		p.close()
		return false, err
	}
	st.again = func() (*step, error) { return nil, nil }
	a.batch = append(a.batch, st)
	return true, nil
}
