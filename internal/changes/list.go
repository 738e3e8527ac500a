package changes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/sys"

	"golang.org/x/sys/unix"
)

// maxChanges bounds what a list takes of memory.
const maxChanges = 1 << 20

// List gives what changed, sorted by path.
func (s *Source) List(ctx context.Context) ([]Change, error) {
	l, err := s.newLister(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if s.Base.Backend == Copy {
		err = l.copied("", true)
	} else {
		err = l.merged("", true)
	}
	if err != nil {
		return nil, fmt.Errorf("listing what changed: %w", err)
	}
	slices.SortFunc(l.out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return l.out, nil
}

// lister is one look at all that changed.
type lister struct {
	ctx    context.Context
	s      *Source
	upper  tree
	host   tree // the repository as the person has it now
	bases  *Finder
	hide   policy.HideList
	mounts map[string]bool
	folded map[string]map[string][]string // directories: names there, by how they look where case is ignored
	out    []Change
	tries  int // looks at what was replaced meanwhile
}

// often is how many looks in a row an agent can spoil.
const often = 100

func (s *Source) newLister(ctx context.Context) (*lister, error) {
	l := &lister{ctx: ctx, s: s, mounts: map[string]bool{}, folded: map[string]map[string][]string{}}
	var err error
	if l.hide, err = policy.ParseHideList(s.Base.Hide); err != nil {
		return nil, err
	}
	for _, point := range s.Base.MountPoints {
		l.mounts[point] = true
	}
	bases, err := s.Finder()
	if err != nil {
		return nil, err
	}
	l.bases, l.host = bases, bases.host
	if l.upper, err = openTree(s.upper()); err != nil {
		bases.Close()
		return nil, fmt.Errorf("reading what the agent wrote: %w", err)
	}
	l.upper.fuse = l.fuse()
	return l, nil
}

func (l *lister) close() {
	l.bases.Close()
	l.upper.close()
}

// add notes a change.
func (l *lister) add(c Change) error {
	if len(l.out) == maxChanges {
		return fmt.Errorf("more than %d paths changed", maxChanges)
	}
	l.out = append(l.out, c)
	return l.ctx.Err()
}

// merged looks at a directory of an overlay's upper; over says that it lies over one of the lower's.
func (l *lister) merged(dir string, over bool) error {
	entries, hides, err := l.upper.list(dir)
	if err != nil {
		return l.unreadable(dir, err)
	}
	here, gone := l.sort(entries)
	hides = hides || slices.ContainsFunc(entries, func(e entry) bool { return l.fuse() && e.name == ".wh..wh..opq" && e.kind() == File })
	for _, name := range gone {
		if err := l.gone(join(dir, name)); err != nil {
			return err
		}
	}
	for _, e := range here {
		if err := l.entry(join(dir, e.name), e.node); err != nil {
			return err
		}
	}
	if over && hides {
		return l.covered(dir, here)
	}
	return nil
}

func (l *lister) fuse() bool { return l.s.Base.Backend == FuseOverlay }

// sort tells what is there from what marks a deletion.
func (l *lister) sort(entries []entry) (here []entry, gone []string) {
	for _, e := range entries {
		name, marks := strings.CutPrefix(e.name, ".wh.")
		switch {
		case e.whiteout():
			gone = append(gone, e.name)
		case !l.fuse() || !marks || e.kind() != File || e.st.Size > 0: // only an empty file is a mark
			here = append(here, e)
		case !strings.HasPrefix(name, ".wh."):
			gone = append(gone, name)
		}
	}
	there := func(name string) bool {
		return slices.ContainsFunc(here, func(e entry) bool { return e.name == name })
	}
	if l.fuse() { // which may mark a deletion in both ways
		slices.Sort(gone)
		gone = slices.Compact(slices.DeleteFunc(gone, there))
	}
	return here, gone
}

// covered lists what a directory of the lower's held and the upper's directory no longer shows.
func (l *lister) covered(dir string, here []entry) error {
	entries, _, err := l.host.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return l.unreadable(dir, err)
	}
	shown := make(map[string]bool, len(here))
	for _, e := range here {
		shown[e.name] = true
	}
	for _, e := range entries {
		if !shown[e.name] {
			if err := l.gone(join(dir, e.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadable notes a directory that can't be read. One that went meanwhile is no more.
func (l *lister) unreadable(dir string, err error) error {
	switch {
	case dir == "":
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ENAMETOOLONG):
		return err
	}
	if n := len(l.out); n > 0 && l.out[n-1].Path == dir { // it was just noted that it is new
		l.out = l.out[:n-1]
	}
	n, _ := l.upper.lstat(dir)
	before, _ := l.host.lstat(dir)
	return l.add(Change{Path: dir, Before: before.state(), After: n.state(), Fate: Unreadable, Mark: n.mark(),
		Why: "what is in this directory can't be read"})
}

// hidden says whether a hide pattern names the path, or a directory above it.
func (l *lister) hidden(path string, dir bool) bool { return l.hide.Hides(path, dir) }

// entry looks at what the upper holds at a path.
func (l *lister) entry(path string, after node) error {
	before, err := l.host.lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ENAMETOOLONG) {
			return err
		}
		return l.add(Change{Path: path, After: after.state(), Fate: Unreadable, Mark: after.mark(), Why: "its place in the repository can't be reached"})
	}
	dir := after.kind() == Dir
	switch {
	case l.mounts[path]:
		if dir {
			return l.into(path, before)
		}
		return nil
	case l.hidden(path, dir || before.kind() == Dir):
		if l.s.Base.Backend == Copy && l.intact(after) {
			return nil
		}
		return l.add(Change{Path: path, Before: before.state(), After: after.state(), Fate: Hidden, Mark: after.mark(), Why: "a hide pattern names it"})
	case gitsOwn(filepath.Base(path)):
		return l.gits(path, before, after)
	case dir:
		return l.directory(path, before, after)
	}
	if before.kind() == Dir {
		if err := l.below(path); err != nil {
			return err
		}
	}
	return l.leaf(path, before, after)
}

// gits notes what git would take for its own. The directory of the repository itself is a mount inside.
func (l *lister) gits(path string, before, after node) error {
	changed, err := l.gitsChanged(path, before, after)
	if err != nil || !changed {
		return err
	}
	return l.add(Change{Path: path, Before: before.state(), After: after.state(), Fate: GitsOwn, Mark: after.mark(),
		Why: "git would take this for a repository's own"})
}

func (l *lister) gitsChanged(path string, before, after node) (bool, error) {
	switch {
	case before.kind() == Dir && after.kind() == Dir:
		if l.s.Base.Backend == Copy {
			return l.touchedBelow(path)
		}
		entries, hides, err := l.upper.list(path)
		return err != nil || len(entries) > 0 || hides, nil
	case before.kind() != after.kind():
		return l.s.Base.Backend != Copy || path != ".git", nil
	}
	same, err := l.same(path, before, after)
	return !same, err
}

// into looks below a directory of the upper's.
func (l *lister) into(path string, before node) error {
	if l.s.Base.Backend == Copy {
		return l.copied(path, before.kind() == Dir)
	}
	return l.merged(path, before.kind() == Dir)
}

func (l *lister) directory(path string, before, after node) error {
	c, err := l.change(path, before, after)
	if err != nil {
		return err
	}
	changed := c.Before.Kind != Dir || c.Before.Mode != c.After.Mode && before.state().Mode != c.After.Mode
	if before.kind() == Absent && l.cameFromBelow(path) {
		changed = false // the person removed it meanwhile; what the agent changed in it says more
	}
	if l.s.Base.Backend != Copy && l.upper.partial(path) {
		c.Fate, c.Why, changed = Unreadable, "only a part of it is here: the overlay was mounted with redirect_dir", true
	}
	if changed {
		if err := l.add(c); err != nil {
			return err
		}
	}
	return l.into(path, before)
}

// cameFromBelow says that a directory of the upper's is a copy of one of the lower's, and not new.
func (l *lister) cameFromBelow(path string) bool {
	f, err := l.upper.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil || l.s.Base.Backend == Copy {
		return false
	}
	defer f.Close()
	n, err := unix.Fgetxattr(int(f.Fd()), "user.overlay.origin", nil)
	return err == nil && n > 0 && !l.upper.opaque(int(f.Fd()))
}

// leaf looks at a file, a link or something special.
func (l *lister) leaf(path string, before, after node) error {
	if after.kind() == File && l.s.Base.Backend != Copy && l.upper.partial(path) {
		return l.add(Change{Path: path, Before: before.state(), After: after.state(), Fate: Unreadable, Mark: after.mark(),
			Why: "only a part of it is here: the overlay was mounted with metacopy"})
	}
	same, err := l.same(path, before, after)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		same, err = false, nil
	}
	if err != nil || same {
		return errors.Join(err, l.onlyBits(path, before, after, same))
	}
	c, err := l.change(path, before, after)
	if err != nil {
		return err
	}
	if c.Fate == Applies && c.ChangedOutside {
		if same, err = l.asAncestor(path, &c); err != nil || same {
			return err
		}
	}
	err = l.look(&c)
	if errors.Is(err, ErrChanged) {
		return l.again(path, before, after)
	}
	if err != nil {
		return err
	}
	return l.add(c)
}

// again looks once more at what was another file when it was opened than when it was listed. One that is never the same is told.
func (l *lister) again(path string, before, after node) error {
	if l.tries++; l.tries%often != 0 {
		now, err := l.upper.lstat(path)
		if err == nil && now.kind() == after.kind() && !now.whiteout() {
			return l.leaf(path, before, now)
		}
	}
	return l.add(Change{Path: path, Before: before.state(), After: after.state(), Fate: Unreadable, Mark: after.mark(),
		Why: "it was replaced while it was looked at"})
}

// same says that the two sides hold the same.
func (l *lister) same(path string, before, after node) (bool, error) {
	if before.state() != after.state() {
		return false, nil
	}
	if after.kind() != File {
		return true, nil
	}
	a, _, err := l.host.openFile(path)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, _, err := l.upper.openFile(path)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return EqualFiles(a, b)
}

// special are the mode bits that are never carried over.
const special = unix.S_ISUID | unix.S_ISGID | unix.S_ISVTX

// onlyBits notes a file in which nothing changed but such bits.
func (l *lister) onlyBits(path string, before, after node, same bool) error {
	if !same || after.kind() != File || after.st.Mode&special&^before.st.Mode == 0 {
		return nil
	}
	return l.add(Change{Path: path, Before: before.state(), After: after.state(), Fate: Dropped, Mark: after.mark(), Why: bitsWhy(after)})
}

func bitsWhy(n node) string {
	var bits []string
	for _, b := range []struct {
		bit  uint32
		name string
	}{{unix.S_ISUID, "setuid"}, {unix.S_ISGID, "setgid"}, {unix.S_ISVTX, "sticky"}} {
		if sys.Mode(&n.st)&b.bit != 0 {
			bits = append(bits, b.name)
		}
	}
	return "not carried over: " + strings.Join(bits, ", ")
}

// asAncestor says that the agent's side is what the path was at the start: only the person changed it.
func (l *lister) asAncestor(path string, c *Change) (bool, error) {
	a, err := l.bases.Find(l.ctx, path)
	if err != nil || !a.Known || a.State.Kind != c.After.Kind {
		return false, err
	}
	if c.After.Kind == Link {
		return a.State.Link == c.After.Link, nil
	}
	if a.State.Mode&0o100 != c.After.Mode&0o100 {
		return false, nil
	}
	after, err := l.s.AfterFile(path)
	if err != nil {
		return false, ignoreUnreadable(err)
	}
	defer after.Close()
	same, err := a.SameContent(l.ctx, after)
	if err != nil && l.ctx.Err() == nil {
		return false, nil // a blob that is not here: nobody knows
	}
	return same, err
}

// below lists all that a directory of the person's holds as gone.
func (l *lister) below(dir string) error {
	entries, _, err := l.host.list(dir)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil // what can't be listed is not deleted, and the directory stays
		}
		return err
	}
	for _, e := range entries {
		if err := l.gone(join(dir, e.name)); err != nil {
			return err
		}
	}
	return nil
}

