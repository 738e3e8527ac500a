package images

import (
	"maps"
	"slices"
	"strings"
)

// LabelPrefix begins the labels that agentbox puts on images.
const LabelPrefix = "agentbox."

// Labels of built images.
const (
	LabelKey     = LabelPrefix + "build"   // the key
	LabelProfile = LabelPrefix + "profile" // whose it is
)

// Where the build's certificates lie while a RUN lasts. Nothing of it is kept in the image.
const (
	CertificateID   = "agentbox-ca"
	CertificateFile = "/run/agentbox-build/ca.pem"
)

// mount shows a RUN the certificates. And it lays something empty over the control groups: Podman 4 gives steps the host's own
// /sys, in which those below the person's session can be written to: a step could end all that runs there.
const mount = "--mount=type=secret,id=" + CertificateID + ",target=" + CertificateFile + ",mode=0444 --mount=type=tmpfs,target=/sys/fs/cgroup,ro"

// Variables are what programs in a RUN are told of the proxy and the certificates. They are build arguments, and no part
// of the image.
func Variables() map[string]string {
	out := map[string]string{"NODE_USE_ENV_PROXY": "1"}
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "DENO_CERT", "NPM_CONFIG_CAFILE"} {
		out[name] = CertificateFile
	}
	return out
}

// Proxies are the variables that every reader of Containerfiles hands to RUN without a declaration.
func Proxies() map[string]string {
	out := map[string]string{"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		out[name] = "http://127.0.0.1:3128"
	}
	return out
}

// ours reports whether a build argument is agentbox's own.
func ours(name string) bool {
	_, variable := Variables()[name]
	_, proxy := Proxies()[name]
	return variable || proxy || strings.EqualFold(name, "ALL_PROXY") || strings.EqualFold(name, "FTP_PROXY")
}

// Script is what the engine gets in place of a Containerfile.
type Script struct {
	Text  string
	steps [][]Step // of each stage
}

// Step is one as its file has it. Text is "" for what agentbox has put in.
type Step struct {
	Line int
	Text string
}

// Step finds a step: stage and step count from 1, as engines show them. The zero value is unknown.
func (s Script) Step(stage, step int) Step {
	if stage < 1 || stage > len(s.steps) || step < 1 || step > len(s.steps[stage-1]) {
		return Step{}
	}
	return s.steps[stage-1][step-1]
}

// Script writes the file anew. Ids stand in place of the bases: nothing is left for the engine to find or pull.
// Each RUN sees the certificates, and the variables that lead there.
func (f File) Script(ids map[string]string) Script {
	w := writer{ids: ids}
	for _, in := range f.global {
		w.write(in)
	}
	for i, s := range f.Stages {
		w.stage(f, i, s)
	}
	return Script{Text: w.b.String(), steps: w.steps}
}

type writer struct {
	b     strings.Builder
	ids   map[string]string
	steps [][]Step
}

func (w *writer) stage(f File, i int, s Stage) {
	base := s.Base
	if base == "" {
		base = stageName(f, s.From)
	} else if id, ok := w.ids[base]; ok {
		base = id
	}
	w.steps = append(w.steps, nil)
	shown := s.Base
	if shown == "" {
		shown = base
	}
	w.line(Step{s.Line, "FROM " + shown}, "FROM "+base+" AS "+stageName(f, i))
	for _, name := range slices.Sorted(maps.Keys(Variables())) {
		w.line(Step{Line: s.Line}, "ARG "+name)
	}
	for _, in := range s.steps {
		w.write(in)
	}
}

// stageName is what a stage is called: its own name, or one that no file can give.
func stageName(f File, i int) string {
	if a := f.Stages[i].Alias; a != "" {
		return a
	}
	return "stage_" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + ownStage
}

// ownStage ends the names of stages that agentbox gives.
const ownStage = "_agentbox"

func (w *writer) line(from Step, text string) {
	w.b.WriteString(text + "\n")
	if n := len(w.steps); n > 0 {
		w.steps[n-1] = append(w.steps[n-1], from)
	}
}

func (w *writer) write(in instruction) {
	words := []string{in.word}
	if in.word == "RUN" {
		words = append(words, mount)
	}
	for _, flag := range in.flags {
		if id, ok := w.ids[in.image]; ok && in.image != "" && strings.HasPrefix(flag, "--from=") {
			flag = "--from=" + id
		}
		words = append(words, flag)
	}
	shown := append([]string{in.word}, in.flags...)
	w.line(Step{in.line, strings.Join(append(shown, in.rest), " ")}, strings.Join(append(words, in.rest), " "))
}
