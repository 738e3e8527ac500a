package images

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is what is wrong with a Containerfile, and where.
type Problem struct {
	File string
	Line int // 0: the whole
	Text string
	Hint string
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// HintText is the line to show below the error.
func (p *Problem) HintText() string { return p.Hint }

const (
	maxFile  = 256 << 10 // bytes of a Containerfile
	maxLines = 2000      // instructions
	maxLine  = 60 << 10  // bytes of one: Podman 4 leaves the rest of a file out, without a word, where a line of it has 64 KiB
)

// logical is one instruction with its continuation lines joined.
type logical struct {
	line int // where it begins
	text string
}

// logicals splits a file into instructions. What different readers take differently is refused.
func logicals(name string, data []byte) ([]logical, error) {
	if len(data) > maxFile {
		return nil, &Problem{File: name, Text: fmt.Sprintf("it has more than %d bytes", maxFile), Hint: "put long scripts into files, and COPY them"}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out []logical
	var open *logical
	for i, line := range strings.Split(string(data), "\n") {
		at := i + 1
		line = strings.TrimSuffix(line, "\r")
		if err := readable(name, at, line); err != nil {
			return nil, err
		}
		trimmed := strings.Trim(line, " \t")
		if open == nil && len(out) == 0 {
			if err := directive(name, at, trimmed); err != nil {
				return nil, err
			}
		}
		if trimmed == "" || strings.HasPrefix(trimmed, "#") { // also within an instruction
			continue
		}
		if open == nil {
			open = &logical{line: at}
			line = strings.TrimLeft(line, " \t")
		}
		body, more := strings.CutSuffix(strings.TrimRight(line, " \t"), `\`)
		if strings.HasSuffix(body, `\`) && more {
			return nil, &Problem{File: name, Line: at, Text: `a line ends in two backslashes, which programs read differently`, Hint: "end it in one, to go on in the next line, or in something else"}
		}
		if !more {
			body = line
		}
		open.text += body
		if err := whole(name, *open); err != nil {
			return nil, err
		}
		if !more {
			out, open = append(out, *open), nil
		}
	}
	if open != nil { // the file ends in the midst of it
		out = append(out, *open)
	}
	for _, l := range out {
		if strings.HasSuffix(strings.TrimRight(l.text, " \t"), `\`) {
			return nil, &Problem{File: name, Line: l.line, Text: "it ends in a backslash, and there is nothing that it goes on with"}
		}
	}
	if len(out) > maxLines {
		return nil, &Problem{File: name, Text: fmt.Sprintf("it has more than %d instructions", maxLines)}
	}
	return out, nil
}

// whole refuses what the engine would not read to its end.
func whole(name string, l logical) error {
	if len(l.text) <= maxLine {
		return nil
	}
	return &Problem{File: name, Line: l.line, Text: fmt.Sprintf("the instruction has more than %d bytes", maxLine), Hint: "put long scripts into files, and COPY them"}
}

// readable refuses characters that do not show what a line says.
func readable(name string, at int, line string) error {
	if !utf8.ValidString(line) {
		return &Problem{File: name, Line: at, Text: "this is not UTF-8"}
	}
	for _, r := range line {
		if r != '\t' && (unicode.IsControl(r) || r != ' ' && unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return &Problem{File: name, Line: at, Text: fmt.Sprintf("the character %U is not one that can be seen", r), Hint: "write spaces and tabs as such"}
		}
	}
	return nil
}

// directive refuses those that change how the rest is read.
func directive(name string, at int, line string) error {
	comment, ok := strings.CutPrefix(line, "#")
	if !ok {
		return nil
	}
	key, value, _ := strings.Cut(comment, "=")
	if strings.EqualFold(strings.TrimSpace(key), "escape") && strings.TrimSpace(value) != `\` {
		return &Problem{File: name, Line: at, Text: "another escape character than the backslash is not supported", Hint: "leave the directive out, and end lines that go on with a backslash"}
	}
	return nil
}
