// Package realagents is the one list of the real agents that tests run: a line each, beside the profile that says the rest.
// It owns the list and reads the built-in profiles; test/agents and test/e2e hold every agent of it to the same promises.
package realagents

import (
	"fmt"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// Agent is what a test must know of an agent that its profile does not say.
type Agent struct {
	Profile string
	Task    []string // the arguments for one task without a person
	Ready   string   // its screen shows this once it takes a prompt, and only then
	Quit    []string // keys that end it: none too many, which would meet what comes after it
	Refused []string // hosts that it asks for although nothing switches that off, and that stay refused
}

// All lists the agents. test/agents fails where a built-in profile of an agent from npm has no line here.
func All() []Agent {
	once, twice := []string{"C-c"}, []string{"C-c", "C-c"}
	return []Agent{
		{"claude", []string{"-p", "do the task"}, "bypass permissions on", twice, nil},
		{"codex", []string{"exec", "do the task"}, "? for shortcuts", once, []string{"raw.githubusercontent.com"}}, // its announcements
		{"opencode", []string{"run", "do the task"}, "Ask anything", once, nil},
		{"gemini", []string{"-p", "do the task"}, "Type your message", twice, nil},
		{"pi", []string{"-p", "do the task"}, "(auto)", twice, nil},
		{"qwen", []string{"-p", "do the task"}, "Type your message", []string{"Enter", "/quit"}, nil}, // one more Enter, the next time round: hard upon the text it would be a paste
		{"continue", []string{"-p", "do the task"}, "Ask anything", twice, []string{"api.continue.dev"}},
		{"copilot", []string{"-p", "do the task"}, "? help", twice, nil},
	}
}

// Load reads an agent's built-in profile, which has one credential with a header and a variable.
func Load(name string) (profiles.Profile, error) {
	l, err := profiles.Load(name, profiles.Files{BuiltIn: builtin.Files()})
	if err != nil {
		return profiles.Profile{}, fmt.Errorf("reading the profile of a real agent: %w", err)
	}
	if n := len(l.Profile.Credentials); n != 1 {
		return profiles.Profile{}, fmt.Errorf("the profile %s has %d credentials, want 1", name, n)
	}
	return l.Profile, nil
}

// Hosts are those that a profile allows, in its order.
func Hosts(p profiles.Profile) []string {
	var hosts []string
	for _, r := range p.Network.Set().Rules {
		if r.Action == policy.Allow {
			hosts = append(hosts, r.Host.String())
		}
	}
	return hosts
}
