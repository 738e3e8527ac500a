package docs

import (
	"regexp"
	"strings"
)

// StandIn is run in the place of commands that need what a test has not. An empty With leaves the command out.
type StandIn struct {
	For  *regexp.Regexp // a whole line, without its comment
	With string         // as regexp's Expand
	Why  string
}

// StandIns is the whole list. A test fails when the documentation has no use of one.
func StandIns() []StandIn {
	list := []StandIn{
		{For: re(`(agentbox run (?:claude|codex|gemini|opencode|claude-login|codex-login|billing|NAME)(?: --(?:timeout|workspace) \S+)*)`), With: "$1 --dry-run", Why: "it would be an agent's own screen, which test/e2e shows in a terminal"},
		{For: re(`agentbox apply`), Why: "it shows the review on a terminal, which internal/tui and test/e2e do"},
		{For: re(`agentbox apply --commits`), With: "agentbox apply --commits --yes", Why: "it asks on a terminal"},
		{For: re(`agentbox discard`), With: "agentbox discard --yes", Why: "it asks on a terminal"},
		{For: re(`(agentbox (?:why|replay) .*)`), With: "$1 || [ $$? = 1 ]", Why: "its exit code is the answer"},
		{For: re(`agentbox trust`), With: "answer 'agentbox trust'", Why: "it asks on a terminal, and nothing else will do"},
		{For: re(`(agentbox learn x7k2)`), With: "$1 --accept", Why: "it asks on a terminal"},
		{For: re(`(agentbox secret set \S+)`), With: "echo a-secret-of-the-test | $1", Why: "it asks on a terminal"},
		{For: re(`pass show \S+ \| (.*)`), With: "echo a-secret-of-the-test | $1", Why: "it is another program's store"},
		{For: re(`agentbox (?:approvals|(?:approve|deny) 793mg.*)`), Why: "a run has to wait for an answer: test/e2e asking_test.go"},
		{For: re(`agentbox stop (?:x7k2|--credential \S+)`), Why: "a run has to be going on: test/e2e TestStop…"},
		{For: re(`agentbox events -f`), Why: "it goes on for as long as a run does: test/e2e TestEvents…"},
		{For: re(`sudo .*`), Why: "tests are not root"},
		{For: re(`(?:\S+=\S+ +)?(?:make|hack/\S+|go test)(?: .*)?`), Why: "it is how agentbox itself is built and tested; the target, script or package is looked up"},
		{For: re(`bin/agentbox doctor`), Why: "the checkout is not where commands are run; agentbox doctor is run elsewhere"},
		{For: re(`agentbox doctor`), With: "agentbox doctor || [ $$? = 1 ]", Why: "the machine of a test may lack something"},
		{For: re(`agentbox completion zsh >.*`), With: "agentbox completion zsh >/dev/null", Why: "the place is a variable of zsh's: test/completions"},
		{For: re(`agentbox completion powershell \|.*`), With: "agentbox completion powershell >/dev/null", Why: "PowerShell is not there"},
		{For: re(`(?:man -l|install -m 644 -D -t \S+) man/.*`), Why: "the checkout is not where commands are run: test/man"},
	}
	return list
}

// re matches a whole line.
func re(expression string) *regexp.Regexp { return regexp.MustCompile(`^` + expression + `$`) }

// remark is a comment behind a command.
var remark = regexp.MustCompile(`(^|\s+)# .*$`)

// Uncommented is a line without its comment.
func Uncommented(line string) string {
	return strings.TrimRight(remark.ReplaceAllString(line, ""), " ")
}

// Replace gives what is run for the lines of a command: as many lines. Used is called with the index of each stand-in that was put in.
func Replace(text string, used func(int)) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = placeholders(standIn(line, used))
	}
	return strings.Join(lines, "\n")
}

func standIn(line string, used func(int)) string {
	bare := Uncommented(line)
	for i, s := range StandIns() {
		m := s.For.FindStringSubmatchIndex(bare)
		if m == nil {
			continue
		}
		used(i)
		if s.With == "" {
			return ":"
		}
		return string(s.For.ExpandString(nil, s.With, bare, m))
	}
	return line
}

// placeholders puts what there is in the place of what the documentation names as an example: x7k2 is the latest run, RUN its whole
// id, NAME the profile that the repository has.
func placeholders(line string) string {
	for _, p := range []struct{ name, with string }{
		{`\bx7k2\b`, `$(latest)`}, {`\bRUN\b`, `$(latest_id)`}, {`\bNAME\b`, `billing`},
	} {
		line = regexp.MustCompile(p.name).ReplaceAllLiteralString(line, p.with)
	}
	return line
}
