package starter

import "strings"

// claude reads Claude Code's settings.json.
func (d *draft) claude(top node) {
	for _, m := range top.members() {
		switch m.name {
		case "$schema":
		case "sandbox":
			d.claudeSandbox(m.value)
		case "permissions":
			d.permissions(m.value)
		case "env":
			for _, v := range m.value.members() {
				d.variable(v.value, v.name)
			}
		case "hooks", "statusLine", "fileSuggestion":
			d.unless(m.value, Dropped, "it runs commands on the agent's side: Claude Code reads the repository's own settings inside and runs them in the boundary, yours of ~/.claude are not there")
		case "apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "otelHeadersHelper":
			d.unless(m.value, Dropped, "nothing is run outside for a key; give it to `agentbox secret set`, and a [[credential]] hands the agent a placeholder")
		case "enableAllProjectMcpServers", "enabledMcpjsonServers", "disabledMcpjsonServers", "allowedMcpServers", "deniedMcpServers":
			d.unless(m.value, Dropped, "tool servers are started by Claude Code, inside, and reach what the rules allow")
		default:
			d.unless(m.value, Dropped, "it is a setting of the agent, not of its boundary; in the repository's .claude/settings.json it goes on holding inside")
		}
	}
}

func (d *draft) claudeSandbox(n node) {
	enabled, _ := n.get("enabled")
	if on, _ := enabled.boolean(); !on {
		d.note(n, Narrower, "the sandbox was not on: here everything that the agent does is in the boundary")
	} else {
		d.note(n, Narrower, "commands alone were in the sandbox: here everything that the agent does is in the boundary")
	}
	asked := false
	for _, m := range n.members() {
		v := m.value
		switch m.name {
		case "enabled", "failIfUnavailable":
			// The boundary is always there; a run that cannot have it is refused.
		case "autoAllowBashIfSandboxed":
			asked = v.off()
		case "excludedCommands":
			d.unless(v, Dropped, "nothing is run outside of the boundary")
		case "allowUnsandboxedCommands":
			d.unless(v, Narrower, "nothing is run outside of the boundary, asked or not")
		case "network":
			d.networkPart(v)
			d.unlisted(v)
		case "filesystem":
			d.filesystemPart(v)
			d.claudeWrites(v)
		default:
			if !d.sandboxFlag(m) {
				d.unknown(v)
			}
		}
	}
	if asked {
		auto, _ := n.get("autoAllowBashIfSandboxed")
		d.note(auto, Wider, "the built-in claude starts in the mode that asks nothing; `-- --permission-mode default` brings the questions back")
	}
}

// unlisted says what becomes of hosts that nobody named.
func (d *draft) unlisted(n node) {
	if strict, ok := n.get("strictAllowlist"); ok && !strict.off() {
		return
	}
	d.note(n, Narrower, "for other hosts you were asked; here they are denied")
}

// claudeWrites reads allowWrite: the working directory may be written in any case.
func (d *draft) claudeWrites(files node) {
	list, ok := files.get("allowWrite")
	if !ok {
		return
	}
	readonly := d.readonly
	d.paths(list, func(n node, s string) { d.writable(n, s) })
	d.readonly = readonly
}

func (d *draft) permissions(n node) {
	for _, m := range n.members() {
		v := m.value
		switch m.name {
		case "allow":
			d.each(v, d.allowRule)
		case "deny":
			d.each(v, d.denyRule)
		case "ask":
			d.each(v, d.askRule)
		case "additionalDirectories":
			d.unless(v, Dropped, "only the repository is there inside; a [[mount]] shows what else of this machine an agent needs")
		case "defaultMode":
			d.mode(v)
		case "disableBypassPermissionsMode":
			d.unless(v, Wider, "the built-in claude starts in that mode, because the boundary stands around it; in the repository's own settings Claude Code goes on obeying this")
		default:
			d.unknown(v)
		}
	}
}

