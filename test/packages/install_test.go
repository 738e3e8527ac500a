package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const script = "../../hack/install.sh"

// release is a directory with what install.sh takes of a release.
type release struct {
	dir, archive string
}

func newRelease(t *testing.T) release {
	t.Helper()
	r := release{t.TempDir(), fmt.Sprintf("agentbox_1.2.3_%s_%s.tar.gz", runtime.GOOS, runtime.GOARCH)}
	r.pack(t, "#!/bin/sh\necho version 1.2.3\n")
	r.list(t)
	return r
}

func (r release) pack(t *testing.T, program string) {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	out := tar.NewWriter(zip)
	for name, text := range map[string]string{
		"agentbox": program, "man/agentbox.1": "man", "completions/agentbox.bash": "bash",
		"completions/_agentbox": "zsh", "completions/agentbox.fish": "fish",
	} {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []func() error{out.Close, zip.Close} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	r.write(t, r.archive, packed.Bytes())
}

func (r release) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// list writes the checksums, with more lines at their end.
func (r release) list(t *testing.T, more ...string) {
	t.Helper()
	r.write(t, "checksums.txt", []byte(checksum(t, filepath.Join(r.dir, r.archive))+"  "+r.archive+"\n"+strings.Join(more, "")))
}

func checksum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// install runs the script and returns the prefix it installed to, and what it said.
func install(t *testing.T, from string, env ...string) (prefix, said string, err error) {
	t.Helper()
	prefix = filepath.Join(t.TempDir(), "prefix")
	cmd := exec.Command("sh", script)
	cmd.Env = append(os.Environ(), append([]string{"AGENTBOX_FROM=" + from, "PREFIX=" + prefix}, env...)...)
	out, err := cmd.CombinedOutput()
	return prefix, string(out), err
}

func nothingIn(t *testing.T, prefix string) {
	t.Helper()
	if entries, err := os.ReadDir(prefix); err == nil {
		t.Errorf("something was installed: %v", entries)
	}
}

func TestInstallFromADirectoryAndAServer(t *testing.T) {
	r := newRelease(t)
	server := httptest.NewServer(http.FileServer(http.Dir(r.dir)))
	defer server.Close()
	for _, from := range []string{r.dir, server.URL, server.URL + "/"} {
		prefix, said, err := install(t, from, "AGENTBOX_SHA256="+checksum(t, filepath.Join(r.dir, "checksums.txt")))
		if err != nil {
			t.Fatalf("from %s: %v\n%s", from, err, said)
		}
		out, err := exec.Command(filepath.Join(prefix, "bin/agentbox")).Output()
		if err != nil || string(out) != "version 1.2.3\n" {
			t.Errorf("from %s: %q, %v", from, out, err)
		}
		for name, want := range map[string]string{
			"share/man/man1/agentbox.1": "man", "share/bash-completion/completions/agentbox": "bash",
			"share/zsh/site-functions/_agentbox": "zsh", "share/fish/vendor_completions.d/agentbox.fish": "fish",
		} {
			if got, err := os.ReadFile(filepath.Join(prefix, name)); err != nil || string(got) != want {
				t.Errorf("from %s: %s holds %q, %v", from, name, got, err)
			}
		}
	}
}

func TestInstallRefuses(t *testing.T) {
	other := strings.Repeat("0", 64)
	tests := map[string]struct {
		spoil func(r release)
		from  string
		env   string
		want  string
	}{
		"an archive that was exchanged": {spoil: func(r release) { r.pack(t, "evil") }, want: "is not what checksums.txt lists"},
		"checksums that were exchanged": {env: "AGENTBOX_SHA256=" + other, want: "not the one with AGENTBOX_SHA256"},
		"two archives for one system":   {spoil: func(r release) { r.list(t, other+"  "+strings.Replace(r.archive, "1.2.3", "0.0.1", 1)+"\n") }, want: "more than one archive"},
		"another system's release":      {spoil: func(r release) { r.write(t, "checksums.txt", []byte(other+"  agentbox_1.2.3_plan9_amd64.tar.gz\n")) }, want: "nothing for"},
		"a name that leads elsewhere": {spoil: func(r release) {
			r.write(t, "checksums.txt", []byte(other+"  agentbox_/../../x_"+runtime.GOOS+"_"+runtime.GOARCH+".tar.gz\n"))
		}, want: "nothing for"},
		"a connection that is not https": {from: "http://example.com/download", want: "no verified connection"},
		"no place":                       {from: "/does/not/exist", want: "there is no directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRelease(t)
			if test.spoil != nil {
				test.spoil(r)
			}
			if test.from == "" {
				test.from = r.dir
			}
			prefix, said, err := install(t, test.from, test.env)
			if err == nil || !strings.Contains(said, test.want) {
				t.Errorf("%v, %q, want %q", err, said, test.want)
			}
			nothingIn(t, prefix)
		})
	}
}

// A download that breaks off is a script that ends early: it must not have done anything by then.
func TestHalfAScriptDoesNothing(t *testing.T) {
	r := newRelease(t)
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.TrimRight(text, "\n")
	last := bytes.LastIndexByte(whole, '\n')
	for _, end := range []int{len(whole) / 4, len(whole) / 2, last} {
		prefix := filepath.Join(t.TempDir(), "prefix")
		cmd := exec.Command("sh")
		cmd.Stdin = bytes.NewReader(whole[:end])
		cmd.Env = append(os.Environ(), "AGENTBOX_FROM="+r.dir, "PREFIX="+prefix)
		_ = cmd.Run() // it may well be no sound script
		nothingIn(t, prefix)
	}
}
