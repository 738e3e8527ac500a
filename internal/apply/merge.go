package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"agentbox/internal/changes"
	"agentbox/internal/subprocess"
)

// mergeTime bounds one merge.
const mergeTime = time.Minute

// merge decides on a text that both sides changed.
func (a *applier) merge(p *place, was pin, c changes.Change, anc changes.Ancestor, t theirs, state changes.State) (*step, error) {
	base, mine, other, err := a.threeSides(p, was, anc, t)
	if err != nil {
		if a.ctx.Err() != nil || errors.Is(err, errMoved) {
			return nil, err
		}
		return nil, a.conflict(c, "it changed outside the sandbox too, and can't be merged: "+err.Error(), &t)
	}
	now, err := changes.Mark(t.file)
	if err != nil || now != changes.Stat(t.mark) || t.text == nil && !changes.Shown(t.mark, other) {
		return nil, errors.Join(errStale, err)
	}
	merged, clean, err := mergeTexts(a.ctx, a.s.Work, base, mine, other)
	if err != nil {
		return nil, err
	}
	if !clean {
		return nil, a.conflict(c, "it changed outside the sandbox too, in the same lines", &t)
	}
	if bytes.Equal(merged, mine) && was.perm() == state.Mode {
		a.tell(c.Path, Already, "")
		return nil, nil
	}
	if a.waits(p, was, c, state, func() ([]byte, error) { return merged, nil }) {
		return nil, nil
	}
	st := a.next(p, c.Path, was, state, Outcome{Path: c.Path, Result: Merged})
	if err := a.keepTheirs(st, other); err != nil {
		return nil, err
	}
	st.rec.Prev = a.previous(anc, st)
	if err := a.backup(st); err != nil {
		return nil, err
	}
	return st, a.fill(st, func(f *os.File) error {
		_, err := f.Write(merged)
		return err
	})
}

// threeSides reads three texts.
func (a *applier) threeSides(p *place, was pin, anc changes.Ancestor, t theirs) (base, mine, other []byte, err error) {
	if base, err = bounded(anc.Open(a.ctx)); err != nil {
		return nil, nil, nil, err
	}
	f, err := openPinned(p, was)
	if mine, err = bounded(f, err); err != nil {
		return nil, nil, nil, err
	}
	if other = t.text; other == nil {
		var whole bytes.Buffer
		_, err = whole.ReadFrom(limited(t.file))
		other = whole.Bytes()
	}
	switch {
	case err != nil:
		return nil, nil, nil, err
	case len(other) > changes.MaxDiff:
		return nil, nil, nil, errLarge
	case bytes.IndexByte(base, 0) >= 0 || bytes.IndexByte(mine, 0) >= 0 || bytes.IndexByte(other, 0) >= 0:
		return nil, nil, nil, errors.New("it is no text")
	}
	return base, mine, other, nil
}

// keepTheirs keeps the agent's version: when the merge is there, both sides have it in common.
func (a *applier) keepTheirs(st *step, text []byte) error {
	name := filepath.Join("undo", fmt.Sprintf("%d.theirs", st.rec.N))
	f, err := a.undoFile(name)
	if err != nil {
		return fatal(err)
	}
	defer f.Close()
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	base := changes.State{Kind: changes.File, Mode: st.rec.After.Mode, Size: int64(len(text))}
	st.rec.Next = &changes.Known{Path: st.rec.Path, Written: st.rec.After, Base: base, File: name, Merged: true}
	return fatal(err)
}

// mergeTexts is git's three-way merge of three texts, outside any repository and obeying no configuration, attributes or
// hooks. False says that both sides changed the same lines.
func mergeTexts(ctx context.Context, work string, base, mine, other []byte) ([]byte, bool, error) {
	dir, err := os.MkdirTemp(work, "merge-")
	if err != nil {
		return nil, false, fatal(fmt.Errorf("merging: %w", err))
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, text := range map[string][]byte{"base": base, "mine": mine, "theirs": other} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, false, fatal(fmt.Errorf("merging: %w", err))
		}
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, false, fmt.Errorf("merging: %w\nhint: install git", err)
	}
	ctx, cancel := context.WithTimeout(ctx, mergeTime)
	defer cancel()
	cmd := subprocess.Command(ctx, git, "merge-file", "-p", "--quiet", "mine", "base", "theirs")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES=" + work,
		"GIT_DIR=" + filepath.Join(dir, "none")}
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 && exit.ExitCode() < 128 {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("merging: %w", err)
	}
	return out, true, nil
}

func limited(f *os.File) io.Reader { return io.NewSectionReader(f, 0, changes.MaxDiff+1) }
