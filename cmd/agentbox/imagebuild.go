package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"agentbox/internal/atomicfile"
	"agentbox/internal/event"
	"agentbox/internal/eventlog"
	"agentbox/internal/images"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/secrets"
	"agentbox/internal/session"
)

// imageProfile has the rules under which built-in images are built.
const imageProfile = "image-build"

// buildTime is how long a build may take where the profile does not say.
const buildTime = time.Hour

// wanted is an image that is to be there.
type wanted struct {
	call
	fresh bool // built anew, also where it is there
}

// imagesDir is where the records of builds are.
func imagesDir(p session.Paths) string { return filepath.Join(p.State, "images") }

// image gives the image of a profile's Containerfile: the one that is there, or a new one. With --dry-run it only looks, and
// false is that there is none yet.
func (a *app) image(ctx context.Context, w wanted, engine *podman.Engine) (images.Record, bool, error) {
	file, err := images.Parse(w.build.name, w.build.text, w.build.args)
	if err != nil {
		return images.Record{}, false, refusedBuild(err)
	}
	files, err := images.Open(ctx, images.ContextOptions{Root: w.repo.Root, Git: w.repo.Common != "", Hide: w.grants.Workspace.Hide, Sources: file.Sources()})
	if err != nil {
		return images.Record{}, false, err
	}
	defer files.Close()
	b := &imageBuild{app: a, wanted: w, file: file, files: files, engine: engine, facts: a.engineFacts(w.connection), key: images.Key(file, files.Digest, w.under()),
		store: images.Store{Dir: imagesDir(w.call.paths)}}
	if r, ok, err := b.there(ctx); err != nil || ok || w.dryRun {
		return r, ok, err
	}
	if w.build.path != "" && w.noRepo {
		return images.Record{}, false, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("--no-repo-profile leaves the repository's own files out, and the image is built from %q, which is one", w.build.path),
			Hint: "take another profile, or leave the flag away"}
	}
	r, err := b.inSession(ctx)
	return r, err == nil, err
}

// under is whose rules the build is under: those of the repository, or for a built-in image the person's own.
func (w wanted) under() string {
	if w.build.own {
		return ""
	}
	return w.repo.Root
}

// refusedBuild is what a Containerfile that is not understood, or asks for too much, ends in.
func refusedBuild(err error) error {
	return &run.Failure{Code: run.CodeRefused, Text: err.Error(), Hint: hintOf(err)}
}

type imageBuild struct {
	*app
	wanted
	file   images.File
	files  *images.Context
	key    string
	store  images.Store
	engine *podman.Engine
	facts  plan.EngineFacts
	log    *eventlog.Writer
	tally  event.Tally
}

// inSession builds it in a session of its own, so that what is left of one that was killed is found as that of a run is.
func (b *imageBuild) inSession(ctx context.Context) (images.Record, error) {
	s, err := session.Create(b.call.paths, session.Meta{Profile: b.decision.profile.Name, Repo: b.repo.Root, Argv: []string{"image", "build"},
		Engine: b.connection, Started: time.Now().UTC()}, rand.Reader)
	if err != nil {
		return images.Record{}, err
	}
	b.leftOut()
	r, err := b.make(ctx, s, installing(b.call.paths.Cache))
	code, reason := 0, "the image was built"
	if failed := (*run.Failure)(nil); err != nil && !errors.As(err, &failed) {
		err = &run.Failure{Code: run.CodeFailed, Text: err.Error(), Hint: hintOf(err)}
	}
	if err != nil {
		code, _ = classify(err)
		reason = err.Error()
	}
	return r, errors.Join(err, s.End(session.End{Time: time.Now().UTC(), ExitCode: code, Reason: reason}))
}

// there finds what was built from the same text, files and settings. With --pull the bases are looked at too.
func (b *imageBuild) there(ctx context.Context) (images.Record, bool, error) {
	r, ok := b.store.Get(b.key)
	if !ok || b.fresh || b.runOptions.pull == pullNewer && !b.runOptions.dryRun {
		return r, false, nil
	}
	ok, err := b.engine.HasImage(ctx, r.Image)
	if err != nil || !ok {
		return r, false, err
	}
	if b.runOptions.dryRun {
		return r, true, nil
	}
	r.Used = time.Now().UTC()
	return r, true, b.store.Put(r)
}

