package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

type whyOptions struct {
	profile, url, method, tool, path, push, size string
	force, remove, json                          bool
}

func newWhy(a *app) *cobra.Command {
	o := whyOptions{}
	cmd := &cobra.Command{
		Use: "why PROFILE URL | --tool SERVER.TOOL | --path PATH", Short: "Say whether a profile allows something, and which rule says so",
		Long: `Says what agentbox run PROFILE would answer to a request, a tool call or a look at a file: the decision, the rule with
its file and line, the reason, and what would change it. All layers count, your own and the organisation's too. Nothing
is asked, run or reached.

A URL without a scheme is https; wss, ws and tcp://HOST:PORT are understood too. Its query plays no part. With --push, the
URL is that of a git repository, and what is asked is whether that ref may be pushed. A PATH is relative to the repository's root, or absolute, or
begins with ~/.

Exit codes: 0 allowed, of a path: seen; 1 denied, hidden, not there, asked about first, or the profile can't be used;
2 usage.`,
		Example: `  agentbox why claude api.anthropic.com
  agentbox why claude https://registry.npmjs.org/left-pad --method PUT
  agentbox why claude wss://chat.example.com/socket
  agentbox why claude tcp://db.internal.example.com:5432
  agentbox why billing https://github.com/acme/billing --push refs/heads/main
  agentbox why billing --tool files.write_file
  agentbox why billing --path .env`,
		Args: func(cmd *cobra.Command, args []string) error { return o.take(cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return a.why(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.method, "method", "GET", "the request's method")
	f.StringVar(&o.size, "size", "", "how large the request's body is, such as 10MB")
	f.StringVar(&o.push, "push", "", "a ref that is pushed to the git repository of the URL")
	f.BoolVar(&o.force, "force", false, "the push overwrites what the ref holds")
	f.BoolVar(&o.remove, "delete", false, "the push deletes the ref")
	f.StringVar(&o.tool, "tool", "", "a tool of a server, SERVER.TOOL, in place of a URL")
	f.StringVar(&o.path, "path", "", "a path, in place of a URL")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// take reads the arguments: a profile and one thing to ask about.
func (o *whyOptions) take(cmd *cobra.Command, args []string) error {
	asked := 0
	for _, set := range []bool{len(args) > 1, cmd.Flags().Changed("tool"), cmd.Flags().Changed("path")} {
		if set {
			asked++
		}
	}
	switch {
	case len(args) == 0 || len(args) > 2 || asked != 1:
		return usage(cmd, fmt.Errorf("%s takes a profile and one of a URL, --tool and --path", cmd.CommandPath()))
	case cmd.Flags().Changed("method") && len(args) != 2:
		return usage(cmd, errors.New("--method goes with a URL"))
	case (o.push != "" || o.size != "") && len(args) != 2:
		return usage(cmd, errors.New("--push and --size go with a URL"))
	case (o.force || o.remove) && o.push == "" || o.force && o.remove:
		return usage(cmd, errors.New("one of --force and --delete goes with --push"))
	case o.push != "" && (cmd.Flags().Changed("method") || o.size != ""):
		return usage(cmd, errors.New("--method and --size do not go with --push"))
	}
	o.profile = args[0]
	if len(args) == 2 {
		o.url = args[1]
	}
	return nil
}

// answer is what why prints as JSON.
type answer struct {
	Profile string `json:"profile"`
	Asked   string `json:"asked"` // "GET https://example.com/", "tool files.read", "path .env"
	plan.Explanation
}

func (a *app) why(cmd *cobra.Command, o whyOptions) error {
	defer uncollected()()
	question, err := o.question(cmd)
	if err != nil {
		return err
	}
	root, err := here()
	if err != nil {
		return err
	}
	d, l, err := a.decided(o.profile, root)
	if err != nil {
		return err
	}
	asked, e := question(knowledge{bound(cmd.Context(), d.grants, root), root, a.getenv("HOME"), l.files.NamedSets})
	if !d.consent.settled() {
		a.say("this repository's layers widen %s, and you have not accepted that: agentbox run asks first (agentbox trust)", o.profile)
	}
	if err := a.explain(answer{o.profile, asked, e}, o.json); err != nil {
		return err
	}
	if !slices.Contains([]string{string(policy.Allow), "read", "write"}, e.Decision) {
		return exitCode(exitFinding)
	}
	return nil
}

// decided is what agentbox run would decide, with this repository's layers as they are.
func (a *app) decided(name, root string) (decision, layers, error) {
	paths, err := a.paths()
	if err != nil {
		return decision{}, layers{}, err
	}
	l, err := a.layers(paths, root)
	if err != nil {
		return decision{}, layers{}, err
	}
	floors, err := readFloors(policyFile)
	if err != nil {
		return decision{}, layers{}, err
	}
	d, err := l.decide(name, floors, flags{})
	return d, l, err
}

// bound adds what "origin" means in this repository.
func bound(ctx context.Context, g plan.Grants, root string) plan.Grants {
	if slices.Contains(g.Use, "origin") {
		rules, _ := plan.OriginRules(originRemote(ctx, root)) // none: then nothing is allowed, which is what why says
		g.Network.Rules = slices.Concat(g.Network.Rules, rules)
	}
	return g
}

// knowledge is what the answer depends on.
type knowledge struct {
	grants     plan.Grants
	root, home string
	sets       func() []profiles.NamedSet
}

// question is what is asked, once the grants are known.
type question func(knowledge) (asked string, e plan.Explanation)

func (o whyOptions) question(cmd *cobra.Command) (question, error) {
	switch {
	case o.url != "" && o.push != "":
		return o.pushed(cmd)
	case o.url != "":
		method, u, err := target(o.method, o.url)
		if err != nil {
			return nil, usage(cmd, err)
		}
		r, err := plan.RequestOf(method, u)
		if size := profiles.ByteSize(0); o.size != "" && err == nil {
			err = size.UnmarshalText([]byte(o.size))
			r.Size = int64(size)
		}
		if err != nil && o.size != "" {
			return nil, usage(cmd, err)
		}
		asked := method + " " + u.String()
		if u.Scheme == policy.TCP {
			asked = u.String()
		}
		return func(k knowledge) (string, plan.Explanation) {
			if err != nil {
				return asked, k.grants.WhyURL(method, u) // which says what is wrong with it
			}
			return asked, k.grants.Why(r, k.sets()...)
		}, nil
	case cmd.Flags().Changed("tool"):
		server, tool, ok := strings.Cut(o.tool, ".")
		if !ok || server == "" || tool == "" {
			return nil, usage(cmd, fmt.Errorf("--tool takes SERVER.TOOL, not %q", o.tool))
		}
		return func(k knowledge) (string, plan.Explanation) {
			return "tool " + o.tool, k.grants.WhyTool(o.tool)
		}, nil
	case o.path == "":
		return nil, usage(cmd, errors.New("--path takes a path, and is empty"))
	}
	return func(k knowledge) (string, plan.Explanation) {
		rel := inside(k.root, k.home, o.path)
		return "path " + rel, atHome(k.grants, k.home).WhyPath(rel)
	}, nil
}

// target reads a method and a URL, in which only scheme, host, port and path count.
func target(method, text string) (string, *url.URL, error) {
	method = strings.ToUpper(method)
	if !regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$`).MatchString(method) {
		return "", nil, fmt.Errorf("%q is not a method", method)
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("%q is not a URL", text)
	case !slices.Contains([]string{"https", "http", "wss", "ws", policy.TCP}, u.Scheme):
		return "", nil, fmt.Errorf("the boundary lets https, http, wss, ws and tcp through, not %q", u.Scheme)
	case u.Scheme == policy.TCP && u.Port() == "":
		return "", nil, fmt.Errorf("%q names no port: write tcp://HOST:PORT", text)
	case u.Hostname() == "":
		return "", nil, fmt.Errorf("the URL %q names no host", text)
	}
	out := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if service := u.Query().Get("service"); strings.HasPrefix(service, "git-") {
		out.RawQuery = "service=" + url.QueryEscape(service) // by which git says what it is about to do
	}
	return method, out, nil
}

// pushed is the question about a push.
func (o whyOptions) pushed(cmd *cobra.Command) (question, error) {
	_, u, err := target("POST", o.url)
	if err == nil && u.Scheme != "https" {
		err = errors.New("git repositories are reached by https")
	}
	if err == nil && !policy.ValidRef(o.push) {
		err = fmt.Errorf("%q is not the full name of a ref, such as refs/heads/main", o.push)
	}
	if err != nil {
		return nil, usage(cmd, err)
	}
	update := policy.RefUpdate{Name: o.push, Kind: policy.RefUpdated}
	switch {
	case o.force:
		update.Kind = policy.RefForce
	case o.remove:
		update.Kind = policy.RefDelete
	}
	r, err := plan.PushOf(u, update)
	if err != nil {
		return nil, usage(cmd, err)
	}
	return func(k knowledge) (string, plan.Explanation) {
		return "push of " + o.push + " to " + u.String(), k.grants.Why(r, k.sets()...)
	}, nil
}

// inside is a path as the repository's patterns see it; of one that lies outside, the absolute path, or "~/…" in the
// home directory.
func inside(root, home, path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') && filepath.IsAbs(home) {
		path = home + rest
	}
	abs := path
	if !filepath.IsAbs(path) {
		abs = filepath.Join(root, path)
	}
	abs = filepath.Clean(abs)
	for _, p := range []string{abs, followed(abs)} {
		if rel, err := filepath.Rel(root, p); err == nil && filepath.IsLocal(rel) {
			if strings.HasPrefix(rel, "~/") {
				rel = "./" + rel // a directory of that name
			}
			return rel
		}
	}
	if rel, err := filepath.Rel(home, abs); err == nil && filepath.IsLocal(rel) {
		return "~/" + rel
	}
	return abs
}

// atHome writes what is shown in the home directory as inside gives it.
func atHome(g plan.Grants, home string) plan.Grants {
	g.Mounts = slices.Clone(g.Mounts)
	for i, m := range g.Mounts {
		if rest, ok := strings.CutPrefix(m.Target, home+"/"); ok {
			g.Mounts[i].Target = "~/" + rest
		}
	}
	return g
}

// followed is a path whose directories are real: of the repository the real path is known.
func followed(abs string) string {
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return abs
	}
	return filepath.Join(dir, filepath.Base(abs))
}

func (a *app) explain(w answer, asJSON bool) error {
	if asJSON {
		return encodeJSON(a.out, w)
	}
	said := map[string]string{"allow": "allowed", "ask": "asked about first", "deny": "denied", "read": "can be read", "write": "can be changed", "hidden": "hidden"}[w.Decision]
	if w.Decision == "hidden" && (strings.HasPrefix(w.Asked, "path /") || strings.HasPrefix(w.Asked, "path ~/")) {
		said = "not there"
	}
	fmt.Fprintf(a.out, "%s: %s\n", said, escaped(w.Asked))
	for _, line := range [][2]string{{"rule", w.Rule}, {"reason", w.Reason}} {
		if line[1] != "" {
			fmt.Fprintf(a.out, "  %-7s %s\n", line[0], escaped(line[1]))
		}
	}
	if w.Change == "" {
		return nil
	}
	fmt.Fprintf(a.out, "  %-7s ", "change")
	for i, line := range strings.Split(strings.TrimRight(w.Change, "\n"), "\n") {
		if i > 0 && line != "" {
			line = strings.Repeat(" ", 10) + line
		}
		if _, err := fmt.Fprintln(a.out, escaped(line)); err != nil {
			return err
		}
	}
	return nil
}
