package podman

import (
	"archive/tar"
	"bytes"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/run"
)

// archive is what an engine exports.
func archive(t *testing.T, config string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"abc.json", config}, {"manifest.json", `[{"Config":"abc.json"}]`}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Typeflag: tar.TypeReg, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestTriggersAreSeen(t *testing.T) {
	for config, want := range map[string]bool{
		`{"config":{"Cmd":["sh"],"OnBuild":null}}`:         false,
		`{"config":{"OnBuild":["RUN --network=host id"]}}`: true,
		`{"config":{"onbuild":["RUN id"]}}`:                true,
	} {
		if got, err := triggers(archive(t, config)); err != nil || got != want {
			t.Errorf("%s: %v, %v", config, got, err)
		}
	}
	if _, err := triggers(archive(t, "{")); err == nil {
		t.Error("what cannot be read has nothing against it")
	}
}

// The names of agentbox's own files are others in each build, and the engine is told of these alone.
func TestNobodyKnowsTheNameOfTheScript(t *testing.T) {
	a, b := newBeside(), newBeside()
	if a.script == b.script || a.certificates == b.certificates {
		t.Errorf("two builds have the names %+v and %+v", a, b)
	}
	p, err := buildParams(run.BuildSpec{CertificateID: "ca"}, a)
	if err != nil {
		t.Fatal(err)
	}
	if p.Get("dockerfile") != `["`+a.script+`"]` || !strings.Contains(p.Get("secrets"), a.certificates) || !strings.Contains(p.Get("excludes"), a.script) {
		t.Errorf("the engine is told %v", p)
	}
}

// Whatever containers begin with on this machine, a step has what it takes to write files of several owners, and no more.
func TestStepsKeepFewCapabilities(t *testing.T) {
	dropped := notForSteps()
	for _, kept := range []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"} {
		if slices.Contains(dropped, "CAP_"+kept) {
			t.Errorf("%s is taken away", kept)
		}
	}
	for _, gone := range []string{"SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW", "DAC_READ_SEARCH", "SYS_CHROOT", "MKNOD", "SETFCAP"} {
		if !slices.Contains(dropped, "CAP_"+gone) {
			t.Errorf("%s stays", gone)
		}
	}
	if len(dropped) != 38-8 {
		t.Errorf("%d are taken away", len(dropped))
	}
}