// make builds it, with a log of its own.
func (b *imageBuild) make(ctx context.Context, s *session.Session, shim func() (string, error)) (r images.Record, err error) {
	bases, err := b.bases(ctx)
	if err != nil {
		return r, err
	}
	if old, ok := b.store.Get(b.key); ok && !b.fresh && same(old.Bases, bases) {
		if here, err := b.engine.HasImage(ctx, old.Image); err == nil && here {
			old.Used = time.Now().UTC()
			return old, b.store.Put(old)
		}
	}
	p, err := b.plan()
	if err != nil {
		return r, err
	}
	program, err := shim()
	if err != nil {
		return r, err
	}
	j, err := startJanitor(program, s.RuntimeDir)
	if err != nil {
		return r, err
	}
	defer j.close()
	id, err := b.carryOut(ctx, s, p, bases, program)
	if err != nil {
		return r, err
	}
	now := time.Now().UTC()
	r = images.Record{Key: b.key, Image: id, Profile: b.decision.profile.Name, File: b.build.name, Bases: bases, Built: now, Used: now}
	if !b.build.own {
		r.Repo = b.repo.Root
	}
	return r, b.store.Put(r)
}

func same(a, b []images.Base) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Ref != b[i].Ref || a[i].ID != b[i].ID {
			return false
		}
	}
	return true
}

// bases finds the images that it begins with, and pulls those that are to be pulled.
func (b *imageBuild) bases(ctx context.Context) ([]images.Base, error) {
	out := []images.Base{}
	for _, ref := range b.file.Bases() {
		found, err := b.base(ctx, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, images.Base{Ref: ref, ID: found.ID, Digest: found.Digest})
	}
	return out, nil
}

func (b *imageBuild) base(ctx context.Context, ref string) (podman.Base, error) {
	found, here, err := b.engine.Base(ctx, ref)
	if err != nil {
		return found, err
	}
	if !images.Local(ref) && (!here && b.runOptions.pull != pullNever || b.runOptions.pull == pullNewer && !images.Pinned(ref)) {
		if err := b.pullBase(ctx, ref); err != nil {
			return found, err
		}
		if found, here, err = b.engine.Base(ctx, ref); err != nil {
			return found, err
		}
	}
	if !here {
		return found, refusedBuild(&images.Problem{File: b.file.Name, Line: b.file.LineOf(ref), Text: fmt.Sprintf("the image %s is not here", ref),
			Hint: "podman pull " + ref})
	}
	if !images.Pinned(ref) {
		b.say("%s is %s (%s)", ref, cmp.Or(found.Digest, "without a digest"), found.ID[:min(12, len(found.ID))])
	}
	triggers, err := b.engine.Triggers(ctx, found.ID)
	if err != nil {
		return found, err
	}
	if triggers {
		return found, refusedBuild(&images.Problem{File: b.file.Name, Line: b.file.LineOf(ref),
			Text: fmt.Sprintf("the image %s has steps of its own for whoever builds on it (ONBUILD)", ref),
			Hint: "take an image without them: the engine would carry them out as they stand, outside of what agentbox can judge"})
	}
	return found, nil
}

// plan is that of the build: the rules of the profile, or for a built-in image those that it was made for.
func (b *imageBuild) plan() (plan.Plan, error) {
	person, err := b.person()
	if err != nil {
		return plan.Plan{}, err
	}
	profile := b.decision.profile
	if b.build.own {
		loaded, err := profiles.Load(imageProfile, b.ownFiles(b.call.paths))
		if err != nil {
			return plan.Plan{}, err
		}
		profile = loaded.Profile
	}
	return plan.ForBuild(plan.Inputs{Profile: profile, Floors: b.floors, Config: b.call.config,
		Host: plan.Host{User: person, Repo: b.repo.Root, Directory: b.repo.Root, Engine: b.facts}})
}

// carryOut runs the build, and writes its plan and its log as a run does.
func (b *imageBuild) carryOut(ctx context.Context, s *session.Session, p plan.Plan, bases []images.Base, shim string) (string, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return "", err
	}
	if err := atomicfile.Write(filepath.Join(s.Dir, session.PlanFile), text, 0o600); err != nil {
		return "", fmt.Errorf("writing the plan: %w", err)
	}
	if b.log, err = eventlog.Create(filepath.Join(s.Dir, session.EventsFile), s.Meta.ID, time.Now); err != nil {
		return "", err
	}
	defer func() { _ = b.log.Close() }() // a log that failed has ended the build
	seccomp := filepath.Join(s.RuntimeDir, "seccomp.json")
	if err := podman.WriteSeccomp(seccomp); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(p.Grants.Budget.Time, buildTime), errors.New("it took longer than it may: --timeout, or budget.time of the profile"))
	defer cancel()
	params, shown := b.params(s, p, bases, shim, seccomp)
	id, err := run.Build(ctx, params)
	shown.end()
	b.refusals(s)
	return id, shown.explain(err)
}

