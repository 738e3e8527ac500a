package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
)

// meddled is an engine whose store says of every name that it is one image. It tells what it was asked for.
type meddled struct {
	image map[string]any

	mu    sync.Mutex
	asked []string
}

func (m *meddled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Libpod-API-Version", "5.4.2")
	w.Header().Set("Content-Type", "application/json")
	m.mu.Lock()
	m.asked = append(m.asked, r.Method+" "+r.URL.Path)
	m.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
	case strings.HasSuffix(r.URL.Path, "/images/create"): // a pull that comes off
		_, _ = w.Write([]byte(`{"status":"Download complete","id":"0"}`))
	default:
		_ = json.NewEncoder(w).Encode(m.image)
	}
}

func (m *meddled) engine(t *testing.T) *podman.Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "abx") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(m)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	e, err := podman.Connect(t.Context(), podman.Options{URI: "unix://" + filepath.Join(dir, "s"), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// An image that is here under the name, and is not what the digest names, is not run: not when it was here before, not after a
// pull, and it is not what a plan shows.
func TestALocalImageOfAnotherDigestIsRefused(t *testing.T) {
	const right, wrong = "1111", "2222"
	digest := func(of string) string { return "sha256:" + strings.Repeat(of, 16) }
	name := "registry.test/team/x@" + digest(right)
	for what, c := range map[string]struct {
		image  map[string]any
		pull   string
		dry    bool
		fits   bool
		pulled bool
	}{
		"the manifest's digest":            {map[string]any{"Digest": digest(right)}, pullMissing, false, true, false},
		"the index's digest":               {map[string]any{"Digest": digest(wrong), "RepoDigests": []string{"registry.test/team/x@" + digest(right)}}, pullNever, false, true, false},
		"another digest":                   {map[string]any{"Digest": digest(wrong), "RepoDigests": []string{"registry.test/team/x@" + digest(wrong)}}, pullMissing, false, false, false},
		"another digest, and never pulled": {map[string]any{"Digest": digest(wrong)}, pullNever, false, false, false},
		"another digest, also pulled":      {map[string]any{"Digest": digest(wrong)}, pullNewer, false, false, true},
		"another digest, only shown":       {map[string]any{"Digest": digest(wrong)}, pullNewer, true, false, false},
		"the digest as a tag":              {map[string]any{"Digest": digest(wrong), "RepoTags": []string{name}, "RepoDigests": []string{digest(right)}}, pullMissing, false, false, false},
		"the digest as the id":             {map[string]any{"Digest": digest(wrong), "Id": strings.Repeat(right, 16)}, pullMissing, false, false, false},
		"no digest":                        {map[string]any{}, pullMissing, false, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			if c.image["Id"] == nil {
				c.image["Id"] = strings.Repeat("3", 64)
			}
			m := &meddled{image: c.image}
			asked := call{runOptions: runOptions{pull: c.pull, dryRun: c.dry, quiet: true},
				decision: decision{grants: plan.Grants{Agent: plan.Agent{Rootfs: "image", Image: name}}}}
			facts, _, err := (&app{}).rootImage(t.Context(), asked, m.engine(t))
			var f *run.Failure
			switch {
			case c.fits && (err != nil || facts.ID != c.image["Id"]):
				t.Errorf("%+v, %v", facts, err)
			case !c.fits && (!errors.As(err, &f) || f.Code != run.CodeRefused || !strings.Contains(f.Hint, "podman rmi") || facts.ID != ""):
				t.Errorf("it is taken, or the refusal is none: %+v, %v", facts, err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if pulled := strings.Contains(strings.Join(m.asked, "\n"), "POST "); pulled != c.pulled {
				t.Errorf("pulled %t, asked for %q", pulled, m.asked)
			}
		})
	}
}
