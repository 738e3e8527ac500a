package profiles

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// source is one file: its name for messages, whose it is, and its text, without a byte order mark.
type source struct {
	file  string
	level Level
	data  []byte
	text  string
	large bool    // too large to be looked at
	lines []int32 // where each line begins, once asked for
	last  int     // the line asked for last, from 0
	seen  struct{ line, offset, col int }
}

func newSource(file string, level Level, data []byte) *source {
	return ownSource(file, level, bytes.Clone(data))
}

// ownSource keeps data, which nobody else has.
func ownSource(file string, level Level, data []byte) *source {
	if len(data) > maxFile {
		return &source{file: file, level: level, large: true}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	return &source{file: file, level: level, data: data, text: string(data)}
}

// line is the line of an offset, from 1. Questions in the file's order are answered without a search.
func (s *source) line(offset int) int {
	if s.lines == nil {
		s.lines = make([]int32, 1, 1+bytes.Count(s.data, []byte("\n")))
		for at := 0; ; {
			i := strings.IndexByte(s.text[at:], '\n')
			if i < 0 {
				break
			}
			at += i + 1
			s.lines = append(s.lines, int32(at)) //nolint:gosec // at most maxFile
		}
	}
	for near := s.last; near < len(s.lines) && near < s.last+12; near++ {
		if s.begins(near) <= offset && offset < s.begins(near+1) {
			s.last = near
			return near + 1
		}
	}
	i, found := slices.BinarySearch(s.lines, int32(offset)) //nolint:gosec // at most maxFile
	if !found {
		i--
	}
	s.last = i
	return i + 1
}

// begins is where a line begins, from 0; the one after the last begins nowhere.
func (s *source) begins(line int) int {
	if line >= len(s.lines) {
		return len(s.data) + 1
	}
	return int(s.lines[line])
}

// place is an offset as messages name it.
func (s *source) place(offset int) Place {
	offset = max(0, min(offset, len(s.data)))
	line := s.line(offset)
	return Place{Level: s.level, File: s.file, Line: line, Col: s.column(line, offset)}
}

// origin is the place of an offset without its column.
func (s *source) origin(offset int) string { return Place{File: s.file, Line: s.line(offset)}.String() }

// column counts from the place asked for last when that is nearer than the line's beginning: a file may be one line.
func (s *source) column(line, offset int) int {
	from, col := s.begins(line-1), 1
	if s.seen.line == line && max(s.seen.offset-offset, offset-s.seen.offset) < offset-from {
		from, col = s.seen.offset, s.seen.col
	}
	if from <= offset {
		col += utf8.RuneCountInString(s.text[from:offset])
	} else {
		col -= utf8.RuneCountInString(s.text[offset:from])
	}
	s.seen.line, s.seen.offset, s.seen.col = line, offset, col
	return col
}

// problem makes the Problem at an offset.
func (s *source) problem(offset int, code, hint, text string) Problem {
	p := s.place(offset)
	start := s.begins(p.Line - 1)
	snippet := s.text[start:]
	if i := strings.IndexByte(snippet, '\n'); i >= 0 {
		snippet = snippet[:i]
	}
	return Problem{File: s.file, Line: p.Line, Col: p.Col, Code: code, Text: text, Hint: hint, Snippet: printable(strings.TrimRight(cut(snippet, p.Col), "\r"))}
}

// cut keeps a line of megabytes from being shown whole; what stands around the column stays.
func cut(line string, col int) string {
	if end := 4 * (col + 200); len(line) > end {
		return strings.ToValidUTF8(line[:end], "")
	}
	return line
}
