package workspace

import (
	"path/filepath"
	"slices"
	"strconv"
)

// Signs is how git signs inside: by asking the host.
type Signs struct {
	On        bool
	Format    string // "openpgp" or "ssh"
	PublicKey string // of ssh: as in a .pub file
	GPG, SSH  string // git's programs inside
}

// SignInside is the part of a ~/.gitconfig for inside about signatures. Where nothing is signed git does not try, whatever
// the person's own configuration says; the programs are there all the same, to say why when it is told to.
func SignInside(s Signs) []byte {
	on := strconv.FormatBool(s.On)
	// tag.gpgsign would make an annotated tag of every other one
	all := []entry{{section: "commit", key: "gpgsign", value: on}, {section: "tag", key: "gpgsign", value: "false"}, {section: "tag", key: "forcesignannotated", value: on},
		{section: "gpg", key: "program", value: s.GPG}, {section: "gpg", sub: "ssh", hasSub: true, key: "program", value: s.SSH}}
	if s.Format != "" {
		all = append(all, entry{section: "gpg", key: "format", value: s.Format})
	}
	if s.PublicKey != "" {
		all = append(all, entry{section: "user", key: "signingkey", value: "key::" + s.PublicKey})
	}
	return formatConfig(all)
}

// Settings reads variables of the person's own configuration files (see ConfigFiles), the last value of each, with the
// conditional includes that hold for repo. What lies in the repository is passed over, included or not: an agent may have
// written it.
func Settings(repo Repo, configs, names []string) (map[string]string, error) {
	home := ""
	if n := len(configs); n > 0 {
		home = filepath.Dir(configs[n-1])
	}
	foreign := func(file string) bool {
		return slices.ContainsFunc([]string{file, resolved(file)}, func(path string) bool { return repo.inside(path) })
	}
	want := func(cond, file string) bool {
		return !foreign(file) && (cond == "" || gitdirHolds(cond, file, home, repo.Git))
	}
	out := map[string]string{}
	for _, file := range configs {
		entries, err := readIncluding(file, home, want, 0)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if slices.Contains(names, e.name()) && !foreign(e.file) {
				out[e.name()] = e.value
			}
		}
	}
	return out, nil
}
