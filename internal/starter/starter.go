// Package starter writes first profiles: from what a repository looks like (Survey, Profile) and from what other tools
// were told about their sandboxes (Import).
//
// It owns what is read for that and what is written, nothing on the machine: files come as an fs.FS or as bytes, and
// only Write touches a disk. All that it reads belongs to somebody else, so it is read within bounds, links are not
// followed, no value that may be a secret leaves it, and no text from a file gets into a profile but as a checked value
// or as an escaped comment. It never makes a profile wider on a file's word alone: what a repository asks for stands
// commented out, and what an import cannot say exactly it says more narrowly, with a note.
package starter

import (
	"fmt"
	"strings"
	"unicode"
)

// maxShown bounds, in runes, what a message or a comment shows of a text from a file.
const maxShown = 240

// quote writes s as a TOML string. What is not printable is escaped, so that nobody sees another text than is there.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// clean makes s fit for one line of a comment or of a terminal, and not too long for it.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxShown {
			b.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}

func escaped(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf(`\U%08X`, r)
	}
	return fmt.Sprintf(`\u%04X`, r)
}

// NameFrom makes a profile's name of any text: "Acme Billing" gives "acme-billing". "" says that nothing is left.
func NameFrom(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
		if b.Len() == 63 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}
