package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"agentbox/internal/event"
)

// backend is git's own server, for the repositories beside the box's: git/NAME.
func (s *site) backend() http.Handler {
	cgi := &cgi.Handler{
		Path: "/usr/bin/env", Args: []string{"git", "http-backend"}, Root: "/git", Dir: s.repo, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(s.repo), "GIT_HTTP_EXPORT_ALL=1"},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 { // CGI takes only bodies that have a length
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
			s.note("chunked")
		}
		if r.Header.Get("Content-Encoding") == "gzip" {
			s.note("gzip")
		}
		cgi.ServeHTTP(w, r)
	})
}

// forms are the forms in which bodies arrived at a site's git server.
type forms struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (f *forms) note(form string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[form] = true
}

func (f *forms) had(form string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[form]
}

// newGitSite serves git/billing, which the repository is a clone of, git/other and git/super, which has git/billing as a
// submodule.
func newGitSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	for _, name := range []string{"billing", "other"} {
		s.git("clone", "-q", "--bare", ".", "../"+name+".git")
		s.git("-C", "../"+name+".git", "config", "http.receivepack", "true")
	}
	s.git("remote", "add", "origin", "https://"+secureHost+"/git/billing.git")
	s.git("init", "-q", "-b", "main", "../super")
	s.git("-C", "../super", "-c", "protocol.file.allow=always", "submodule", "-q", "add", filepath.Dir(s.repo)+"/billing.git", "sub")
	s.git("-C", "../super", "config", "-f", ".gitmodules", "submodule.sub.url", "../billing.git")
	s.git("-C", "../super", "-c", "user.name=p", "-c", "user.email=p@example.com", "commit", "-qam", "super")
	s.git("clone", "-q", "--bare", "../super", "../super.git")
	s.profile("work", `version = 1
extends = "shell"

[[git]]
remote = "`+secureHost+`/git/billing"
push = ["refs/heads/agentbox/*", "refs/tags/agentbox-*"]

[[git]]
remote = "`+secureHost+`/git/super"

[[network.rule]]
action = "allow"
host = "`+secureHost+`"
methods = ["GET", "PUT"]
paths = ["/lfs/*"]
`)
	return s
}

// attempts is a shell function: it runs a command and prints its name with how it ended, in agentbox's words where it
// was agentbox that refused.
const attempts = `export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
attempt() {
	name=$1; shift
	if out=$("$@" 2>&1); then echo "$name: went"; return; fi
	printf '%s\n' "$out" >>/tmp/said
	case $out in *'denied by agentbox'*) echo "$name: denied" ;; *) echo "$name: failed: $out" ;; esac
}
`

// refsOf gives the refs of a repository that is served.
func (s *site) refsOf(name string) []string {
	s.t.Helper()
	return strings.Fields(s.git("-C", "../"+name+".git", "for-each-ref", "--format=%(refname)"))
}

