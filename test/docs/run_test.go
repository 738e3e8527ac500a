package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// prelude stands on the first line of each script: the run that "x7k2" is, a terminal on which each question is answered with yes,
// once it is there, and the line that failed.
const prelude = `latest_id() { basename "$(ls -d ~/.local/state/agentbox/sessions/2* | tail -1)"; }; latest() { local id; id=$(latest_id); echo "${id##*-}"; }; ` +
	`answer() { local said= c pid; coproc T { script -qefc "$1" /dev/null; }; pid=$T_PID; exec 8<&"${T[0]}" 9>&"${T[1]}"; ` +
	`while IFS= read -r -N1 -u8 c; do printf %s "$c"; said+=$c; if [[ $said == *"[y/N]"* ]]; then echo y >&9; said=; fi; done; exec 8<&- 9>&-; wait $pid; }; ` +
	`cd ~/src/billing; trap 'rc=$?; echo "@@ failed: line $((LINENO - 1)), exit code $rc"; exit $rc' ERR; set -E` + "\n"

// repository is what ~/src/billing holds at the beginning of each page.
const repository = `git init -q -b main .; git config user.name "A Person"; git config user.email person@example.com; echo "# billing" >README.md; printf 'one\ntwo\nthree\n' >notes.txt; mkdir -p src docs; echo 'print(1)' >src/main.py; printf 'test:\n\t@echo all tests pass\n' >Makefile
echo '# Guide' >docs/guide.md; git add .; git commit -qm 'the service'; git init -q --bare ~/origin.git; git remote add origin ~/origin.git; git push -q -u origin main`

// TestDocumentedCommands runs every command that README.md, CONTRIBUTING.md and docs/ show, page by page and in order, and holds
// the output that is shown against theirs. "Writing documentation" in CONTRIBUTING.md says how.
func TestDocumentedCommands(t *testing.T) {
	blocks, err := Read(top)
	if err != nil {
		t.Fatal(err)
	}
	for len(blocks) > 0 {
		n := 1
		for n < len(blocks) && blocks[n].Page == blocks[0].Page {
			n++
		}
		page := blocks[:n]
		blocks = blocks[n:]
		if !runs(page) {
			continue
		}
		t.Run(strings.ReplaceAll(page[0].Page, "/", "-"), func(t *testing.T) {
			d := newDocumented(t)
			for _, b := range page {
				d.block(b)
			}
		})
	}
}

func runs(page []Block) bool {
	for _, b := range page {
		if b.Kind == Runs || b.Kind == Output {
			return true
		}
	}
	return false
}

// block runs one block, after its set-up.
func (d *documented) block(b Block) {
	d.t.Helper()
	at := fmt.Sprintf("%s:%d", b.Page, b.Line)
	switch b.Kind {
	case Runs:
		if out, code := d.script(prelude + b.Setup); code != 0 {
			d.t.Errorf("%s: the set-up in its comment fails:\n%s\n%s", at, b.Setup, out)
			return
		}
		for i, s := range b.Steps() {
			exit := 0
			if i == len(b.Steps())-1 {
				exit = b.Exit
			}
			d.step(b, s, exit)
		}
	case File:
		d.file(b)
	case Output:
		out := d.said
		if b.From != "" {
			out, _ = d.script(prelude + b.From)
		}
		if err := Differs(strings.Split(b.Text, "\n"), out); err != nil {
			d.t.Errorf("%s: %v\n%s gives:\n%s", at, err, b.From, out)
		}
	}
}

// file writes a block where its comment says.
func (d *documented) file(b Block) {
	d.t.Helper()
	place := filepath.Join(d.home, "src", "billing", b.Place)
	if below, ok := strings.CutPrefix(b.Place, "~/"); ok {
		place = filepath.Join(d.home, below)
	}
	must(d.t, os.MkdirAll(filepath.Dir(place), 0o755))
	must(d.t, os.WriteFile(place, []byte(b.Text), 0o600))
}

const advice = `If the command is right and needs something first, put it into a comment before the block:
<!-- run: git checkout -qb feature -->      (what has to happen before; <!-- run, exit 1: … --> for one that fails)
<!-- not run: it needs a real account -->   (when no test can run it)`

func (d *documented) step(b Block, s Step, exit int) {
	d.t.Helper()
	text := Replace(s.Text, func(int) {})
	out, code := d.script(prelude + text)
	d.said = out
	if code != exit {
		d.t.Errorf("%s: the block from line %d on ends with exit code %d, want %d. What was run:\n%s\nWhat it said (a line that failed is counted from the block's first):\n%s\n%s",
			b.Page, s.Line, code, exit, text, out, advice)
		return
	}
	if err := Differs(s.Output, out); err != nil && text != ":" {
		d.t.Errorf("%s:%d: %v\nThe output is:\n%s", b.Page, s.Line, err, out)
	}
}
