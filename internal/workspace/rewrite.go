package workspace

// Rewrites is the part of a ~/.gitconfig for inside that has git reach hosts by https where an address says ssh, or git's own
// protocol: only https passes the boundary.
func Rewrites(hosts []string) []byte {
	var all []entry
	for _, host := range hosts {
		for _, start := range []string{
			"git@" + host + ":", "git@" + host + ":/", host + ":", "ssh://git@" + host + "/", "ssh://git@" + host + ":22/", "ssh://" + host + "/", "git://" + host + "/",
		} {
			all = append(all, entry{section: "url", sub: "https://" + host + "/", hasSub: true, key: "insteadof", value: start})
		}
	}
	return formatConfig(all)
}
