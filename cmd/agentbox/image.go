package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
)

// What --pull takes: when an image is asked of its registry.
const (
	pullNever   = "never"   // not at all
	pullMissing = "missing" // when it is not here
	pullNewer   = "newer"   // also when it is here: a registry that does not serve the digest any more ends the run
)

func pulls() []string { return []string{pullNever, pullMissing, pullNewer} }

// rootImage makes sure that the image which is to be the root is in the engine's store, and says what it is. With --dry-run it
// only looks. It is called with a plan that has nothing else against it.
func (a *app) rootImage(ctx context.Context, c call, engine *podman.Engine) (plan.ImageFacts, []event.Event, error) {
	if err := ready(ctx, engine); err != nil {
		return plan.ImageFacts{}, nil, err
	}
	switch c.grants.Agent.Rootfs {
	case "image":
		return a.pulled(ctx, c, engine)
	case "containerfile":
		return a.builtImage(ctx, c, engine)
	default:
		return plan.ImageFacts{}, nil, errors.New("no image is known for this root")
	}
}

// namedImage is what the grants alone say of the root.
func namedImage(g plan.Grants) plan.ImageFacts {
	if g.Agent.Image == "" {
		return plan.ImageFacts{}
	}
	_, digest := profiles.Image(g.Agent.Image).Parts()
	return plan.ImageFacts{Name: g.Agent.Image, Digest: digest}
}

// pulled is the image that a profile names, pulled as --pull says.
func (a *app) pulled(ctx context.Context, c call, engine *podman.Engine) (plan.ImageFacts, []event.Event, error) {
	facts := namedImage(c.grants)
	name, _ := profiles.Image(facts.Name).Parts()
	found, err := engine.Image(ctx, name+"@"+facts.Digest)
	missing := errors.Is(err, podman.ErrNoImage)
	if err != nil && !missing {
		return facts, nil, err
	}
	var events []event.Event
	switch {
	case c.dryRun && missing:
		return facts, nil, nil
	case missing && c.pull == pullNever:
		return facts, nil, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("the image %s is not on this machine, and --pull never forbids to fetch it", facts.Name),
			Hint: "leave --pull out, or fetch it before: podman pull " + name + "@" + facts.Digest}
	case !c.dryRun && (missing || c.pull == pullNewer):
		e, err := a.pull(ctx, c, engine, name+"@"+facts.Digest)
		if err != nil {
			return facts, nil, err
		}
		if found, err = engine.Image(ctx, name+"@"+facts.Digest); err != nil {
			return facts, nil, fmt.Errorf("looking at what was pulled: %w", err)
		}
		e.Detail["id"], e.Size = found.ID, found.Size
		if events = append(events, e); !c.quiet {
			a.say("pulled %s (%s parts, %s unpacked, in %.1fs)", e.Path, e.Detail["layers"], size(e.Size), float64(e.Millis)/1000)
		}
	}
	if !slices.Contains(found.Digests, facts.Digest) {
		return facts, nil, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("what Podman has as %s is another image: %s", facts.Name, strings.Join(found.Digests, ", ")),
			Hint: "remove it, and it is pulled again: podman rmi " + found.ID}
	}
	return imageFacts(facts, found), events, nil
}

// imageFacts puts what the engine knows of an image in its store beside what the profile says.
func imageFacts(f plan.ImageFacts, i podman.Image) plan.ImageFacts {
	f.ID, f.Size, f.OS, f.Arch, f.HostArch = i.ID, i.Size, i.OS, i.Arch, runtime.GOARCH
	f.Env, f.User, f.Volumes, f.Entrypoint, f.Healthcheck, f.Annotations = i.Env, i.User, i.Volumes, i.Entrypoint, i.Healthcheck, i.Annotations
	return f
}

