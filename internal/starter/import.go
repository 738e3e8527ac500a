package starter

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// Format is whose settings a file holds.
type Format string

// The formats that Import reads.
const (
	Claude       Format = "Claude Code settings"
	SRT          Format = "srt settings"
	Devcontainer Format = "devcontainer.json"
)

// Kind says what became of a setting.
type Kind string

// The kinds of notes. What became narrower needs no care, only patience; the two others are why an import is not whole.
const (
	Dropped  Kind = "not carried over"
	Wider    Kind = "wider"
	Narrower Kind = "narrower"
)

// Note says what became of one setting. Text and Key hold no value that may be a secret.
type Note struct {
	At   string // FILE:LINE:COL
	Key  string // "sandbox.network.allowedDomains[2]"
	Kind Kind
	Text string

	offset int
}

// String is one line.
func (n Note) String() string {
	return fmt.Sprintf("%s: %s: %s: %s", n.At, n.Kind, n.Key, n.Text)
}

// ImportOptions say what the profile is for.
type ImportOptions struct {
	Ground
	Name   string            // the profile's name; "" when it has none yet
	Base   string            // what it extends: "claude"
	Merged *profiles.Profile // the base, loaded, so that nothing clashes with it; nil: not known
}

// Imported is what became of a file.
type Imported struct {
	Format  Format
	Profile []byte // TOML
	Notes   []Note // in the file's order
}

// Whole reports that nothing was lost and nothing became wider.
func (i Imported) Whole() bool { return i.Count(Dropped)+i.Count(Wider) == 0 }

// Count says how many notes are of a kind.
func (i Imported) Count(k Kind) (n int) {
	for _, note := range i.Notes {
		if note.Kind == k {
			n++
		}
	}
	return n
}

// maxRules bounds what is taken from lists, and maxNotes what is said about them.
const (
	maxRules = 1000
	maxNotes = 2000
)

// Import reads another tool's settings. The error is *SyntaxError.
func Import(data []byte, file string, o ImportOptions) (Imported, error) {
	top, err := parseJSONC(file, data)
	if err != nil {
		return Imported{}, err
	}
	format, err := detect(top, file)
	if err != nil {
		return Imported{}, err
	}
	d := &draft{options: o, env: map[string]string{}}
	switch format {
	case Claude:
		d.claude(top)
	case SRT:
		d.srt(top)
	case Devcontainer:
		d.devcontainer(top)
	}
	return d.finish(format, file), nil
}

// detect tells formats by what only they have, and by the file's name where that does not decide.
func detect(top node, file string) (Format, error) {
	if !top.isObject() {
		return "", &SyntaxError{File: file, Text: "not an object of settings"}
	}
	some := func(names ...string) bool { return slices.ContainsFunc(names, top.has) }
	switch base := path.Base(file); {
	case some("image", "build", "dockerFile", "dockerComposeFile", "features", "customizations", "containerEnv", "remoteEnv", "postCreateCommand", "runArgs", "forwardPorts"):
		return Devcontainer, nil
	case some("permissions", "sandbox", "hooks", "statusLine", "enabledPlugins", "apiKeyHelper"):
		return Claude, nil
	case some("network", "filesystem"):
		return SRT, nil
	case base == "devcontainer.json" || base == ".devcontainer.json":
		return Devcontainer, nil
	case strings.Contains(base, "srt"):
		return SRT, nil
	case some("env", "model") || base == "settings.json" || base == "settings.local.json" || base == "managed-settings.json":
		return Claude, nil
	}
	return "", &SyntaxError{File: file, Text: "neither Claude Code's settings.json, srt's settings nor a devcontainer.json: it has none of their names"}
}

// draft is a profile in the making.
type draft struct {
	options     ImportOptions
	allow, deny []domain
	denyAll     bool                // everything is denied: no rule that allows is written
	left        []func(domain) bool // hosts that are left out of what is allowed
	readonly    bool
	hide        []Fact // pattern, FILE:LINE
	pass        []Fact
	env         map[string]string
	limits      map[string]Fact // key of [limits]: value as TOML, FILE:LINE
	root        Fact            // a line of [agent] that says what the container's root is, FILE:LINE; commented out: not complete
	comments    []string        // lines of TOML, shown commented out
	notes       []Note
	lost        int // notes beyond maxNotes
}

func (d *draft) note(n node, kind Kind, format string, args ...any) {
	if len(d.notes) == maxNotes {
		d.lost++
		return
	}
	d.notes = append(d.notes, Note{n.position(), n.path, kind, fmt.Sprintf(format, args...), n.at})
}

