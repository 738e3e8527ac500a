package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/replay"
)

// writeSummary says in a few lines what crossed the boundary. Names that an agent chose are shown escaped.
func writeSummary(w io.Writer, t *event.Tally, id, reason string, took time.Duration, log string) {
	fmt.Fprintf(w, "agentbox: %s · %s · run %s\n", reason, round(took), id)
	all := t.Hosts()
	hosts := slices.DeleteFunc(slices.Clone(all), func(h event.HostCount) bool { return h.Allowed <= h.Failed })
	for i, h := range hosts {
		if i == summaryLines {
			fmt.Fprintf(w, "  reached     … and %d more hosts\n", len(hosts)-i)
			break
		}
		fmt.Fprintf(w, "  reached     %s  %s, %s up, %s down\n", place(h.HostPort), times(h.Allowed-h.Failed, "request"), size(h.BytesUp), size(h.BytesDown))
	}
	failed := slices.DeleteFunc(all, func(h event.HostCount) bool { return h.Failed == 0 })
	for i, h := range failed {
		if i == summaryLines {
			fmt.Fprintf(w, "  failed      … and %d more hosts\n", len(failed)-i)
			break
		}
		fmt.Fprintf(w, "  failed      %s  %s: %s\n", place(h.HostPort), times(h.Failed, "time"), printable(h.Failure))
	}
	refused := t.Refused()
	for i, r := range refused {
		if i == summaryLines {
			fmt.Fprintf(w, "  refused     … and %d more\n", len(refused)-i)
			break
		}
		fmt.Fprintf(w, "  refused     %s  %s: %s\n", place(r.HostPort), times(r.Count, "time"), printable(r.Reason))
	}
	if hint := wayThrough(refused, id); hint != "" {
		fmt.Fprintf(w, "  learn       %s\n", hint)
	}
	for _, c := range t.Credentials() {
		line := fmt.Sprintf("  credential  %s  used %s", printable(c.Name), times(c.Used, "time"))
		if c.Refused > 0 {
			line += fmt.Sprintf(", REFUSED %s", times(c.Refused, "time"))
		}
		if c.Seen > 0 {
			line += fmt.Sprintf(", its placeholder sent to %s in what was asked", times(c.Seen, "host"))
		}
		fmt.Fprintln(w, line)
	}
	if len(hosts)+len(failed)+len(refused) == 0 {
		fmt.Fprintln(w, "  network     nothing was asked for")
	}
	fmt.Fprintf(w, "  log         %s\n", log)
}

const summaryLines = 10

// wayThrough says what would allow what was refused: of one request the command itself, of several where to see it.
// Only what the default denies is worth a hint: all else somebody, also who was asked, or agentbox, has decided.
func wayThrough(refused []event.Refusal, id string) string {
	refused = slices.DeleteFunc(slices.Clone(refused), func(r event.Refusal) bool {
		return r.First.Rule != "default" || r.Kind == event.NetRefused || strings.HasPrefix(r.First.Reason, policy.PersonDenied)
	})
	if len(refused) == 1 && refused[0].Count == 1 && refused[0].Kind == event.NetRequest {
		if r, err := replay.Request(refused[0].First); err == nil && r.Scheme != policy.TCP && r.Git == nil {
			return escaped(plan.GrantCommand(r)) + "  would allow it, for you and this repository"
		}
	}
	if len(refused) == 0 {
		return ""
	}
	return "agentbox learn " + id[strings.LastIndexByte(id, '-')+1:] + "  shows what would allow this"
}

func place(at event.HostPort) string {
	if at.Port == 0 {
		return printable(at.Host)
	}
	return fmt.Sprintf("%s:%d", printable(at.Host), at.Port)
}

func times(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

func round(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

const longestShown = 200

// printable escapes what could redraw a terminal, and cuts what is too long.
func printable(s string) string {
	if len(s) > longestShown {
		s = s[:longestShown] + "…"
	}
	return escaped(s)
}

// escaped shows what would redraw the screen, reorder it or pass for a command of a CI runner as it is written in a
// program.
func escaped(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError || !unicode.IsPrint(r), r == '[' && strings.HasSuffix(s[:i], "##"), r == ':' && command(s[:i], s[i:]):
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// command reports whether a line begins a command of GitHub's runner, which looks behind blanks.
func command(before, rest string) bool {
	return strings.HasPrefix(rest, "::") && strings.TrimLeft(before, " ") == ""
}

// escapedLines is escaped for text of several lines.
func escapedLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = escaped(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}
