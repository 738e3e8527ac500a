package learn

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// TOML is the rule as a profile has it.
func (r Rule) TOML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[network.rule]]\naction = \"allow\"\nhost = %q\n", r.Host.String())
	if r.Port != 443 {
		fmt.Fprintf(&b, "ports = [%d]\n", r.Port)
	}
	if r.Scheme != "" {
		fmt.Fprintf(&b, "scheme = %q\n", r.Scheme)
	}
	if w := r.WebSocket(); w != "" {
		fmt.Fprintf(&b, "websocket = %s\n", w)
	}
	b.WriteString(list("methods", r.Methods))
	if len(r.Paths) > 0 {
		b.WriteString(list("paths", r.Texts()))
	}
	return b.String()
}

const longLine = 100

// list writes a list on one line, or one element a line. None of its words needs an escape.
func list(key string, words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	line := key + " = [" + strings.Join(quoted, ", ") + "]\n"
	if len(line) <= longLine || len(words) == 1 {
		return line
	}
	return key + " = [\n  " + strings.Join(quoted, ",\n  ") + ",\n]\n"
}

// Edit writes the proposal into the text of a profile, which may be empty. Nothing that is there changes but the line
// network.use, when there are sets; false says that this line is written in a way that only an editor can change.
func Edit(text string, p Proposal) (string, bool) {
	if text == "" {
		text = "version = 1\n"
	}
	text = strings.TrimRight(text, "\n") + "\n"
	if len(p.Sets) > 0 {
		var ok bool
		if text, ok = use(text, p.Sets); !ok {
			return "", false
		}
	}
	for _, r := range p.Rules {
		text += "\n" + r.TOML()
	}
	return text, true
}

// use adds names to network.use.
func use(text string, sets []SetUse) (string, bool) {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = strconv.Quote(s.Set.Name)
	}
	added := strings.Join(names, ", ")
	lines := strings.SplitAfter(text, "\n")
	header := slices.IndexFunc(lines, regexp.MustCompile(`^\s*\[network\]\s*(#.*)?\n?$`).MatchString)
	if header < 0 {
		return text + "\n[network]\nuse = [\"...\", " + added + "]\n", !regexp.MustCompile(`(?m)^\s*network\b`).MatchString(text)
	}
	is, whole := regexp.MustCompile(`^\s*"?use"?\s*=`), regexp.MustCompile(`^(\s*use\s*=\s*\[)([^\]#]*)(\].*\n?)$`)
	for i := header + 1; i < len(lines) && !strings.HasPrefix(strings.TrimSpace(lines[i]), "["); i++ {
		if !is.MatchString(lines[i]) {
			continue
		}
		at := whole.FindStringSubmatch(lines[i])
		if at == nil {
			return "", false
		}
		before := strings.TrimRight(at[2], ", ")
		if before != "" {
			before += ", "
		}
		lines[i] = at[1] + before + added + at[3]
		return strings.Join(lines, ""), true
	}
	lines[header] = strings.TrimRight(lines[header], "\n") + "\nuse = [\"...\", " + added + "]\n"
	return strings.Join(lines, ""), true
}
