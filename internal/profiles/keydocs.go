package profiles

import (
	"reflect"

	"agentbox/internal/policy"
)

// Form is how a value of one type is written.
type Form struct {
	Pattern  string   // a regular expression that every text of that type matches, and some that are none may match too
	Enum     []string // all texts of that type; nil: there are too many
	Min, Max float64  // of a number; 0, 0: any
	Example  any
}

// forms tells the form of each type of the format whose UnmarshalText, or unmarshalInt, refuses something. Patterns
// need no look-around, so that every checker takes them.
func forms() map[reflect.Type]Form {
	const (
		dot  = `[.。．｡]`
		part = `[^\s/:*@]`
		host = part + `+` + dot + part + `*[^0-9.。．｡\s/:*@]` + part + `*`
	)
	return map[reflect.Type]Form{
		reflect.TypeFor[Tier]():     {Enum: []string{"low", "medium", "high", "critical"}},
		reflect.TypeFor[Mode]():     {Enum: []string{"review", "direct", "readonly"}},
		reflect.TypeFor[Backend]():  {Enum: []string{"overlay", "copy"}},
		reflect.TypeFor[Cache]():    {Enum: Caches()},
		reflect.TypeFor[Action]():   {Enum: []string{"allow", "ask", "deny"}},
		reflect.TypeFor[Access]():   {Enum: []string{"read", "write"}},
		reflect.TypeFor[OnLimit]():  {Enum: []string{"ask", "stop"}},
		reflect.TypeFor[Rootfs]():   {Enum: []string{"host"}},
		reflect.TypeFor[Runtime]():  {Enum: []string{"auto", "container", "gvisor", "microvm"}},
		reflect.TypeFor[Scope]():    {Enum: []string{"none", "session", "profile", "repo", "user"}},
		reflect.TypeFor[Name]():     {Pattern: nameForm.String(), Example: "github"},
		reflect.TypeFor[EnvName]():  {Pattern: envForm.String(), Example: "GH_TOKEN"},
		reflect.TypeFor[Shape]():    {Pattern: shapeForm.String(), Example: "sk-ant-api03-"},
		reflect.TypeFor[Method]():   {Pattern: methodForm.String(), Example: "GET"},
		reflect.TypeFor[ByteSize](): {Pattern: byteSize.String(), Example: "4GiB"},
		reflect.TypeFor[Duration](): {Pattern: `^([0-9]{1,5}d)?\+?([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))*$`, Example: "1h30m"},

		reflect.TypeFor[EnvPattern]():         {Pattern: `^[A-Za-z_][A-Za-z0-9_]*\*?$`, Example: "LC_*"},
		reflect.TypeFor[Permission]():         {Pattern: permissionForm.String(), Example: "contents"},
		reflect.TypeFor[ToolPattern]():        {Pattern: toolForm.String(), Example: "read_*"},
		reflect.TypeFor[policy.Host]():        {Pattern: `^` + host + `$`, Example: "api.github.com"},
		reflect.TypeFor[policy.Pattern]():     {Pattern: `^(\*\.)?` + host + `$`, Example: "*.docs.example.com"},
		reflect.TypeFor[policy.PathPattern](): {Pattern: `^/`, Example: "/api/**"},
		reflect.TypeFor[Header]():             {Pattern: "^\\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\\s*:.*\\{token\\}", Example: "Authorization: Bearer {token}"},
		reflect.TypeFor[Image]():              {Pattern: `^[^@]+@sha256:[0-9a-f]{64}$`},
		reflect.TypeFor[RepoPath]():           {Pattern: `^[^/~]`, Example: "build/Containerfile"},
		reflect.TypeFor[HostPath]():           {Pattern: `^(~/|/)`, Example: "~/.config/tool/token"},
		reflect.TypeFor[Remote]():             {Pattern: `^[^/:@]+(/[A-Za-z0-9_.~-]+){2,}$`, Example: "github.com/acme/billing"},
		reflect.TypeFor[RefPattern]():         {Pattern: `^refs/`, Example: "refs/heads/agentbox/*"},
		reflect.TypeFor[RepoName]():           {Pattern: `^[A-Za-z0-9-]+/[A-Za-z0-9_.~-]+$`, Example: "acme/billing"},
		reflect.TypeFor[URL]():                {Pattern: `^[hH][tT][tT][pP][sS]?://`, Example: "https://collector.example.com"},
		reflect.TypeFor[Port]():               {Min: 1, Max: 65535},
		reflect.TypeFor[Count]():              {Min: 1},
		reflect.TypeFor[Money]():              {Min: 1.0 / micros, Max: maxDollars, Example: 5.0},
	}
}

