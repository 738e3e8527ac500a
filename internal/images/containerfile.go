package images

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// File is a Containerfile that was understood.
type File struct {
	Name   string
	Stages []Stage
	Args   map[string]string // those that were set from outside, and that it declares
	global []instruction     // ARG before the first FROM
}

// Stage is one FROM with what follows.
type Stage struct {
	Base  string // a full reference; "scratch"; or "" where it is an earlier stage
	From  int    // that stage, where Base is ""
	Alias string
	Line  int
	steps []instruction
}

type instruction struct {
	line  int
	word  string
	flags []string // as they were written; only those that are known
	rest  string
	image string // COPY --from=IMAGE: a full reference
	local bool   // COPY or ADD from the repository
}

// Parse reads a Containerfile. Args stand in place of the defaults of ARG; one that nothing declares is an error.
func Parse(name string, data []byte, args map[string]string) (File, error) {
	lines, err := logicals(name, data)
	if err != nil {
		return File{}, err
	}
	p := parser{file: File{Name: name, Args: map[string]string{}}, args: args, known: map[string]string{}}
	for _, l := range lines {
		if err := p.instruction(l); err != nil {
			return File{}, err
		}
	}
	if len(p.file.Stages) == 0 {
		return File{}, &Problem{File: name, Text: "it has no FROM", Hint: `begin with FROM and a full name, such as "FROM docker.io/library/debian:12-slim"`}
	}
	for arg := range args {
		if _, used := p.file.Args[arg]; !used {
			return File{}, &Problem{File: name, Text: fmt.Sprintf("it declares no ARG %s", arg), Hint: "leave that argument out, or declare it"}
		}
	}
	return p.file, nil
}

type parser struct {
	file  File
	args  map[string]string
	known map[string]string // global ARGs with their values
}

func (p *parser) problem(line int, hint, format string, args ...any) error {
	return &Problem{File: p.file.Name, Line: line, Text: fmt.Sprintf(format, args...), Hint: hint}
}

var wordForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z]+$`) })

func (p *parser) instruction(l logical) error {
	word, rest, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
	if strings.Contains(l.text, "\t") { // tabs within what follows stay
		word, rest = cutBlank(l.text)
	}
	in := instruction{line: l.line, word: strings.ToUpper(word), rest: strings.Trim(rest, " \t")}
	if !wordForm().MatchString(word) {
		return p.problem(l.line, "", "%q is not an instruction", word)
	}
	if in.rest == "" {
		return p.problem(l.line, "", "%s says nothing", in.word)
	}
	if in.word == "FROM" {
		return p.from(in)
	}
	if len(p.file.Stages) == 0 && in.word != "ARG" {
		return p.problem(l.line, "", "%s stands before the first FROM", in.word)
	}
	keep, err := p.check(&in)
	if err != nil || !keep {
		return err
	}
	if len(p.file.Stages) == 0 {
		p.file.global = append(p.file.global, in)
		return nil
	}
	s := &p.file.Stages[len(p.file.Stages)-1]
	s.steps = append(s.steps, in)
	return nil
}

func cutBlank(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+1:]
}

// check judges an instruction; one that is not to be kept changes nothing for a run.
func (p *parser) check(in *instruction) (keep bool, err error) {
	switch in.word {
	case "RUN":
		return true, p.run(in)
	case "COPY", "ADD":
		return true, p.copy(in)
	case "ARG":
		return true, p.arg(in)
	case "LABEL":
		return true, p.label(in)
	case "ENV", "WORKDIR", "USER", "CMD", "ENTRYPOINT", "SHELL", "EXPOSE", "STOPSIGNAL":
		return true, p.noFlags(*in)
	case "HEALTHCHECK", "MAINTAINER", "ONBUILD":
		return false, nil
	case "VOLUME": // Podman 4 would mount what lies there when a step begins, and follow links to where they lead on this machine
		return false, nil
	}
	return false, p.problem(in.line, "", "%s is not an instruction that agentbox knows", in.word)
}

func (p *parser) noFlags(in instruction) error {
	if strings.HasPrefix(in.rest, "--") {
		return p.problem(in.line, "", "%s takes no flags", in.word)
	}
	return nil
}

// run refuses flags: they name networks, other images and directories of the engine's own.
func (p *parser) run(in *instruction) error {
	if strings.HasPrefix(in.rest, "--") {
		flag, _, _ := strings.Cut(strings.Fields(in.rest)[0], "=")
		return p.problem(in.line, "agentbox decides the network, and COPY brings files: leave the flag out", "RUN %s is not supported", flag)
	}
	if heredoc(in.rest) {
		return p.heredoc(*in)
	}
	return nil
}

func (p *parser) heredoc(in instruction) error {
	return p.problem(in.line, "put the script into a file, and COPY it; or join the commands with && \\", "here-documents are not supported")
}

// heredocForm also has what only some engines take for one: any word that begins with <<.
var heredocForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(^|\s|\d)<<-?\s*["']?[A-Za-z_]|(^|[\s}])\d*<<-?[^\s<]`)
})

