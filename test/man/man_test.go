// Package man holds the manual pages to what a reader and a formatter expect. That they say what the program's help
// says is seen to by `make generate`, which writes them.
package man

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("../../man/*.1")
	if err != nil || len(found) < 8 {
		t.Fatalf("there are %d pages: %v", len(found), err)
	}
	return found
}

func TestPagesAreClean(t *testing.T) {
	for _, page := range pages(t) {
		out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput()
		if err != nil {
			t.Errorf("mandoc on %s: %v\n%s", page, err, out)
		}
	}
}

func TestMandocFindsAFault(t *testing.T) {
	data, err := os.ReadFile("../../man/agentbox.1")
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.1")
	if err := os.WriteFile(bad, append(data, ".RE\n.NOSUCH request\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", bad).CombinedOutput(); err == nil {
		t.Errorf("a page with a fault is clean: %s", out)
	}
}

func TestEveryPageHasItsSections(t *testing.T) {
	for _, page := range pages(t) {
		out, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=78", page).Output()
		if err != nil {
			t.Fatal(err)
		}
		text := plain(string(out))
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			body := under(text, section)
			if strings.TrimSpace(body) == "" {
				t.Errorf("%s says nothing under %s", page, section)
			}
			if strings.Contains(body, "Exit codes") {
				t.Errorf("%s has exit codes under %s too", page, section)
			}
		}
		if base := filepath.Base(page); !strings.Contains(under(text, "NAME"), strings.TrimSuffix(base, ".1")+" - ") {
			t.Errorf("%s does not name itself", page)
		}
	}
}

// plain takes the overstriking out.
func plain(s string) string {
	var out []byte
	for i := range len(s) {
		if s[i] == '\b' {
			out = out[:len(out)-1]
		} else {
			out = append(out, s[i])
		}
	}
	return string(out)
}

// under is the body of a section: the indented lines behind its title.
func under(text, section string) string {
	_, rest, _ := strings.Cut(text, "\n"+section+"\n")
	var body []string
	for _, line := range strings.Split(rest, "\n") {
		if line != "" && !strings.HasPrefix(line, " ") {
			break
		}
		body = append(body, line)
	}
	return strings.Join(body, "\n")
}
