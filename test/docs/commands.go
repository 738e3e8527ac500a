// Package docs finds the commands that the documentation shows, for the tests that hold the documentation to them: one here runs
// them (TestDocumentedCommands), one asks agentbox's own command line whether it has these verbs and flags
// (cmd/agentbox, TestDocumentedVerbsAndFlags).
//
// It owns what counts as a command, the comments by which writers say more of a block, and the table of commands that another
// stands in for when they are run. CONTRIBUTING.md ("Writing documentation") says the same to writers.
package docs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/site"
)

// Block is a block of commands, or of output that a command gives.
type Block struct {
	Page string
	site.Block
	How
}

// How is what the comment before a block says of it.
type How struct {
	Kind  Kind
	Setup string // what is run before
	Exit  int    // what the block's last command exits with
	Why   string // it is not run
	Place string // the file that it is written to, in the repository or below ~/
	From  string // the command whose output it is; "": the last command of the block above
}

// Kind is what becomes of a block.
type Kind int

// The kinds.
const (
	Nothing Kind = iota // it shows no command
	Runs                // it is run
	NotRun              // it is not run, for a reason; verbs and flags are checked all the same
	Output              // it is held against the output of a command
	File                // it is written to a file
)

// Read reads every block of every page of the repository at dir, but for those that `make generate` writes.
func Read(dir string) ([]Block, error) {
	pages, err := site.Read(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	var all []Block
	for _, name := range pages.Names() {
		if Generated(name) {
			continue
		}
		for _, b := range pages.Pages[name].Blocks {
			how, err := how(b)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, b.Line, err)
			}
			all = append(all, Block{name, b, how})
		}
	}
	return all, nil
}

// Generated reports whether `make generate` writes a page. What such pages show are examples of one verb each, whose own tests
// run it; they hang together in no order.
func Generated(page string) bool {
	return strings.HasPrefix(page, "docs/commands/") || page == "docs/KEYS.md"
}

// comment is what may stand before a block.
var comment = regexp.MustCompile(`(?s)^(run|not run|file|output of|output of the block above)(?:, exit ([0-9]+))?(?::\s*(.*))?$`)

func how(b site.Block) (How, error) {
	m := comment.FindStringSubmatch(b.Comment)
	if m == nil {
		if strings.Contains(b.Comment, "run") || strings.Contains(b.Comment, "output") {
			return How{}, fmt.Errorf("the comment %q is none of: run: SETUP, run, exit N: SETUP, not run: REASON, file: PLACE, output of: COMMAND, output of the block above", b.Comment)
		}
		if shows(b) {
			return How{Kind: Runs}, nil
		}
		return How{}, nil
	}
	switch m[1] {
	case "not run":
		if len(m[3]) < 10 {
			return How{}, fmt.Errorf("a block that is not run says why: <!-- not run: it asks a real account -->")
		}
		return How{Kind: NotRun, Why: m[3]}, nil
	case "file":
		return How{Kind: File, Place: m[3]}, nil
	case "output of", "output of the block above":
		return How{Kind: Output, From: m[3]}, nil
	}
	exit, _ := strconv.Atoi(m[2]) // digits, or ""
	return How{Kind: Runs, Setup: m[3], Exit: exit}, nil
}

// programs are what the first word of a command may be.
var programs = regexp.MustCompile(`^(\$ |([A-Z_]+=\S* +)*(sudo |pass |printf |echo )?(agentbox [a-z-]+|bin/agentbox|make|git|cd|export|source|bash|install|man|npm|pip|go|cargo|curl|wget|podman|docker|apt|apt-get|brew|dnf|nix|tar|sha256sum|cosign|chmod|mkdir|taplo|ssh|gh|pass|hack/\S+|\./\S+|npx|pipx|uv|systemctl|launchctl|gpg|cp|mv|rm|cat|ls|test)(\s|$))`)

// shows reports whether a block's lines are commands: its language says so, or its first line is one.
func shows(b site.Block) bool {
	if slices.Contains([]string{"sh", "bash", "console"}, b.Language) {
		return true
	}
	return b.Language == "" && programs.MatchString(strings.TrimLeft(b.Text, "\n"))
}

// Prompts reports whether a block shows output too: then what is typed stands behind "$ ".
func (b Block) Prompts() bool { return prompt.MatchString(b.Text) }

var prompt = regexp.MustCompile(`(?m)^\$ `)

// Step is one command with the output that is shown of it.
type Step struct {
	Line   int
	Text   string
	Output []string
}

// Steps are the commands of a block: each line behind a prompt with what is shown below it, else the whole block as one.
func (b Block) Steps() (steps []Step) {
	if !b.Prompts() {
		return []Step{{Line: b.Line, Text: b.Text}}
	}
	for i, line := range strings.Split(strings.TrimRight(b.Text, "\n"), "\n") {
		if typed, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, Step{Line: b.Line + i, Text: typed})
		} else if len(steps) > 0 {
			last := &steps[len(steps)-1]
			if strings.HasSuffix(last.Text, "\\") {
				last.Text += "\n" + line
			} else {
				last.Output = append(last.Output, line)
			}
		}
	}
	return steps
}
