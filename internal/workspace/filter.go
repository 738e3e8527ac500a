package workspace

import (
	"strings"
)

// harmless names every variable that the configuration seen inside may hold; "*" stands for a subsection. All of
// them describe data: none names a program, a file to read, a credential or another configuration.
var harmless = func() map[string]bool {
	names := []string{
		"core.repositoryformatversion", "core.filemode", "core.bare", "core.logallrefupdates", "core.ignorecase",
		"core.precomposeunicode", "core.symlinks", "core.autocrlf", "core.eol", "core.safecrlf", "core.quotepath",
		"core.whitespace", "core.abbrev", "core.commentchar", "core.sparsecheckout", "core.sparsecheckoutcone",
		"core.untrackedcache", "core.preloadindex", "core.trustctime", "core.checkstat", "core.protecthfs",
		"core.protectntfs", "core.bigfilethreshold", "core.compression", "core.longpaths",
		"extensions.objectformat", "extensions.partialclone", "extensions.worktreeconfig", "extensions.noop",
		"extensions.preciousobjects", "extensions.refstorage", "extensions.compatobjectformat",
		"remote.*.url", "remote.*.pushurl", "remote.*.fetch", "remote.*.push", "remote.*.tagopt", "remote.*.prune",
		"remote.*.prunetags", "remote.*.mirror", "remote.*.skipdefaultupdate", "remote.*.skipfetchall",
		"remote.*.promisor", "remote.*.partialclonefilter", "remote.pushdefault",
		"branch.*.remote", "branch.*.merge", "branch.*.rebase", "branch.*.pushremote", "branch.*.description",
		"branch.autosetuprebase", "branch.sort",
		"url.*.insteadof", "url.*.pushinsteadof",
		"submodule.*.url", "submodule.*.active", "submodule.*.branch", "submodule.*.ignore", "submodule.*.shallow",
		"submodule.active", "submodule.recurse", "status.submodulesummary",
		"user.name", "user.email", "author.name", "author.email", "committer.name", "committer.email",
		"init.defaultbranch", "pull.rebase", "pull.ff", "merge.conflictstyle", "merge.ff", "merge.renames",
		"merge.renamelimit", "merge.log", "merge.stat", "rebase.autosquash", "rebase.autostash", "rebase.updaterefs",
		"push.default", "push.followtags", "push.autosetupremote", "fetch.prune", "fetch.prunetags", "fetch.parallel",
		"diff.algorithm", "diff.renames", "diff.renamelimit", "diff.context", "diff.interhunkcontext",
		"diff.mnemonicprefix", "diff.noprefix", "diff.colormoved", "diff.submodule", "diff.ignoresubmodules",
		"diff.indentheuristic", "diff.*.xfuncname", "diff.*.funcname", "diff.*.binary",
		"status.showuntrackedfiles", "status.short", "status.branch", "log.date", "log.abbrevcommit", "log.decorate",
		"commit.verbose", "commit.cleanup", "tag.sort", "rerere.enabled", "rerere.autoupdate",
		"gc.auto", "gc.autopacklimit", "gc.pruneexpire", "gc.reflogexpire", "index.version", "feature.manyfiles",
		"pack.threads", "pack.windowmemory", "protocol.version", "advice.detachedhead", "color.ui", "column.ui",
		"help.autocorrect", "versionsort.suffix", "apply.whitespace", "blame.date",
		"svn-remote.*.fetch",
	}
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}()

// filterConfig is what of a configuration may be read inside: known harmless variables, URLs without credentials.
func filterConfig(in []entry) []entry {
	var out []entry
	for _, e := range in {
		if kept, ok := filterEntry(e); ok {
			out = append(out, kept)
		}
	}
	return out
}

func filterEntry(e entry) (entry, bool) {
	pattern := e.section + "." + e.key
	if e.hasSub {
		pattern = e.section + ".*." + e.key
	}
	if !harmless[pattern] {
		return e, false
	}
	var ok bool
	if e.section == "url" {
		if e.sub, ok = cleanURL(e.sub); !ok || bySSH(e.sub) {
			return e, false
		}
	} else if strings.Contains(e.sub, "://") {
		return e, false
	}
	if e.value, ok = cleanURL(e.value); !ok {
		return e, false
	}
	return e, true
}

// bySSH reports whether a URL, or the beginning of one, leads over ssh, which no way leads out by.
func bySSH(url string) bool {
	scheme, _, isURL := strings.Cut(url, "://")
	if !isURL {
		host, _, short := strings.Cut(url, ":")
		return short && !strings.Contains(host, "/")
	}
	return strings.Contains(strings.ToLower(scheme), "ssh")
}

// cleanURL is s without user-info, query and fragment when s is a URL (an ssh user stays, it is not a secret), and s
// itself when it is not. False means that a credential cannot be told from the rest.
func cleanURL(s string) (string, bool) {
	scheme, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return cleanSCP(s)
	}
	if strings.Contains(scheme, "::") || strings.Contains(rest, "://") {
		return "", false
	}
	if cut := strings.IndexAny(rest, "?#"); cut >= 0 {
		rest = rest[:cut]
	}
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	host, path := rest[:end], rest[end:]
	user := ""
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, host = host[:at], host[at+1:]
	}
	if !plausibleHost(host) {
		return "", false
	}
	user, _, _ = strings.Cut(user, ":")
	switch strings.ToLower(scheme) {
	case "ssh", "git+ssh", "ssh+git":
		if user != "" {
			host = user + "@" + host
		}
	}
	return scheme + "://" + host + path, true
}

// plausibleHost refuses what is rather the start of a password that holds a slash: "user:pa" of "user:pa/ss@host".
func plausibleHost(host string) bool {
	if strings.HasPrefix(host, "[") {
		_, after, ok := strings.Cut(host, "]")
		return ok && (after == "" || after[0] == ':' && allDigits(after[1:]))
	}
	_, port, has := strings.Cut(host, ":")
	return !has || allDigits(port)
}

func allDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// cleanSCP handles values without "://": the scp-like user@host:path keeps its user, a password before the "@" is
// cut off, a remote helper ("ext::…") is refused.
func cleanSCP(s string) (string, bool) {
	if strings.Contains(s, "::") && !strings.ContainsAny(s, " \n") {
		return "", false
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return s, true
	}
	user, rest, has := strings.Cut(s, "@")
	if has && strings.Contains(user, ":") && !strings.ContainsAny(user, " /<\n") {
		return rest, true
	}
	return s, true
}
