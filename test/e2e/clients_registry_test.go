package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pages are answers by path; what is not among it does not exist.
type pages map[string]string

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, ok := p[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/"):
		w.Header().Set("Content-Type", "text/html")
	case strings.HasPrefix(text, "{"):
		w.Header().Set("Content-Type", "application/json")
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	_, _ = w.Write([]byte(text))
}

// tarball is a gzipped archive of files, name and content in turn.
func tarball(t *testing.T, files ...string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	archive := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		must(t, archive.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), ModTime: time.Unix(1e9, 0)}))
		_, err := archive.Write([]byte(files[i+1]))
		must(t, err)
	}
	must(t, archive.Close())
	must(t, z.Close())
	return out.String()
}

func zipped(t *testing.T, files ...string) string {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		f, err := archive.Create(files[i])
		must(t, err)
		_, err = f.Write([]byte(files[i+1]))
		must(t, err)
	}
	must(t, archive.Close())
	return out.String()
}

func sha256sum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func document(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return string(text)
}

// Each package manager takes a package from its own registry's name, as it comes from its distribution.
func TestNPMInstalls(t *testing.T) {
	pack := tarball(t, "package/package.json", `{"name":"tiny","version":"1.0.0","main":"i.js"}`, "package/i.js", "module.exports = 'tiny works'\n")
	sum := sha512.Sum512([]byte(pack))
	w := newTown(t, map[string]http.Handler{"registry.npmjs.org": pages{
		"/tiny": document(t, map[string]any{"name": "tiny", "dist-tags": map[string]string{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": map[string]any{
			"name": "tiny", "version": "1.0.0", "dist": map[string]string{
				"tarball": "https://registry.npmjs.org/tiny/-/tiny-1.0.0.tgz", "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}}}}),
		"/tiny/-/tiny-1.0.0.tgz": pack,
	}})
	w.bring("npm")
	w.lets("[network]\nuse = [\"npm\"]\n")
	w.run(`export npm_config_update_notifier=false; npm=$PWD/node_modules/npm/bin/npm-cli.js; mkdir /tmp/p && cd /tmp/p && node "$npm" init -y >/dev/null &&
		node "$npm" install --no-audit --no-fund --loglevel=error tiny >/dev/null && node -p 'require("tiny")'`).
		exits(0).prints("tiny works\n")
	w.only(w.visits(), "GET registry.npmjs.org/tiny", "GET registry.npmjs.org/tiny/-/tiny-1.0.0.tgz")
}

func TestPipInstalls(t *testing.T) {
	wheel := zipped(t, "tiny.py", "word = 'tiny works'\n",
		"tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
		"tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n")
	const file = "tiny-1.0-py3-none-any.whl"
	w := newTown(t, map[string]http.Handler{
		"pypi.org":               pages{"/simple/tiny/": `<a href="https://files.pythonhosted.org/packages/` + file + `#sha256=` + sha256sum(wheel) + `">` + file + `</a>`},
		"files.pythonhosted.org": pages{"/packages/" + file: wheel},
	})
	w.lets("[network]\nuse = [\"pypi\"]\n")
	w.run(`python3 -m pip install -q --disable-pip-version-check --no-cache-dir --target /tmp/t tiny && PYTHONPATH=/tmp/t python3 -c 'import tiny; print(tiny.word)'
		python3 -m pip download -q --disable-pip-version-check --no-cache-dir -d /tmp/d tiny && ls /tmp/d`).
		exits(0).prints("tiny works\n" + file + "\n")
	w.only(w.visits(), "GET pypi.org/simple/tiny/", "GET files.pythonhosted.org/packages/"+file)
}

func TestGoDownloads(t *testing.T) {
	const at = "/example.org/tiny/@v/v1.0.0"
	mod := "module example.org/tiny\n\ngo 1.21\n"
	w := newTown(t, map[string]http.Handler{"proxy.golang.org": pages{
		at + ".info": `{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}`, at + ".mod": mod,
		"/example.org/tiny/@v/list": "v1.0.0\n",
		at + ".zip":                 zipped(t, "example.org/tiny@v1.0.0/go.mod", mod, "example.org/tiny@v1.0.0/tiny.go", "package tiny\n\nconst Word = \"tiny works\"\n"),
	}})
	w.lets("[network]\nuse = [\"go\"]\n")
	w.write("go.mod", "module try\n\ngo 1.21\n")
	w.run(`export GONOSUMDB=example.org GOTOOLCHAIN=local GOFLAGS=-modcacherw; go get example.org/tiny@v1.0.0 2>/dev/null &&
		go mod download -json example.org/tiny | grep -c '"Version": "v1.0.0"' && cat "$(go list -m -f '{{.Dir}}' example.org/tiny)/tiny.go"`).
		exits(0).prints("1\npackage tiny\n\nconst Word = \"tiny works\"\n")
	for _, v := range w.visits() {
		if v.host != "proxy.golang.org" || v.method != http.MethodGet {
			t.Errorf("go asked for %+v", v)
		}
	}
	if r := w.refusals(); len(r) > 0 {
		t.Errorf("refused: %q", r)
	}
}

// Cargo's registry is read over HTTP by every cargo since 1.68, and as a git repository by those before.
func TestCargoFetches(t *testing.T) {
	crate := tarball(t, "tiny-1.0.0/Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\n", "tiny-1.0.0/src/lib.rs", "pub const WORD: &str = \"tiny works\";\n")
	line := document(t, map[string]any{"name": "tiny", "vers": "1.0.0", "deps": []string{}, "cksum": sha256sum(crate), "features": map[string]string{}, "yanked": false})
	conf := `{"dl":"https://static.crates.io/crates","api":"https://crates.io"}`
	w := newTown(t, map[string]http.Handler{
		"index.crates.io":  pages{"/config.json": conf, "/ti/ny/tiny": line + "\n"},
		"static.crates.io": pages{"/crates/tiny/1.0.0/download": crate},
		"github.com":       nil,
	})
	w.handlers["github.com"] = w.gitServer("rust-lang/crates.io-index", map[string]string{"config.json": conf, "ti/ny/tiny": line + "\n"})
	w.lets("[network]\nuse = [\"crates\", \"github\"]\n")
	w.write("Cargo.toml", "[package]\nname = \"try\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny = \"1\"\n")
	w.write("src/main.rs", "fn main() { println!(\"{}\", tiny::WORD) }\n")
	w.run("CARGO_TARGET_DIR=/tmp/target cargo run -q").exits(0).prints("tiny works\n")
	hosts := map[string]bool{}
	for _, v := range w.visits() {
		hosts[v.host] = true
	}
	if !hosts["static.crates.io"] || !hosts["index.crates.io"] && !hosts["github.com"] {
		t.Errorf("cargo asked %v", hosts)
	}
	if r := w.refusals(); len(r) > 0 {
		t.Errorf("refused: %q", r)
	}
}

func TestAptDownloads(t *testing.T) {
	w := newTown(t, map[string]http.Handler{"http://deb.debian.org": nil, "secure.debian.example.com": nil})
	deb := w.debianPackage()
	list := fmt.Sprintf("Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: A Person <person@example.com>\nFilename: pool/tiny_1.0_all.deb\nSize: %d\nSHA256: %s\nDescription: tiny\n", len(deb), sha256sum(deb))
	release := fmt.Sprintf("Suite: stable\nCodename: stable\nDate: %s\nArchitectures: all amd64 arm64\nComponents: main\nSHA256:\n %s %d main/binary-all/Packages\n %s %d main/binary-amd64/Packages\n %s %d main/binary-arm64/Packages\n",
		time.Now().UTC().Format(time.RFC1123), sha256sum(list), len(list), sha256sum(list), len(list), sha256sum(list), len(list))
	repo := pages{"/debian/dists/stable/Release": release, "/debian/pool/tiny_1.0_all.deb": deb}
	for _, arch := range []string{"all", "amd64", "arm64"} {
		repo["/debian/dists/stable/main/binary-"+arch+"/Packages"] = list
	}
	w.handlers["deb.debian.org"], w.handlers["secure.debian.example.com"] = repo, repo
	w.lets("[network]\nuse = [\"debian\"]\n" + allow("secure.debian.example.com"))
	var clients []sentence
	for _, from := range []string{"http://deb.debian.org", "https://secure.debian.example.com"} {
		clients = append(clients, sentence{from, aptScript(from), "tiny\n"})
	}
	w.allSay(clients)
}

// aptScript updates and downloads as a user who may not write to the system.
func aptScript(from string) string {
	return `(rm -rf /tmp/apt; mkdir -p /tmp/apt/etc/apt.conf.d /tmp/apt/state/lists/partial /tmp/apt/cache/archives/partial && cd /tmp/apt && : >status &&
echo 'deb [trusted=yes] ` + from + `/debian stable main' >etc/sources.list &&
apt='-q -o Dir=/tmp/apt -o Dir::Etc=etc -o Dir::State=state -o Dir::Cache=cache -o Dir::State::status=/tmp/apt/status -o APT::Sandbox::User= -o Dir::Bin::methods=/usr/lib/apt/methods -o Acquire::Languages=none' &&
apt-get $apt update >log 2>&1 && apt-get $apt download tiny >>log 2>&1 && dpkg-deb -f tiny_1.0_all.deb Package || cat log)`
}

// debianPackage builds an empty package.
func (b *box) debianPackage() string {
	b.t.Helper()
	dir := filepath.Join(filepath.Dir(b.repo), "tiny")
	must(b.t, os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755))
	must(b.t, os.WriteFile(filepath.Join(dir, "DEBIAN", "control"), []byte("Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: A Person <person@example.com>\nDescription: tiny\n"), 0o644))
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", dir, dir+".deb").CombinedOutput(); err != nil {
		b.t.Fatalf("building a package: %v\n%s", err, out)
	}
	deb, err := os.ReadFile(dir + ".deb")
	must(b.t, err)
	return string(deb)
}

// gh has a token of its own: the agent holds a placeholder.
func TestGitHubCLI(t *testing.T) {
	w := newTown(t, map[string]http.Handler{"api.github.com": pages{"/user": `{"login":"octocat"}`}})
	w.setenv("GH_TOKEN_OUTSIDE", "gho_"+strings.Repeat("R3al", 9))
	w.lets(allow("api.github.com", `methods = ["GET"]`) + `[[credential]]
name = "github"
source = { env = "GH_TOKEN_OUTSIDE" }
hosts = ["api.github.com"]
header = "Authorization: token {token}"
env = "GH_TOKEN"
shape = "gho_"
`)
	w.run("gh api user --jq .login; gh api -X DELETE user >/dev/null 2>&1 && echo deleted; case $GH_TOKEN in *R3al*) echo real;; gho_*) echo placeholder;; esac").
		exits(0).prints("octocat\nplaceholder\n")
	visits := w.visits()
	if len(visits) != 1 || visits[0].method != http.MethodGet || visits[0].path != "/user" || visits[0].auth != "token gho_"+strings.Repeat("R3al", 9) {
		t.Errorf("the API saw %+v", visits)
	}
}
