package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// gitSite is a proxy before git's own server, and a clone of one of its repositories, acme/billing.
type gitSite struct {
	*gitLab
	root, clone string
	env         []string
}

func newGitSite(t *testing.T, options ...option) *gitSite {
	t.Helper()
	s := &gitSite{gitLab: &gitLab{lab: &lab{t: t}}, root: t.TempDir()}
	s.clone = filepath.Join(s.root, "clone")
	backend := &cgi.Handler{Path: "/usr/bin/env", Args: []string{"git", "http-backend"}, Dir: s.root, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(s.root, "served"), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=3",
			"GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true", "GIT_CONFIG_KEY_1=receive.advertisePushOptions", "GIT_CONFIG_VALUE_1=true",
			"GIT_CONFIG_KEY_2=receive.certNonceSeed", "GIT_CONFIG_VALUE_2=x"}}
	s.gitLab = newGitLab(t, whole(backend), append(options, func(c *Config) { c.Ancestry = s })...)
	ca := filepath.Join(s.root, "ca.pem")
	if err := os.WriteFile(ca, s.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_SSL_CAINFO="+ca, "https_proxy=http://"+s.addr,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	for _, name := range []string{"acme/billing.git", "acme/other.git"} {
		s.git(s.root, "init", "-q", "--bare", "-b", "main", filepath.Join("served", name))
	}
	s.git(s.root, "init", "-q", "-b", "main", s.clone)
	s.git(s.clone, "commit", "-q", "--allow-empty", "-m", "one")
	s.git(s.clone, "push", "-q", filepath.Join(s.root, "served/acme/billing.git"), "main")
	s.git(s.clone, "remote", "add", "origin", "https://good.test/acme/billing.git")
	return s
}

// whole hands a body on that has a length: CGI takes no other.
func whole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		next.ServeHTTP(w, r)
	})
}

// Descends asks the clone, as a run asks its workspace.
func (s *gitSite) Descends(_ context.Context, now, old string) bool {
	cmd := exec.Command("git", "merge-base", "--is-ancestor", old, now)
	cmd.Dir = s.clone
	return cmd.Run() == nil
}

func (s *gitSite) try(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *gitSite) git(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.try(dir, args...)
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// served gives the refs of acme/billing.
func (s *gitSite) served() string {
	return s.git(filepath.Join(s.root, "served/acme/billing.git"), "for-each-ref", "--format=%(refname)")
}

// git's own client shows what is refused, and why, ref by ref.
func TestGitsClientIsToldWhy(t *testing.T) {
	s := newGitSite(t)
	s.git(s.clone, "fetch", "-q", "origin")
	s.git(s.clone, "push", "-q", "origin", "HEAD:refs/heads/agentbox/x")
	s.git(s.clone, "commit", "-q", "--allow-empty", "-m", "two")
	s.git(s.clone, "push", "-q", "origin", "HEAD:refs/heads/agentbox/x")
	s.git(s.clone, "-c", "http.postBuffer=1", "push", "-q", "-o", "an=option", "origin", "HEAD:refs/heads/agentbox/y")
	s.git(s.clone, "reset", "-q", "--hard", "HEAD~1")
	s.git(s.clone, "commit", "-q", "--allow-empty", "-m", "three")
	large := make([]byte, 8<<20)
	_, _ = rand.Read(large)
	if err := os.WriteFile(filepath.Join(s.clone, "large"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	s.git(s.clone, "add", "large")
	s.git(s.clone, "commit", "-q", "-m", "large")
	before := s.served()
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"another ref":       {[]string{"push", "origin", "HEAD:refs/heads/new"}, []string{"! [remote rejected] HEAD -> new (denied by agentbox: ", "remote: denied by agentbox: "}},
		"in pieces":         {[]string{"-c", "http.postBuffer=1", "push", "origin", "HEAD:refs/heads/new"}, []string{"! [remote rejected] HEAD -> new (denied by agentbox: "}},
		"a tag":             {[]string{"push", "origin", "HEAD:refs/tags/v1"}, []string{"! [remote rejected] HEAD -> v1 (denied by agentbox: "}},
		"force":             {[]string{"push", "--force", "origin", "HEAD:refs/heads/agentbox/x"}, []string{"! [remote rejected] HEAD -> agentbox/x (denied by agentbox: ", "overwritten"}},
		"force with lease":  {[]string{"push", "--force-with-lease=refs/heads/agentbox/x", "origin", "HEAD:refs/heads/agentbox/x"}, []string{"! [remote rejected] HEAD -> agentbox/x (denied by agentbox: "}},
		"delete":            {[]string{"push", "origin", ":refs/heads/agentbox/x"}, []string{"! [remote rejected] agentbox/x (denied by agentbox: ", "deleted"}},
		"one of two":        {[]string{"push", "origin", "HEAD:refs/heads/agentbox/z", "HEAD:refs/heads/new"}, []string{"-> new (denied by agentbox: ", "-> agentbox/z (not pushed, because agentbox denies another ref"}},
		"atomic":            {[]string{"push", "--atomic", "origin", "HEAD:refs/heads/agentbox/z", "HEAD:refs/heads/new"}, []string{"-> new (denied by agentbox: "}},
		"everything":        {[]string{"push", "--mirror", "origin"}, []string{"[remote rejected]"}},
		"another repo":      {[]string{"push", "https://good.test/acme/other.git", "HEAD:refs/heads/agentbox/x"}, []string{"remote: denied by agentbox: ", "403"}},
		"another spelling":  {[]string{"push", "https://good.test//acme/billing.git", "HEAD:refs/heads/agentbox/z"}, []string{"remote: denied by agentbox: "}},
		"dumb":              {[]string{"ls-remote", "https://good.test/acme/none.git"}, []string{"not found"}},
		"quiet":             {[]string{"push", "-q", "origin", "HEAD:refs/heads/new"}, []string{"! [remote rejected] HEAD -> new (denied by agentbox: "}},
		"version 2, or one": {[]string{"-c", "protocol.version=1", "push", "origin", "HEAD:refs/heads/new"}, []string{"! [remote rejected] HEAD -> new (denied by agentbox: "}},
	} {
		out, err := s.try(s.clone, c.args...)
		if err == nil {
			t.Errorf("%s: it went through:\n%s", name, out)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: git does not say %q:\n%s", name, want, out)
			}
		}
	}
	if after := s.served(); after != before {
		t.Errorf("the repository has\n%snow, and had\n%s", after, before)
	}
	var ops []string
	events, _ := s.log.look()
	for _, e := range events {
		if e.Git != nil && e.Git.Refs != nil && e.Decision == event.Allow {
			ops = append(ops, e.Git.Refs...)
		}
	}
	if want := []string{"create refs/heads/agentbox/x", "update refs/heads/agentbox/x", "create refs/heads/agentbox/y"}; !slices.Equal(ops, want) {
		t.Errorf("the log has %q, want %q", ops, want)
	}
}
