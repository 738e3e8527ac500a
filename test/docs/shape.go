package docs

import (
	"fmt"
	"regexp"
	"strings"
)

// varies is what differs from run to run, and what stands for it.
func varies() []struct{ what, with string } {
	return []struct{ what, with string }{
		{`/\S*/home/src/billing|/home/you/src/billing|~/src/billing`, `REPO`},
		{`/\S*/home/\.|/home/you/\.|~/\.`, `HOME/.`},
		{`agbx[A-Za-z0-9]+`, `agbxX`},
		{`\b[0-9]{8}-[0-9]{6}-[a-z0-9]{4}\b`, `RUN`},
		{`(run|learn|diff|apply|discard|undo|replay) [a-z0-9]{4}\b`, `$1 ID`},
		{`\b[0-9a-f]{12,64}\b`, `HASH`},
		{`[0-9][0-9.]* ?(ns|µs|ms|s|m|h|d|B|kB|MB|GB)\b([0-9][0-9.]*(s|m)\b)?`, `N`},
		{`[0-9]+(\.[0-9]+)*`, `N`},
		{`\s+`, ` `},
	}
}

func shape(line string) string {
	for _, v := range varies() {
		line = regexp.MustCompile(v.what).ReplaceAllString(line, v.with)
	}
	return strings.TrimSpace(line)
}

// Differs says which of the lines that are shown the output does not have, in their order. Paths, ids, numbers, times and sizes may be
// others; "…" stands for anything, a line of its own for any lines. A long line of
// the output may be shown as several.
func Differs(shown []string, output string) error {
	got := strings.Split(output, "\n")
	at := 0
	for _, line := range shown {
		if want := shape(line); want != "" && want != "…" {
			n := at
			for n < len(got) && !matches(want, shape(got[n])) {
				n++
			}
			if n == len(got) {
				return fmt.Errorf("the output has no line like\n  %s\n(in shape: %s)", line, want)
			}
			at = n
		}
	}
	return nil
}

func matches(want, got string) bool {
	parts := strings.Split(want, "…")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(strings.Join(parts, ".*")).MatchString(got)
}