// keyDoc is what a person wants to know about one key.
type keyDoc struct {
	text    string
	unsaid  any // what holds when no layer says it, where that is one value
	example any
	min     float64
	max     float64
	filled  bool // a list or a table of it is not empty
}

// profileDocs explains every key of a profile, and so of agentbox.toml, by its path.
func profileDocs() map[string]keyDoc {
	docs := map[string]keyDoc{
		"version":     {text: "The version of the format.", unsaid: 1, min: 1, max: 1},
		"extends":     {text: "The profile that this one lies on. Not in agentbox.toml.", example: "claude"},
		"description": {text: "One line for people, shown in lists and plans.", example: "Fix bugs in the billing service"},
		"tier":        {text: "How risky the work is. A tier sets floors for isolation, workspace, network, credentials and budgets; what is looser is refused.", example: "medium"},

		"agent":               {text: "The program that is run, and what it is given."},
		"agent.command":       {text: "The program, found on PATH, and its fixed arguments.", example: []string{"claude", "--permission-mode", "acceptEdits"}, filled: true},
		"agent.args":          {text: "Arguments for when none are given behind --.", example: []string{"--continue"}},
		"agent.install":       {text: "The command to tell a person whose machine lacks the program. It is never run.", example: "npm install -g @anthropic-ai/claude-code"},
		"agent.rootfs":        {text: "What the container's root is made of: the host's own toolchain, read-only. Leave it out when image or containerfile is given."},
		"agent.image":         {text: "A container image instead of the host's toolchain, with its digest."},
		"agent.containerfile": {text: "A Containerfile of the repository to build the root from."},
		"agent.env":           {text: "Environment variables that are set. {repo}, {home}, {user} and {placeholder.NAME} are filled in; {{ and }} are braces.", example: map[string]string{"EDITOR": "true"}},
		"agent.pass":          {text: "Environment variables of yours that are handed in, by name or by the start of a name before a \"*\".", example: []string{"TERM", "LC_*"}},
		"agent.file":          {text: "A file that is in the agent's home at the start: first-run state. One of the same path replaces that of a layer below."},
		"agent.file.path":     {text: "Where: below ~/ or /tmp/.", example: "~/.claude.json"},
		"agent.file.content":  {text: "The text. {repo}, {home}, {user} and {placeholder.NAME} are filled in; {{ and }} are braces."},

		"workspace":         {text: "How the agent sees the repository."},
		"workspace.mode":    {text: "review: the agent works on a copy-on-write view and you choose what is applied. direct: it reads and writes your files. readonly: it only reads them. When nothing is said, the tier's."},
		"workspace.backend": {text: "How review keeps the agent's changes: an overlay, or a copy."},
		"workspace.hide":    {text: "Files of the repository that the agent sees empty: patterns relative to it, as in .gitignore.", example: []string{".env*", "secrets/**"}},
		"workspace.caches":  {text: "Caches of build tools that outlive a run.", example: []string{"npm", "go-build"}},

		"network":         {text: "Where the agent may go. Deny beats ask, ask beats allow."},
		"network.default": {text: "What holds for a request that no rule names. ask is deny when nobody is there to answer.", unsaid: "deny"},
		"network.use":     {text: "Named sets of rules (agentbox profile list --sets), and \"origin\": this repository's own remote, fetch only.", example: []string{"anthropic", "npm", "origin"}},
		"network.rule":    {text: "A rule. Rules of all layers add up."},

		"git":        {text: "What may be fetched from and pushed to one repository, read from git's own protocol. One of the same remote replaces that of a layer below."},
		"git.remote": {text: "The repository, by host, owner and name."},
		"git.fetch":  {text: "Whether it may be fetched from.", unsaid: true},
		"git.push":   {text: "The refs that may be pushed to, one \"*\" in each at most; none: no push.", example: []string{"refs/heads/agentbox/*"}},

		"credential":                               {text: "A credential. The agent holds a placeholder; the real value is put into requests to the hosts named, and nowhere else. One of the same name replaces that of a layer below."},
		"credential.name":                          {text: "What plans, events and {placeholder.NAME} call it."},
		"credential.source":                        {text: "Where the value is: one of the keys, or env and keyring together: the variable if it is set, else the keyring.", example: map[string]string{"keyring": "github"}, filled: true},
		"credential.source.keyring":                {text: "An account of your keyring: agentbox secret set NAME.", example: "github"},
		"credential.source.env":                    {text: "An environment variable of yours. The agent does not get it.", example: "GITHUB_TOKEN"},
		"credential.source.command":                {text: "A command on your machine that prints the value. Inert in a repository until it is trusted.", example: []string{"gh", "auth", "token"}},
		"credential.source.file":                   {text: "A file of yours that holds the value.", example: "~/.config/tool/token"},
		"credential.source.github_app":             {text: "A GitHub App that mints tokens of one hour."},
		"credential.source.github_app.id":          {text: "The App's id."},
		"credential.source.github_app.key":         {text: "The account of your keyring that holds the App's private key.", example: "billing-app"},
		"credential.source.github_app.repos":       {text: "The repositories that a token is for.", example: []string{"acme/billing"}},
		"credential.source.github_app.permissions": {text: "What a token may do there.", example: map[string]string{"contents": "write", "pull_requests": "write"}},
		"credential.hosts":                         {text: "The hosts that get it. Each must be allowed by a rule that inspects.", example: []string{"api.github.com"}, filled: true},
		"credential.header":                        {text: "The header that carries it; {token} is the value.", example: "Authorization: Bearer {token}"},
		"credential.env":                           {text: "The environment variable in which the agent finds the placeholder.", example: "GH_TOKEN"},
		"credential.shape":                         {text: "What the placeholder begins with, for programs that look."},
		"credential.ttl":                           {text: "How long a run may use it. When nothing is said, the tier's, or as long as the run lasts.", example: "1h"},

		"memory":         {text: "What the agent remembers from run to run."},
		"memory.scope":   {text: "Whose memory it is.", unsaid: "none"},
		"memory.ttl":     {text: "How long something is remembered.", example: "30d"},
		"telemetry":      {text: "Where events are sent besides the log."},
		"telemetry.otlp": {text: "An OpenTelemetry collector. https, or http to this machine."},

		"mcp":         {text: "A tool server (MCP) that runs on your machine, behind a broker. One of the same name replaces that of a layer below. Inert in a repository until it is trusted."},
		"mcp.name":    {text: "What plans and events call it.", example: "files"},
		"mcp.command": {text: "The program and its arguments.", example: []string{"mcp-server-filesystem", "/workspace"}, filled: true},
		"mcp.env":     {text: "Environment variables of the server."},
		"mcp.allow":   {text: "Tools that may be called; \"*\" is any run of characters.", example: []string{"read_*", "list_*"}},
		"mcp.ask":     {text: "Tools that a person is asked about, each call.", example: []string{"write_file"}},
		"mcp.deny":    {text: "Tools that may not be called.", example: []string{"delete_*"}},
	}
	ruleDocs(docs, "network.rule")
	limitDocs(docs, "")
	return docs
}

