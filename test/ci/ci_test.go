// Package ci runs what docs/CI.md offers: the steps of the GitHub Actions workflow, of the GitLab job and of the
// pre-commit hook, taken out of their files, in a scratch repository. What only GitHub and GitLab have (their runners,
// the checkout, the upload) is not there; `make lint` has actionlint read the workflow.
package ci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// step is a step of a workflow.
type step struct {
	Name string
	Uses string
	With map[string]any
	If   string
	Env  map[string]string
	Run  string
}

type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Permissions map[string]string
		Steps       []step
	}
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("../../docs/ci/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// scene is a clone with a branch, whose origin has main.
type scene struct {
	t    *testing.T
	dir  string
	repo string
	bin  string
	env  []string
}

const base = `version = 1
extends = "claude"
description = "Fix bugs in the billing service"

[network]
use = ["...", "npm"]

[limits]
memory = "4GiB"
`

func newScene(t *testing.T) scene {
	t.Helper()
	dir := t.TempDir()
	s := scene{t: t, dir: dir, repo: filepath.Join(dir, "repo"), bin: filepath.Join(dir, "bin")}
	s.must(errors.Join(os.MkdirAll(filepath.Join(s.repo, ".agentbox"), 0o755), os.Mkdir(s.bin, 0o755), os.Mkdir(filepath.Join(dir, "temp"), 0o755)))
	s.must(os.Symlink(agentbox(t), filepath.Join(s.bin, "agentbox")))
	s.env = []string{"HOME=" + dir, "PATH=" + s.bin + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "GORACE=" + os.Getenv("GORACE"),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com"}
	s.write("agentbox.toml", "version = 1\n[workspace]\nhide = [\".env*\"]\n")
	s.write(".agentbox/billing.toml", base)
	s.sh("git init -q -b main && agentbox manifest -o agentbox.manifest.json && git add -A && git commit -q -m base")
	s.sh("git init -q --bare ../origin.git && git remote add origin ../origin.git && git push -q origin main && git switch -q -c change")
	return s
}

func (s scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s scene) write(name, content string) {
	s.t.Helper()
	s.must(os.WriteFile(filepath.Join(s.repo, name), []byte(content), 0o644))
}

// sh runs a script that must succeed.
func (s scene) sh(script string) {
	s.t.Helper()
	if out, err := s.run(script, "bash", "-euc", script); err != nil {
		s.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func (s scene) run(what string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.repo, s.env
	out, err := cmd.CombinedOutput()
	return fmt.Sprintf("$ %s\n%s", what, out), err
}

func agentbox(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("AGENTBOX_BIN")
	if bin == "" {
		bin = "../../bin/agentbox"
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("there is no agentbox to run (make build): %v", err)
	}
	return bin
}

func sum(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

// context is what expressions of the workflow come to. An expression that is not in it fails the test, so that a change
// of the workflow is a change here.
type context struct {
	event    string // pull_request or push
	labelled bool
	fork     bool
	url, sum string
}

func (c context) value(t *testing.T, expression string) any {
	t.Helper()
	change := c.event == "pull_request"
	since := "HEAD"
	if change {
		since = "origin/main"
	}
	values := map[string]any{
		"vars.AGENTBOX_URL":    c.url,
		"vars.AGENTBOX_SHA256": c.sum,
		"github.base_ref":      "main",
		"github.event_name == 'pull_request' && format('origin/{0}', github.base_ref) || 'HEAD'": since,
		"!cancelled()": true,
		"!cancelled() && github.event_name == 'pull_request' && !contains(github.event.pull_request.labels.*.name, 'agents-may-do-more')": change && !c.labelled,
		"!cancelled() && (github.event_name != 'pull_request' || github.event.pull_request.head.repo.full_name == github.repository)":     !change || !c.fork,
	}
	v, ok := values[expression]
	if !ok {
		t.Fatalf("the workflow has an expression that this test does not know: %s", expression)
	}
	return v
}

var expression = regexp.MustCompile(`\$\{\{ (.*?) \}\}`)

func (c context) expand(t *testing.T, s string) string {
	return expression.ReplaceAllStringFunc(s, func(e string) string {
		return fmt.Sprint(c.value(t, expression.FindStringSubmatch(e)[1]))
	})
}

// outcome is what came of each step that ran, by name.
type outcome struct {
	failed []string
	ran    []string
	log    string
}

// carryOut does what a runner does: the steps in their order, each in a shell of its own; after a failure only those
// that say so.
func (s scene) carryOut(c context) outcome {
	s.t.Helper()
	var w workflow
	load(s.t, "github-actions.yml", &w)
	var o outcome
	paths := filepath.Join(s.dir, "github-path")
	s.must(os.WriteFile(paths, nil, 0o600))
	s.env = append(s.env, "CI=true", "GITHUB_ACTIONS=true", "RUNNER_TEMP="+filepath.Join(s.dir, "temp"), "GITHUB_PATH="+paths,
		"PATH="+os.Getenv("PATH")) // agentbox is there only once it is installed
	for _, st := range w.Jobs["check"].Steps {
		wanted := len(o.failed) == 0
		if st.If != "" {
			wanted = c.value(s.t, expression.FindStringSubmatch(st.If)[1]).(bool)
		}
		if st.Run == "" || !wanted {
			continue
		}
		o.ran = append(o.ran, st.Name)
		run := s
		run.env = slices.Clone(s.env)
		for name, value := range st.Env {
			run.env = append(run.env, name+"="+c.expand(s.t, value))
		}
		added, err := os.ReadFile(paths)
		s.must(err)
		for _, dir := range strings.Fields(string(added)) {
			run.env = append(run.env, "PATH="+dir+":"+os.Getenv("PATH"))
		}
		if strings.Contains(st.Run, "${{") {
			s.t.Errorf("step %q puts an expression into a shell script, where its value could be a command", st.Name)
		}
		out, err := run.run(st.Run, "bash", "-e", "-c", st.Run)
		o.log += out
		if err != nil {
			o.failed = append(o.failed, st.Name)
		}
	}
	return o
}

const (
	install  = "Install agentbox"
	sound    = "The profiles are sound, and the manifest says what they allow"
	nothing  = "Nothing is wider than on the target branch"
	findings = "Findings for code scanning"
)

func (s scene) pullRequest() context {
	return context{event: "pull_request", url: "file://" + agentbox(s.t), sum: sum(s.t, agentbox(s.t))}
}

// renew writes the manifest anew and commits.
func (s scene) renew() {
	s.t.Helper()
	s.sh("agentbox manifest -o agentbox.manifest.json && git add -A && git commit -q -m change")
}

func TestATighteningIsGreen(t *testing.T) {
	s := newScene(t)
	s.write(".agentbox/billing.toml", strings.Replace(base, "4GiB", "2GiB", 1)+"\n[[network.rule]]\naction = \"deny\"\nhost = \"registry.npmjs.org\"\nmethods = [\"HEAD\"]\n")
	s.renew()
	o := s.carryOut(s.pullRequest())
	if len(o.failed) > 0 || !slices.Equal(o.ran, []string{install, sound, nothing, findings}) {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

func TestAWideningIsRedWithAnAnnotation(t *testing.T) {
	s := newScene(t)
	s.write(".agentbox/billing.toml", strings.Replace(base, `"npm"`, `"npm", "pypi"`, 1))
	s.renew()
	o := s.carryOut(s.pullRequest())
	if !slices.Equal(o.failed, []string{nothing}) || !slices.Contains(o.ran, findings) {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
	if !regexp.MustCompile(`(?m)^::error file=\.agentbox/billing\.toml,line=6,title=agentbox%3A wider::allows GET, HEAD to pypi\.org`).MatchString(o.log) {
		t.Errorf("no annotation says what is wider:\n%s", o.log)
	}
	var sarif struct {
		Version string
		Runs    []struct{ Results []struct{ RuleID string } }
	}
	data, err := os.ReadFile(filepath.Join(s.repo, "agentbox.sarif"))
	s.must(err)
	s.must(json.Unmarshal(data, &sarif))
	if sarif.Version != "2.1.0" || len(sarif.Runs) != 1 || len(sarif.Runs[0].Results) != 2 || sarif.Runs[0].Results[0].RuleID != "wider" {
		t.Errorf("the SARIF for code scanning does not hold the widening: %s", data)
	}

	labelled := s.pullRequest()
	labelled.labelled = true
	if o := s.carryOut(labelled); len(o.failed) > 0 || slices.Contains(o.ran, nothing) {
		t.Errorf("with a reviewer's label: ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

// Deleting a restriction is a widening, and so is deleting the file that holds it.
func TestADeletedRestrictionIsRed(t *testing.T) {
	s := newScene(t)
	s.sh("git rm -q agentbox.toml")
	s.renew()
	if o := s.carryOut(s.pullRequest()); !slices.Equal(o.failed, []string{nothing}) || !strings.Contains(o.log, "::error") {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

func TestAStaleManifestIsRed(t *testing.T) {
	s := newScene(t)
	s.write(".agentbox/billing.toml", strings.Replace(base, "4GiB", "2GiB", 1))
	s.sh("git commit -q -a -m change")
	o := s.carryOut(s.pullRequest())
	if !slices.Equal(o.failed, []string{sound}) || !strings.Contains(o.log, "::error file=agentbox.manifest.json") {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

func TestAMistakeIsRedWhereItStands(t *testing.T) {
	s := newScene(t)
	s.write(".agentbox/billing.toml", strings.Replace(base, "extends", "extend", 1))
	s.sh("git commit -q -a -m change")
	o := s.carryOut(s.pullRequest())
	if !slices.Contains(o.failed, sound) || !strings.Contains(o.log, "::error file=.agentbox/billing.toml,line=2,") {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

func TestAPushIsCheckedToo(t *testing.T) {
	s := newScene(t)
	push := s.pullRequest()
	push.event = "push"
	if o := s.carryOut(push); len(o.failed) > 0 || !slices.Equal(o.ran, []string{install, sound, findings}) {
		t.Errorf("ran %q, failed %q\n%s", o.ran, o.failed, o.log)
	}
}

// A download that is not what was pinned is not run.
func TestAnotherBinaryIsNotRun(t *testing.T) {
	s := newScene(t)
	c := s.pullRequest()
	other := filepath.Join(s.dir, "other")
	s.must(os.WriteFile(other, []byte("#!/bin/sh\ntouch run\n"), 0o755))
	c.url = "file://" + other
	o := s.carryOut(c)
	if !slices.Contains(o.failed, install) {
		t.Errorf("the checksum is not held: %s", o.log)
	}
	if _, err := os.Lstat(filepath.Join(s.repo, "run")); err == nil {
		t.Error("it was run")
	}
}

func TestTheWorkflowMayDoLittle(t *testing.T) {
	var w workflow
	load(t, "github-actions.yml", &w)
	job := w.Jobs["check"]
	if len(w.Permissions) != 0 || len(w.Jobs) != 1 || len(job.Permissions) != 2 || job.Permissions["contents"] != "read" || job.Permissions["security-events"] != "write" {
		t.Errorf("permissions: %v, of the job %v", w.Permissions, job.Permissions)
	}
	for _, st := range job.Steps {
		if st.Uses != "" && !regexp.MustCompile(`^[a-z-]+/[a-z/-]+@v[0-9]+$`).MatchString(st.Uses) {
			t.Errorf("%s is not pinned to a version", st.Uses)
		}
		if strings.HasPrefix(st.Uses, "actions/checkout@") && (st.With["fetch-depth"] != 0 || st.With["persist-credentials"] != false) {
			t.Errorf("the checkout has %v", st.With)
		}
	}
}

func TestGitLab(t *testing.T) {
	var file struct {
		Agentbox struct {
			Variables map[string]string
			Script    []string
		}
	}
	load(t, "gitlab-ci.yml", &file)
	if file.Agentbox.Variables["GIT_DEPTH"] != "0" {
		t.Error("the clone may lack the commit to compare with")
	}
	s := newScene(t)
	verdict := func() (string, error) {
		s := s
		s.env = append(slices.Clone(s.env), "CI=true", "AGENTBOX_URL=file://"+agentbox(t), "AGENTBOX_SHA256="+sum(t, agentbox(t)))
		out, err := s.run("base", "git", "rev-parse", "origin/main")
		s.must(err)
		s.env = append(s.env, "CI_MERGE_REQUEST_DIFF_BASE_SHA="+strings.Fields(out)[2])
		script := strings.ReplaceAll(strings.Join(file.Agentbox.Script, "\n"), "/usr/local/bin/", filepath.Join(s.dir, "temp")+"/")
		return s.run(script, "bash", "-eo", "pipefail", "-c", script)
	}
	if out, err := verdict(); err != nil {
		t.Errorf("unchanged: %v\n%s", err, out)
	}
	s.write(".agentbox/billing.toml", strings.Replace(base, `"npm"`, `"npm", "pypi"`, 1))
	s.renew()
	if out, err := verdict(); err == nil || !strings.Contains(out, "pypi.org") {
		t.Errorf("wider: %v\n%s", err, out)
	}
}

func TestThePreCommitHook(t *testing.T) {
	s := newScene(t)
	hook, err := os.ReadFile("../../docs/ci/pre-commit")
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.repo, ".git", "hooks", "pre-commit"), hook, 0o755))
	commit := func() (string, error) { return s.run("commit", "git", "commit", "-q", "-a", "-m", "change") }

	s.write(".agentbox/billing.toml", strings.Replace(base, "4GiB", "2GiB", 1))
	if out, err := commit(); err == nil || !strings.Contains(out, "agentbox manifest -o") {
		t.Errorf("with a stale manifest: %v\n%s", err, out)
	}
	s.sh("agentbox manifest -o agentbox.manifest.json")
	if out, err := commit(); err != nil || strings.Contains(out, "pre-commit:") {
		t.Errorf("a tightening: %v\n%s", err, out)
	}
	s.write(".agentbox/billing.toml", strings.Replace(base, `"npm"`, `"npm", "pypi"`, 1))
	s.sh("agentbox manifest -o agentbox.manifest.json")
	if out, err := commit(); err != nil || !strings.Contains(out, "lets agents do more") {
		t.Errorf("a widening: %v\n%s", err, out)
	}
	s.write("README.md", "x\n")
	s.env = append(s.env, "PATH=/usr/bin:/bin") // a commit that touches no profile needs no agentbox
	s.sh("git add README.md")
	if out, err := commit(); err != nil || bytes.Contains([]byte(out), []byte("agentbox:")) {
		t.Errorf("a commit without profiles: %v\n%s", err, out)
	}
}
