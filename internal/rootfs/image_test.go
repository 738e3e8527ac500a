package rootfs

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// etcArchive is an image's /etc as an engine gives it.
func etcArchive(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range append([]tar.Header{{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}}, headers...) {
		content := h.Uname // it stands for the content
		h.Uname, h.Size = "", int64(len(content))
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(content))
			must(t, err)
		}
	}
	must(t, w.Close())
	return &b
}

func onImage(t *testing.T, from FromImage) (string, Tree, error) {
	t.Helper()
	opt := options(t, "")
	opt.Roots, opt.Masked, opt.Shown = nil, nil, nil
	dir := filepath.Join(t.TempDir(), "root")
	tree, err := BuildOnImage(dir, opt, from)
	return filepath.Join(dir, "root"), tree, err
}

// However the image's /etc is made, what is generated lands in the tree and nowhere else, and what root alone may read is left out.
func TestOnImageFollowsNoLinkOut(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	must(t, os.WriteFile(victim, []byte("as it was"), 0o600))
	up := strings.Repeat("../", 30)
	root, tree, err := onImage(t, FromImage{Etc: etcArchive(t,
		tar.Header{Name: "etc/passwd", Typeflag: tar.TypeSymlink, Linkname: victim},
		tar.Header{Name: "etc/hosts", Typeflag: tar.TypeSymlink, Linkname: up + victim},
		tar.Header{Name: "etc/ssl", Typeflag: tar.TypeSymlink, Linkname: outside},
		tar.Header{Name: "etc/resolv.conf", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "etc/resolv.conf/deep", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "x"},
		tar.Header{Name: "../../escape", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "x"},
		tar.Header{Name: "etc/../../../escape", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "x"},
		tar.Header{Name: "etc/motd", Typeflag: tar.TypeReg, Mode: 0o4644, Uname: "own"},
		tar.Header{Name: "etc/motd2", Typeflag: tar.TypeLink, Linkname: "etc/motd"},
		tar.Header{Name: "etc/shadow", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "x"},
		tar.Header{Name: "etc/secret", Typeflag: tar.TypeReg, Mode: 0o640, Uname: "x"},
		tar.Header{Name: "etc/secret2", Typeflag: tar.TypeLink, Linkname: "etc/secret"},
		tar.Header{Name: "etc/private/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "etc/private/key", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "x"},
		tar.Header{Name: "etc/device", Typeflag: tar.TypeChar, Mode: 0o666},
	)})
	must(t, err)
	if got, err := os.ReadFile(victim); err != nil || string(got) != "as it was" {
		t.Errorf("a file outside was written: %q, %v", got, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("something was made outside: %v, %v", entries, err)
	}
	for _, p := range []string{"passwd", "hosts", "resolv.conf", "motd", "motd2", "ssl/certs/ca-certificates.crt"} {
		if info, err := os.Lstat(filepath.Join(root, "etc", p)); err != nil || !info.Mode().IsRegular() || info.Mode()&fs.ModeSetuid != 0 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
	for _, p := range []string{"shadow", "secret", "secret2", "private", "device", "escape"} {
		if _, err := os.Lstat(filepath.Join(root, "etc", p)); err == nil {
			t.Errorf("%s is there", p)
		}
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(root), "escape")); err == nil {
		t.Error("an entry came out of /etc")
	}
	for _, m := range tree.Mounts {
		if m.Type == "tmpfs" && m.Target != "/dev/shm" && !slices.Contains(m.Options, "notmpcopyup") && !slices.Contains(m.Options, "tmpcopyup") {
			t.Errorf("%s says not what it begins with", m.Target)
		}
	}
}

// However many names a file of the image has, it takes its room once; and where it has a name that is generated, only that name
// is written over.
func TestOnImageFilesOfManyNamesTakeTheirRoomOnce(t *testing.T) {
	const large = 4 << 20
	headers := []tar.Header{{Name: "etc/a", Typeflag: tar.TypeReg, Mode: 0o644, Uname: strings.Repeat("x", large)}}
	for i := range 100 {
		headers = append(headers, tar.Header{Name: "etc/a" + strings.Repeat("a", i+1), Typeflag: tar.TypeLink, Linkname: "etc/a"})
	}
	headers = append(headers, tar.Header{Name: "etc/passwd", Typeflag: tar.TypeLink, Linkname: "etc/a"},
		tar.Header{Name: "etc/own", Typeflag: tar.TypeLink, Linkname: "etc/own"},
		tar.Header{Name: "etc/up", Typeflag: tar.TypeLink, Linkname: "../../../etc/passwd"})
	root, _, err := onImage(t, FromImage{Etc: etcArchive(t, headers...)})
	must(t, err)
	first, err := os.Stat(filepath.Join(root, "etc/a"))
	must(t, err)
	last, err := os.Stat(filepath.Join(root, "etc/a"+strings.Repeat("a", 100)))
	must(t, err)
	if !os.SameFile(first, last) || first.Size() != large {
		t.Errorf("another name is another file, or the file has changed: %d bytes", first.Size())
	}
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.HasPrefix(string(passwd), "root:") {
		t.Errorf("passwd: %.40q, %v", passwd, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/own")); err == nil {
		t.Error("what is a name of itself is there")
	}
}

// What is too large for a bundle of certificates is none, and is not copied to where bundles go.
func TestOnImageTakesNoEndlessBundle(t *testing.T) {
	own := string(options(t, "").CA)
	root, tree, err := onImage(t, FromImage{Etc: etcArchive(t,
		tar.Header{Name: "etc/ssl/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "etc/ssl/cert.pem", Typeflag: tar.TypeReg, Mode: 0o644, Uname: own + strings.Repeat("\n", MaxBundle)})})
	must(t, err)
	if info, err := os.Stat(filepath.Join(root, bundlePath)); err != nil || info.Size() > 1<<20 || len(tree.Warnings) != 1 {
		t.Errorf("the bundle: %v, %v, warnings %q", info, err, tree.Warnings)
	}
}

// Each distribution's bundle is found, in /etc or where its links lead, and has all of its names afterwards.
func TestOnImageFindsBundles(t *testing.T) {
	own := string(options(t, "").CA) // any certificate does
	dirs := func(names ...string) (all []tar.Header) {
		for _, n := range names {
			all = append(all, tar.Header{Name: "etc/" + n + "/", Typeflag: tar.TypeDir, Mode: 0o755})
		}
		return all
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Name: "etc/" + name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	file := func(name string) tar.Header {
		return tar.Header{Name: "etc/" + name, Typeflag: tar.TypeReg, Mode: 0o644, Uname: own}
	}
	for name, c := range map[string]struct {
		etc   []tar.Header
		named []string // afterwards
		read  string   // outside of /etc
	}{
		"debian": {append(dirs("ssl", "ssl/certs"), file("ssl/certs/ca-certificates.crt")), nil, ""},
		"alpine": {append(dirs("ssl", "ssl/certs"), file("ssl/certs/ca-certificates.crt"), link("ssl/cert.pem", "certs/ca-certificates.crt")), []string{"/etc/ssl/cert.pem"}, ""},
		"fedora": {append(dirs("ssl", "pki", "pki/tls", "pki/tls/certs", "pki/ca-trust", "pki/ca-trust/extracted", "pki/ca-trust/extracted/pem"), link("ssl/certs", "../pki/tls/certs"),
			link("pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"), file("pki/ca-trust/extracted/pem/tls-ca-bundle.pem")),
			[]string{"/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"}, ""},
		"suse": {append(dirs("ssl"), link("ssl/certs", "/var/lib/ca-certificates/pem"), link("ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem")),
			[]string{"/etc/ssl/ca-bundle.pem"}, "/var/lib/ca-certificates/ca-bundle.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			root, tree, err := onImage(t, FromImage{Etc: etcArchive(t, c.etc...), Read: func(p string) ([]byte, error) {
				if p != c.read {
					return nil, fs.ErrNotExist
				}
				return []byte(own), nil
			}})
			must(t, err)
			if len(tree.Warnings) != 0 {
				t.Errorf("%q", tree.Warnings)
			}
			for _, p := range append(c.named, bundlePath, "/etc/ssl/cert.pem") {
				real, _, err := host(root).resolve(p)
				must(t, err)
				if data, err := os.ReadFile(filepath.Join(root, real)); err != nil || len(certificates(data)) != 2 {
					t.Errorf("%s holds %d certificates, %v", p, len(certificates(data)), err)
				}
			}
		})
	}
}

func TestOnImageRefuses(t *testing.T) {
	var many []tar.Header
	for range maxEtcEntries {
		many = append(many, tar.Header{Name: "etc/a", Typeflag: tar.TypeSymlink, Linkname: "b"})
	}
	for name, etc := range map[string]*bytes.Buffer{
		"too many": etcArchive(t, many...), "too large": etcArchive(t, tar.Header{Name: "etc/a", Typeflag: tar.TypeReg, Mode: 0o644, Uname: strings.Repeat("x", maxEtcBytes+1)}),
		"no archive": bytes.NewBufferString(strings.Repeat("x", 1024)),
	} {
		if _, _, err := onImage(t, FromImage{Etc: etc}); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	for _, home := range []string{"/opt/me", "/me", "/usr/me", "/etc/me", "/tmp/me", "/var/me"} {
		opt := Options{User: User{UID: 1, GID: 1, Name: "a", Group: "a", Home: home}, Hostname: "h", CA: options(t, "").CA}
		if _, err := BuildOnImage(filepath.Join(t.TempDir(), "x"), opt, FromImage{Etc: &bytes.Buffer{}}); err == nil || !strings.Contains(err.Error(), "the image's own") {
			t.Errorf("a home directory at %s: %v", home, err)
		}
	}
}