func (d *draft) mode(n node) {
	switch s, _ := n.text(); s {
	case "bypassPermissions", "":
	case "plan":
		d.note(n, Dropped, "pass it on: `agentbox run NAME -- --permission-mode plan`")
	default:
		d.note(n, Wider, "the built-in claude starts in the mode that asks nothing; `-- --permission-mode default` brings the questions back")
	}
}

// toolRule splits "Read(./.env)" into the tool and its argument.
func toolRule(rule string) (tool, arg string) {
	tool, arg, ok := strings.Cut(strings.TrimSpace(rule), "(")
	if !ok {
		return tool, ""
	}
	return tool, strings.TrimSuffix(arg, ")")
}

// word names a tool in a note; a rule's argument may hold anything and is not shown.
func word(tool string) string {
	if i := strings.IndexFunc(tool, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' }); i >= 0 {
		tool = tool[:i]
	}
	if tool == "" {
		return "this rule"
	}
	return clean(tool) + " rules"
}

func (d *draft) allowRule(n node, rule string) {
	switch tool, arg := toolRule(rule); tool {
	case "WebFetch":
		entry, ok := strings.CutPrefix(arg, "domain:")
		if !ok {
			d.note(n, Dropped, "it names no host; hosts are named one by one here")
			return
		}
		d.allowDomain(n, entry)
	case "Read", "Edit", "Write":
		if _, at := locate(arg, inRule, d.options.Ground); arg != "" && at == outside {
			d.note(n, Dropped, "outside of the repository nothing but the machine's programs is there inside")
		}
	case "Bash", "Glob", "Grep", "LS", "Task", "TodoWrite", "NotebookEdit", "MultiEdit", "Skill", "PowerShell":
		// Inside, all of it may be done unasked.
	case "WebSearch":
		d.note(n, Dropped, "searching is the model's own: nothing is asked for it but the model's API")
	default:
		d.note(n, Dropped, "%s have no counterpart; Claude Code asks, or not, as its own settings inside say", word(tool))
	}
}

func (d *draft) denyRule(n node, rule string) {
	switch tool, arg := toolRule(rule); tool {
	case "Read":
		if arg == "" {
			d.note(n, Wider, "the repository is shown")
			return
		}
		d.hidePath(n, arg, inRule)
	case "WebFetch":
		if entry, ok := strings.CutPrefix(arg, "domain:"); ok {
			d.denyDomain(n, entry)
			return
		}
		d.note(n, Dropped, "hosts that no rule allows are denied; which tool asks makes no difference here")
	case "Edit", "Write", "MultiEdit", "NotebookEdit":
		_, at := locate(arg, inRule, d.options.Ground)
		switch {
		case arg == "" || at == whole:
			d.readonly = true
			d.note(n, Narrower, `nothing in the repository is written, by commands neither: mode = "readonly"`)
		case at == outside || at == above:
			// Nothing is written there in any case.
		default:
			d.note(n, Wider, `single files cannot be read-only: the agent writes in the whole repository, or with mode = "readonly" nowhere`)
		}
	case "Bash":
		d.note(n, Wider, "agentbox does not judge commands, only what they reach; in the repository's own settings Claude Code goes on obeying this")
	default:
		d.note(n, Wider, "%s have no counterpart; in the repository's own settings Claude Code goes on obeying this", word(tool))
	}
}

func (d *draft) askRule(n node, rule string) {
	tool, arg := toolRule(rule)
	if tool != "WebFetch" {
		d.note(n, Wider, "%s that ask have no counterpart; in the repository's own settings Claude Code goes on asking", word(tool))
		return
	}
	if dom, why := parseDomain(strings.TrimPrefix(arg, "domain:")); why == "" {
		d.comments = append(d.comments, "[[network.rule]]", `action = "ask"`, "host = "+quote(dom.pattern.String()))
	}
	d.note(n, Narrower, "it is denied, because a rule is about every program; action = \"ask\" in its rule asks you")
	d.denyDomain(n, strings.TrimPrefix(arg, "domain:"))
}
