package gitwire

import (
	"path"
	"strings"
	"testing"
)

const (
	pushType  = "application/x-git-receive-pack-request"
	fetchType = "application/x-git-upload-pack-request"
)

func TestGitsOwnRequestsAreRecognised(t *testing.T) {
	for _, c := range []struct {
		head Head
		want Request
	}{
		{Head{Method: "GET", Path: "/acme/billing/info/refs", Query: "service=git-upload-pack"}, Request{Repo: "acme/billing", Op: OpFetch, Part: Refs}},
		{Head{Method: "GET", Path: "/acme/billing.git/info/refs", Query: "service=git-receive-pack"}, Request{Repo: "acme/billing", Op: OpPush, Part: Refs}},
		{Head{Method: "POST", Path: "/acme/billing.git/git-upload-pack", ContentType: fetchType}, Request{Repo: "acme/billing", Op: OpFetch, Part: Pack}},
		{Head{Method: "POST", Path: "/a/b/c/billing/git-receive-pack", ContentType: pushType}, Request{Repo: "a/b/c/billing", Op: OpPush, Part: Pack}},
		{Head{Method: "POST", Path: "/acme/billing/git-upload-archive", ContentType: "application/x-git-upload-archive-request"}, Request{Repo: "acme/billing", Op: OpFetch, Part: Pack}},
		{Head{Method: "GET", Path: "/acme/billing.git/info/refs"}, Request{Repo: "acme/billing", Op: OpFetch, Part: File}},
		{Head{Method: "GET", Path: "/acme/billing.git/HEAD"}, Request{Repo: "acme/billing", Op: OpFetch, Part: File}},
		{Head{Method: "GET", Path: "/acme/billing.git/objects/ab/" + strings.Repeat("c", 38)}, Request{Repo: "acme/billing", Op: OpFetch, Part: File}},
		{Head{Method: "GET", Path: "/acme/billing/objects/pack/pack-" + strings.Repeat("c", 64) + ".idx"}, Request{Repo: "acme/billing", Op: OpFetch, Part: File}},
		{Head{Method: "POST", Path: "/acme/billing.git/info/lfs/objects/batch", ContentType: TypeLFS}, Request{Repo: "acme/billing", Op: OpPush, Part: Batch}},
		{Head{Method: "GET", Path: "/acme/billing.git/info/lfs/locks", Query: "limit=1"}, Request{Repo: "acme/billing", Op: OpFetch, Part: LFS}},
		{Head{Method: "POST", Path: "/acme/billing.git/info/lfs/locks/verify", ContentType: TypeLFS}, Request{Repo: "acme/billing", Op: OpPush, Part: LFS}},
		{Head{Method: "PUT", Path: "/acme/billing.git/info/lfs/objects/abc"}, Request{Repo: "acme/billing", Op: OpPush, Part: LFS}},
	} {
		if got, ok := Recognise(c.head); !ok || got != c.want {
			t.Errorf("%+v: %+v %v, want %+v", c.head, got, ok, c.want)
		}
	}
}