// ruleDocs explains the keys of a rule.
func ruleDocs(docs map[string]keyDoc, at string) {
	docs[at+".action"] = keyDoc{text: "What holds for the requests that the rule names."}
	docs[at+".host"] = keyDoc{text: "One name, or \"*.\" and a name: every name below that, at any depth, and not the name itself."}
	docs[at+".ports"] = keyDoc{text: "TCP ports.", unsaid: []int{443}, filled: true}
	docs[at+".methods"] = keyDoc{text: "HTTP methods; none: all.", example: []string{"GET", "HEAD"}}
	docs[at+".paths"] = keyDoc{text: "Paths; none: all. \"*\" is any run of characters but \"/\", \"**\" any run at all.", example: []string{"/api/**"}}
	docs[at+".inspect"] = keyDoc{text: "false: TLS is passed on unopened, so that only name and port are enforced, and no credential is added.", unsaid: true}
}

// limitDocs explains the tables that a profile and a policy share.
func limitDocs(docs map[string]keyDoc, most string) {
	for path, doc := range map[string]keyDoc{
		"budget":            {text: "What a run may use up."},
		"budget.time":       {text: "How long a run lasts.", example: "2h"},
		"budget.usd":        {text: "What its model calls may cost, in US dollars.", example: 5.0},
		"budget.tokens":     {text: "Tokens of its model calls.", example: 2000000},
		"budget.requests":   {text: "Requests that leave the boundary.", example: 5000},
		"budget.tool_calls": {text: "Calls of tools.", example: 500},
		"budget.denials":    {text: "Refused requests: an agent that is refused this often is stuck, or worse.", example: 25},
		"budget.on_limit":   {text: "What happens at a limit: a person is asked, or the run stops.", unsaid: "stop"},
		"limits":            {text: "What the container may use of the machine."},
		"limits.memory":     {text: "Memory.", example: "4GiB"},
		"limits.cpus":       {text: "Processors.", example: 2.0, min: 0.01, max: 4096},
		"limits.pids":       {text: "Processes and threads.", example: 512, min: 8, max: 4194304},
		"isolation":         {text: "What the container runs under."},
		"isolation.runtime": {text: "auto is what the tier asks for."},
	} {
		doc.text += most
		docs[path] = doc
	}
}

