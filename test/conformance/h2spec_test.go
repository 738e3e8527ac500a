//go:build linux

package conformance

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// h2spec gives the built suite: AGENTBOX_TEST_H2SPEC, or one that the go command builds at the version that
// tools/h2spec.mod pins.
func h2spec(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("AGENTBOX_TEST_H2SPEC"); built != "" {
		return built
	}
	path := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools/h2spec.mod", "-o", path, "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building h2spec: %v\n%s", err, out)
	}
	return path
}

// report is the part of a JUnit report that is looked at.
type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		ID      string `xml:"id,attr"`
		Cases   []struct {
			Name    string  `xml:"classname,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
			Skipped *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// result is how a suite ended: case → what went wrong, "" for nothing.
type result map[string]string

func (r result) failed() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if r[name] != "" {
			names = append(names, name)
		}
	}
	return names
}

// atName runs h2spec against a port of this machine that it knows by the server's name: in a mount namespace of its own,
// where /etc/hosts says so. The certificate is not verified: this is about frames, and the name is what the proxy asks for.
func atName(t *testing.T, suite, address string) result {
	t.Helper()
	dir := t.TempDir()
	hosts, file := filepath.Join(dir, "hosts"), filepath.Join(dir, "report.xml")
	must(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost "+name+"\n"), 0o644))
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `mount --bind "$1" /etc/hosts && shift && exec "$@"`, "sh", hosts,
		suite, "--host", name, "--port", port, "--tls", "--insecure", "--strict", "--timeout", "5", "--junit-report", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, _ := cmd.CombinedOutput() // it also fails when a case does
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("h2spec leaves no report: %v\n%s", err, out)
	}
	return parse(t, text)
}

func parse(t *testing.T, text []byte) result {
	t.Helper()
	var r report
	must(t, xml.NewDecoder(bytes.NewReader(text)).Decode(&r))
	all := result{}
	for _, suite := range r.Suites {
		for i, c := range suite.Cases {
			all[fmt.Sprintf("%s/%d %s", suite.Package, i+1, c.Name)] = wrong(c.Failure, c.Error, c.Skipped)
		}
	}
	if len(all) < 140 {
		t.Fatalf("h2spec ran %d cases only", len(all))
	}
	return all
}

func wrong(reasons ...*string) string {
	for _, reason := range reasons {
		if reason != nil {
			return "failed: " + strings.Join(strings.Fields(*reason), " ")
		}
	}
	return ""
}

// TestHTTP2 holds the HTTP/2 that the proxy offers to programs inside against h2spec, and beside it Go's own server,
// which is what the proxy's is made of: nothing may go wrong with the one that does not with the other.
func TestHTTP2(t *testing.T) {
	suite := h2spec(t)
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_, _ = w.Write([]byte("an answer\n"))
		}
	}))
	var bare, through result
	t.Run("suite", func(t *testing.T) {
		t.Run("Go's server", func(t *testing.T) { t.Parallel(); bare = atName(t, suite, l.secure.Listener.Addr().String()) })
		t.Run("the proxy", func(t *testing.T) { t.Parallel(); through = atName(t, suite, l.direct) })
	})
	t.Logf("Go's server: %d cases, %d fail: %q", len(bare), len(bare.failed()), bare.failed())
	t.Logf("the proxy:   %d cases, %d fail: %q", len(through), len(through.failed()), through.failed())
	if len(bare) != len(through) {
		t.Error("the two ran different cases")
	}
	for _, name := range through.failed() {
		if bare[name] == "" {
			t.Errorf("%s: %s", name, through[name])
		}
	}
}
