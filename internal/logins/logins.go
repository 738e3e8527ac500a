// Package logins knows the subscription logins of coding agents: where each keeps its tokens, how it has them refreshed,
// and what they look like. All that is particular to one stands in this one table.
//
// It owns data alone, and promises nothing about files that it has not seen: internal/secrets reads and writes them.
package logins

// Path leads to a value in a JSON document: the names of objects, outermost first. None is a value that this login does
// not have.
type Path []string

// Login is one agent's.
type Login struct {
	Name string // "claude"
	How  string // what a person does to log in, or to do it again
	File string // "~/.claude/.credentials.json"

	// Locks are what the agent itself takes before it refreshes, in that order: directories that are made, whose age
	// tells whether who made them lives. "{dir}" is the directory of the file, without links in it.
	Locks []string

	// The token endpoint: POST https://Host Endpoint with a JSON object. Client is what the agent is called there.
	Host     string
	Endpoint string
	Client   string

	// Where things stand in the file.
	Access    Path
	Refresh   Path
	ID        Path // an OpenID token
	Expires   Path // of the access token, in milliseconds since 1970; without it, the token says so itself
	Refreshed Path // when that was last done, RFC 3339
	ClientID  Path // the client that logged in, where that is not Client
	Scopes    Path // what was granted, a list; it is asked for again
	Account   Path // which account it is: no secret, and the agent has to name it
	Plan      Path // "pro"; without it, the access token says so

	// What placeholders begin with. An access token that is a JSON Web Token has no prefix.
	AccessShape  string
	RefreshShape string
	JWT          bool

	// Granted is the scope that the agent is told of inside: no more than it needs to work.
	Granted string
}

// Claims is where OpenAI's tokens say whose they are.
const Claims = "https://api.openai.com/auth"

// All lists the logins, by name.
func All() []Login { return []Login{claude(), codex()} }

// Find gives the login of a name.
func Find(name string) (Login, bool) {
	for _, l := range All() {
		if l.Name == name {
			return l, true
		}
	}
	return Login{}, false
}

// As Claude Code 2.1 has it: https://platform.claude.com is in no way the host that its models are at.
func claude() Login {
	in := func(name string) Path { return Path{"claudeAiOauth", name} }
	return Login{
		Name: "claude", How: `run "claude" on this machine, outside of agentbox, and /login in it`,
		File:  "~/.claude/.credentials.json",
		Locks: []string{"{dir}/.oauth_refresh.lock", "{dir}.lock"},

		Host: "platform.claude.com", Endpoint: "/v1/oauth/token", Client: "9d1c250a-e61b-44d9-88ed-5944d1962f5e",

		Access: in("accessToken"), Refresh: in("refreshToken"), Expires: in("expiresAt"), ClientID: in("clientId"), Scopes: in("scopes"),
		Plan: in("subscriptionType"),

		AccessShape: "sk-ant-oat01-", RefreshShape: "sk-ant-ort01-", Granted: "user:inference",
	}
}

// As Codex 0.169 has it. It takes no lock of its own.
func codex() Login {
	in := func(name string) Path { return Path{"tokens", name} }
	return Login{
		Name: "codex", How: `run "codex login" on this machine, outside of agentbox`,
		File:  "~/.codex/auth.json",
		Locks: []string{"{dir}/.agentbox-refresh.lock"},

		Host: "auth.openai.com", Endpoint: "/oauth/token", Client: "app_EMoamEEZ73f0CkXaXp7hrann",

		Access: in("access_token"), Refresh: in("refresh_token"), ID: in("id_token"), Account: in("account_id"),
		Refreshed: Path{"last_refresh"},

		RefreshShape: "rt_", JWT: true,
	}
}
