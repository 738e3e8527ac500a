package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// File is one of a layer: a directory when Path ends in a slash, a link when Link is set.
type File struct {
	Path, Link string
	Content    []byte
	Mode       int64 // 0 is 0755
	Kind       byte  // tar's type of what is none of these
}

// Image is what is pushed.
type Image struct {
	Layers      [][]File
	Arch        string         // "" is this machine's
	Config      map[string]any // "Env", "User" …
	Annotations map[string]string
	Docker      bool // in Docker's own format, which has a HEALTHCHECK and no annotations
}

// Pushed is where things went.
type Pushed struct {
	Ref    string // ADDR/NAME@DIGEST
	Digest string
	Layers []string // digests, the lowest first
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	dockerType   = "application/vnd.docker.distribution.manifest.v2+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

func (i Image) kind(oci, docker string) string {
	if i.Docker {
		return docker
	}
	return oci
}

// Push lays an image into the registry.
func (r *Registry) Push(name string, i Image) Pushed {
	r.t.Helper()
	var layers []any
	var ids, digests []string
	for _, files := range i.Layers {
		plain := archive(r.t, files)
		blob := squeeze(r.t, plain)
		d := r.blob(name, blob)
		digests, ids = append(digests, d), append(ids, digestOf(plain))
		layers = append(layers, descriptor(i.kind("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"), d, len(blob)))
	}
	arch := i.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	config := marshal(r.t, map[string]any{"architecture": arch, "os": "linux", "config": i.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	kind := i.kind(manifestType, dockerType)
	manifest := map[string]any{"schemaVersion": 2, "mediaType": kind, "layers": layers,
		"config": descriptor(i.kind("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"), r.blob(name, config), len(config))}
	if i.Annotations != nil {
		manifest["annotations"] = i.Annotations
	}
	d := r.manifest(name, kind, marshal(r.t, manifest))
	return Pushed{Ref: r.Addr + "/" + name + "@" + d, Digest: d, Layers: digests}
}

// Index lays an index over images that were pushed, by architecture.
func (r *Registry) Index(name string, of map[string]Pushed) Pushed {
	r.t.Helper()
	var all []any
	for arch, p := range of {
		d := descriptor(manifestType, p.Digest, len(r.read("/v2/"+name+"/manifests/"+p.Digest)))
		d["platform"] = map[string]string{"os": "linux", "architecture": arch}
		all = append(all, d)
	}
	d := r.manifest(name, indexType, marshal(r.t, map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": all}))
	return Pushed{Ref: r.Addr + "/" + name + "@" + d, Digest: d}
}

func (r *Registry) blob(name string, content []byte) string {
	r.t.Helper()
	d := digestOf(content)
	header, _ := r.send(http.MethodPost, "/v2/"+name+"/blobs/uploads/", "", nil)
	at := header.Get("Location")
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	r.send(http.MethodPut, at+sep+"digest="+d, "application/octet-stream", content)
	return d
}

func (r *Registry) manifest(name, kind string, content []byte) string {
	r.t.Helper()
	d := digestOf(content)
	r.send(http.MethodPut, "/v2/"+name+"/manifests/"+d, kind, content)
	return d
}

func (r *Registry) read(path string) []byte {
	r.t.Helper()
	_, body := r.send(http.MethodGet, path, "", nil)
	return body
}

// send goes to the registry itself, not through what goes wrong before it.
func (r *Registry) send(method, path, kind string, body []byte) (http.Header, []byte) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://registry"+path, bytes.NewReader(body))
	must(r.t, err)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Accept", manifestType+", "+dockerType+", "+indexType)
	if r.login {
		req.SetBasicAuth(User, Password)
	}
	resp, err := r.back.RoundTrip(req)
	must(r.t, err)
	text, err := io.ReadAll(resp.Body)
	must(r.t, err)
	must(r.t, resp.Body.Close())
	if resp.StatusCode >= 300 {
		r.t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return resp.Header, text
}

func descriptor(kind, digest string, size int) map[string]any {
	return map[string]any{"mediaType": kind, "digest": digest, "size": size}
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func archive(t testing.TB, files []File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		switch {
		case strings.HasSuffix(f.Path, "/"):
			h.Typeflag = tar.TypeDir
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		if f.Kind != 0 {
			h.Typeflag = f.Kind
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write(f.Content)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func squeeze(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(plain)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return text
}

// Shell is a layer with the tools of a small system: busybox, which is static, under the names given.
func (r *Registry) Shell(names ...string) []File {
	r.t.Helper()
	program, err := exec.LookPath("busybox")
	must(r.t, err)
	content, err := os.ReadFile(program)
	must(r.t, err)
	files := []File{{Path: "bin/"}, {Path: "bin/busybox", Content: content}}
	for _, n := range names {
		files = append(files, File{Path: "bin/" + n, Link: "busybox"})
	}
	return files
}
