package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/trust"
)

// grantRule makes a rule of what was typed: HOST may be "example.com:8443" as a run's summary prints it, or a whole
// address. Nothing is in it that a profile's rule could not say. The errors are usageErrors.
func grantRule(where string, o grantOptions) (trust.Rule, error) {
	ports, methods, paths := o.ports, o.methods, o.paths
	host, port, path, err := takeApart(where)
	if err != nil {
		return trust.Rule{}, err
	}
	if path != "" && len(paths) > 0 {
		return trust.Rule{}, &usageError{fmt.Errorf("%q has a path, and --path gives another", where), "agentbox grants add " + quoteWord(host) + " --path '" + path + "'"}
	}
	if path != "" {
		paths = []string{path}
	}
	if port != 0 && !slices.Contains(ports, port) {
		ports = append(ports, port)
	}
	pattern, err := policy.ParsePattern(host)
	if err != nil {
		return trust.Rule{}, &usageError{err, `name one host, such as example.com, or "*.example.com" for all names below it`}
	}
	r := trust.Rule{Host: pattern.String()}
	if r.Ports, err = grantPorts(ports); err != nil {
		return r, err
	}
	if r.Methods, err = grantMethods(methods); err != nil {
		return r, err
	}
	if r.Paths, err = grantPaths(paths); err != nil {
		return r, err
	}
	return r, grantMore(&r, o)
}

// takeApart reads HOST, HOST:PORT or a URL without a query. Port 0 and path "" are not said.
func takeApart(where string) (host string, port uint, path string, err error) {
	if !strings.Contains(where, "://") {
		if slash := strings.IndexByte(where, '/'); slash >= 0 { // "example.com/api", as a browser shows it
			return takeApart("https://" + where)
		}
		host, number, found := strings.Cut(where, ":")
		if !found {
			return where, 0, "", nil
		}
		port, err := oneNumber(number, where)
		return host, port, "", err
	}
	u, err := url.Parse(where)
	if err != nil {
		return "", 0, "", &usageError{fmt.Errorf("%q is not an address", where), "give the host alone, such as example.com"}
	}
	narrow := "agentbox grants add " + quoteWord(u.Host)
	if u.Path != "" && u.Path != "/" {
		narrow += " --path '" + u.EscapedPath() + "'"
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "", 0, "", &usageError{fmt.Errorf("the boundary lets https and http through, not %q", u.Scheme), "give the host alone, such as example.com"}
	case u.User != nil:
		return "", 0, "", &usageError{errors.New("the address holds a user name or a password, which no rule can hold"), "give the host alone, such as example.com"}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", 0, "", &usageError{errors.New("rules do not look at the query of an address"), narrow}
	}
	if u.Scheme == "http" {
		port = 80
	}
	if u.Port() != "" {
		if port, err = oneNumber(u.Port(), where); err != nil {
			return "", 0, "", err
		}
	}
	if path = u.EscapedPath(); path == "/" {
		path = ""
	}
	return u.Hostname(), port, path, nil
}

func oneNumber(number, of string) (uint, error) {
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return 0, &usageError{fmt.Errorf("%q in %q is not a port", number, of), "ports are 1 to 65535"}
	}
	return uint(n), nil
}

func grantPorts(ports []uint) (out []uint16, err error) {
	for _, p := range ports {
		if p == 0 || p > 65535 {
			return nil, &usageError{fmt.Errorf("%d is not a port", p), "ports are 1 to 65535"}
		}
		if !slices.Contains(out, uint16(p)) {
			out = append(out, uint16(p))
		}
	}
	return out, nil
}