func heredoc(s string) bool { return heredocForm().MatchString(s) }

// flags splits off those that are known.
func (p *parser) flags(in *instruction, known ...string) error {
	for strings.HasPrefix(in.rest, "--") {
		flag, rest := cutBlank(in.rest)
		name, value, ok := strings.Cut(flag, "=")
		if !slices.Contains(known, name) || !ok || value == "" || strings.ContainsAny(value, "$\"'\\") {
			return p.problem(in.line, "these are known: "+strings.Join(known, ", ")+", each with a plain value", "%s %s is not supported", in.word, flag)
		}
		if slices.ContainsFunc(in.flags, func(f string) bool { return strings.HasPrefix(f, name+"=") }) {
			return p.problem(in.line, "", "%s is said twice", name)
		}
		in.flags, in.rest = append(in.flags, flag), strings.Trim(rest, " \t")
	}
	return nil
}

// copy holds sources to the repository, earlier stages and full names: ADD of an address would be fetched by the engine,
// outside the boundary.
func (p *parser) copy(in *instruction) error {
	known := []string{"--chown", "--chmod"}
	if in.word == "COPY" {
		known = append(known, "--from")
	}
	if err := p.flags(in, known...); err != nil {
		return err
	}
	if heredoc(in.rest) {
		return p.heredoc(*in)
	}
	sources, err := p.sources(*in)
	if err != nil {
		return err
	}
	from, ok := in.flag("--from")
	if ok {
		return p.copyFrom(in, from)
	}
	in.local = true
	for _, s := range sources {
		if err := p.source(*in, s); err != nil {
			return err
		}
	}
	return nil
}

func (in instruction) flag(name string) (string, bool) {
	for _, f := range in.flags {
		if value, ok := strings.CutPrefix(f, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// sources are all but the last of the words.
func (p *parser) sources(in instruction) ([]string, error) {
	words := strings.Fields(in.rest)
	if strings.HasPrefix(in.rest, "[") {
		words = nil
		if err := json.Unmarshal([]byte(in.rest), &words); err != nil {
			return nil, p.problem(in.line, `write it as ["from", "to"]`, "%s has no list of texts", in.word)
		}
	} else if strings.ContainsAny(in.rest, "\"'\\") {
		return nil, p.problem(in.line, `names with blanks stand in a list: ["from", "to"]`, "%s takes no quotes and no backslashes", in.word)
	}
	if len(words) < 2 {
		return nil, p.problem(in.line, "", "%s takes what to copy, and where to", in.word)
	}
	return words[:len(words)-1], nil
}

func (p *parser) source(in instruction, s string) error {
	switch {
	case strings.Contains(s, "$"):
		return p.problem(in.line, "write its name", "%s %q: which file it is cannot be seen", in.word, s)
	case strings.Contains(s, ":") || strings.HasPrefix(s, "git@") || strings.HasPrefix(s, "github.com/"):
		return p.problem(in.line, "fetch it in a RUN, where the network's rules hold", "%s %q is not a file of the repository", in.word, s)
	case slices.Contains(strings.Split(s, "/"), ".."):
		return p.problem(in.line, "", "%s %q points out of the repository", in.word, s)
	}
	return nil
}

func (p *parser) copyFrom(in *instruction, from string) error {
	if i, ok := p.stage(from); ok {
		if i == len(p.file.Stages)-1 {
			return p.problem(in.line, "", "COPY --from=%s is from its own stage", from)
		}
		return nil
	}
	if !full(from) {
		return p.shortName(in.line, from)
	}
	in.image = from
	return nil
}

// stage finds an earlier stage, or this one, by name or number.
func (p *parser) stage(name string) (int, bool) {
	for i := len(p.file.Stages) - 1; i >= 0; i-- {
		if a := p.file.Stages[i].Alias; a != "" && strings.EqualFold(a, name) {
			return i, true
		}
	}
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && i < len(p.file.Stages)
}

func (p *parser) shortName(line int, ref string) error {
	hint := `write it in full, such as "docker.io/library/` + ref + `"`
	if strings.Contains(ref, "/") {
		hint = `write it in full, such as "docker.io/` + ref + `"`
	}
	return p.problem(line, hint, "%q does not say which registry it is from", ref)
}

var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })

// arg notes what a global one is, and takes its value from outside where there is one.
func (p *parser) arg(in *instruction) error {
	name, value, valued := strings.Cut(in.rest, "=")
	if !nameForm().MatchString(name) || strings.ContainsAny(value, " \t") && !quoted(value) {
		return p.problem(in.line, `write each as ARG NAME=value`, "%q is not one argument", in.rest)
	}
	if ours(name) {
		return p.problem(in.line, "use another name", "ARG %s is agentbox's own", name)
	}
	if set, ok := p.args[name]; ok {
		p.file.Args[name] = set
		value, valued = set, true
	}
	if len(p.file.Stages) == 0 && valued {
		if value = unquoted(value); strings.Contains(value, "$") {
			return p.problem(in.line, "write its value", "ARG %s is made of others, before the first FROM", name)
		}
		p.known[name] = value
	}
	return nil
}

func quoted(s string) bool {
	return len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] && !strings.Contains(s[1:len(s)-1], s[:1])
}