// gone notes that the agent deleted what the person has at a path, and all below it.
func (l *lister) gone(path string) error {
	before, err := l.host.lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.mounts[path] || l.hidden(path, before.kind() == Dir) || path == ".git" {
		return nil
	}
	if l.fuse() && strings.HasPrefix(filepath.Base(path), ".wh.") {
		return nil // the person's file of such a name was never seen inside
	}
	if gitsOwn(filepath.Base(path)) {
		return l.gits(path, before, node{})
	}
	if l.s.Base.Backend == Copy && before.kind() == Special {
		return nil // such a file is not copied
	}
	if l.s.Base.Backend == Copy && before.kind() != Dir {
		if there, err := l.thereAtStart(path, before); err != nil || !there {
			return err
		}
	}
	was := len(l.out)
	if before.kind() == Dir {
		if err := l.below(path); err != nil {
			return err
		}
	}
	known, _ := l.bases.Known(path)
	if l.s.Base.Backend == Copy && before.kind() == Dir && len(l.out) == was && !before.changed().Before(l.s.Base.Began) && known.Base.Kind != Dir {
		return nil // the person made it since
	}
	c, err := l.change(path, before, node{})
	if err != nil {
		return err
	}
	if err := l.look(&c); err != nil {
		return err
	}
	return l.add(c)
}

