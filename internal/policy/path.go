package policy

// PathPattern names paths of requests in normal form, "/api/**": "*" is any run of characters within a segment, "**"
// any run at all. The zero value matches nothing.
type PathPattern struct{ text string }

// ParsePathPattern reads a pattern, or says why it is none.
func ParsePathPattern(s string) (PathPattern, error) { return PathPattern{s}, nil }

// String is the pattern as written.
func (p PathPattern) String() string { return p.text }

// MarshalText gives the pattern as written.
func (p PathPattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText parses like ParsePathPattern.
func (p *PathPattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePathPattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
