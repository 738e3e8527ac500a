package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/images"
	"agentbox/internal/profiles"
	"agentbox/internal/run/podman"
)

func newImageList(a *app) *cobra.Command {
	var asJSON bool
	var connection string
	cmd := &cobra.Command{
		Use: "list", Short: "List the images that agentbox built",
		Long: `Lists the images that agentbox built and that are still there: what from, for which profile, how large, how old, when a run last
used them, and what they began with.

Exit codes: 0 fine, 1 the list can't be read, 2 usage.`,
		Example: "  agentbox image list\n  agentbox image list --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.imageRows(cmd.Context(), connection)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.out).Encode(rows)
			}
			return a.printImages(rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&connection, "connection", "", "URI of the Podman service to use")
	return cmd
}

// imageRow is an image as list shows it. Without a record it was built by another agentbox, or says so only.
type imageRow struct {
	ID      string        `json:"id"`
	Profile string        `json:"profile,omitempty"`
	File    string        `json:"file,omitempty"`
	Repo    string        `json:"repo,omitempty"`
	Key     string        `json:"key"`
	Size    int64         `json:"size"` // with what it shares with others
	Built   time.Time     `json:"built"`
	Used    *time.Time    `json:"used,omitempty"`
	Bases   []images.Base `json:"bases,omitempty"`
	InUse   bool          `json:"in_use"`
	Known   bool          `json:"known"` // there is a record of it
	named   bool          // it has, and had, no other names than agentbox gives
}

// withEngine connects to Podman for one short task.
func (a *app) withEngine(ctx context.Context, connection string, task func(*podman.Engine) error) error {
	dir, err := os.MkdirTemp("", "agentbox-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	e, err := podman.Connect(ctx, podman.Options{URI: connection, Dir: dir})
	if err != nil {
		return err
	}
	defer e.Close()
	if err := ready(ctx, e); err != nil {
		return err
	}
	return task(e)
}

func (a *app) imageRows(ctx context.Context, connection string) (rows []imageRow, err error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	err = a.withEngine(ctx, connection, func(e *podman.Engine) error {
		rows, err = builtRows(ctx, e, images.Store{Dir: imagesDir(paths)})
		return err
	})
	return rows, err
}

// builtRows puts what the engine has beside what is on record.
func builtRows(ctx context.Context, e *podman.Engine, store images.Store) ([]imageRow, error) {
	records, err := store.List()
	if err != nil {
		return nil, err
	}
	there, err := e.BuiltImages(ctx, images.LabelKey)
	if err != nil {
		return nil, err
	}
	rows := []imageRow{}
	for _, i := range there {
		row := imageRow{ID: i.ID, Key: i.Key, Size: i.Size, Built: i.Created.UTC(), InUse: i.InUse, named: namedByUs(i.Names)}
		if n := slices.IndexFunc(records, func(r images.Record) bool { return r.Image == i.ID }); n >= 0 {
			r := records[n]
			row.Known, row.Profile, row.File, row.Repo, row.Key, row.Built, row.Used, row.Bases = true, r.Profile, r.File, r.Repo, r.Key, r.Built, &r.Used, r.Bases
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(x, y imageRow) int { return cmp.Or(y.Built.Compare(x.Built), cmp.Compare(x.ID, y.ID)) })
	return rows, nil
}

// tagPrefix begins the names of built images. No registry has any of them.
const tagPrefix = "localhost/agentbox/"

// namedByUs tells what was built here, and has lost its record, from what was pulled and says of itself that agentbox built it.
func namedByUs(names []string) bool {
	return len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return !strings.HasPrefix(n, tagPrefix) })
}