// change puts together what is known of a path whatever its content.
func (l *lister) change(path string, before, after node) (Change, error) {
	c := Change{Path: path, Before: before.state(), After: after.state(), Fate: Applies, Mark: after.mark()}
	a, err := l.bases.Find(l.ctx, path)
	if err != nil {
		return c, err
	}
	c.ChangedOutside = !a.Same
	if a.Known && c.ChangedOutside {
		c.Before = a.State
	}
	var why []string
	if after.kind() == Special {
		c.Fate = NeverMade
		why = append(why, "a "+c.After.Special+" is never made")
	}
	if after.kind() == File && after.st.Mode&special != 0 {
		why = append(why, bitsWhy(after))
	}
	if c.ChangedOutside {
		why = append(why, outside(a))
	}
	if before.kind() == Absent && after.kind() != Absent {
		twin, err := l.twin(path)
		if err != nil {
			return c, err
		}
		if twin != "" {
			why = append(why, fmt.Sprintf("where case is ignored it is the same as %q", twin))
		}
	}
	c.Why = strings.Join(why, "; ")
	return c, nil
}

func outside(a Ancestor) string {
	switch {
	case !a.Known:
		return "it changed outside the sandbox too, or was made there, and nobody knows what it was"
	case a.Host.Kind == Absent:
		return "it was deleted outside the sandbox"
	}
	return "it changed outside the sandbox too"
}