func grantMethods(methods []string) (out []string, err error) {
	for _, m := range methods {
		var method profiles.Method
		if err := method.UnmarshalText([]byte(m)); err != nil {
			hint := "methods are GET, HEAD, POST and the like; give --method again for another"
			if upper := strings.ToUpper(m); method.UnmarshalText([]byte(upper)) == nil {
				hint = "write --method " + upper
			}
			return nil, &usageError{err, hint}
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out, nil
}

func grantPaths(paths []string) (out []string, err error) {
	for _, p := range paths {
		if _, err := policy.ParsePathPattern(p); err != nil {
			hint := `paths begin with "/", and "**" is any run of characters: "/api/**"`
			if _, bad := policy.ParsePathPattern("/" + p); bad == nil && p != "" {
				hint = "write --path '/" + p + "'"
			}
			return nil, &usageError{err, hint}
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// quoteWord writes a word for a shell, plain where it can be.
func quoteWord(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9._:/@%+=,-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// grantMore adds what few rules say. What goes together the file's own check says, before anything is written.
func grantMore(r *trust.Rule, o grantOptions) error {
	var scheme profiles.Scheme
	if err := scheme.UnmarshalText([]byte(o.scheme)); o.scheme != "" && err != nil {
		return &usageError{err, "write --scheme https or --scheme http"}
	}
	for _, size := range []struct {
		flag, text string
		to         *string
	}{{"--max-request", o.maxRequest, &r.MaxRequest}, {"--max-sent", o.maxSent, &r.MaxSent}} {
		var n profiles.ByteSize
		if err := n.UnmarshalText([]byte(size.text)); size.text != "" && err != nil {
			return &usageError{err, "write " + size.flag + " 10MB"}
		}
		*size.to = size.text
	}
	for _, text := range o.private {
		p, err := profiles.ParsePrefix(text)
		if err != nil {
			return &usageError{err, `write --private 10.0.0.0/8, a network of your own`}
		}
		r.Private = append(r.Private, p.String())
	}
	r.Scheme = o.scheme
	if o.webSocket {
		r.WebSocket = "true"
	}
	return grantTCP(r, o)
}

// grantTCP is for a rule about connections into which nobody looks.
func grantTCP(r *trust.Rule, o grantOptions) error {
	if !o.tcp {
		return nil
	}
	r.Protocol = policy.TCP
	said := len(r.Methods) > 0 || len(r.Paths) > 0 || r.Scheme != "" || r.WebSocket != "" || r.MaxRequest != ""
	switch {
	case said:
		return &usageError{errors.New("--tcp passes connections on as they are: nobody could hold --method, --path, --scheme, --websocket or --max-request"), "leave them out, or --tcp"}
	case len(r.Ports) == 0:
		return &usageError{errors.New("--tcp takes the port"), "agentbox grants add " + quoteWord(r.Host) + " --port 5432 --tcp"}
	case strings.HasPrefix(r.Host, "*"):
		return &usageError{fmt.Errorf("--tcp takes one host, and %s names many", r.Host), "name each host by itself"}
	}
	return nil
}

// ruleText says what a rule allows.
func ruleText(r trust.Rule) string {
	text := strings.Join(r.Methods, ", ")
	switch {
	case r.Protocol != "":
		text = "plain TCP"
	case r.WebSocket == "true":
		text = strings.TrimSpace(text + " WebSockets")
	case text == "":
		text = "every method"
	}
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	if len(ports) == 0 {
		ports = []string{"443"}
	}
	text += " to " + r.Host + " on port " + strings.Join(ports, ", ")
	if len(r.Paths) > 0 {
		text += " at " + strings.Join(r.Paths, ", ")
	}
	for _, more := range [][2]string{
		{" over ", r.Scheme}, {", at most ", wordBefore(r.MaxRequest, " a request")}, {", at most ", wordBefore(r.MaxSent, " in one run")},
		{", also in your own network: ", strings.Join(r.Private, ", ")},
	} {
		if more[1] != "" {
			text += more[0] + more[1]
		}
	}
	return text
}

func wordBefore(word, behind string) string {
	if word == "" {
		return ""
	}
	return word + behind
}

// loads checks that a grants file is a layer: one that is not refuses every run in the repository. It gives what a
// profile without rules of its own is granted with it.
func loads(g trust.Grants, name string, floors profiles.Floors) (plan.Grants, error) {
	data, err := g.Read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return plan.Grants{}, err
	}
	f := builtInFiles()
	f.Grants, f.GrantsFile = data, name
	_, granted, err := granted("shell", f, floors)
	var refused *plan.Refusals
	if errors.As(err, &refused) && !strings.Contains(err.Error(), name) {
		return granted, nil // it is the built-in profile that the organisation does not want
	}
	return granted, err
}

// overruled says which rule of the organisation's goes before a grant; "" when none does.
func overruled(g plan.Grants, r trust.Rule) string {
	host, method, path := strings.Replace(r.Host, "*", "any", 1), "GET", "/"
	if len(r.Methods) > 0 {
		method = r.Methods[0]
	}
	if len(r.Paths) > 0 && !strings.Contains(r.Paths[0], "*") {
		path = r.Paths[0]
	}
	if len(r.Ports) > 0 {
		host += ":" + strconv.Itoa(int(r.Ports[0]))
	}
	scheme := "https"
	switch {
	case r.Protocol != "":
		scheme, path = policy.TCP, ""
	case r.Scheme != "":
		scheme = r.Scheme
	}
	if r.WebSocket == "true" {
		scheme = map[string]string{"https": "wss", "http": "ws"}[scheme]
	}
	u, err := url.Parse(scheme + "://" + host + path)
	if err != nil {
		return ""
	}
	if e := g.WhyURL(method, u); e.Decision != string(policy.Allow) && strings.HasPrefix(e.Rule, policyFile) {
		return e.Rule
	}
	return ""
}

// wayOut adds to the mistakes of a grants file how it becomes right again: it is not a file that people have written.
func wayOut(err error, f profiles.Files) error {
	var problems profiles.Problems
	if f.GrantsFile == "" || !errors.As(err, &problems) {
		return err
	}
	i := slices.IndexFunc(problems, func(p profiles.Problem) bool { return p.File == f.GrantsFile && !p.Warning })
	if i < 0 {
		return err
	}
	number, line := 0, 0
	for text := range strings.Lines(string(f.Grants)) {
		if line++; line <= problems[i].Line && strings.HasPrefix(strings.TrimSpace(text), "[[network.rule]]") {
			number++
		}
	}
	hint := "correct " + f.GrantsFile + " with an editor"
	if number > 0 {
		hint = fmt.Sprintf("\"agentbox grants revoke %d\" takes this grant back; or correct %s with an editor", number, f.GrantsFile)
	}
	return &badGrants{problems, hint}
}

// badGrants is what is wrong with a profile because of the grants.
type badGrants struct {
	problems profiles.Problems
	hint     string
}

func (e *badGrants) Error() string { return e.problems.Error() }
func (e *badGrants) Unwrap() error { return e.problems }
func (e *badGrants) Hint() string  { return e.hint }