// strangers are spellings that some server takes for git's; each is a push of no repository.
var strangers = []Head{
	{Method: "POST", Path: "/acme/billing/git-receive-pack"}, // another type, and a server that does not look at it
	{Method: "POST", Path: "/acme/billing/git-receive-pack", ContentType: "text/plain"},
	{Method: "POST", Path: "/acme/billing/git-receive-pack", Query: "x", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing/git-receive-pack/", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing/git-receive-pack;x", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing/GIT-Receive-Pack"},
	{Method: "POST", Path: "/acme/billing/git%2Dreceive-pack"},
	{Method: "POST", Path: "/acme/billing/git%252dreceive-pack"},
	{Method: "POST", Path: "/acme/billing%2Fgit-receive-pack"},
	{Method: "POST", Path: `/acme/billing\git-receive-pack`},
	{Method: "POST", Path: "/acme/billing//git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "//acme/billing/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/./billing/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing.git/../evil/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing.git/evil/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing/.git/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing.git.git/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/b%69lling/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/git-receive-pack", ContentType: pushType},
	{Method: "POST", Path: "/acme/billing/info/refs/git-receive-pack/../x", ContentType: pushType},
	{Method: "POST", Path: "/anywhere", ContentType: pushType},
	{Method: "POST", Path: "/anywhere", ContentType: "application/x-git-receive-pack-request; charset=utf-8"},
	{Method: "POST", Path: "/anywhere", ContentType: "Application/X-Git-Something"},
	{Method: "PUT", Path: "/acme/billing/git-receive-pack", ContentType: pushType},
	{Method: "GET", Path: "/acme/billing/git-receive-pack", Overridden: true},
	{Method: "POST", Path: "/acme/billing/git-receive-pack", ContentType: pushType, Overridden: true},
	{Method: "POST", Path: "/anywhere", ContentType: pushType, Overridden: true},
	{Method: "GET", Path: "/acme/billing/info/refs", Query: "service=git-upload-pack&service=git-receive-pack"},
	{Method: "GET", Path: "/acme/billing/info/refs", Query: "service=git-receive-pack&x=y"},
	{Method: "GET", Path: "/acme/billing/info/refs", Query: "service=git%2dreceive-pack"},
	{Method: "GET", Path: "/acme/billing/info//refs", Query: "service=git-receive-pack"},
	{Method: "POST", Path: "/acme/billing/info/lfs//objects/batch", ContentType: TypeLFS},
	{Method: "POST", Path: "/acme/billing/info/%6cfs/objects/batch"},
	{Method: "PUT", Path: "/acme/billing.git/refs/heads/main"},
	{Method: "PUT", Path: "/acme/billing/objects/ab/" + strings.Repeat("c", 38)},
	{Method: "LOCK", Path: "/acme/billing/refs/heads/main"},
}

func TestWhatIsNotInGitsFormIsAPushOfNoRepository(t *testing.T) {
	for _, h := range strangers {
		if got, ok := Recognise(h); !ok || got.Op != OpPush || got.Repo != "" || got.Part != Stranger || got.Flaw == "" {
			t.Errorf("%+v: %+v %v", h, got, ok)
		}
	}
	for _, h := range []Head{
		{Method: "POST", Path: "/acme/billing//git-upload-pack", ContentType: fetchType},
		{Method: "POST", Path: "/acme/billing/git-upload-pack", Query: "x", ContentType: fetchType},
		{Method: "GET", Path: "/acme/billing/info/refs", Query: "service=git-upload-pack&service=git-upload-pack"},
		{Method: "GET", Path: "/acme/billing/info/lfs/../x"},
	} {
		if got, ok := Recognise(h); h.Path != "/acme/billing/info/lfs/../x" && (!ok || got.Op != OpFetch || got.Repo != "") {
			t.Errorf("%+v: %+v %v", h, got, ok)
		}
	}
}

func TestOtherRequestsAreNotGits(t *testing.T) {
	for _, h := range []Head{
		{Method: "GET", Path: "/"}, {Method: "GET", Path: "/acme/billing"}, {Method: "POST", Path: "/api/v1/repos/acme/billing/git/refs"},
		{Method: "GET", Path: "/docs/git-receive-pack"}, {Method: "GET", Path: "/search", Query: "q=git-receive-pack"},
		{Method: "POST", Path: "/graphql", ContentType: "application/json"}, {Method: "PUT", Path: "/bucket/key"},
		{Method: "GET", Path: "/objects/ab"}, {Method: "DELETE", Path: "/repos/acme/billing/git/refs/heads/x"},
	} {
		if got, ok := Recognise(h); ok {
			t.Errorf("%+v: %+v", h, got)
		}
	}
}

// FuzzRecognise: a repository that is named has one spelling, and whatever a server might take for a push is one.
func FuzzRecognise(f *testing.F) {
	for _, h := range strangers {
		f.Add(h.Method, h.Path, h.Query, h.ContentType)
	}
	f.Add("GET", "/acme/billing.git/info/refs", "service=git-upload-pack", "")
	f.Add("POST", "/acme/billing.git/git-receive-pack", "", pushType)
	f.Add("POST", "/acme/billing.git/info/lfs/objects/batch", "", TypeLFS)
	f.Fuzz(func(t *testing.T, method, target, query, kind string) {
		r, ok := Recognise(Head{Method: method, Path: target, Query: query, ContentType: kind})
		if r.Repo != "" && (!ok || path.Clean("/"+r.Repo) != "/"+r.Repo || strings.HasSuffix(r.Repo, ".git") || strings.ContainsAny(r.Repo, "%?;\\ ") ||
			!strings.HasPrefix(target, "/"+r.Repo+"/") && !strings.HasPrefix(target, "/"+r.Repo+".git/")) {
			t.Errorf("%q is named %q", target, r.Repo)
		}
		if method == "POST" && strings.Contains(strings.ToLower(decoded(target)), receivePack) && !strings.Contains(decoded(target), ";") && (!ok || r.Op != OpPush) && !strings.Contains(decoded(target), "..") {
			t.Errorf("POST %q is no push", target)
		}
	})
}
