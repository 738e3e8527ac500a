package gitwire

import (
	"encoding/hex"
	"slices"
	"strings"
)

// Op is what is done to a repository.
type Op string

// The operations.
const (
	OpFetch Op = "fetch"
	OpPush  Op = "push"
)

// Part is which part of a fetch or a push a request is.
type Part int

// The parts.
const (
	Refs     Part = iota // the list of refs that a fetch or a push begins with
	Pack                 // what is wanted and had, or commands and objects: a POST to one of git's services
	File                 // a file of the repository, by the dumb protocol
	Batch                // Git LFS asks where to fetch or to put large files: its body says which (ReadBatch)
	LFS                  // anything else of Git LFS
	Stranger             // it is like one of git's, and not in the form of any: Repo is ""
)

// Request is a request of git's.
type Request struct {
	Repo string // the path of the repository without slashes at its ends and without ".git"; "" where the form is not git's own
	Op   Op     // of a Batch what it may be at most
	Part Part
	Flaw string // why Repo is ""
}

// Head is what a request is recognised by.
type Head struct {
	Method      string
	Path        string // as in the request line, escaped
	Query       string // without "?"
	ContentType string
	Overridden  bool // something in the request names another method, or another path
}

// Services of git, and the last part of the path that their requests are sent to.
const (
	uploadPack    = "git-upload-pack"
	uploadArchive = "git-upload-archive"
	receivePack   = "git-receive-pack"
	infoRefs      = "info/refs"
	infoLFS       = "info/lfs"
)

// Recognise tells whether a request is one of git's own, and which.
//
// A repository has one spelling: whatever else a server may take for git's (another case, "%2d", "//", a slash at the
// end, a query, a service named twice) is a request of no repository, a push where a server could take it for one.
func Recognise(h Head) (Request, bool) {
	if r, ok := exact(h); ok {
		return r, true
	}
	return stranger(h)
}

// exact reads what is in git's own form.
func exact(h Head) (Request, bool) {
	if h.Overridden {
		return Request{}, false
	}
	for _, service := range []string{uploadPack, uploadArchive, receivePack} {
		if repo, ok := strings.CutSuffix(h.Path, "/"+service); ok && h.Method == "POST" && h.Query == "" && ofType(h, service) {
			return named(repo, opOf(service), Pack)
		}
		if repo, ok := strings.CutSuffix(h.Path, "/"+infoRefs); ok && reads(h.Method) && h.Query == "service="+service && h.ContentType == "" {
			return named(repo, opOf(service), Refs)
		}
	}
	if repo, rest, ok := strings.Cut(h.Path, "/"+infoLFS+"/"); ok {
		return large(h, repo, rest)
	}
	if repo, ok := dumb(h.Path); ok && reads(h.Method) && h.Query == "" && h.ContentType == "" {
		return named(repo, OpFetch, File)
	}
	return Request{}, false
}

// ofType: a body of another type is not for this service, or not git's.
func ofType(h Head, service string) bool {
	return h.ContentType == "application/x-"+service+"-request"
}

func opOf(service string) Op {
	if service == receivePack {
		return OpPush
	}
	return OpFetch
}

func named(path string, op Op, part Part) (Request, bool) {
	repo, ok := canonicalRepo(path)
	return Request{Repo: repo, Op: op, Part: part}, ok
}

// large reads requests of Git LFS. What does not only read is a push, but for a batch, which says itself.
func large(h Head, repo, rest string) (Request, bool) {
	if !canonicalParts(rest) {
		return Request{}, false
	}
	r, ok := named(repo, OpPush, LFS)
	switch {
	case rest == "objects/batch" && h.Method == "POST":
		r.Part = Batch
	case reads(h.Method):
		r.Op = OpFetch
	}
	return r, ok
}

// dumb gives the repository of a path that leads to a file of it by the dumb protocol.
func dumb(path string) (string, bool) {
	for _, end := range []string{"/" + infoRefs, "/HEAD", "/objects/info/packs", "/objects/info/alternates", "/objects/info/http-alternates"} {
		if repo, ok := strings.CutSuffix(path, end); ok {
			return repo, true
		}
	}
	at := strings.LastIndex(path, "/objects/")
	if at < 0 {
		return "", false
	}
	repo, object := path[:at], path[at+len("/objects/"):]
	if name, ok := strings.CutPrefix(object, "pack/pack-"); ok {
		name, kind, _ := strings.Cut(name, ".")
		return repo, IsObjectName(name) && slices.Contains([]string{"pack", "idx"}, kind)
	}
	return repo, len(object) > 2 && object[2] == '/' && IsObjectName(object[:2]+object[3:])
}

