package findings

import (
	"bytes"
	"encoding/json"
	"io"
)

// document is what JSON writes. Names of fields stay as they are as long as version does.
type document struct {
	Version  int       `json:"version"` // of this format: 1
	Agentbox string    `json:"agentbox"`
	Profiles []string  `json:"profiles"` // those that were checked, sorted
	Counts   counts    `json:"counts"`
	Findings []Finding `json:"findings"`
}

type counts struct {
	Errors    int `json:"errors"`
	Warnings  int `json:"warnings"`
	Widenings int `json:"widenings"`
	Stale     int `json:"stale"`
}

// JSON writes one object:
//
//	{ "version": 1, "agentbox": "v0.2.0", "profiles": ["claude"],
//	  "counts": { "errors": 1, "warnings": 0, "widenings": 0, "stale": 0 },
//	  "findings": [ { "code", "severity", "message", "hint", "file", "line", "col", "profile", "snippet" } ] }
//
// A field of a finding that is empty or 0 is left out, but for code, severity and message.
func JSON(w io.Writer, r Report) error {
	d := document{Version: 1, Agentbox: r.Version, Profiles: r.Profiles, Findings: r.Findings, Counts: counts{
		Errors: Count(r.Findings, Error), Warnings: Count(r.Findings, Warning),
		Widenings: Count(r.Findings, Widening), Stale: Count(r.Findings, Stale),
	}}
	if d.Profiles == nil {
		d.Profiles = []string{}
	}
	if d.Findings == nil {
		d.Findings = []Finding{}
	}
	return encode(w, d)
}

// encode writes indented JSON without "##[", which GitHub's runner takes for a command anywhere in a line. In JSON it
// stands in strings only, where an escape means the same.
func encode(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("##["), []byte(`##\u005b`)))
	return err
}
