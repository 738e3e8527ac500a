package plan

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

// originSet is the name in network.use that means this repository's own remote.
const originSet = "origin"

// Remote is where a repository was cloned from, without user or password. The zero Remote is none.
type Remote struct {
	Scheme string // "https", "ssh", "file" …
	Host   string // as written, without a port
	Port   uint16 // 0 is the scheme's own
	Path   string // "/acme/billing", without ".git", escaped as in a URL
}

// String is "github.com/acme/billing", which names no person.
func (r Remote) String() string {
	host := r.Host
	if r.Port != 0 {
		host += ":" + strconv.Itoa(int(r.Port))
	}
	return host + r.Path
}

// ssh reports whether the remote is reached by ssh.
func (r Remote) ssh() bool {
	return r.Scheme == "ssh" || r.Scheme == "git+ssh" || r.Scheme == "ssh+git"
}

// ParseRemote reads the URL of a remote as git takes it: a URL, "git@host:path" or a path.
func ParseRemote(s string) Remote {
	if s == "" {
		return Remote{}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return shortRemote(s)
	}
	r := Remote{Scheme: strings.ToLower(u.Scheme), Host: u.Hostname(), Path: repoPath(u.EscapedPath())}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		r.Port = uint16(n)
	}
	return r
}

// shortRemote is "user@host:path", or a path.
func shortRemote(s string) Remote {
	host, path, ok := strings.Cut(s, ":")
	if !ok || strings.Contains(host, "/") {
		return Remote{Scheme: "file", Path: repoPath(s)}
	}
	return Remote{Scheme: "ssh", Host: host[strings.LastIndexByte(host, '@')+1:], Path: repoPath("/" + strings.TrimLeft(path, "/"))}
}

func repoPath(p string) string {
	p = strings.TrimSuffix(strings.TrimRight(p, "/"), ".git")
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return p
}

// OriginRules gives the rules that "origin" means for a remote: fetching from it and nothing else. Problem says why there
// are none and what to do, or is "".
//
// A push asks for info/refs too, with the query service=git-receive-pack, which a path does not tell. All it gets is the
// list of refs, which a fetch gets as well: the push itself is a POST to git-receive-pack, which no rule here allows. The
// batch API of LFS is left out, because the same POST asks for uploads.
//
// A remote that is reached by ssh is fetched from by https: git inside rewrites its address (workspace.Rewrites), and hosts
// serve the same repositories under the same paths by both.
//
// A fetch changes nothing at the other end though it is a POST, so that what tiers ask of writing methods does not bind it.
func OriginRules(r Remote) (rules []policy.Rule, problem string) {
	switch {
	case r == Remote{}:
		return nil, `"origin" allows nothing: this repository has no remote of that name`
	case r.Scheme != "https" && !r.ssh():
		return nil, fmt.Sprintf(`"origin" allows nothing: the remote is reached by %s, and only https passes the boundary (git remote set-url origin https://…)`, clean(r.Scheme))
	}
	host, err := policy.ParsePattern(r.Host)
	if err != nil || strings.Contains(r.Host, "*") {
		return nil, fmt.Sprintf(`"origin" allows nothing: the remote's host %q cannot be named by a rule; give the remote a full host name`, r.Host)
	}
	port := r.Port
	if port == 0 || r.ssh() {
		port = 443
	}
	for _, kind := range []struct {
		methods []string
		end     string
	}{{[]string{"GET", "HEAD"}, "/info/refs"}, {[]string{"POST"}, "/git-upload-pack"}} {
		paths, err := originPaths(r.Path, kind.end)
		if err != nil {
			return nil, fmt.Sprintf(`"origin" allows nothing: the remote's path %q cannot be named by a rule`, r.Path)
		}
		rules = append(rules, policy.Rule{Action: policy.Allow, Host: host, Ports: []uint16{port}, Methods: kind.methods, Paths: paths,
			Inspect: true, Origin: originSet})
	}
	return rules, ""
}

func originPaths(repo, end string) ([]policy.PathPattern, error) {
	if strings.Contains(repo, "*") || len(strings.Trim(repo, "/")) == 0 {
		return nil, fmt.Errorf("path %q names more than one repository", repo)
	}
	var out []policy.PathPattern
	for _, path := range []string{repo + end, repo + ".git" + end} {
		p, err := policy.ParsePathPattern(path)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// originOf binds "origin" to the repository's remote, when the grants use it.
func originOf(r Remote, g Grants) (rules []policy.Rule, warnings []string) {
	if !slices.Contains(g.Use, originSet) {
		return []policy.Rule{}, nil
	}
	rules, problem := OriginRules(r)
	if problem != "" {
		return []policy.Rule{}, []string{problem}
	}
	return rules, nil
}