func (b *imageBuild) params(s *session.Session, p plan.Plan, bases []images.Base, shim, seccomp string) (run.BuildParams, *buildScreen) {
	ids := map[string]string{}
	for _, base := range bases {
		ids[base.Ref] = base.ID
	}
	script := b.file.Script(ids)
	shown := newBuildScreen(b.app, b.file.Name, script, b.quiet)
	args := images.Proxies()
	for name, value := range images.Variables() {
		args[name] = value
	}
	for name, value := range b.file.Args {
		args[name] = value
	}
	return run.BuildParams{
		ID: s.Meta.ID, Plan: p, Dir: s.RuntimeDir, Shim: shim, Sockets: b.sockets(), Builder: b.engine, Password: b.password(p.Binding.Upstream),
		Spec: run.BuildSpec{Script: script.Text, Files: b.files.Write, Args: args, Tag: b.tag(), Seccomp: seccomp, CertificateID: images.CertificateID,
			Labels: map[string]string{images.LabelKey: b.key, images.LabelProfile: b.decision.profile.Name}},
		Log:  runLog{eventlog.NewFanout(b.log, &b.tally), b.log, new(sync.Once), make(chan struct{})},
		Told: shown.line,
		Wipe: func(ctx context.Context) error { return podman.RemoveAll(ctx, filepath.Join(s.RuntimeDir, "root")) },
		Warn: func(text string) { b.say("warning: %s", printable(text)) },
	}, shown
}

// tag names the image for people.
func (b *imageBuild) tag() string {
	return tagPrefix + strings.ToLower(b.decision.profile.Name) + ":" + b.key[:16]
}

// password reads that of the person's upstream proxy.
func (a *app) password(u plan.Upstream) run.Password {
	if u.Proxy == nil || u.Proxy.User == "" {
		return nil
	}
	from := stored(u.Proxy.Password.Env, u.Proxy.Password.Keyring, surroundings{lookup: a.variable, keyring: secrets.Keyring{}})
	return func(ctx context.Context) (string, error) {
		lease, err := from.Fetch(ctx)
		return lease.Value.Reveal(), err
	}
}

// leftOut tells of links that a COPY will not find: they lead out of the repository.
func (b *imageBuild) leftOut() {
	const most = 5
	left := b.files.Left
	for _, name := range left[:min(most, len(left))] {
		b.say("warning: %s leads out of the repository, and is left out of the build", printable(name))
	}
	if len(left) > most {
		b.say("warning: so do %d links more", len(left)-most)
	}
}

// refusals says what was not allowed, and how to allow it.
func (b *imageBuild) refusals(s *session.Session) {
	if _, refused, _, _ := b.tally.Totals(); refused > 0 {
		b.say("%s of the build refused: agentbox events %s shows which", times(refused, "request"), s.Meta.ID)
		if !b.build.own {
			b.say("hint: agentbox learn %s proposes the least that would allow them", s.Meta.ID)
		}
	}
}

// pullBase asks the base's registry, before the build begins.
func (b *imageBuild) pullBase(ctx context.Context, ref string) error {
	p := &pullProgress{layers: map[string]podman.Progress{}}
	show := b.pullScreen(b.quiet, ref, p)
	err := b.engine.Pull(ctx, ref, func(layer podman.Progress) { p.add(layer); show(false) })
	show(true)
	if err != nil {
		return pullFailure(ref, err)
	}
	return nil
}

// builtImage is the image of a profile's Containerfile as the plan of a run wants to know it.
func (a *app) builtImage(ctx context.Context, c call, engine *podman.Engine) (plan.ImageFacts, []event.Event, error) {
	facts := plan.ImageFacts{Name: c.build.name}
	r, there, err := a.image(ctx, wanted{call: c}, engine)
	if err != nil || !there {
		return facts, nil, err
	}
	found, err := engine.Image(ctx, r.Image)
	if err != nil {
		return facts, nil, fmt.Errorf("looking at what was built: %w", err)
	}
	return imageFacts(facts, found), nil, nil
}