// What may be pushed is judged by repository and ref, as the wire says: by git's own client, against git's own server.
func TestGitRulesHold(t *testing.T) {
	s := newGitSite(t)
	url := "https://" + secureHost + "/git"
	r := s.agentbox("run", "work", "-q", "--", "sh", "-c", attempts+`
attempt fetch git fetch -q origin
attempt create git push -q origin HEAD:refs/heads/agentbox/x
git commit -q --allow-empty -m two
attempt forward git push -q origin HEAD:refs/heads/agentbox/x
attempt another-ref git push origin HEAD:refs/heads/planted
attempt one-of-two git push origin HEAD:refs/heads/agentbox/y HEAD:refs/heads/planted
attempt tag git push -q origin HEAD:refs/tags/agentbox-1
attempt another-tag git push origin HEAD:refs/tags/v1
attempt moved-tag git push --force origin HEAD~1:refs/tags/agentbox-1
git commit -q --amend --allow-empty -m changed
attempt force git push --force origin HEAD:refs/heads/agentbox/x
attempt lease git push --force-with-lease=refs/heads/agentbox/x origin HEAD:refs/heads/agentbox/x
attempt mirror git push --mirror origin
attempt delete git push origin :refs/heads/agentbox/x
attempt another-repository git push `+url+`/other.git HEAD:refs/heads/agentbox/x
attempt fetch-another git ls-remote `+url+`/other.git
attempt by-ssh git ls-remote git@`+secureHost+`:git/billing.git
attempt push-by-ssh git push -q ssh://git@`+secureHost+`/git/billing.git HEAD:refs/heads/agentbox/ssh
attempt another-by-ssh git push git@`+secureHost+`:git/other.git HEAD:refs/heads/agentbox/ssh
attempt ssh ssh -o BatchMode=yes git@`+secureHost+` true
cat /tmp/said`).exits(0)
	said, _, _ := strings.Cut(r.out, "remote: ")
	want := `fetch: went
create: went
forward: went
another-ref: denied
one-of-two: denied
tag: went
another-tag: denied
moved-tag: denied
force: denied
lease: denied
mirror: denied
delete: denied
another-repository: denied
fetch-another: denied
by-ssh: went
push-by-ssh: went
another-by-ssh: denied
ssh: denied
`
	if said != want {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	for _, words := range []string{
		" ! [remote rejected] HEAD -> planted (denied by agentbox: ", " ! [remote rejected] HEAD -> agentbox/y (not pushed, because agentbox denies another ref",
		"remote: denied by agentbox: ", "use https",
	} {
		if !strings.Contains(r.out, words) {
			t.Errorf("nothing says %q:\n%s", words, r.out)
		}
	}
	if got, want := s.refsOf("billing"), []string{"refs/heads/agentbox/ssh", "refs/heads/agentbox/x", "refs/heads/main", "refs/tags/agentbox-1"}; !slices.Equal(got, want) {
		t.Errorf("git/billing has %q, want %q", got, want)
	}
	if got := s.refsOf("other"); !slices.Equal(got, []string{"refs/heads/main"}) {
		t.Errorf("git/other has %q", got)
	}
	s.tellsRefs("push", "git/billing", "update refs/heads/agentbox/x", event.Allow)
	s.tellsRefs("push", "git/billing", "create refs/heads/agentbox/y, create refs/heads/planted", event.Deny)
	s.tellsRefs("push", "git/billing", "force refs/heads/agentbox/x", event.Deny)
	s.tellsRefs("push", "git/billing", "delete refs/heads/agentbox/x", event.Deny)
	s.tellsRefs("push", "git/other", "", event.Deny)
}

// tellsRefs checks that the latest run's log holds such a request.
func (s *site) tellsRefs(op, repo, refs string, decision event.Decision) {
	s.t.Helper()
	for _, e := range ofKind(s.events(), event.NetRequest) {
		if e.Git != nil && e.Decision == decision && e.Git.Op == op && e.Git.Repo == repo && strings.Join(e.Git.Refs, ", ") == refs {
			return
		}
	}
	s.t.Errorf("no event says %s %s of %s %q", decision, op, repo, refs)
}

// Everything else that git does passes: large pushes, compressed requests, shallow clones, submodules.
func TestGitWorksWithRules(t *testing.T) {
	s := newGitSite(t)
	url := "https://" + secureHost + "/git"
	s.agentbox("run", "work", "-q", "--", "sh", "-c", attempts+`
head -c 20000000 /dev/urandom >big && git add big && git commit -q -m big
attempt large git push -q origin HEAD:refs/heads/agentbox/big
attempt clone git clone -q `+url+`/billing.git /tmp/clone
attempt shallow git clone -q --depth 1 `+url+`/billing /tmp/shallow
attempt submodule git clone -q --recurse-submodules `+url+`/super.git /tmp/super
cat /tmp/super/sub/README.md
cd /tmp/clone && for i in $(seq 100); do git commit -q --allow-empty -m $i; done
git -C /tmp/shallow commit -q --allow-empty -m new && git -C /tmp/shallow push -q origin HEAD:refs/heads/agentbox/new
attempt negotiation git fetch -q origin
git rev-parse -q --verify refs/remotes/origin/agentbox/new >/dev/null && echo fetched
attempt other-clone git push -q origin HEAD:refs/heads/agentbox/new2
attempt unknown-history git push --force origin HEAD:refs/heads/agentbox/new`).exits(0).
		prints("large: went\nclone: went\nshallow: went\nsubmodule: went\n# a repository\nnegotiation: went\nfetched\nother-clone: went\nunknown-history: denied\n")
	for _, form := range []string{"chunked", "gzip"} {
		if !s.had(form) {
			t.Errorf("no body came %s, so the test shows nothing about those", form)
		}
	}
}

// storage is a server of Git LFS: what is put is kept.
type storage struct {
	mu    sync.Mutex
	files map[string][]byte
}

type lfsObject struct {
	OID     string               `json:"oid"`
	Size    int64                `json:"size"`
	Actions map[string]lfsAction `json:"actions,omitempty"`
}

type lfsAction struct {
	Href string `json:"href"`
}

// batch answers where objects are to be put, and got.
func (s *storage) batch(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Operation string      `json:"operation"`
		Objects   []lfsObject `json:"objects"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i, o := range asked.Objects {
		asked.Objects[i].Actions = map[string]lfsAction{asked.Operation: {"https://" + secureHost + "/lfs/" + o.OID}}
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": asked.Objects})
}

func (s *storage) file(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		s.files[r.URL.Path], _ = io.ReadAll(r.Body)
		return
	}
	_, _ = w.Write(s.files[r.URL.Path])
}

func (s *storage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files)
}

// Large files go where the repository's own rule lets a push go, and nowhere else.
func TestGitLFS(t *testing.T) {
	s := newGitSite(t)
	store := &storage{files: map[string][]byte{}}
	s.instead.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/info/lfs/objects/batch"):
			store.batch(w, r)
		case strings.HasSuffix(r.URL.Path, "/info/lfs/locks/verify"):
			http.NotFound(w, r)
		case strings.HasPrefix(r.URL.Path, "/lfs/"):
			store.file(w, r)
		default:
			s.usual.ServeHTTP(w, r)
		}
	}))
	url := "https://" + secureHost + "/git"
	script := attempts + `
git clone -q ` + url + `/billing.git /tmp/l && cd /tmp/l && git lfs install --local >/dev/null && git lfs track '*.bin' >/dev/null
head -c 300000 /dev/urandom >a.bin && git add . && git commit -q -m large
attempt upload git push -q origin HEAD:refs/heads/agentbox/lfs
attempt elsewhere git lfs push ` + url + `/other.git --all
git clone -q -b agentbox/lfs ` + url + `/billing.git /tmp/back && cd /tmp/back && git lfs install --local >/dev/null
attempt download git lfs pull
cmp /tmp/l/a.bin /tmp/back/a.bin && echo same
cat /tmp/said`
	r := s.agentbox("run", "work", "-q", "--", "sh", "-c", script).exits(0)
	if !strings.HasPrefix(r.out, "upload: went\nelsewhere: denied\ndownload: went\nsame\n") {
		t.Errorf("got\n%s\n%s", r.out, r.err)
	}
	if n := store.count(); n != 1 {
		t.Errorf("%d files were put, want 1", n)
	}
	if !slices.Contains(s.refsOf("billing"), "refs/heads/agentbox/lfs") {
		t.Error("the branch did not arrive")
	}
}

// The agent writes the object store that tells a fast-forward. What it plants there makes no push one: the commit "one" of
// agentbox/x stays, though plain git is made to believe that the branch that would replace it came from it.
func TestAPlantedHistoryIsNoFastForward(t *testing.T) {
	s := newGitSite(t)
	r := s.agentbox("run", "work", "-q", "--", "sh", "-c", attempts+`
git commit -q --allow-empty -m one && one=$(git rev-parse HEAD)
attempt create git push -q origin HEAD:refs/heads/agentbox/x
git reset -q --hard HEAD~1 && git commit -q --allow-empty -m middle && middle=$(git rev-parse HEAD) && git commit -q --allow-empty -m top
believed() { git merge-base --is-ancestor $one HEAD && echo believed; }
git replace $middle $(git commit-tree -p $one -m false HEAD^{tree})
believed; GIT_NO_REPLACE_OBJECTS=1 attempt replaced git push --force origin HEAD:refs/heads/agentbox/x
git replace -d $middle >/dev/null
mkdir -p .git/info && echo "$middle $one" >.git/info/grafts
believed; attempt grafted git push --force origin HEAD:refs/heads/agentbox/x
rm .git/info/grafts
cp .git/objects/$(echo $middle | cut -c1-2)/$(echo $middle | cut -c3-) /tmp/real
python3 - $middle $one <<'END'
import os, sys, subprocess, zlib
middle, one = sys.argv[1:]
body = subprocess.check_output(["git", "cat-file", "commit", middle])
head, _, rest = body.partition(b"\nparent ")
body = head + b"\nparent " + one.encode() + rest[40:]
path = ".git/objects/%s/%s" % (middle[:2], middle[2:])
os.remove(path)
open(path, "wb").write(zlib.compress(b"commit %d\0" % len(body) + body))
END
git -c core.commitGraph=false merge-base --is-ancestor $one HEAD 2>/dev/null && echo believed
git clone -q `+fmt.Sprintf("https://%s/git/billing.git", secureHost)+` /tmp/elsewhere
mkdir -p /tmp/store && cp -r .git/objects/. /tmp/store && cp /tmp/real /tmp/store/$(echo $middle | cut -c1-2)/$(echo $middle | cut -c3-) 2>/dev/null || { rm -f /tmp/store/$(echo $middle | cut -c1-2)/$(echo $middle | cut -c3-); cp /tmp/real /tmp/store/$(echo $middle | cut -c1-2)/$(echo $middle | cut -c3-); }
top=$(git rev-parse HEAD)
cd /tmp/elsewhere && echo /tmp/store >.git/objects/info/alternates
attempt forged git push --force origin $top:refs/heads/agentbox/x
cat /tmp/said | grep -c overwritten`).exits(0)
	if want := "create: went\nbelieved\nreplaced: denied\nbelieved\ngrafted: denied\nbelieved\nforged: denied\n"; !strings.HasPrefix(r.out, want) {
		t.Errorf("got\n%s%s\nwant\n%s", r.out, r.err, want)
	}
	if subject := s.git("-C", "../billing.git", "log", "-1", "--format=%s", "agentbox/x"); subject != "one\n" {
		t.Errorf("agentbox/x is %q", subject)
	}
	s.tellsRefs("push", "git/billing", "force refs/heads/agentbox/x", event.Deny)
	must(t, os.RemoveAll(filepath.Join(s.repo, ".git", "refs", "replace")))
}

// A repository that was cloned by ssh is fetched from all the same, and a rule that says so lets a branch be overwritten
// and deleted.
func TestAnOriginBySSH(t *testing.T) {
	s := newGitSite(t)
	s.git("remote", "set-url", "origin", "git@"+secureHost+":git/billing.git")
	s.profile("fetch", "version = 1\nextends = \"shell\"\n[network]\nuse = [\"origin\"]\n")
	r := s.agentbox("run", "fetch", "-q", "--", "sh", "-c", attempts+"attempt fetch git fetch -q origin\nattempt push git push origin HEAD:refs/heads/agentbox/x").exits(0)
	if r.out != "fetch: went\npush: denied\n" && !strings.HasPrefix(r.out, "fetch: went\npush: failed: ") {
		t.Errorf("got\n%s", r.out)
	}
	s.profile("own", "version = 1\nextends = \"shell\"\n[[git]]\nremote = \""+secureHost+"/git/billing\"\npush = [\"refs/heads/agentbox/*\"]\nforce = true\ndelete = true\n")
	s.agentbox("run", "own", "-q", "--", "sh", "-c", attempts+`
attempt create git push -q origin HEAD:refs/heads/agentbox/x
git commit -q --amend --allow-empty -m changed
attempt force git push -q --force origin HEAD:refs/heads/agentbox/x
attempt delete git push -q origin :refs/heads/agentbox/x
attempt delete-main git push origin :refs/heads/main`).exits(0).prints("create: went\nforce: went\ndelete: went\ndelete-main: denied\n")
}
