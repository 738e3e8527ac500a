package findings

import (
	"fmt"
	"io"
	"strings"
)

// GitHub writes each finding as a workflow command of GitHub Actions, which shows it at its line of a change.
func GitHub(w io.Writer, fs []Finding) error {
	var b strings.Builder
	for _, f := range fs {
		b.WriteString(annotation(f))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func annotation(f Finding) string {
	command := "error"
	if f.Severity == Warning {
		command = "warning"
	}
	var props []string
	add := func(name, value string) { props = append(props, name+"="+property(value)) }
	if f.File != "" {
		add("file", f.File)
	}
	if f.File != "" && f.Line > 0 {
		add("line", fmt.Sprint(f.Line))
		if f.Col > 0 {
			add("col", fmt.Sprint(f.Col))
		}
	}
	add("title", "agentbox: "+f.Code)
	message := f.Message
	if f.Hint != "" {
		message += "\nhint: " + f.Hint
	}
	return fmt.Sprintf("::%s %s::%s\n", command, strings.Join(props, ","), data(message))
}

// data escapes the message of a workflow command: what would end its line.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(valid(s))
}

// property escapes a property's value: what would end its line, itself, or all properties.
func property(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(valid(s))
}

// valid makes characters that a terminal, or a reader of the log, would act on harmless, and keeps line ends for the
// escapes.
func valid(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}