// setDocs explains every key of a named set.
func setDocs() map[string]keyDoc {
	docs := map[string]keyDoc{
		"version":     {text: "The version of the format.", unsaid: 1, min: 1, max: 1},
		"description": {text: "One line for people: what the set reaches, and for what.", example: "The npm registry, read-only"},
		"model":       {text: "The hosts are a model's API, whose writing methods tiers do not ask about.", unsaid: false},
		"rule":        {text: "A rule of the set."},
	}
	ruleDocs(docs, "rule")
	return docs
}

// policyDocs explains every key of an organisation's policy.
func policyDocs() map[string]keyDoc {
	docs := map[string]keyDoc{
		"version":         {text: "The version of the format.", unsaid: 1, min: 1, max: 1},
		"tier":            {text: "The lowest tier that a profile may have."},
		"workspace":       {text: "How agents see repositories."},
		"workspace.mode":  {text: "At least as careful: direct, then review, then readonly."},
		"workspace.hide":  {text: "Files that are hidden in every repository: patterns relative to it, as in .gitignore.", example: []string{".env*"}},
		"network":         {text: "Where agents may go."},
		"network.default": {text: "At least as careful: allow, then ask, then deny."},
		"network.only":    {text: "The only hosts that any rule or default reaches. Left out: no such limit.", example: []string{"*.example.com", "api.anthropic.com"}, filled: true},
		"network.rule":    {text: "A rule that holds in every profile. It denies or asks; none allows."},
	}
	ruleDocs(docs, "network.rule")
	limitDocs(docs, " In a policy: at most.")
	docs["isolation"] = keyDoc{text: "What containers run under."}
	docs["isolation.runtime"] = keyDoc{text: "At least as careful: container, then gvisor, then microvm."}
	return docs
}
