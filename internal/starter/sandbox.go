package starter

import "strings"

// What Claude Code's settings and srt's say of a sandbox is largely one language. Who reads it differs in whether the
// working directory may be written unasked.

// networkPart reads "network" of both.
func (d *draft) networkPart(n node) {
	ports := true
	for _, m := range n.members() {
		v := m.value
		switch m.name {
		case "allowedDomains":
			d.each(v, func(e node, s string) {
				d.allowDomain(e, s)
				if dom, why := parseDomain(s); ports && why == "" && len(dom.ports) == 0 {
					d.note(e, Narrower, "without a port it meant every port; here it means 443, unless the rule says ports = [80, 443]")
					ports = false
				}
			})
		case "deniedDomains":
			d.each(v, d.denyDomain)
		case "strictAllowlist", "refuseOpaqueTunnels", "requireHostMatch", "ambiguousRequestTarget":
			// So it is here, always.
		case "allowLocalBinding":
			d.unless(v, Narrower, "servers of the agent can be reached inside, but not from this machine, and this machine's not from inside")
		case "allowUnixSockets", "allowAllUnixSockets", "allowMachLookup":
			d.unless(v, Dropped, "no socket or service of this machine is there inside")
		case "httpProxyPort", "socksProxyPort", "mitmProxy", "parentProxy":
			d.unless(v, Dropped, "agentbox has a proxy of its own; where a model is dialled says [upstream] of ~/.config/agentbox/config.toml")
		case "tlsTerminate":
			d.terminate(v)
		case "allowManagedDomainsOnly":
			d.unless(v, Dropped, "what binds everybody is the organisation's: `only` of /etc/agentbox/policy.toml")
		case "deniedResolvedAddresses":
			d.unless(v, Wider, "names that resolve to addresses that are not public are refused always; other addresses cannot be")
		case "deniedDomainReasons":
			d.unless(v, Dropped, "rules have no texts; the agent is told which rule denied")
		case "allowPlaintextHeaderSet", "stripResponseHeaders", "filterRequest":
			d.unless(v, Dropped, "the proxy changes nothing but credentials' headers")
		default:
			d.unknown(v)
		}
	}
}

// terminate reads how TLS is opened. It always is here, with an authority made for the run.
func (d *draft) terminate(n node) {
	for _, m := range n.members() {
		if strings.HasPrefix(m.name, "ca") {
			d.unless(m.value, Dropped, "requests are always decrypted here, by an authority that is made for the run")
			continue
		}
		d.unless(m.value, Dropped, "it has no counterpart")
	}
}

// filesystemPart reads "filesystem" of both, but for allowWrite.
func (d *draft) filesystemPart(n node) {
	for _, m := range n.members() {
		v := m.value
		switch m.name {
		case "allowWrite": // read by who knows whether the working directory is writable anyway
		case "denyRead":
			d.paths(v, func(e node, s string) { d.hidePath(e, s, inPath) })
		case "allowRead":
			d.paths(v, d.allowRead)
		case "denyWrite":
			d.paths(v, d.denyWrite)
		case "disabled":
			d.unless(v, Narrower, "files stay behind the boundary: only the repository and the machine's programs are there inside")
		case "allowGitConfig":
			d.unless(v, Dropped, "git's configuration is read-only inside")
		case "allowManagedReadPathsOnly":
			d.unless(v, Dropped, "what binds everybody is the organisation's: /etc/agentbox/policy.toml")
		default:
			d.unknown(v)
		}
	}
}

