package podman

import (
	"context"
	"errors"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"agentbox/test/registry"
)

// shop is a registry, and an engine that trusts it.
type shop struct {
	*registry.Registry
	engine *Engine
}

func openShop(t *testing.T, login bool) shop {
	t.Helper()
	r := registry.Start(t, login)
	t.Setenv("SSL_CERT_FILE", r.Trusted())
	t.Setenv("REGISTRY_AUTH_FILE", "")
	return shop{r, engine(t)}
}

// push lays an image that the test's user has no more when the test ends.
func (s shop) push(t *testing.T, name string, i registry.Image) registry.Pushed {
	t.Helper()
	p := s.Push(name, i)
	t.Cleanup(func() { _ = exec.Command("podman", "rmi", "-f", p.Ref).Run() }) // it may never have come
	return p
}

// noise is a layer that does not compress: of a size that takes more than one packet.
func noise(name string, seed byte) []registry.File {
	content := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content) // it never fails
	return []registry.File{{Path: name, Content: content}}
}

// A line that dies in the second layer costs the second layer: what came whole is not asked for again.
func TestPullGoesOnWhereItWasCut(t *testing.T) {
	s := openShop(t, false)
	p := s.push(t, "team/cut", registry.Image{Layers: [][]registry.File{noise("one", 1), noise("two", 2)}})
	s.Cut(p.Layers[1], true)
	for again := 0; ; again++ { // until the first layer has been stored, of which no event tells
		s.Asked()
		err := s.engine.Pull(t.Context(), p.Ref, nil)
		if err == nil {
			t.Fatal("a pull whose line dies is said to have come to its end")
		}
		if _, err := s.engine.Image(t.Context(), p.Ref); !errors.Is(err, ErrNoImage) {
			t.Fatalf("after half a pull the image is there: %v", err)
		}
		if !asksFor(s.Asked(), p.Layers[0]) {
			break
		}
		if again == 5 {
			t.Fatal("what came whole is asked for again and again")
		}
	}
	s.Cut(p.Layers[1], false)
	var seen []Progress
	must(t, s.engine.Pull(t.Context(), p.Ref, func(p Progress) { seen = append(seen, p) }))
	asked := s.Asked()
	if asksFor(asked, p.Layers[0]) || !asksFor(asked, p.Layers[1]) {
		t.Errorf("the pull that goes on asks for %q; the first layer is %s", asked, p.Layers[0])
	}
	i, err := s.engine.Image(t.Context(), p.Ref)
	if err != nil || !slices.Contains(i.Digests, p.Digest) || i.Size < 6<<20 {
		t.Errorf("pulled: %+v, %v", i, err)
	}
	if !slices.ContainsFunc(seen, func(s Progress) bool { return s.Here && strings.Contains(p.Layers[0], s.Layer) }) {
		t.Errorf("nothing says that the first layer was here: %+v", seen)
	}
	must(t, s.engine.Pull(t.Context(), p.Ref, nil)) // --pull newer
	if asked := s.Asked(); asksFor(asked, p.Layers[0]) || asksFor(asked, p.Layers[1]) || !asksFor(asked, p.Digest) {
		t.Errorf("asking whether it is still there asks for %q", asked)
	}
}

func asksFor(asked []string, digest string) bool {
	return slices.ContainsFunc(asked, func(a string) bool { return strings.HasPrefix(a, "GET ") && strings.HasSuffix(a, "/"+digest) })
}

// Whatever a registry, or who stands before it, answers instead of what the digest names: it is not taken.
func TestPullTakesNothingElseThanTheDigest(t *testing.T) {
	s := openShop(t, false)
	p := s.push(t, "team/changed", registry.Image{Layers: [][]registry.File{noise("one", 3)}})
	for what, digest := range map[string]string{"manifest": p.Digest, "layer": p.Layers[0]} {
		s.Change(digest, true)
		if err := s.engine.Pull(t.Context(), p.Ref, nil); err == nil {
			t.Errorf("a changed %s is taken", what)
		} else if !strings.Contains(err.Error(), "digest") && !strings.Contains(err.Error(), "Digest") {
			t.Errorf("a changed %s: %v", what, err)
		}
		if _, err := s.engine.Image(t.Context(), p.Ref); !errors.Is(err, ErrNoImage) {
			t.Errorf("a changed %s is kept: %v", what, err)
		}
		s.Change(digest, false)
	}
	must(t, s.engine.Pull(t.Context(), p.Ref, nil))
}

// Credentials are Podman's own, and no message holds them.
func TestPullLogsIn(t *testing.T) {
	s := openShop(t, true)
	p := s.push(t, "team/private", registry.Image{Layers: [][]registry.File{{{Path: "a", Content: []byte("x")}}}})
	for name, password := range map[string]string{"no login": "", "a wrong password": "wr0ng-" + registry.Password} {
		t.Run(name, func(t *testing.T) {
			if password != "" {
				t.Setenv("REGISTRY_AUTH_FILE", s.Login(password))
			}
			err := s.engine.Pull(t.Context(), p.Ref, nil)
			if err == nil || strings.Contains(err.Error(), registry.Password) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Setenv("REGISTRY_AUTH_FILE", s.Login(registry.Password))
	must(t, s.engine.Pull(t.Context(), p.Ref, nil))
}

// An index is pulled as the manifest for this machine, and known by either digest.
func TestImageOfAnIndex(t *testing.T) {
	s := openShop(t, false)
	mine, other := runtime.GOARCH, "s390x"
	layer := func(name string) [][]registry.File { return [][]registry.File{{{Path: name, Content: []byte(name)}}} }
	here := s.push(t, "team/many", registry.Image{Arch: mine, Layers: layer(mine), Config: map[string]any{"Env": []string{"A=b"}, "User": "root"}})
	there := s.push(t, "team/many", registry.Image{Arch: other, Layers: layer(other)})
	both := s.Index("team/many", map[string]registry.Pushed{mine: here, other: there})
	foreign := s.Index("team/many", map[string]registry.Pushed{other: there})
	must(t, s.engine.Pull(t.Context(), both.Ref, nil))
	for _, ref := range []string{both.Ref, here.Ref} {
		i, err := s.engine.Image(t.Context(), ref)
		if err != nil || i.Arch != mine || i.OS != "linux" || i.User != "root" || !slices.Contains(i.Env, "A=b") || !slices.Contains(i.Digests, ref[strings.Index(ref, "@")+1:]) {
			t.Errorf("%s: %+v, %v", ref, i, err)
		}
	}
	if err := s.engine.Pull(t.Context(), foreign.Ref, nil); err == nil || !strings.Contains(err.Error(), "no image found in") {
		t.Errorf("an index without this machine's kind: %v", err)
	}
	must(t, s.engine.Pull(t.Context(), there.Ref, nil)) // what its own digest names is taken, and refused by the plan
	if i, err := s.engine.Image(t.Context(), there.Ref); err != nil || i.Arch != other {
		t.Errorf("the other kind: %+v, %v", i, err)
	}
}

// It is told how many bytes of how many there are, and whoever ends it need not wait for the registry.
func TestPullEndsWhenItIsTold(t *testing.T) {
	s := openShop(t, false)
	p := s.push(t, "team/slow", registry.Image{Layers: [][]registry.File{noise("one", 4)}})
	s.Trickle(p.Layers[0])
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	err := s.engine.Pull(ctx, p.Ref, func(p Progress) {
		if p.Read > 0 && p.Total >= 3<<20 && !p.Done { // there are numbers to be shown
			cancel(enough)
		}
	})
	if !errors.Is(err, enough) {
		t.Errorf("a pull that was ended says %v", err)
	}
}
