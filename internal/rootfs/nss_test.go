package rootfs

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readDatabase has a real SQLite say what is in a table, a line for each value.
const readDatabase = `
import sqlite3, sys
db = sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True)
print(db.execute("pragma integrity_check").fetchone()[0])
for row in db.execute("select * from " + sys.argv[2]):
    for (name, *_), value in zip(db.execute("select * from " + sys.argv[2]).description, row):
        if value is not None:
            print(row[0], name, value.hex() if isinstance(value, bytes) else value)
`

func sqlite(t *testing.T, file, table string) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", readDatabase, file, table).CombinedOutput()
	if err != nil {
		t.Fatalf("reading %s: %v\n%s", file, err, out)
	}
	return string(out)
}

func TestBrowsersKnowTheRunsAuthority(t *testing.T) {
	opt := options(t, newHost(t, nil))
	tree := build(t, opt)
	cert, err := ownCertificate(opt.CA)
	must(t, err)
	dir := filepath.Join(tree.Home, nssDir)
	said := sqlite(t, filepath.Join(dir, "cert9.db"), "nssPublic")
	for _, want := range []string{
		"ok\n1 id 1\n1 a0 00000001\n",                                          // a certificate
		"1 a11 " + hex.EncodeToString(cert.Raw) + "\n",                         // which
		"\n2 a0 ce534353\n",                                                    // a trust
		"\n2 a82 020101\n",                                                     // in number 1 …
		"\n2 a81 " + hex.EncodeToString(cert.RawIssuer),                        // … of this issuer
		"\n2 ace536358 ce534352\n",                                             // to name servers
		"\n2 ace536359 ce534353\n2 ace53635a ce534353\n2 ace53635b ce534353\n", // and nothing else
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if said := sqlite(t, filepath.Join(dir, "key4.db"), "nssPrivate"); said != "ok\n" {
		t.Errorf("the keys are %q", said)
	}
	if got := text(t, view{tree}, "/etc/firefox/policies/policies.json"); !strings.Contains(got, ownCAPath) {
		t.Errorf("Firefox's policy is %q", got)
	}
}

func TestAProfilesOwnNSSDatabaseStays(t *testing.T) {
	opt := options(t, newHost(t, nil))
	opt.Files = []File{{Path: "~/" + nssDir + "/cert9.db", Content: []byte("theirs")}}
	tree := build(t, opt)
	if got := text(t, view{tree}, "/home/ada/"+nssDir+"/cert9.db"); got != "theirs" {
		t.Errorf("it is %.40q", got)
	}
	if len(tree.Warnings) == 0 || !strings.Contains(tree.Warnings[0], nssDir) {
		t.Errorf("nothing is said about it: %q", tree.Warnings)
	}
}

func TestAnUntrustingContainerHasNoNSSDatabase(t *testing.T) {
	opt := options(t, newHost(t, nil))
	opt.CA, opt.Untrusting = nil, true
	tree := build(t, opt)
	if _, err := os.Lstat(filepath.Join(tree.Home, nssDir)); err == nil {
		t.Error("it has one")
	}
}

// A certificate that does not fit is refused, not cut.
func TestADatabaseThatDoesNotFit(t *testing.T) {
	rows := []map[string]string{{"a0": strings.Repeat("x", sqlitePage)}}
	if _, err := sqliteDatabase("t", []string{"a0"}, rows); err == nil {
		t.Error("it was written")
	}
}

func TestP11KitsAnchors(t *testing.T) {
	h := newHost(t, map[string]string{"/etc/pki/ca-trust/source/anchors/own.pem": "theirs"})
	opt := options(t, h)
	v := view{build(t, opt)}
	if got := text(t, v, "/etc/pki/ca-trust/source/anchors/agentbox-ca.pem"); got != string(opt.CA) {
		t.Errorf("the anchor is %q", got)
	}
	if _, err := v.resolve("/etc/pki/trust/anchors"); err == nil {
		t.Error("a directory that the host has not was made")
	}
}

func BenchmarkNSS(b *testing.B) {
	cert, err := ownCertificate(newCA(b, "agentbox run"))
	must(b, err)
	for b.Loop() {
		_, err1 := nssCertificates(cert)
		_, err2 := nssKeys()
		must(b, err1)
		must(b, err2)
	}
}

func BenchmarkJavaKeyStore(b *testing.B) {
	bundle, err := host("/").hostBundle()
	must(b, err)
	for b.Loop() {
		javaKeyStore(certificates(bundle))
	}
}
