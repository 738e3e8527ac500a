package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// hostRoot is Agent.Rootfs where the programs are this machine's own.
const hostRoot = "host"

// Image is the container image that is the root, in place of this machine's own programs.
type Image struct {
	Name    string   `json:"name,omitempty"`    // as it was asked for: NAME@DIGEST, or the file that it was built from
	Digest  string   `json:"digest,omitempty"`  // that Name says; "" of one that was built here
	ID      string   `json:"id,omitempty"`      // in the engine's own store, by which it is run; "" when it is not there
	Size    int64    `json:"size,omitempty"`    // bytes, unpacked
	Arch    string   `json:"arch,omitempty"`    // "amd64"
	Env     []string `json:"env,omitempty"`     // names of its variables that the agent gets
	Ignored []string `json:"ignored,omitempty"` // what it asks for and does not get
}

// Used reports whether the root is an image.
func (i Image) Used() bool { return i.Name != "" }

// ImageFacts is what was found out about an image. Whoever pulls or builds one hands it to Resolve in Host.Image; all but Name
// may be missing, in a plan that is only shown.
type ImageFacts struct {
	Name        string // NAME@DIGEST, or the file that it was built from
	Digest      string // that Name says; "" of one that was built here
	ID          string // in the engine's store; "" when it is not there
	Size        int64
	OS, Arch    string // of the image
	HostArch    string // of this machine, in the same words
	Env         []string
	User        string
	Volumes     []string
	Entrypoint  bool
	Healthcheck bool
	Annotations []string
	Problem     string // why the plan cannot say whether it is here; "" when it can
}

func imageOf(f ImageFacts, g Grants) Image {
	if g.Agent.Rootfs == hostRoot {
		return Image{}
	}
	if _, digest, ok := strings.Cut(g.Agent.Image, "@"); ok && f.Digest == "" {
		f.Digest = digest
	}
	out := Image{Name: cmp.Or(f.Name, g.Agent.Image, g.Agent.Containerfile, g.Agent.Rootfs), Digest: f.Digest, ID: f.ID, Size: f.Size, Arch: f.Arch, Ignored: ignored(f, g)}
	for name := range taken(f, g) {
		out.Env = append(out.Env, name)
	}
	slices.Sort(out.Env)
	return out
}

// ignored lists what an image says of how it wants to be run.
func ignored(f ImageFacts, g Grants) (out []string) {
	if f.User != "" {
		out = append(out, "USER "+f.User)
	}
	if f.Entrypoint {
		out = append(out, "ENTRYPOINT and CMD")
	}
	for _, v := range f.Volumes {
		out = append(out, "VOLUME "+v)
	}
	if f.Healthcheck {
		out = append(out, "HEALTHCHECK")
	}
	got := taken(f, g)
	for _, name := range slices.Sorted(maps.Keys(variablesOf(f.Env))) {
		if _, ok := got[name]; !ok && name != "PATH" {
			out = append(out, "ENV "+name)
		}
	}
	return out
}

// refuseImage finds what makes an image unfit to be run here.
func refuseImage(f ImageFacts) error {
	if f.ID == "" {
		return nil
	}
	if f.OS != "linux" || f.Arch != f.HostArch {
		return &Refusal{Text: fmt.Sprintf("the image %s is for %s/%s, and this machine is linux/%s", f.Name, clean(f.OS), clean(f.Arch), f.HostArch),
			Tip: "name the digest of an image for linux/" + f.HostArch + ", or that of an index which has one"}
	}
	for _, a := range f.Annotations {
		if !harmless(a) {
			return &Refusal{Text: fmt.Sprintf("the image %s has the annotation %q, which a container runtime may take for an order", f.Name, a),
				Tip: "take an image without it"}
		}
	}
	return nil
}

// harmless reports whether an annotation only describes. Engines hand the annotations of an image's manifest on to the OCI
// runtime, and runtimes obey those in their own names (run.oci.…, dev.gvisor.…).
func harmless(annotation string) bool {
	return slices.ContainsFunc([]string{"org.opencontainers.image.", "com.docker.", "vnd.docker."},
		func(prefix string) bool { return strings.HasPrefix(annotation, prefix) })
}

