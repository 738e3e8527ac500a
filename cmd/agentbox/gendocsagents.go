//go:build gendocs

package main

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
	"agentbox/test/realagents"
)

const (
	agentsPage  = "docs/AGENTS.md"
	agentsBegin = "<!-- from profiles/*.toml, by make generate -->\n"
	agentsEnd   = "<!-- end -->\n"
)

// writeAgents puts what the built-in profiles say of agents between the two marks of the page; the rest of it is written by hand.
func writeAgents() error {
	page, err := os.ReadFile(agentsPage)
	if err != nil {
		return err
	}
	head, rest, begun := strings.Cut(string(page), agentsBegin)
	_, tail, ended := strings.Cut(rest, agentsEnd)
	if !begun || !ended {
		return fmt.Errorf("writing %s: its marks are gone", agentsPage)
	}
	text, err := agentsText()
	if err != nil {
		return err
	}
	return os.WriteFile(agentsPage, []byte(head+agentsBegin+text+agentsEnd+tail), 0o644)
}

func agentsText() (string, error) {
	files := profiles.Files{BuiltIn: builtin.Files()}
	table := "| profile | install | your key | reaches |\n|---|---|---|---|\n"
	var sections strings.Builder
	for _, name := range files.Names() {
		l, err := profiles.Load(name, files)
		if err != nil {
			return "", err
		}
		if l.Profile.Agent.Install == "" {
			continue
		}
		table += agentsRow(l.Profile)
		section, err := agentsSection(l.Profile)
		if err != nil {
			return "", err
		}
		sections.WriteString(section)
	}
	return "\n" + table + sections.String() + "\n", nil
}

func agentsRow(p profiles.Profile) string {
	c := p.Credentials[0]
	key := "your subscription"
	if c.Source.OAuth == nil {
		key = fmt.Sprintf("`$%s`, or `%s` in the keyring", c.Source.Env, c.Source.Keyring)
	}
	return fmt.Sprintf("| [`%s`](#%s) | `%s` | %s | %s |\n", p.Name, p.Name, p.Agent.Install, key, inCode(realagents.Hosts(p)))
}

// agentsSection gives the reasons that stand in the profile, as they stand there, and what it sets.
func agentsSection(p profiles.Profile) (string, error) {
	text, err := fs.ReadFile(builtin.Files(), p.Name+".toml")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n%s.\n", p.Name, p.Description)
	for _, reason := range reasons(string(text)) {
		fmt.Fprintf(&b, "\n%s\n", reason)
	}
	var set []string
	for name := range p.Agent.Env {
		set = append(set, "$"+string(name))
	}
	slices.Sort(set)
	for _, f := range p.Agent.Files {
		set = append(set, f.Path)
	}
	if len(set) > 0 {
		fmt.Fprintf(&b, "\nIt sets %s.\n", inCode(set))
	}
	for _, c := range p.Credentials {
		if c.Env != "" {
			fmt.Fprintf(&b, "\nInside, `$%s` holds a placeholder; the key goes out as `%s`.\n", c.Env, c.Header)
		}
	}
	return b.String(), nil
}

// reasons are the comments of a profile, one a block, outside of the contents of files.
func reasons(text string) (all []string) {
	var block []string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		inside = inside != (strings.Count(line, "'''")%2 == 1)
		if comment, found := strings.CutPrefix(line, "#"); found && !inside {
			block = append(block, strings.TrimSpace(comment))
			continue
		}
		if len(block) > 0 {
			all = append(all, strings.Join(block, "\n"))
		}
		block = nil
	}
	return all
}

func inCode(words []string) string {
	return "`" + strings.Join(words, "`, `") + "`"
}
