package run

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"agentbox/internal/rootfs"
	"agentbox/internal/shimwire"
)

// ofImage reports whether the root is an image. One that is asked for and not known is no reason to show the host's.
func (x *execution) ofImage() bool {
	return x.Plan.Binding.Image.Used() || x.Plan.Grants.Agent.Image != "" || x.Plan.Grants.Agent.Containerfile != ""
}

// onImage lays what goes over the image that is the root.
func (x *execution) onImage(ctx context.Context, dir string, o rootfs.Options) (tree rootfs.Tree, err error) {
	image := x.Plan.Binding.Image
	if image.ID == "" || x.Images == nil {
		return tree, fmt.Errorf("the image %s is not here", image.Name)
	}
	peek := Spec{Name: x.name, Labels: x.labels(), Image: image.ID, Command: []string{shimwire.ShimPath}}
	err = x.Images.Peek(ctx, peek, func(c Contents) error {
		from := rootfs.FromImage{}
		if from.VarTmp, err = fitForMounts(c, filepath.Dir(o.User.Home)); err != nil {
			return err
		}
		if from.Bundle, err = bundleOf(c); err != nil {
			return err
		}
		tree, err = etcOver(c, dir, o, from)
		return err
	})
	return tree, err
}

// fitForMounts insists that what is mounted over is a directory of the image's own or nothing at all: a link would take the
// mount elsewhere. The self-test would find it, and this says which it is. VarTmp is false where /var/tmp is a link, as in some
// images, to what is mounted anyway.
func fitForMounts(c Contents, above string) (varTmp bool, err error) {
	for _, p := range []string{"/etc", "/tmp", "/run", "/var", "/dev", "/proc", "/sys", above} {
		mode, err := c.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if !mode.IsDir() {
			return false, &Failure{Code: CodeRefused, Text: fmt.Sprintf("the image has something else than a directory at %s, where agentbox mounts one of its own", p),
				Hint: "make the image with a directory there, or with nothing"}
		}
	}
	mode, err := c.Lstat("/var/tmp")
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return mode.IsDir(), err
}

// bundlesElsewhere is where a bundle lies that no archive of /etc has in it.
func bundlesElsewhere() []string {
	return []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt"}
}

// maxBundle bounds a bundle of certificates: those of distributions have a quarter of a megabyte.
const maxBundle = 8 << 20

// bundleOf reads the image's certificates through its own links, where one of the names is a link: its directory may lie anywhere.
func bundleOf(c Contents) ([]byte, error) {
	for _, p := range bundlesElsewhere() {
		mode, err := c.Lstat(p)
		if err != nil || mode&fs.ModeSymlink == 0 {
			continue
		}
		var b bounded
		if err := c.Archive(p, &b); err != nil || b.over {
			continue // a link to nowhere
		}
		r := tar.NewReader(&b.Buffer)
		if h, err := r.Next(); err == nil && h.Typeflag == tar.TypeReg {
			return io.ReadAll(r)
		}
	}
	return nil, nil
}

// bounded keeps what is written to it, up to maxBundle.
type bounded struct {
	bytes.Buffer
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxBundle {
		b.over = true
		return 0, errors.New("it is too large")
	}
	return b.Buffer.Write(p)
}

// etcOver streams the image's /etc into the tree. An image without one has an empty one.
func etcOver(c Contents, dir string, o rootfs.Options, from rootfs.FromImage) (rootfs.Tree, error) {
	if _, err := c.Lstat("/etc"); errors.Is(err, fs.ErrNotExist) {
		from.Etc = &bytes.Buffer{}
		return rootfs.BuildOnImage(dir, o, from)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.Archive("/etc", w)
		_ = w.CloseWithError(err) // never fails
		done <- err
	}()
	from.Etc = r
	tree, err := rootfs.BuildOnImage(dir, o, from)
	_ = r.CloseWithError(errors.New("nobody reads any more")) // never fails
	if aerr := <-done; err == nil && aerr != nil && !errors.Is(aerr, io.ErrClosedPipe) {
		err = aerr
	}
	return tree, err
}

// readOnly is what the self-test must find so.
func (x *execution) readOnly() []string {
	if x.ofImage() { // which need not have a /usr
		return []string{"/", "/etc", filepath.Dir(x.Plan.Binding.User.Home), shimwire.Dir}
	}
	return []string{"/", "/usr", "/etc", shimwire.Dir}
}

// explainMissing says where a program was looked for that an image does not have.
func (x *execution) explainMissing(f *Failure) *Failure {
	if f != nil && f.Code == CodeNotFound && x.ofImage() {
		f.Text += fmt.Sprintf(", in the image %s", x.Plan.Binding.Image.Name)
		f.Hint = "the agent sees the programs of the image and the repository, and nothing of this machine's own: take an image that has it installed"
	}
	return f
}