func reads(method string) bool { return method == "GET" || method == "HEAD" }

// canonicalRepo takes the path before what is git's own: "/acme/billing.git".
func canonicalRepo(path string) (string, bool) {
	repo, ok := strings.CutPrefix(path, "/")
	repo = strings.TrimSuffix(repo, ".git")
	if !ok || !canonicalParts(repo) {
		return "", false
	}
	for part := range strings.SplitSeq(repo, "/") {
		if strings.HasSuffix(strings.ToLower(part), ".git") {
			return "", false // a repository in a repository is another one, and some servers stop at the first
		}
	}
	for _, own := range []string{infoRefs, infoLFS} {
		if strings.Contains("/"+repo+"/", "/"+own+"/") {
			return "", false
		}
	}
	return repo, true
}

// canonicalParts reports whether a path has one spelling only: plain characters, no empty part, no "." and "..".
func canonicalParts(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.Trim(part, plain) != "" {
			return false
		}
	}
	return true
}

const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-+@=,"

// stranger recognises what a server might take for git's though it is not in git's form.
func stranger(h Head) (Request, bool) {
	r := Request{Op: OpPush, Part: Stranger}
	path := squashed(h.Path)
	kind := strings.ToLower(h.ContentType)
	writes := !reads(h.Method) && h.Method != "OPTIONS" || h.Overridden
	has := func(s string) bool { return strings.Contains(path, s) }
	switch {
	case writes && has(receivePack), strings.Contains(kind, "git-receive-pack"):
		r.Flaw = "it is a push that is not in git's own form"
	case writes && (has(uploadPack) || has(uploadArchive)), strings.Contains(kind, "git-upload-"):
		r.Op, r.Flaw = OpFetch, "it is a fetch that is not in git's own form"
	case strings.Contains(kind, "application/x-git-"):
		r.Flaw = "it is of a type of git's that is not known"
	case has("/" + infoRefs):
		r.Flaw = "it asks for a repository's refs, and is not in git's own form"
		if !strings.Contains(strings.ToLower(decoded(h.Query)), "receive") {
			r.Op = OpFetch
		}
	case has("/" + infoLFS):
		r.Flaw = "it is one of Git LFS that is not in its own form"
		if !writes {
			r.Op = OpFetch
		}
	case writes && strings.Contains(kind, "git-lfs"):
		r.Part, r.Flaw = Batch, "it asks for an upload by Git LFS at an address that is not a repository's"
	case changesFile(h.Method, path):
		r.Flaw = "it changes a file of a repository"
	default:
		return Request{}, false
	}
	return r, true
}

// changesFile tells the dumb protocol's pushes, which go by WebDAV.
func changesFile(method, path string) bool {
	if !slices.Contains([]string{"PUT", "LOCK", "MOVE", "COPY", "MKCOL", "PROPPATCH", "DELETE"}, method) {
		return false
	}
	_, file := dumb(path)
	return file || strings.Contains(path, ".git/") ||
		method != "DELETE" && (strings.Contains(path, "/refs/heads/") || strings.Contains(path, "/refs/tags/"))
}

// squashed is a path as the most generous of servers might read it: every escape decoded, in lower case but for the
// names that git writes so, with each run of slashes as one, without parameters, "." and "..".
func squashed(path string) string {
	var out []string
	for part := range strings.SplitSeq(strings.ReplaceAll(decoded(path), `\`, "/"), "/") {
		part, _, _ = strings.Cut(part, ";")
		part = strings.TrimFunc(part, func(r rune) bool { return r <= ' ' || r == 0x7f })
		switch part {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, strings.ToLower(part))
		}
	}
	return "/" + strings.Join(out, "/")
}

// decoded undoes every layer of percent-encoding, and leaves what is none.
func decoded(s string) string {
	for range maxLayers {
		next := unescape(s)
		if next == s {
			break
		}
		s = next
	}
	return s
}

const maxLayers = 8

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b[0])
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}
