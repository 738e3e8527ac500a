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

// shape is a text with what varies taken out, on one line.
func shape(line string) string {
	for _, v := range varies() {
		line = regexp.MustCompile(v.what).ReplaceAllString(line, v.with)
	}
	return strings.TrimSpace(line)
}

// Differs says which of the lines that are shown the output does not have, in their order. Paths, ids, numbers, times and sizes may be
// others, lines may be broken elsewhere, and "…" stands for anything.
func Differs(shown []string, output string) error {
	rest := shape(output)
	for _, line := range shown {
		want := shape(line)
		at := pattern(want).FindStringIndex(rest)
		if at == nil {
			return fmt.Errorf("the output has no line like\n  %s\n(in shape: %s), or not behind the line above it", line, want)
		}
		rest = rest[at[1]:]
	}
	return nil
}

func pattern(shape string) *regexp.Regexp {
	parts := strings.Split(shape, "…")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(strings.Join(parts, ".*?"))
}