// paths is each for lists of paths, which may be written {"path": …, "literal": true}.
func (d *draft) paths(list node, do func(n node, s string)) {
	if !list.isList() {
		d.unless(list, Dropped, "it should be a list")
		return
	}
	for _, e := range list.elements() {
		s, ok := e.text()
		if p, isObject := e.get("path"); isObject {
			if s, ok = p.text(); strings.ContainsAny(s, `*?[\`) {
				d.note(e, Wider, "a path with *, ?, [ or \\ in its name cannot be written as a pattern")
				continue
			}
		}
		if !ok {
			d.note(e, Dropped, "it should be a text")
			continue
		}
		do(e, s)
	}
}

// allowRead takes a part of the repository, or of the machine, that may be read though what is around it may not.
func (d *draft) allowRead(n node, s string) {
	switch _, at := locate(s, inPath, d.options.Ground); at {
	case inside:
		d.note(n, Dropped, "a hidden directory is hidden whole; what is not hidden can be read")
	case outside, above:
		if abs, ok := absolute(s, inPath); !ok || !system(abs) {
			d.note(n, Dropped, "outside of the repository nothing but the machine's programs is there inside")
		}
	case unclear:
		d.note(n, Dropped, "it is not a path that can be told")
	}
}

// denyWrite takes a part of the repository that must not be written.
func (d *draft) denyWrite(n node, s string) {
	switch _, at := locate(s, inPath, d.options.Ground); {
	case d.readonly || at == outside || at == above:
		// Nothing is written there in any case.
	case at == whole:
		d.readonly = true
	default:
		if git := strings.TrimPrefix(s, "./"); strings.HasPrefix(git, ".git/hooks") || strings.HasPrefix(git, ".git/config") {
			return // guarded always
		}
		d.note(n, Wider, `single files cannot be read-only: the agent writes in the whole repository, or with mode = "readonly" nowhere`)
	}
}

// credentialsPart reads "credentials" of both. Modes are "deny" and "mask".
func (d *draft) credentialsPart(n node) {
	for _, m := range n.members() {
		switch m.name {
		case "files":
			for _, e := range m.value.elements() {
				d.credentialFile(e)
			}
		case "envVars":
			for _, e := range m.value.elements() {
				d.credentialVar(e)
			}
		default:
			d.unless(m.value, Dropped, "how credentials are put into requests says [[credential]]")
		}
	}
}

func (d *draft) credentialFile(n node) {
	p, _ := n.get("path")
	s, ok := p.text()
	if !ok {
		d.note(n, Dropped, "it names no path")
		return
	}
	d.hidePath(p, s, inPath)
	if mode, _ := n.get("mode"); is(mode, "mask") {
		d.note(n, Dropped, "a masked file has no counterpart: it is hidden where it is in the repository, and a [[credential]] adds the value to requests")
	}
}

// credentialVar needs nothing for "deny": no variable is handed in that no profile names.
func (d *draft) credentialVar(n node) {
	if mode, _ := n.get("mode"); is(mode, "mask") {
		d.note(n, Dropped, "declare a [[credential]]: the agent gets a placeholder in the variable, the proxy puts the value into requests")
	}
}

func is(n node, word string) bool { s, ok := n.text(); return ok && s == word }

// sandboxFlag reads the rest of what both have, at the top. It reports what it does not know.
func (d *draft) sandboxFlag(m member) bool {
	switch m.name {
	case "ignoreViolations":
		d.unless(m.value, Dropped, "what is denied is always recorded")
	case "enableWeakerNestedSandbox", "enableWeakerNetworkIsolation", "allowNestedUserNamespaces", "allowAppleEvents":
		d.unless(m.value, Narrower, "the boundary is not weakened for it")
	case "credentials":
		d.credentialsPart(m.value)
	case "ripgrep", "seccomp", "bwrapPath", "socatPath", "javaAgentJarPath", "mandatoryDenySearchDepth", "bpfPath":
		d.unless(m.value, Dropped, "agentbox uses Podman, and none of these programs")
	case "windows", "allowPty":
		d.unless(m.value, Dropped, "it is for another system")
	default:
		return false
	}
	return true
}

// unknown is for settings that have come since, or were misspelt.
func (d *draft) unknown(n node) {
	d.unless(n, Dropped, "it is not known here")
}

// srt reads the settings of the sandbox runtime.
func (d *draft) srt(top node) {
	files, _ := top.get("filesystem")
	d.srtWrites(top, files)
	for _, m := range top.members() {
		switch {
		case m.name == "network":
			d.networkPart(m.value)
		case m.name == "filesystem":
			d.filesystemPart(m.value)
		case m.name == "git":
			d.unless(m.value, Dropped, "git's configuration inside is made by agentbox, which trusts the repository alone")
		case m.name == "$schema" || d.sandboxFlag(m):
		default:
			d.unknown(m.value)
		}
	}
}

// srtWrites decides on the mode: srt lets nothing be written that allowWrite does not name.
func (d *draft) srtWrites(top, files node) {
	d.readonly = true
	if off, ok := files.get("disabled"); ok && !off.off() {
		d.readonly = false
		return
	}
	list, _ := files.get("allowWrite")
	var parts []node
	d.paths(list, func(n node, s string) {
		if part := d.writable(n, s); part {
			parts = append(parts, n)
		}
	})
	if d.readonly {
		for _, n := range parts {
			d.note(n, Dropped, `parts of the repository cannot be writable by themselves; mode = "direct" makes all of it so`)
		}
	}
}

// writable takes one path that may be written, and reports one that is a part of the repository.
func (d *draft) writable(n node, s string) (part bool) {
	switch _, at := locate(s, inPath, d.options.Ground); at {
	case inside:
		return true
	case whole, above:
		d.readonly = false
	case outside:
		if abs, ok := absolute(s, inPath); ok && temporary(abs) {
			d.note(n, Narrower, "inside there is a temporary directory of its own, gone with the run")
			return false
		}
		d.note(n, Dropped, "outside of the repository nothing can be written that outlives the run")
	case unclear:
		d.note(n, Dropped, "it is not a path that can be told")
	}
	return false
}

func temporary(abs string) bool {
	for _, dir := range []string{"/tmp", "/private/tmp", "/var/tmp", "/var/folders"} {
		if abs == dir || strings.HasPrefix(abs, dir+"/") {
			return true
		}
	}
	return false
}