// pull fetches an image, shows how far it is, and gives the event of it, but for what is known of the image only now.
func (a *app) pull(ctx context.Context, c call, engine *podman.Engine, name string) (event.Event, error) {
	began := time.Now()
	p := &pullProgress{layers: map[string]podman.Progress{}}
	show := a.pullScreen(c.quiet, name, p)
	err := engine.Pull(ctx, name, func(layer podman.Progress) { p.add(layer); show(false) })
	show(true)
	if err != nil {
		return event.Event{}, pullFailure(name, err)
	}
	took := time.Since(began)
	_, bytes, _ := p.sum()
	host, _, _ := strings.Cut(name, "/")
	_, digest, _ := strings.Cut(name, "@")
	return event.Event{Kind: event.ImagePulled, Decision: event.Allow, Path: name, Host: host, BytesDown: bytes, Millis: took.Milliseconds(),
		Detail: map[string]string{"digest": digest, "layers": strconv.Itoa(len(p.layers)), "policy": c.pull}}, nil
}

// pullScreen says what goes on: a line that is written over on a terminal, one at the beginning elsewhere.
func (a *app) pullScreen(quiet bool, name string, p *pullProgress) func(end bool) {
	switch {
	case quiet:
		return func(bool) {}
	case !term.IsTerminal(int(a.err.Fd())):
		a.say("pulling %s", name)
		return func(bool) {}
	}
	return func(end bool) {
		_, _ = io.WriteString(a.err, "\r\x1b[K")
		if !end {
			_, _ = io.WriteString(a.err, "pulling "+p.bar()+" "+p.text())
		}
	}
}

// pullProgress is how far all layers are.
type pullProgress struct{ layers map[string]podman.Progress }

// More than any image has. What a registry says of sizes is not true because it says so, and sums must not run over.
const (
	maxLayers = 1000
	maxLayer  = 1 << 48 // bytes
)

func (p *pullProgress) add(now podman.Progress) {
	old, ok := p.layers[now.Layer]
	if !ok && len(p.layers) == maxLayers {
		return
	}
	now.Read, now.Total = min(max(now.Read, old.Read), maxLayer), min(max(now.Total, old.Total), maxLayer)
	if now.Done && !now.Here {
		now.Read = now.Total
	}
	p.layers[now.Layer] = now
}

func (p *pullProgress) sum() (done int, read, total int64) {
	for _, l := range p.layers {
		if l.Done {
			done++
		}
		read, total = read+l.Read, total+l.Total
	}
	return done, read, total
}

func (p *pullProgress) text() string {
	done, read, total := p.sum()
	parts := fmt.Sprintf("%d of %d parts", done, len(p.layers))
	if total == 0 { // Podman tells of bytes once a second
		return parts
	}
	return fmt.Sprintf("%s of %s, %s", size(read), size(total), parts)
}

func (p *pullProgress) bar() string {
	const width = 24
	_, read, total := p.sum()
	n := 0
	if total > 0 {
		n = int(width * min(read, total) / total)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}

// pullFailure says what to do about the usual reasons.
func pullFailure(name string, err error) error {
	host, _, _ := strings.Cut(name, "/")
	text := err.Error() // it holds what the registry says, in which a line break would begin a line like one of ours
	f := &run.Failure{Code: run.CodeFailed, Text: fmt.Sprintf("%s: %s", name, escaped(text)),
		Hint: "what came whole is kept, so that the next run fetches the rest only"}
	for _, known := range []struct {
		words []string
		hint  string
	}{
		{[]string{"unauthorized", "authentication required", "access to the resource is denied", "invalid username/password"}, "log in, and agentbox uses what Podman then knows: podman login " + host},
		{[]string{"x509", "certificate"}, "Podman must trust the registry's certificate: put its CA into ~/.config/containers/certs.d/" + host + "/ca.crt"},
		{[]string{"manifest unknown", "not found"}, "the registry has no image with this digest: look at the name and the digest in the profile"},
		{[]string{"no image found in"}, "name the digest of an image for linux/" + runtime.GOARCH + ", or that of an index which has one"},
		{[]string{"no such host", "server misbehaving", "connection refused", "i/o timeout", "network is unreachable"},
			"Podman must reach " + host + ": look at its name, and at what Podman goes through (registries.conf, a proxy)"},
		{[]string{"digest did not match", "does not match", "digest mismatch", "doesn't match"}, "the registry, or somebody on the way, answers with something else than what this digest names: nothing of it was kept"},
	} {
		if slices.ContainsFunc(known.words, func(w string) bool { return strings.Contains(strings.ToLower(text), w) }) {
			f.Hint = known.hint
			break
		}
	}
	if strings.Contains(text, "no image found in") {
		f.Code = run.CodeRefused
	}
	return f
}
