// Package apply carries an agent's changes into the person's repository, and takes them back.
//
// It owns <work>/apply.jsonl, the journal, and <work>/undo, what was replaced. It promises: an apply is finished, or
// Resume finishes it, or Undo takes it back, whenever it was killed; each file is the old one or the new one, whole;
// nothing is written outside the repository, through a link, or over what the person changed meanwhile: that is
// merged, or left alone with the agent's version beside it. The agent's side is only read.
package apply

import (
	"context"
	"errors"

	"agentbox/internal/changes"
)

// Selection says what to apply.
type Selection struct {
	All   bool     `json:"all,omitempty"`   // everything that applies, but for what would execute later
	Paths []string `json:"paths,omitempty"` // these, and what lies below them
	// Hunks picks hunks of files by their IDs; the other hunks of such a file stay away.
	Hunks map[string][]string `json:"hunks,omitempty"`
	// Later are paths with a Change.Later that got their own yes; without it such a path waits, even one that Paths or
	// Hunks name. A directory stands for what lies below it. AllLater is a yes to all.
	Later    []string `json:"later,omitempty"`
	AllLater bool     `json:"all_later,omitempty"`
	// Seen holds the Change.Mark of what the person looked at, by path: what the agent changed since is not applied. A
	// path that is not in it is applied as it is now.
	Seen map[string]string `json:"seen,omitempty"`
}

// Result is what became of one path.
type Result string

// The results.
const (
	Applied  Result = "applied"
	Merged   Result = "merged"   // with what the person changed meanwhile
	Already  Result = "already"  // it was so before
	Conflict Result = "conflict" // the person's file is untouched; Outcome.Beside names the agent's version
	Waiting  Result = "waiting"  // it would execute later, and got no yes of its own
	Stale    Result = "stale"    // the agent changed it after the person looked
	Refused  Result = "refused"  // its fate is not to be applied
	Kept     Result = "kept"     // a directory that still holds what was not deleted; on undo: the person changed it since
	Restored Result = "restored" // Undo put back what was there
	Failed   Result = "failed"
)

// Outcome is the result for a path.
type Outcome struct {
	Path   string `json:"path"`
	Result Result `json:"result"`
	Why    string `json:"why,omitempty"`
	Beside string `json:"beside,omitempty"` // where the agent's version of a conflict lies, below the root
}

// Report is what an apply, a resumption or an undo did, sorted by path.
type Report struct {
	Outcomes []Outcome `json:"outcomes"`
}

// Count gives the number of outcomes with the result.
func (r Report) Count(of Result) (n int) {
	for _, o := range r.Outcomes {
		if o.Result == of {
			n++
		}
	}
	return n
}

// ErrUnfinished says that an earlier apply of this run was cut short: Resume or Undo comes first.
var ErrUnfinished = errors.New("an earlier apply was cut short")

// ErrBusy says that another process applies or undoes this run's changes right now.
var ErrBusy = errors.New("another process is applying changes of this run")

// Apply carries the selected changes into the repository. An error leaves a state that Resume or Undo takes up; what the report
// holds then has happened.
func Apply(ctx context.Context, s *changes.Source, sel Selection) (Report, error) {
	return applyAll(ctx, s, sel, nothing)
}

// Resume finishes the apply, or the undo, that was cut short. Without one it does nothing.
func Resume(ctx context.Context, s *changes.Source) (Report, error) { return resume(ctx, s, nothing) }

// Undo puts back what every apply of this run replaced, unless the person changed it since: that stays, and is reported as
// Kept.
func Undo(ctx context.Context, s *changes.Source) (Report, error) { return undo(ctx, s, nothing) }

// Unfinished says whether an apply or an undo of the run was cut short.
func Unfinished(work string) (bool, error) {
	records, _, err := readJournal(work)
	open, _ := unended(records)
	return open != nil, err
}

// CanUndo says whether anything was applied that Undo could put back.
func CanUndo(work string) (bool, error) {
	records, _, err := readJournal(work)
	steps, settled := standing(records)
	for _, r := range steps {
		if settled[r.N] != dropped {
			return true, err
		}
	}
	return false, err
}

func nothing(string) {}

func applyAll(ctx context.Context, s *changes.Source, sel Selection, at func(string)) (Report, error) {
	a, err := newApplier(ctx, s, at)
	if err != nil {
		return Report{}, err
	}
	defer a.close()
	if open, _ := unended(a.journal.records); open != nil {
		return Report{}, ErrUnfinished
	}
	list, err := s.List(ctx)
	if err != nil {
		return Report{}, err
	}
	wants := a.choose(list, sel)
	if len(wants) == 0 {
		return a.report(), nil
	}
	if err := a.begin(begins, wants); err != nil {
		return a.report(), err
	}
	err = a.finish(wants)
	return a.report(), err
}

// finish carries out what is wanted and closes the journal's entry.
func (a *applier) finish(wants []want) error {
	if err := a.carry(wants); err != nil {
		return err
	}
	if err := a.tighten(); err != nil {
		return err
	}
	a.at("before the end")
	return a.journal.write(record{What: ends})
}
