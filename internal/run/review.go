package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"agentbox/internal/changes"
	"agentbox/internal/plan"
	"agentbox/internal/workspace"
)

// repository gives the mounts that show the repository, as its mode says.
func (x *execution) repository(ctx context.Context, scratch string) (mounts []workspace.Mount, warnings []string, err error) {
	switch x.Plan.Grants.Workspace.Mode {
	case plan.Review:
		return x.review(ctx, scratch)
	case plan.ReadOnly:
		return workspace.Mounts(x.Repo, workspace.ReadOnly, x.Survey, x.Configs, scratch)
	}
	x.remember(ctx)
	return workspace.Mounts(x.Repo, workspace.Direct, x.Survey, x.Configs, scratch)
}

// watch looks after the places on the host that mounts are at: those of the repository, and of what is shown beside it.
func (x *execution) watch(repo, beside []workspace.Mount) (err error) {
	if x.Plan.Grants.Workspace.Mode == plan.Review {
		// Of the repository nothing is lost: the host replaces a file below an overlay, and the mounts are above it.
		if repo = repo[:1]; len(beside) == 0 {
			return nil
		}
	}
	x.watcher, err = workspace.Watch(slices.Concat(repo, beside))
	return err
}

// review lays the run's layer and records what the repository is like now. The record stands, on the disk, before the agent
// starts (known waits for it): a disk takes its time over a large index. A layer without one is no work of anybody's.
func (x *execution) review(ctx context.Context, scratch string) ([]workspace.Mount, []string, error) {
	l, layer := x.Plan.Binding.Layer, x.layer()
	if err := os.MkdirAll(x.Work, 0o700); err != nil {
		return nil, nil, fmt.Errorf("preparing the workspace: %w", err)
	}
	base := changes.Base{Version: changes.BaseVersion, Run: x.ID, Root: x.Repo.Root, Git: x.Repo.Git, Backend: l.Backend,
		Hide: x.Plan.Grants.Workspace.Hide}
	var err error
	if base.Began, err = x.moment(); err != nil {
		return nil, nil, fmt.Errorf("preparing the workspace: %w", err)
	}
	base.Head = workspace.Head(ctx, x.Repo)
	index, err := keepIndex(x.Repo, x.Work)
	if err != nil {
		return nil, nil, fmt.Errorf("keeping git's index as it is now: %w", err)
	}
	defer func() {
		if index != nil {
			_ = index.Close() // something else failed
		}
	}()
	shown, err := workspace.InReview(ctx, x.Repo, layer, x.Survey, x.Configs, scratch)
	if err != nil {
		return nil, nil, err
	}
	if layer.Backend == workspace.Copy {
		if base.Copied, err = changes.Moment(filepath.Join(x.Work, "copy")); err != nil {
			return nil, nil, fmt.Errorf("copying the repository: %w", err)
		}
	}
	base.MountPoints = shown.Points
	x.write(index, base)
	index = nil
	return shown.Mounts, shown.Warnings, nil
}

// layer is what lies over the repository in the review mode.
func (x *execution) layer() workspace.Layer {
	l := x.Plan.Binding.Layer
	return workspace.Layer{Backend: workspace.Backend(l.Backend), Work: x.Work, CopyGit: !l.Overlay, Limit: x.Plan.Grants.Limits.Disk}
}

// history is what git knows of the repository, and in the review mode of what is committed over it.
func (x *execution) history() workspace.History {
	if x.Plan.Grants.Workspace.Mode == plan.Review {
		return workspace.HistoryIn(x.Repo, x.layer())
	}
	return workspace.HistoryOf(x.Repo)
}

// write brings the copy of the index and then the record to the disk, beside whatever else there is to do.
func (x *execution) write(index *os.File, base changes.Base) {
	x.looking = make(chan error, 1)
	go func() {
		err := errors.Join(index.Sync(), index.Close())
		if err == nil {
			err = changes.Save(x.Work, base)
		}
		x.looking <- err
	}()
}

// moment is now, as the repository's own file system tells it. Where the layer lies on the same one, the repository is left
// alone.
func (x *execution) moment() (time.Time, error) {
	if identity(x.Work).dev == identity(x.Repo.Root).dev {
		return changes.Moment(x.Work)
	}
	at, err := changes.Moment(x.Repo.Git)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return changes.Moment(x.Work)
	}
	return at, err
}

// keepIndex copies git's index, which knows the blob of each tracked file. The copy is open, and not yet on the disk.
func keepIndex(repo workspace.Repo, work string) (*os.File, error) {
	out, err := os.OpenFile(filepath.Join(work, "base.index"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	in, err := os.OpenFile(filepath.Join(repo.Git, "index"), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, in.Close())
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// Changed reports whether a run in the review mode left something to look at: a change of a file, or something new that git
// keeps. When that can't be told it has.
func Changed(ctx context.Context, work string) (bool, error) {
	source, err := changes.Open(work)
	if err != nil {
		return true, err
	}
	list, err := source.List(ctx)
	if err != nil || len(list) > 0 {
		return true, err
	}
	return committed(work)
}

// committed looks for objects that were made. Refs alone name what is there already.
func committed(work string) (found bool, err error) {
	for _, dir := range []string{"upper", "copy"} {
		objects := filepath.Join(work, "git", dir, "objects")
		err = filepath.WalkDir(objects, func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case !e.IsDir() && !strings.HasPrefix(path, filepath.Join(objects, "info")):
				found = true
				return fs.SkipAll
			}
			return nil
		})
		if err != nil || found {
			return true, err
		}
	}
	return false, nil
}
