package commits

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxTries bounds how often a run's server is asked when not all of its branches can come.
const maxTries = 64

// takenVariable tells a server how many bytes of the run's commits came already: what they may be is counted over all of
// its conversations.
const takenVariable = "AGENTBOX_COMMITS_TAKEN"

// Remaining is what is left of a server's limit for its Relay.
func Remaining(limit int64, getenv func(string) string) int64 {
	taken, err := strconv.ParseInt(cmp.Or(getenv(takenVariable), "0"), 10, 64)
	if err != nil || taken < 0 {
		return 0
	}
	return max(limit-taken, 0)
}

// unit are the refs of one commit: they come together or not at all.
type unit []string

// fetch takes everything at once. Where that fails, one branch may be the reason, and the others come without it.
func (f *fetcher) fetch(ctx context.Context) ([]Refused, error) {
	err := f.whole(ctx, f.all())
	if err == nil || ctx.Err() != nil || errors.Is(err, errNoAnswer) {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*f.limit, errors.New("there was no time left to try it"))
	defer cancel()
	units, lerr := f.units(ctx)
	if lerr != nil || len(units) < 2 {
		return nil, err
	}
	a := apart{fetcher: f}
	a.halves(ctx, units)
	if a.came == 0 {
		return nil, err
	}
	return a.refused, nil
}

// whole takes refs, or nothing: what came for those that were refused goes.
func (f *fetcher) whole(ctx context.Context, specs []string) error {
	before, err := f.packs()
	if err != nil {
		return err
	}
	failed := f.refs(ctx, specs)
	if failed == nil {
		return nil
	}
	after, err := f.packs()
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, p := range after {
		if !slices.Contains(before, p) {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return errors.Join(failed, err)
}

// packs are all files that stand with packs, those that were begun among them.
func (f *fetcher) packs() ([]string, error) {
	return filepath.Glob(filepath.Join(f.dir, "objects", "pack", "*"))
}

// taken is how much came.
func (f *fetcher) taken() (n int64, err error) {
	packs, err := filepath.Glob(filepath.Join(f.dir, "objects", "pack", "*.pack"))
	for _, p := range packs {
		info, serr := os.Stat(p)
		if serr != nil {
			return n, serr
		}
		n += info.Size()
	}
	return n, err
}

// units asks which refs there are.
func (f *fetcher) units(ctx context.Context) ([]unit, error) {
	out, err := f.ask(ctx, nil, "ls-remote", "--quiet")
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	var units []unit
	for l := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
		branch, isBranch := strings.CutPrefix(name, "refs/heads/")
		switch {
		case name == carried:
			name = "HEAD"
		case isBranch && validBranch(branch):
			name = "heads/" + branch
		default:
			continue
		}
		if _, seen := at[id]; !seen {
			at[id] = len(units)
			units = append(units, nil)
		}
		units[at[id]] = append(units[at[id]], name)
	}
	return units, nil
}

// apart finds out which refs can come.
type apart struct {
	*fetcher
	tries, came int
	refused     []Refused
}

// halves tries each half of what can't come together.
func (a *apart) halves(ctx context.Context, units []unit) {
	a.take(ctx, units[:len(units)/2])
	a.take(ctx, units[len(units)/2:])
}

func (a *apart) take(ctx context.Context, units []unit) {
	err := errors.New("too many of the run's branches were refused before")
	if a.tries < maxTries {
		a.tries++
		if err = a.whole(ctx, a.specs(units)); err == nil {
			a.came += len(units)
			return
		}
		if len(units) > 1 && ctx.Err() == nil {
			a.halves(ctx, units)
			return
		}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	why, _, _ := strings.Cut(err.Error(), "\n")
	for _, u := range units {
		for _, name := range u {
			a.refused = append(a.refused, Refused{Name: name, Why: why})
		}
	}
}

func (a *apart) specs(units []unit) (specs []string) {
	for _, u := range units {
		for _, name := range u {
			from := "refs/" + name
			if name == "HEAD" {
				from = carried
			}
			specs = append(specs, fmt.Sprintf("+%s:%s%s", from, Prefix(a.run), name))
		}
	}
	return specs
}
