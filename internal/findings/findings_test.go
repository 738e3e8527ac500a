package findings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/findings"
)

func sample() findings.Report {
	return findings.Report{
		Version:  "v0.2.0",
		Rules:    []findings.Rule{{"unknown-key", "A key that the format does not have.", "Correct its name."}, {"wider", "More is allowed.", "Review it."}},
		Profiles: []string{"billing", "claude"},
		Findings: []findings.Finding{
			{Code: "unknown-key", Severity: findings.Error, Message: `unknown key "netwrk"`, Hint: `did you mean "network"?`,
				File: ".agentbox/billing.toml", Line: 3, Col: 2, Snippet: "[netwrk]"},
			{Code: "wider", Severity: findings.Widening, Message: "allows POST to api.github.com, which was denied",
				File: ".agentbox/billing.toml", Line: 9, Profile: "billing"},
			{Code: "not-executed", Severity: findings.Warning, Message: "review is not carried out by this version", Profile: "billing"},
		},
	}
}

func write(t *testing.T, f func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	got := write(t, func(w io.Writer) error { return findings.Text(w, sample().Findings) })
	const want = `.agentbox/billing.toml:3:2: unknown key "netwrk"
     3 | [netwrk]
       |  ^
  hint: did you mean "network"?
.agentbox/billing.toml:9: widening: allows POST to api.github.com, which was denied
agentbox: warning: review is not carried out by this version
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	got := write(t, func(w io.Writer) error { return findings.JSON(w, sample()) })
	const want = `{
  "version": 1,
  "agentbox": "v0.2.0",
  "profiles": [
    "billing",
    "claude"
  ],
  "counts": {
    "errors": 1,
    "warnings": 1,
    "widenings": 1,
    "stale": 0
  },
  "findings": [
    {
      "code": "unknown-key",
      "severity": "error",
      "message": "unknown key \"netwrk\"",
      "hint": "did you mean \"network\"?",
      "file": ".agentbox/billing.toml",
      "line": 3,
      "col": 2,
      "snippet": "[netwrk]"
    },
`
	if !strings.HasPrefix(got, want) {
		t.Errorf("got:\n%s\nwant it to begin with:\n%s", got, want)
	}
	empty := write(t, func(w io.Writer) error { return findings.JSON(w, findings.Report{}) })
	if !strings.Contains(empty, `"profiles": []`) || !strings.Contains(empty, `"findings": []`) {
		t.Errorf("nothing found must be empty lists, got %s", empty)
	}
}

func TestGitHub(t *testing.T) {
	got := write(t, func(w io.Writer) error { return findings.GitHub(w, sample().Findings) })
	const want = `::error file=.agentbox/billing.toml,line=3,col=2,title=agentbox%3A unknown-key::unknown key "netwrk"%0Ahint: did you mean "network"?
::error file=.agentbox/billing.toml,line=9,title=agentbox%3A wider::allows POST to api.github.com, which was denied
::warning title=agentbox%3A not-executed::review is not carried out by this version
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSortAndFailed(t *testing.T) {
	a := findings.Finding{Code: "a", Severity: findings.Warning, File: "a.toml", Line: 2}
	b := findings.Finding{Code: "b", Severity: findings.Warning, File: "a.toml", Line: 1}
	if got := findings.Sort([]findings.Finding{a, b, a}); !slices.Equal(got, []findings.Finding{b, a}) {
		t.Errorf("sorted: got %v", got)
	}
	for _, test := range []struct {
		severity       findings.Severity
		failed, strict bool
	}{{findings.Error, true, true}, {findings.Warning, false, true}, {findings.Widening, true, true}, {findings.Stale, true, true}} {
		fs := []findings.Finding{{Severity: test.severity}}
		if findings.Failed(fs, false) != test.failed || findings.Failed(fs, true) != test.strict {
			t.Errorf("%s: failed %v, strict %v", test.severity, findings.Failed(fs, false), findings.Failed(fs, true))
		}
	}
	if findings.Failed(nil, true) {
		t.Error("nothing found fails")
	}
}

// hostile are texts that a repository could choose, to be read as something else than text.
var hostile = []string{
	"\n::add-mask::x", "\r\n::stop-commands::t", "x\r::error::forged", "%0A::error::forged", "::error::forged",
	"##[add-path]/tmp", "a##[error]b", "file=x,line=1::forged", ",line=9,title=forged::x", ":::", "\x1b[2J\x1b]0;x\x07", "\u202eevil", "a\u2028::error::x",
	"[click](https://evil.example)", "\xff\xfe", "\x00",
}

// runner reads lines as GitHub's runner does: a command stands at the start of a line, white space aside; the older
// form stands anywhere.
func runner(output string) (commands []string) {
	for _, line := range regexp.MustCompile(`\r\n|\n|\r`).Split(output, -1) {
		line = strings.TrimSpace(line)
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "::"), "::"); ok && strings.HasPrefix(line, "::") {
			commands = append(commands, name)
		} else if strings.Contains(line, "##[") {
			commands = append(commands, line)
		}
	}
	return commands
}

func everywhere(text string) findings.Report {
	return findings.Report{Version: "v1", Rules: []findings.Rule{{"x", "x", "x"}}, Profiles: []string{text}, Findings: []findings.Finding{
		{Code: "x", Severity: findings.Error, Message: text, Hint: text, File: text, Line: 1, Col: 1, Profile: text, Snippet: text},
		{Code: "x", Severity: findings.Widening, Message: text, Hint: text, Snippet: text},
	}}
}

func TestNothingForgesACommand(t *testing.T) {
	for _, text := range hostile {
		r := everywhere(text)
		got := runner(write(t, func(w io.Writer) error { return findings.GitHub(w, r.Findings) }))
		if len(got) != 2 {
			t.Errorf("%q: the runner sees %q, want the two annotations", text, got)
		}
		for i, command := range got {
			name, props, _ := strings.Cut(command, " ")
			keys := regexp.MustCompile(`(^|,)([a-z]+)=`).FindAllStringSubmatch(props, -1)
			if want := []int{4, 1}[i]; name != "error" || len(keys) != want {
				t.Errorf("%q: annotation %d has the command %q with %d properties, want error with %d", text, i, command, len(keys), want)
			}
		}
		for name, f := range map[string]func(io.Writer) error{
			"text":  func(w io.Writer) error { return findings.Text(w, r.Findings) },
			"json":  func(w io.Writer) error { return findings.JSON(w, r) },
			"sarif": func(w io.Writer) error { return findings.SARIF(w, r) },
		} {
			if got := runner(write(t, f)); len(got) > 0 {
				t.Errorf("%q as %s: the runner sees %q", text, name, got)
			}
		}
	}
}

func TestNothingMovesTheCursor(t *testing.T) {
	for _, text := range hostile {
		r := everywhere(text)
		for name, f := range map[string]func(io.Writer) error{
			"text":   func(w io.Writer) error { return findings.Text(w, r.Findings) },
			"json":   func(w io.Writer) error { return findings.JSON(w, r) },
			"github": func(w io.Writer) error { return findings.GitHub(w, r.Findings) },
		} {
			out := write(t, f)
			if i := strings.IndexFunc(out, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
				t.Errorf("%q as %s: byte %#x in %q", text, name, out[i], out)
			}
			if name != "json" && strings.ContainsAny(out, "\u202e\u2028") {
				t.Errorf("%q as %s: direction or line changes in %q", text, name, out)
			}
		}
	}
}

func TestSARIFLinksNowhere(t *testing.T) {
	out := write(t, func(w io.Writer) error { return findings.SARIF(w, everywhere("[click](https://evil.example)")) })
	for _, r := range results(t, out) {
		if text := r.str("message", "text"); strings.Contains(text, "](") {
			t.Errorf("the message %q is a link", text)
		}
	}
}

func TestSARIFStaysInTheRepository(t *testing.T) {
	for file, want := range map[string]string{
		".agentbox/a b.toml": ".agentbox/a%20b.toml", "agentbox.toml": "agentbox.toml", ".agentbox/%41.toml": ".agentbox/%2541.toml",
		"a:b.toml": "./a:b.toml", ".agentbox/#?.toml": ".agentbox/%23%3F.toml",
		"": "", "/etc/agentbox/policy.toml": "", "~/.config/x.toml": "", "../x.toml": "", "a/../../x": "", "..": "",
	} {
		out := write(t, func(w io.Writer) error {
			return findings.SARIF(w, findings.Report{Findings: []findings.Finding{{Code: "x", Severity: findings.Error, Message: "m", File: file}}})
		})
		r := results(t, out)[0]
		if want == "" {
			if _, there := r["locations"]; there {
				t.Errorf("%q has a location: %s", file, out)
			}
			continue
		}
		if got := r.list("locations")[0].str("physicalLocation", "artifactLocation", "uri"); got != want {
			t.Errorf("%q: got the URI %q, want %q", file, got, want)
		}
		if got := r.list("locations")[0].at("physicalLocation", "region", "startLine"); got != 1.0 {
			t.Errorf("%q: a finding without a line stands at %v, want 1", file, got)
		}
	}
}

// object is a JSON object, with look-ups that give "" or nil for what is not there.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (o object) str(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) list(path ...string) (out []object) {
	l, _ := o.at(path...).([]any)
	for _, v := range l {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

func parse(t *testing.T, text string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func results(t *testing.T, text string) []object {
	return parse(t, text).list("runs")[0].list("results")
}

// sarifFaults says what the schema of SARIF 2.1.0 would object to, as far as the parts go that are written: required
// properties, no unknown ones, enumerations, ranges, URIs.
func sarifFaults(log object) (faults []string) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	keys := func(what string, o object, required, optional string) {
		for _, key := range strings.Fields(required) {
			if _, ok := o[key]; !ok {
				bad("%s has no %s", what, key)
			}
		}
		for key := range o {
			if !slices.Contains(strings.Fields(required+" "+optional), key) {
				bad("%s has %s, which is unknown", what, key)
			}
		}
	}
	text := func(what string, o object, path ...string) {
		m, _ := o.at(path...).(map[string]any)
		keys(what, m, "text", "markdown")
	}
	keys("log", log, "version runs", "$schema")
	if log.str("version") != "2.1.0" {
		bad("version is %q", log.str("version"))
	}
	for _, run := range log.list("runs") {
		keys("run", run, "tool results", "automationDetails columnKind originalUriBaseIds properties")
		if !slices.Contains([]string{"unicodeCodePoints", "utf16CodeUnits"}, run.str("columnKind")) {
			bad("columnKind is %q", run.str("columnKind"))
		}
		driver, _ := run.at("tool", "driver").(map[string]any)
		keys("driver", driver, "name rules", "version")
		rules := run.list("tool", "driver", "rules")
		ids := map[string]bool{}
		for _, rule := range rules {
			keys("rule", rule, "id shortDescription fullDescription help defaultConfiguration", "")
			for _, part := range []string{"shortDescription", "fullDescription", "help"} {
				text("rule's "+part, rule, part)
				if rule.str(part, "text") == "" {
					bad("rule %s has an empty %s", rule.str("id"), part)
				}
			}
			if ids[rule.str("id")] {
				bad("rule %s stands twice", rule.str("id"))
			}
			ids[rule.str("id")] = true
		}
		for _, r := range run.list("results") {
			keys("result", r, "ruleId ruleIndex level message partialFingerprints", "locations properties")
			text("message", r, "message")
			if !slices.Contains([]string{"none", "note", "warning", "error"}, r.str("level")) {
				bad("level is %q", r.str("level"))
			}
			if i, ok := r["ruleIndex"].(float64); !ok || int(i) >= len(rules) || rules[int(i)].str("id") != r.str("ruleId") {
				bad("ruleIndex %v is not of %q", r["ruleIndex"], r.str("ruleId"))
			}
			for _, l := range r.list("locations") {
				keys("location", l, "physicalLocation", "")
				keys("artifactLocation", l.at("physicalLocation", "artifactLocation").(map[string]any), "uri uriBaseId", "")
				base := l.str("physicalLocation", "artifactLocation", "uriBaseId")
				if run.at("originalUriBaseIds", base) == nil {
					bad("the base %q is not defined", base)
				}
				region, ok := l.at("physicalLocation", "region").(map[string]any)
				if !ok {
					continue
				}
				keys("region", region, "startLine", "startColumn snippet")
				for _, key := range []string{"startLine", "startColumn"} {
					if n, ok := region[key].(float64); region[key] != nil && (!ok || n < 1) {
						bad("%s is %v", key, region[key])
					}
				}
			}
		}
	}
	return faults
}

func TestSARIFHasTheSchemasStructure(t *testing.T) {
	r := sample()
	out := write(t, func(w io.Writer) error { return findings.SARIF(w, r) })
	log := parse(t, out)
	for _, fault := range sarifFaults(log) {
		t.Error(fault)
	}
	got := results(t, out)
	if len(got) != 3 {
		t.Fatalf("got %d results, want 3", len(got))
	}
	for i, want := range []string{"error", "error", "warning"} {
		if got[i].str("level") != want {
			t.Errorf("result %d has level %q, want %q", i, got[i].str("level"), want)
		}
	}
	region := got[0].list("locations")[0].at("physicalLocation", "region").(map[string]any)
	if region["startLine"] != 3.0 || region["startColumn"] != 2.0 {
		t.Errorf("region: got %v, want 3:2", region)
	}
	if got[2]["locations"] != nil {
		t.Error("a finding without a file has a location")
	}
	if n := len(log.list("runs")[0].list("tool", "driver", "rules")); n != 3 {
		t.Errorf("got %d rules, want the two that are explained and the one that is not", n)
	}
}

func TestSARIFFaultsAreSeen(t *testing.T) {
	out := write(t, func(w io.Writer) error { return findings.SARIF(w, sample()) })
	for _, change := range [][2]string{
		{`"2.1.0"`, `"2.0.0"`}, {`"ruleId": "wider"`, `"ruleId": "other"`}, {`"startLine": 3`, `"startLine": 0`},
		{`"level": "warning"`, `"level": "bad"`}, {`"columnKind"`, `"columnKinds"`}, {`"uriBaseId": "%SRCROOT%"`, `"uriBaseId": "X"`},
	} {
		broken := strings.Replace(out, change[0], change[1], 1)
		if broken == out || len(sarifFaults(parse(t, broken))) == 0 {
			t.Errorf("nobody objects to %s", change[1])
		}
	}
}

func TestSARIFFingerprintsOutlastMoves(t *testing.T) {
	of := func(f findings.Finding) string {
		out := write(t, func(w io.Writer) error { return findings.SARIF(w, findings.Report{Findings: []findings.Finding{f}}) })
		return results(t, out)[0].str("partialFingerprints", "agentboxFinding/v1")
	}
	a := findings.Finding{Code: "x", Severity: findings.Error, Message: "m", File: "f", Line: 1}
	b, c := a, a
	b.Line, c.Message = 7, "n"
	if of(a) != of(b) || of(a) == of(c) {
		t.Error("a fingerprint follows the line, or not the message")
	}
}