// Bounds of an image's environment.
const (
	maxVariables = 256
	maxVariable  = 32 << 10
)

// variablesOf reads ENV lines. Of what is malformed or too long nothing is taken.
func variablesOf(env []string) map[string]string {
	out := map[string]string{}
	for _, e := range env[:min(len(env), maxVariables)] {
		name, value, ok := strings.Cut(e, "=")
		if ok && isVariable(name) && len(value) <= maxVariable && !strings.ContainsRune(value, 0) {
			out[name] = value
		}
	}
	return out
}

func isVariable(name string) bool {
	return name != "" && len(name) < 128 && !('0' <= name[0] && name[0] <= '9') && !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_')
	})
}

// taken are the variables of an image that the agent gets, but for PATH: all that do not say what agentbox says.
func taken(f ImageFacts, g Grants) map[string]string {
	env := variablesOf(f.Env)
	maps.DeleteFunc(env, func(name, _ string) bool { return contested(name, g) })
	return env
}

// contested reports whether a variable is agentbox's own to set, or the profile's: where the proxy is, which certificates are
// trusted, where the home directory is and what lies in it, what holds a placeholder. LD_PRELOAD and the like are not: they reach
// what runs inside, which is the image's own anyway; PID 1 is static, and has no environment.
func contested(name string, g Grants) bool {
	upper := strings.ToUpper(name)
	if reserved(name) || reserved(upper) || strings.HasSuffix(upper, "_PROXY") || strings.HasPrefix(upper, "XDG_") || strings.HasPrefix(upper, "AGENTBOX") {
		return true
	}
	if slices.Contains([]string{"SSL_CERT_DIR", "NODE_TLS_REJECT_UNAUTHORIZED", "GIT_SSL_NO_VERIFY", "PYTHONHTTPSVERIFY", "HOSTNAME", "TERM"}, upper) {
		return true
	}
	return slices.ContainsFunc(g.Credentials, func(c Credential) bool { return name == c.Env || name == c.Source.Env })
}

// imageEnv is what the agent gets of the image and of the host, passed. Which languages there are is the image's to know; where both
// say something else, the profile has asked for the host's.
func imageEnv(f ImageFacts, passed map[string]string, g Grants) map[string]string {
	env := taken(f, g)
	language := func(name string) bool { return name == "LANG" || name == "LANGUAGE" || strings.HasPrefix(name, "LC_") }
	spoken := false
	for name := range env {
		spoken = spoken || language(name)
	}
	for name, value := range passed {
		if !spoken || !language(name) {
			env[name] = value
		}
	}
	return env
}

// defaultPath is PATH inside an image that says none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inImage is the host as the agent's environment knows it: in an image neither its PATH nor its shell are there.
func inImage(h Host, g Grants) Host {
	if g.Agent.Rootfs == hostRoot {
		return h
	}
	h.Path, h.Shell = imagePath(h.Image), ""
	return h
}

// imagePath is the image's own PATH, as far as it is absolute.
func imagePath(f ImageFacts) string {
	var dirs []string
	for _, d := range strings.Split(variablesOf(f.Env)["PATH"], ":") {
		if path.IsAbs(d) {
			dirs = append(dirs, d)
		}
	}
	if len(dirs) == 0 {
		return defaultPath
	}
	return strings.Join(dirs, ":")
}

// image says what of it there is here, and what is made of it.
func (t *page) image(i Image) {
	if !i.Used() {
		return
	}
	switch {
	case i.ID == "":
		t.line(false, "", "%s", map[bool]string{true: "it is not on this machine yet: the run pulls it, unless --pull never",
			false: "it is not built on this machine yet"}[i.Digest != ""])
	default:
		t.line(false, "", "on this machine as %s, %s/%s, %.1f MB", clean(shortID(i.ID)), "linux", clean(i.Arch), float64(i.Size)/1e6)
	}
	if len(i.Env) > 0 {
		t.line(false, "", "of it are taken: its files, PATH, %s", words(i.Env))
	}
	if len(i.Ignored) > 0 {
		t.line(false, "", "and ignored: %s", clean(strings.Join(i.Ignored, ", ")))
	}
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
