package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/images"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	builtin "agentbox/profiles"
)

func newImage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "image", Short: "Build the images that agents run in, list them, and remove old ones",
		Long: `A profile may have its agent run in an image in the place of this machine's own programs: containerfile = "build/Containerfile"
names a file of the repository, containerfile = "builtin:claude" one that agentbox ships. "agentbox run" builds it when it is not
there yet, and starts what is there at once.`,
		Example: "  agentbox image build claude\n  agentbox image list\n  agentbox image prune --older 30d",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newImageBuild(a), newImageList(a), newImagePrune(a))
	return cmd
}

type imageBuildOptions struct {
	profile, file, pull, connection string
	args                            []string
	timeout                         time.Duration
	fresh, quiet                    bool
}

func newImageBuild(a *app) *cobra.Command {
	o := imageBuildOptions{}
	cmd := &cobra.Command{
		Use: "build [PROFILE]", Short: "Build the image of a profile, or of a Containerfile",
		Long: `Builds the image that the profile names, or the built-in image of that name, and prints its id. The same text, files and
arguments give the image that is there already.

Each step runs in a container of its own kind of boundary: no network but agentbox's proxy, under the rules of the profile, and
no credential; it ends when agentbox does. The steps see the files of the repository that COPY names, that git knows or would
add, that .containerignore leaves in, and that are not hidden. Images are named in full, with their registry, and are pulled
before the build begins; a digest is best, and what a tag stood for is shown and recorded.

--file builds another Containerfile of this repository. You ask for it by name, so that nothing else is asked. Without a
PROFILE it is built under the rules of the profile image-build.

Exit codes: 0 the image is there, 1 the build failed or was refused, 2 usage.`,
		Example: "  agentbox image build claude\n  agentbox image build claude --build-arg BASE=mirror.example.com/node:24\n  agentbox image build billing --pull newer\n  agentbox image build --file build/Containerfile",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 0 && o.file == "" {
				return usage(cmd, errors.New("agentbox image build takes a profile, or --file"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(pulls(), o.pull) {
				return usage(cmd, fmt.Errorf("--pull takes %s, not %q", strings.Join(pulls(), ", "), o.pull))
			}
			if len(args) > 0 {
				o.profile = args[0]
			}
			return a.buildImage(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "build this Containerfile of the repository")
	f.StringVar(&o.pull, "pull", pullMissing, "when the images that it begins with are asked of their registries: never, missing or newer")
	f.StringArrayVar(&o.args, "build-arg", nil, "NAME=VALUE in the place of what ARG says")
	f.BoolVar(&o.fresh, "no-cache", false, "build it also where it is there")
	f.DurationVar(&o.timeout, "timeout", 0, "end the build after this long; in place of the profile's, or an hour")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show nothing but the id, and what went wrong")
	f.StringVar(&o.connection, "connection", "", "URI of the Podman service to use")
	return cmd
}

func (a *app) buildImage(ctx context.Context, o imageBuildOptions) error {
	c, err := a.buildCall(o)
	if err != nil {
		return err
	}
	ctx, in := interruptible(ctx)
	defer in.stop()
	var r images.Record
	err = a.withEngine(ctx, o.connection, func(e *podman.Engine) error {
		r, _, err = a.image(ctx, wanted{call: c, fresh: o.fresh}, e)
		return err
	})
	if err != nil {
		return in.explain(err)
	}
	_, err = fmt.Fprintln(a.out, r.Image)
	return err
}

// buildCall decides what is built and under which rules, as a run does.
func (a *app) buildCall(o imageBuildOptions) (call, error) {
	if a.uid == 0 {
		return call{}, &run.Failure{Code: run.CodeRefused, Text: "agentbox does not build as root"}
	}
	config, err := a.config()
	if err != nil {
		return call{}, err
	}
	paths, repo, err := a.here()
	if err != nil {
		return call{}, err
	}
	ro := runOptions{profile: o.profile, connection: o.connection, quiet: o.quiet, timeout: o.timeout, timed: o.timeout > 0, pull: o.pull}
	if ro.profile == "" {
		ro.profile = imageProfile
	}
	d, err := a.decide(ro, paths, repo)
	if err != nil {
		return call{}, err
	}
	if err := a.settle(d.consent); err != nil {
		return call{}, err
	}
	switch {
	case o.file != "":
		text, err := readBuildFile(repo.Root, a.uid, o.file)
		if err != nil {
			return call{}, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("reading the Containerfile %q: %s", o.file, err), Hint: "name it relative to the repository's top"}
		}
		d.build = buildFile{name: o.file, path: o.file, text: text}
	case d.build.name == "":
		if d.build, err = builtinFile(o.profile); err != nil {
			return call{}, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("profile %q names no containerfile, and there is no built-in image of that name", o.profile),
				Hint: `write containerfile = "build/Containerfile" below [agent], or give --file`}
		}
	}
	if d.build.args, err = buildArgs(d.build.args, o.args); err != nil {
		return call{}, err
	}
	return call{runOptions: ro, paths: paths, repo: repo, config: config, decision: d}, nil
}

// buildArgs lays arguments over those that are there.
func buildArgs(base map[string]string, more []string) (map[string]string, error) {
	out := map[string]string{}
	maps.Copy(out, base)
	for _, arg := range more {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, &usageError{fmt.Errorf("--build-arg takes NAME=VALUE, not %q", arg), "agentbox image build --help"}
		}
		out[name] = value
	}
	return out, nil
}

// imageNames completes profiles that have an image.
func imageNames(a *app, _ []string) (out []cobra.Completion) {
	for _, i := range builtin.Images() {
		out = append(out, i.Name)
	}
	return append(out, profileNames(a, nil)...)
}
