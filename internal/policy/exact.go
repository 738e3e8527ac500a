package policy

// ExactPath is the pattern that names one path, escaped as in a request line, and no other; false when the path is not
// in normal form, or too long for a pattern.
func ExactPath(escaped string) (PathPattern, bool) {
	var buf [maxPath]byte
	units, flaw := normalPath(buf[:0], escaped)
	if flaw != "" {
		return PathPattern{}, false
	}
	const digits = "0123456789ABCDEF"
	var text []byte
	for _, unit := range units {
		switch {
		case unit == unitSlash:
			text = append(text, "%2F"...)
		case unit == unitBack:
			text = append(text, "%5C"...)
		case unit != '*' && isPlain(unit):
			text = append(text, unit)
		default:
			text = append(text, '%', digits[unit>>4], digits[unit&15])
		}
	}
	p, err := ParsePathPattern(string(text))
	return p, err == nil && p.Match(escaped)
}
