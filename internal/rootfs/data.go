package rootfs

import (
	_ "embed"
	"path"
	"strings"
)

//go:embed data/etc.txt
var etcData string

//go:embed data/roots.txt
var rootsData string

//go:embed data/nss.txt
var nssData string

//go:embed data/private.txt
var privateData string

// verb is what a line of data/etc.txt says.
type verb string

const (
	lay      verb = "lay"
	generate verb = "make"
	skip     verb = "skip"
	never    verb = "never"
)

// entry is one line of data/etc.txt.
type entry struct {
	verb verb
	path string // a pattern of package path
	why  string
}

// root is one line of data/roots.txt.
type root struct {
	path  string // "~/x" or absolute; the last component may be a pattern
	env   string // a variable that moves it, or ""
	below string // what is below the variable's value, or ""
	masks []string
	with  []root // bound along with it
}

func lines(data string) [][]string {
	var all [][]string
	for line := range strings.Lines(data) {
		f := strings.Fields(line)
		if len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			all = append(all, f)
		}
	}
	return all
}

func etcEntries() []entry {
	var all []entry
	for _, f := range lines(etcData) {
		all = append(all, entry{verb(f[0]), f[1], strings.Join(f[2:], " ")})
	}
	return all
}

func knownRoots() []root {
	var all []root
	for _, f := range lines(rootsData) {
		if f[0] == "with" {
			last := &all[len(all)-1]
			last.with = append(last.with, parseRoot(f[1:]))
			continue
		}
		all = append(all, parseRoot(f))
	}
	return all
}

func parseRoot(f []string) root {
	r := root{path: f[0], masks: f[2:]}
	r.env, r.below, _ = strings.Cut(f[1], "/")
	if r.env == "-" {
		r.env = ""
	}
	return r
}

// privateDirs returns the paths relative to the home directory that hold secrets, and those that too much
// shares to be a root.
func privateDirs() (secret, shared []string) {
	for _, f := range lines(privateData) {
		if f[0] == "secret" {
			secret = append(secret, f[1])
		} else {
			shared = append(shared, f[1])
		}
	}
	return secret, shared
}

// classify returns the entry that decides about a host path: the one with the most components among those
// that match it or a directory above it. never wins a draw.
func classify(entries []entry, p string) (entry, bool) {
	var best entry
	depth := 0
	for _, e := range entries {
		n := strings.Count(e.path, "/")
		if matchesAbove(e.path, p) && (n > depth || n == depth && e.verb == never) {
			best, depth = e, n
		}
	}
	return best, depth > 0
}

// matchesAbove reports whether pattern matches p or a directory that p is below.
func matchesAbove(pattern, p string) bool {
	parts := strings.Split(p, "/")
	n := strings.Count(pattern, "/") + 1
	if len(parts) < n {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(parts[:n], "/"))
	return err == nil && ok
}
