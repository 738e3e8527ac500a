package plan

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/profiles"
)

// Where the certificates lie inside: the system's roots with the run's own CA, and that CA alone.
const (
	BundlePath = "/etc/ssl/certs/ca-certificates.crt"
	CAPath     = "/etc/ssl/certs/agentbox-ca.pem"
)

// passed adds the variables that every agent gets from the host: how to show text, never where something is.
func passed(more []profiles.EnvPattern) []string {
	names := []string{"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "LC_*", "TZ"}
	for _, p := range more {
		names = append(names, string(p))
	}
	return list(names)
}

// own is what agentbox sets itself, for every agent.
func own(h Host) map[string]string {
	env := map[string]string{
		"HOME": h.User.Home, "USER": h.User.Name, "LOGNAME": h.User.Name, "PATH": h.Path, "SHELL": shell(h.Shell),
		"TMPDIR": "/tmp", "container": "agentbox", "AGENTBOX": "1", "NODE_USE_ENV_PROXY": "1",
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		env[name], env[strings.ToLower(name)] = "http://127.0.0.1:3128", "http://127.0.0.1:3128"
	}
	env["NO_PROXY"], env["no_proxy"] = "localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"
	for _, name := range bundleVariables() {
		env[name] = BundlePath
	}
	for _, name := range caVariables() {
		env[name] = CAPath
	}
	return env
}

// bundleVariables name a file that replaces a program's roots, so they get the whole bundle.
func bundleVariables() []string {
	return []string{
		"SSL_CERT_FILE",      // OpenSSL (Python, Ruby, PHP, Perl, .NET), Go, rustls-native-certs (uv)
		"REQUESTS_CA_BUNDLE", // Python requests
		"CURL_CA_BUNDLE",
		"GIT_SSL_CAINFO",
		"CARGO_HTTP_CAINFO",
		"PIP_CERT",
		"AWS_CA_BUNDLE",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
		"HTTPLIB2_CA_CERTS",
		"NIX_SSL_CERT_FILE",
		"PERL_LWP_SSL_CA_FILE",               // LWP, which may have Mozilla::CA
		"HEX_CACERTS_PATH",                   // Elixir's and Erlang's hex, which bring roots along
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // gcloud, which brings roots along
	}
}

// caVariables name a file that is added to a program's roots: the run's CA alone is the quicker one to read.
func caVariables() []string {
	return []string{
		"NODE_EXTRA_CA_CERTS", // Node and Bun
		"DENO_CERT",
	}
}

// reserved reports whether agentbox sets the variable itself, so that a profile may not.
func reserved(name string) bool {
	_, ok := own(Host{})[name]
	return ok
}

// shell is the person's own if the container has it.
func shell(s string) string {
	for _, dir := range []string{"/usr/", "/bin/"} {
		if strings.HasPrefix(s, dir) && filepath.Clean(s) == s {
			return s
		}
	}
	return "/bin/sh"
}

// environment is the agent's environment but for what holds placeholders: what the host passes, the profile over it,
// agentbox's own over both. Whatever the plan does not name is absent.
func environment(in Inputs, g Grants) ([]string, error) {
	env := maps.Clone(in.Host.Tools)
	if env == nil {
		env = map[string]string{}
	}
	for name, value := range in.Host.Env {
		if handedIn(name, g) {
			env[name] = value
		}
	}
	if g.Agent.Rootfs != hostRoot {
		env = imageEnv(in.Host.Image, env, g)
	}
	maps.Copy(env, cacheEnv(g, in.Host.User.Home))
	for name, value := range g.Agent.Env {
		if delete(env, name); holdsPlaceholder(value) {
			continue
		}
		text, err := Expand(value, variables(in.Host.Repo, in.Host.User), false)
		if err != nil {
			return nil, &Refusal{Text: "agent.env " + name + ": " + err.Error()}
		}
		env[name] = text
	}
	maps.Copy(env, own(inImage(in.Host, g)))
	return flat(env), nil
}

// handedIn reports whether a variable of the host goes inside. What a credential comes from, or appears in, never does.
func handedIn(name string, g Grants) bool {
	for _, c := range g.Credentials {
		if name == c.Env || name == c.Source.Env {
			return false
		}
	}
	return slices.ContainsFunc(g.Agent.Pass, func(p string) bool { return profiles.EnvPattern(p).Match(name) })
}

// secretLike reports whether a variable's name says that its value is a secret.
func secretLike(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY"},
		func(word string) bool { return strings.Contains(name, word) })
}

// exposed warns of secrets that the profile asks to hand in as they are.
func exposed(h Host, g Grants) (out []string) {
	for name := range h.Env {
		if secretLike(name) && handedIn(name, g) {
			out = append(out, "the agent gets your $"+name+" as it is: a [[credential]] would keep it outside")
		}
	}
	slices.Sort(out)
	return out
}

// MarshalJSON leaves out the values of variables whose names say that they are secrets: a plan is shown and kept.
func (b Binding) MarshalJSON() ([]byte, error) {
	type plain Binding
	shown := make([]string, 0, len(b.Env))
	for _, e := range b.Env {
		if name, _, _ := strings.Cut(e, "="); secretLike(name) {
			e = name + "=(not shown)"
		}
		shown = append(shown, e)
	}
	b.Env = shown
	return json.Marshal(plain(b))
}

func flat(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// Environ is the agent's whole environment, sorted, once the run knows its placeholders. Placeholder gives that of
// a credential.
func (p Plan) Environ(placeholder func(name string) string) ([]string, error) {
	vars := p.variables(placeholder)
	env := slices.Clone(p.Binding.Env)
	for name, value := range p.Grants.Agent.Env {
		if !holdsPlaceholder(value) {
			continue
		}
		text, err := Expand(value, vars, false)
		if err != nil {
			return nil, err
		}
		env = append(env, name+"="+text)
	}
	for _, c := range p.Grants.Credentials {
		if c.Env != "" {
			env = append(env, c.Env+"="+placeholder(c.Name))
		}
	}
	slices.Sort(env)
	return env, nil
}

// Files is the first-run state with absolute paths, once the run knows its placeholders.
func (p Plan) Files(placeholder func(name string) string) ([]File, error) {
	vars := p.variables(placeholder)
	files := make([]File, 0, len(p.Grants.Agent.Files))
	for _, f := range p.Grants.Agent.Files {
		ext := filepath.Ext(f.Path)
		content, err := Expand(f.Content, vars, ext == ".json" || ext == ".toml")
		if err != nil {
			return nil, err
		}
		if rest, ok := strings.CutPrefix(f.Path, "~/"); ok {
			f.Path = filepath.Join(p.Binding.User.Home, rest)
		}
		files = append(files, File{Path: f.Path, Content: content})
	}
	return files, nil
}

func (p Plan) variables(placeholder func(name string) string) map[string]string {
	vars := variables(p.Binding.Repo, p.Binding.User)
	for _, c := range p.Grants.Credentials {
		vars["placeholder."+c.Name] = placeholder(c.Name)
		if c.Source.OAuth == nil {
			continue
		}
		for _, part := range profiles.LoginParts() {
			vars["placeholder."+c.Name+"."+part] = placeholder(c.Name + "." + part)
		}
	}
	return vars
}

func variables(repo string, u User) map[string]string {
	return map[string]string{"repo": repo, "home": u.Home, "user": u.Name}
}
