package starter

import (
	"net/url"
	"path"
	"regexp"
	"strings"

	"agentbox/internal/policy"
)

// secretNames are files that hold secrets whatever is in them.
func secretNames() []string {
	return []string{".env", ".env.*", "*.p12", "*.pfx", "*.jks", "*.keystore", "id_rsa*", "id_dsa", "id_ecdsa",
		"id_ed25519", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.backup", "*credentials*.json",
		"*service-account*.json", "*service_account*.json", ".netrc", ".pypirc", ".htpasswd", ".dockercfg", "kubeconfig",
		"*.kubeconfig", ".vault-token", "*.key", "secrets.yml", "secrets.yaml", "secrets.json", "secrets.toml"}
}

// samples are endings of files that show what a secret file looks like: those are for everybody.
var samples = lazily(`(?i)[.\-_](example|sample|template|tmpl|dist|defaults?|schema|tpl)s?$`)

// secret notes a file that should be hidden, by the narrowest pattern that cannot be misread.
func (s *surveyor) secret(name, base string) {
	for _, pattern := range secretNames() {
		if ok, err := path.Match(pattern, base); err == nil && ok && !samples().MatchString(base) && path.Ext(base) != ".pub" {
			s.hideFile(name, base, pattern)
			return
		}
	}
	ext := path.Ext(base)
	switch {
	case ext == ".pem" && strings.Contains(s.content(name), "PRIVATE KEY-----"):
		s.hideFile(name, base, "*"+ext)
	case tokenFile(base) && literalToken().MatchString(s.content(name)):
		s.hideFile(name, base, base)
	}
}

// hideFile hides a file by its place; those in the top directory, and .env files, by their name at any depth. A name
// that would be read as a pattern is hidden by the pattern that found it.
func (s *surveyor) hideFile(name, base, pattern string) {
	switch {
	case strings.ContainsAny(name, `*?[]\!`) || hidable(name) != "":
		s.hide(pattern, name)
	case strings.HasPrefix(base, ".env"):
		s.hide(base, name)
	default:
		s.hide(name, name)
	}
}

func tokenFile(base string) bool {
	return base == ".npmrc" || base == ".yarnrc.yml" || base == "pip.conf" || base == "pip.ini" || base == "nuget.config" || base == "auth.json"
}

// literalToken finds a token or a password that stands in the file itself, not as the name of a variable.
var literalToken = lazily(`(?im)(_authToken|_password|_auth|npmAuthToken|npmAuthIdent|cleartextpassword)["']?\s*[:=]\s*["']?[^"'\s$]|://[^/\s:@]+:[^/\s$@]+@`)

// registryLines find the lines in which settings of package managers name registries. The first group is the URL.
func registryLines(base string) *regexp.Regexp {
	const address = `["']?(?:sparse\+|git\+)?(https?://[^\s"'<>]+)`
	pattern := ""
	switch {
	case base == ".npmrc":
		pattern = `(?m)^\s*(?:@[^\s:=]+:)?registry\s*=\s*` + address
	case base == ".yarnrc.yml" || base == ".yarnrc":
		pattern = `(?m)^\s*(?:npmRegistryServer:|registry)\s*` + address
	case base == "pip.conf" || base == "pip.ini":
		pattern = `(?m)^\s*(?:extra-)?index-url\s*=\s*` + address
	case strings.HasPrefix(base, "requirements") && strings.HasSuffix(base, ".txt"):
		pattern = `(?m)^\s*(?:-i|--(?:extra-)?index-url)[\s=]+` + address
	case base == "pyproject.toml" || base == "uv.toml" || base == "Pipfile":
		pattern = `(?m)^\s*(?:url|index-url|default-index)\s*=\s*` + address
	case base == "config.toml" || base == "config":
		pattern = `(?m)^\s*(?:index|registry)\s*=\s*` + address
	case base == "Gemfile":
		pattern = `(?m)^\s*source\s*\(?\s*` + address
	case base == "pom.xml" || base == "settings.xml":
		pattern = `(?s)<(?:repository|pluginRepository|mirror)>.{0,500}?<url>\s*` + address
	case strings.HasPrefix(base, "build.gradle") || strings.HasPrefix(base, "settings.gradle"):
		pattern = `(?m)\burl\s*[=(]?\s*(?:uri\s*\()?\s*` + address
	case strings.EqualFold(base, "nuget.config"):
		pattern = `(?i)<add\s[^>]*\bvalue\s*=\s*` + address
	default:
		return nil
	}
	return regexp.MustCompile(pattern)
}

// registries notes the private registries that a file names. Of an address only the host is kept.
func (s *surveyor) registries(name, base string) {
	if (base == "config.toml" || base == "config") && path.Base(path.Dir(name)) != ".cargo" {
		return
	}
	lines := registryLines(base)
	if lines == nil {
		return
	}
	for _, m := range lines.FindAllStringSubmatch(s.content(name), maxFacts) {
		if host, ok := hostOf(m[1]); ok && !public(host) {
			add(&s.facts.Registries, host, name)
		}
	}
}

// hostOf gives the host of an address, if it is one that a rule could name.
func hostOf(address string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil {
		return "", false
	}
	h, err := policy.ParseHost(u.Hostname())
	return h.String(), err == nil
}