// unless notes a setting that is on; one that is off asks for nothing.
func (d *draft) unless(n node, kind Kind, format string, args ...any) {
	if !n.off() {
		d.note(n, kind, format, args...)
	}
}

// each calls do for every text of a list, and notes what is none.
func (d *draft) each(list node, do func(n node, s string)) {
	if !list.isList() {
		d.unless(list, Dropped, "it should be a list")
		return
	}
	for _, e := range list.elements() {
		if s, ok := e.text(); ok {
			do(e, s)
		} else {
			d.note(e, Dropped, "it should be a text")
		}
	}
}

func where(n node) string {
	line, _ := n.doc.place(n.at)
	return fmt.Sprintf("%s:%d", n.doc.file, line)
}

// allowDomain takes one host that was allowed.
func (d *draft) allowDomain(n node, entry string) {
	dom, why := parseDomain(entry)
	switch {
	case why == whyEverything:
		d.note(n, Dropped, `%s would let everything out; hosts are named one by one here, or write default = "allow" if that is meant`, shown(entry))
	case why != "":
		d.note(n, Dropped, "%s: %s", shown(entry), why)
	case len(d.allow) >= maxRules:
		d.note(n, Dropped, "there are more than %d already", maxRules)
	default:
		dom.from = where(n)
		d.allow = append(d.allow, dom)
	}
}

// denyDomain takes one host that was denied. What cannot be denied by a rule takes what was allowed there with it.
func (d *draft) denyDomain(n node, entry string) {
	dom, why := parseDomain(entry)
	switch {
	case why == whyLocal || why == whyAddress:
		// Neither can be reached here, whatever a profile says.
	case why == whyEverything:
		d.denyEverything(n, dom.ports)
	case why == whyNoHost:
		d.note(n, Wider, "%s: %s, so nothing could be denied", shown(entry), why)
	case why != "":
		d.denySuffix(n, entry)
	case d.needed(dom.pattern):
		d.note(n, Wider, "%s is the agent's own model, which %q cannot do without", shown(entry), d.options.Base)
	case len(d.deny) >= maxRules:
		d.note(n, Wider, "there are more than %d already, so that nothing is allowed but what %q allows", maxRules, d.options.Base)
		d.denyAll = true
	default:
		dom.from = where(n)
		d.deny = append(d.deny, dom)
	}
}

// denyEverything takes "*" and "*:PORT": what a profile does not allow is denied anyway.
func (d *draft) denyEverything(n node, ports []uint16) {
	if len(ports) == 0 {
		d.denyAll = true
		d.note(n, Wider, "everything was denied: no host is allowed here but those of %q", d.options.Base)
		return
	}
	d.filters(func(a domain) bool { return slices.Contains(a.ports, ports[0]) || len(a.ports) == 0 && ports[0] == 443 })
	if d.baseAllows(ports[0]) {
		d.note(n, Wider, "port %d is left out of what this file allows; rules of %q are as they are", ports[0], d.options.Base)
	}
}

// baseAllows reports that the base may allow something on a port.
func (d *draft) baseAllows(port uint16) bool {
	return d.options.Merged == nil || slices.ContainsFunc(d.options.Merged.Network.Rules, func(r profiles.Rule) bool {
		return r.Action != profiles.Action(policy.Deny) && slices.Contains(r.Ports, profiles.Port(port))
	})
}

// denySuffix takes "*.com": no rule may say that, so what is allowed below it is left out, on all ports.
func (d *draft) denySuffix(n node, entry string) {
	suffix := strings.ToLower(strings.TrimPrefix(strings.Split(entry, ":")[0], "*"))
	d.filters(func(a domain) bool { return strings.HasSuffix(a.pattern.String(), suffix) })
	d.note(n, Dropped, "%s would match names of unrelated owners, which no rule may: hosts below it that this file allows are left out", shown(entry))
}

// filters is kept until all is read: what is allowed may stand behind what is denied.
func (d *draft) filters(f func(domain) bool) { d.left = append(d.left, f) }

// needed reports that denying a pattern would take a host of one of the base's credentials away.
func (d *draft) needed(p policy.Pattern) bool {
	return d.options.Merged != nil && slices.ContainsFunc(d.options.Merged.Credentials, func(c profiles.Credential) bool {
		return slices.ContainsFunc(c.Hosts, p.Match)
	})
}