func (a *app) printImages(rows []imageRow) error {
	if len(rows) == 0 {
		a.say("agentbox has built no image that is still there: agentbox image build PROFILE")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tPROFILE\tFROM\tSIZE\tAGE\tUSED\tBEGAN WITH")
	for _, r := range rows {
		used := "-"
		if r.Used != nil {
			used = age(time.Since(*r.Used)) + " ago"
		}
		var bases []string
		for _, b := range r.Bases {
			bases = append(bases, based(b))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID[:min(12, len(r.ID))], printable(cmp.Or(r.Profile, "-")), printable(cmp.Or(r.File, "no record")),
			size(r.Size), age(time.Since(r.Built)), used, printable(strings.Join(bases, ", ")))
	}
	return w.Flush()
}

// based is a base as a person knows it, with a digest.
func based(b images.Base) string {
	if images.Pinned(b.Ref) || b.Digest == "" {
		return b.Ref
	}
	return b.Ref + "@" + b.Digest
}

type imagePruneOptions struct {
	all, dryRun bool
	older       string
	age         time.Duration
	connection  string
}

func newImagePrune(a *app) *cobra.Command {
	o := imagePruneOptions{}
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove images that agentbox built and nobody needs",
		Long: `Removes images that agentbox built: those of which there is a newer one from the same file for the same profile. --older takes
those that no run has used for so long too, --all every one. What a container is made of stays, and so does every image that is
not agentbox's, whatever its labels say. An image that is needed again is built again.

Exit codes: 0 fine, 1 an image could not be removed, and is named, 2 usage.`,
		Example: "  agentbox image prune\n  agentbox image prune --older 30d\n  agentbox image prune --all --dry-run",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.all && o.older != "" {
				return usage(cmd, errors.New("--all and --older exclude each other"))
			}
			if o.older != "" {
				var d profiles.Duration
				if err := d.UnmarshalText([]byte(o.older)); err != nil {
					return usage(cmd, err)
				}
				o.age = time.Duration(d)
			}
			return a.pruneImages(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "every image that agentbox built")
	f.StringVar(&o.older, "older", "", "those too that no run has used for so long, such as 30d")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be removed, and remove nothing")
	f.StringVar(&o.connection, "connection", "", "URI of the Podman service to use")
	return cmd
}

func (a *app) pruneImages(ctx context.Context, o imagePruneOptions) error {
	paths, err := a.paths()
	if err != nil {
		return err
	}
	store := images.Store{Dir: imagesDir(paths)}
	return a.withEngine(ctx, o.connection, func(e *podman.Engine) error {
		rows, err := builtRows(ctx, e, store)
		if err != nil {
			return err
		}
		return a.prune(ctx, e, store, o, rows)
	})
}

func (a *app) prune(ctx context.Context, e *podman.Engine, store images.Store, o imagePruneOptions, rows []imageRow) error {
	var freed int64
	count, failed := 0, false
	for _, r := range goes(rows, o, time.Now()) {
		if r.InUse {
			a.say("%s stays: a container is made of it", r.ID[:min(12, len(r.ID))])
			continue
		}
		if !o.dryRun {
			if err := e.RemoveImage(ctx, r.ID); err != nil {
				a.say("removing %s: %s", r.ID[:min(12, len(r.ID))], printable(err.Error()))
				failed = true
				continue
			}
			if err := store.Forget(r.Key); err != nil {
				return err
			}
		}
		count++
		freed += r.Size
		fmt.Fprintf(a.out, "%s  %s  %s\n", r.ID, printable(cmp.Or(r.Profile, "-")), printable(cmp.Or(r.File, "no record")))
	}
	what := map[bool]string{true: "would be removed", false: "removed"}[o.dryRun]
	a.say("%s %s, up to %s: layers that other images share stay", times(uint64(count), "image"), what, size(freed))
	if failed {
		return exitCode(exitFinding)
	}
	return nil
}

// goes are the rows to remove. They are newest first.
func goes(rows []imageRow, o imagePruneOptions, now time.Time) (out []imageRow) {
	type source struct{ profile, file, repo string }
	newer := map[source]bool{}
	for _, r := range rows {
		from := source{r.Profile, r.File, r.Repo}
		switch {
		case o.all && (r.Known || r.named), r.Known && newer[from], r.Known && o.age > 0 && now.Sub(*r.Used) > o.age:
			out = append(out, r)
		}
		if r.Known {
			newer[from] = true
		}
	}
	return out
}