func unquoted(s string) string {
	if quoted(s) {
		return s[1 : len(s)-1]
	}
	return s
}

func (p *parser) label(in *instruction) error {
	if strings.Contains(strings.ToLower(in.rest), LabelPrefix) {
		return p.problem(in.line, "use another name", "labels that begin with %q are agentbox's own", LabelPrefix)
	}
	return p.noFlags(*in)
}

var aliasForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`) })

func (p *parser) from(in instruction) error {
	words := strings.Fields(in.rest)
	if strings.HasPrefix(words[0], "--") {
		return p.problem(in.line, "images are built for this machine: leave it out", "FROM %s is not supported", words[0])
	}
	s := Stage{Line: in.line, From: -1}
	switch {
	case len(words) == 3 && strings.EqualFold(words[1], "AS") && aliasForm().MatchString(strings.ToLower(words[2])) && !strings.HasSuffix(strings.ToLower(words[2]), ownStage):
		s.Alias = strings.ToLower(words[2])
	case len(words) != 1:
		return p.problem(in.line, "", "FROM takes one image, and a name for the stage: FROM IMAGE AS NAME")
	}
	ref, err := p.expand(in.line, words[0])
	if err != nil {
		return err
	}
	for i := len(p.file.Stages) - 1; i >= 0 && s.From < 0; i-- {
		if a := p.file.Stages[i].Alias; a != "" && strings.EqualFold(a, ref) {
			s.From = i
		}
	}
	switch {
	case s.From >= 0:
	case ref == "scratch" || full(ref):
		s.Base = ref
	default:
		return p.shortName(in.line, ref)
	}
	p.file.Stages = append(p.file.Stages, s)
	return nil
}

var variable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)
})

// expand puts global ARGs in.
func (p *parser) expand(line int, s string) (string, error) {
	missing := ""
	out := variable().ReplaceAllStringFunc(s, func(m string) string {
		name := strings.Trim(m, "${}")
		value, ok := p.known[name]
		if !ok {
			missing = name
		}
		return value
	})
	switch {
	case missing != "":
		return "", p.problem(line, "give it a default: ARG "+missing+"=… before the first FROM", "FROM %s: nothing says what %s is", s, missing)
	case strings.ContainsAny(out, "$\"'\\"):
		return "", p.problem(line, "", "FROM %s is not a plain name", s)
	}
	return out, nil
}

// Bases are the images that it begins with or copies from, each once.
func (f File) Bases() []string {
	var out []string
	add := func(ref string) {
		if ref != "" && ref != "scratch" && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	for _, s := range f.Stages {
		add(s.Base)
		for _, in := range s.steps {
			add(in.image)
		}
	}
	return out
}

// LineOf is where a base is named.
func (f File) LineOf(base string) int {
	for _, s := range f.Stages {
		if s.Base == base {
			return s.Line
		}
		for _, in := range s.steps {
			if in.image == base {
				return in.line
			}
		}
	}
	return 0
}

// Sources are what it takes from the repository: paths and patterns, relative.
func (f File) Sources() []string {
	var out []string
	p := parser{file: f}
	for _, s := range f.Stages {
		for _, in := range s.steps {
			if in.local {
				sources, _ := p.sources(in) // it was read before
				out = append(out, sources...)
			}
		}
	}
	return out
}
