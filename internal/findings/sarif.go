package findings

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
)

const (
	sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"
	sourceRoot  = "%SRCROOT%"
)

// The parts of SARIF 2.1.0 that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool             `json:"tool"`
		Automation sarifAutomation       `json:"automationDetails"`
		ColumnKind string                `json:"columnKind"`
		Bases      map[string]sarifBase  `json:"originalUriBaseIds"`
		Results    []sarifResult         `json:"results"`
		Properties sarifRunPropertiesBag `json:"properties"`
	}
	sarifRunPropertiesBag struct {
		Profiles []string `json:"profiles"`
	}
	sarifAutomation struct {
		ID string `json:"id"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifBase struct {
		Description sarifText `json:"description"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifRule struct {
		ID      string    `json:"id"`
		Short   sarifText `json:"shortDescription"`
		Full    sarifText `json:"fullDescription"`
		Help    sarifText `json:"help"`
		Default struct {
			Level string `json:"level"`
		} `json:"defaultConfiguration"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations,omitempty"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Properties   sarifProperties   `json:"properties"`
	}
	sarifProperties struct {
		Severity Severity `json:"severity"`
		Profile  string   `json:"profile,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine   int        `json:"startLine"`
		StartColumn int        `json:"startColumn,omitempty"`
		Snippet     *sarifText `json:"snippet,omitempty"`
	}
)

// SARIF writes a log of SARIF 2.1.0 with one run. Places are relative to %SRCROOT%, the repository's root; columns
// count code points. A finding whose file is not below the root has no location.
func SARIF(w io.Writer, r Report) error {
	rules, index := sarifRules(r)
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "agentbox", Version: r.Version, Rules: rules}},
		Automation: sarifAutomation{"agentbox/check/"},
		ColumnKind: "unicodeCodePoints",
		Bases:      map[string]sarifBase{sourceRoot: {sarifText{"The root of the repository."}}},
		Results:    []sarifResult{},
		Properties: sarifRunPropertiesBag{append([]string{}, r.Profiles...)},
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, sarifResultOf(f, index[f.Code]))
	}
	return encode(w, sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

// sarifRules explains every code once, those too that nobody explained, and says at which index each stands.
func sarifRules(r Report) ([]sarifRule, map[string]int) {
	all := slices.Clone(r.Rules)
	for _, f := range r.Findings {
		all = append(all, Rule{Code: f.Code, Summary: f.Code})
	}
	rules, index := []sarifRule{}, map[string]int{}
	for _, rule := range all {
		if _, seen := index[rule.Code]; seen {
			continue
		}
		index[rule.Code] = len(rules)
		out := sarifRule{ID: rule.Code, Short: sarifText{rule.Summary}, Full: sarifText{rule.Summary}, Help: sarifText{rule.Help}}
		if rule.Help == "" {
			out.Help = out.Short
		}
		out.Default.Level = "error"
		rules = append(rules, out)
	}
	return rules, index
}

func sarifResultOf(f Finding, rule int) sarifResult {
	level := "error"
	if f.Severity == Warning {
		level = "warning"
	}
	message := f.Message
	if f.Hint != "" {
		message += "\nhint: " + f.Hint
	}
	return sarifResult{
		RuleID: f.Code, RuleIndex: rule, Level: level, Message: sarifText{unlinked(valid(message))}, Locations: locations(f),
		Fingerprints: map[string]string{"agentboxFinding/v1": fingerprint(f)},
		Properties:   sarifProperties{f.Severity, f.Profile},
	}
}

// locations is the one place of a finding, if it has one in the repository.
func locations(f Finding) []sarifLocation {
	uri, ok := relative(f.File)
	if !ok {
		return nil
	}
	at := sarifPhysical{Artifact: sarifArtifact{uri, sourceRoot}, Region: sarifRegion{StartLine: 1}} // viewers insist on a line
	if f.Line > 0 {
		at.Region = sarifRegion{StartLine: f.Line, StartColumn: f.Col}
	}
	if f.Line > 0 && f.Snippet != "" {
		at.Region.Snippet = &sarifText{valid(f.Snippet)}
	}
	return []sarifLocation{{at}}
}

// relative is the URI of a file below the root; a file elsewhere has none.
func relative(file string) (string, bool) {
	clean := path.Clean(file)
	if file == "" || clean == ".." || path.IsAbs(clean) || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "~") {
		return "", false
	}
	return (&url.URL{Path: clean}).String(), true
}

// unlinked keeps "[text](target)" of a repository from becoming a link in the viewer.
func unlinked(s string) string { return strings.ReplaceAll(s, "](", "] (") }

// fingerprint stays the same when lines move.
func fingerprint(f Finding) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Code, f.File, f.Profile, f.Message}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