// hidePath takes a path that may not be read.
func (d *draft) hidePath(n node, s string, in notation) {
	pattern, at := locate(s, in, d.options.Ground)
	switch at {
	case inside:
		if len(d.hide) >= maxRules {
			d.note(n, Wider, "there are more than %d already", maxRules)
			return
		}
		if !slices.ContainsFunc(d.hide, func(f Fact) bool { return f.What == pattern }) {
			d.hide = append(d.hide, Fact{pattern, where(n)})
		}
		if anchored(s, in) && !strings.Contains(strings.TrimSuffix(pattern, "/"), "/") {
			d.note(n, Narrower, "hidden at any depth, not in the top directory alone")
		}
	case whole:
		d.note(n, Wider, "it is the repository itself, which is shown; run with the repository elsewhere if the agent must not see it")
	case above:
		// Of what is above the repository only the repository is there.
	case unclear:
		d.note(n, Wider, "it is not a pattern that can be hidden, so what it names can be read")
	case outside:
		if abs, ok := absolute(s, in); ok && system(abs) {
			d.note(n, Wider, "the machine's system directories are shown as they are, read-only, but for what holds secrets")
		}
	}
}

// anchored reports a path that names one place, and not a name at any depth.
func anchored(s string, in notation) bool {
	return in == inPath || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "~")
}

func absolute(s string, in notation) (string, bool) {
	if strings.HasPrefix(s, "//") {
		return s[1:], true
	}
	return s, in == inPath && strings.HasPrefix(s, "/")
}

var (
	secretish = lazily(`(?i)key|token|secret|passw|pwd|credential|auth|cookie|session|dsn|private|cert|url|uri`)
	harmless  = lazily(`^(true|false|on|off|yes|no|[0-9]{1,6}|development|test|production|staging|debug|info|warn|warning|error|trace|C|C\.UTF-8|en_US\.UTF-8|UTC)$`)
	envName   = lazily(`^[A-Za-z_][A-Za-z0-9_]*$`)
	fromHost  = lazily(`^\$\{(?:localEnv:)?([A-Za-z_][A-Za-z0-9_]*)\}$`)
)

// reserved are variables that agentbox sets itself.
func reserved(name string) bool {
	upper := strings.ToUpper(name)
	return slices.Contains([]string{"HOME", "USER", "LOGNAME", "PATH", "SHELL", "TMPDIR", "AGENTBOX", "CONTAINER", "HOSTNAME", "PWD",
		"NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "JAVA_TOOL_OPTIONS", "LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS"}, upper) ||
		strings.HasSuffix(upper, "_PROXY") || strings.HasPrefix(upper, "SSL_CERT") || strings.HasPrefix(upper, "XDG_") ||
		strings.Contains(upper, "CA_BUNDLE") || strings.Contains(upper, "CACERT") || strings.Contains(upper, "CAINFO") || strings.Contains(upper, "SSL_ROOTS") || strings.HasPrefix(upper, "GIT_")
}

// variable takes one variable of an environment. Its value is never shown, and copied only when it is a plain word.
func (d *draft) variable(n node, name string) {
	value, isText := n.text()
	from := fromHost().FindStringSubmatch(value)
	switch {
	case !envName().MatchString(name) || len(name) > 128:
		d.note(n, Dropped, "it is not a name of a variable")
	case d.credential(name):
		d.note(n, Dropped, "%q hands the agent a placeholder in it; give the value with `agentbox secret set`", d.options.Base)
	case reserved(name):
		d.note(n, Dropped, "agentbox sets it itself, or it changes how programs are run")
	case strings.EqualFold(name, "ANTHROPIC_BASE_URL"):
		d.note(n, Dropped, "where a model is dialled is yours to say: [upstream.hosts] of ~/.config/agentbox/config.toml")
	case secretish().MatchString(name):
		d.note(n, Dropped, "by its name it may be a secret, and its value is not copied; what authenticates is a [[credential]], which the agent never sees")
	case isText && from != nil && from[1] == name:
		if !slices.ContainsFunc(d.pass, func(p Fact) bool { return p.What == name }) {
			d.pass = append(d.pass, Fact{name, where(n)})
		}
	case isText && harmless().MatchString(value):
		d.env[name] = value
	default:
		d.note(n, Dropped, "its value is not copied, as it may be a secret; write it below [agent.env] if it is none")
	}
}

// credential reports the variables of the base's credentials.
func (d *draft) credential(name string) bool {
	return d.options.Merged != nil && slices.ContainsFunc(d.options.Merged.Credentials, func(c profiles.Credential) bool {
		return string(c.Env) == name || string(c.Source.Env) == name
	})
}

// lazily makes a regular expression that is compiled when it is first used: compiling all of them would take longer than
// starting without them.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
