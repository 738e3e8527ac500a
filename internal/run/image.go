package run

import (
	"archive/tar"
	"bytes"
	"cmp"
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
		tree, err = etcOver(c, dir, o)
		return err
	})
	return tree, err
}

// fileOf reads one file of the image, links on the way followed.
func fileOf(c Contents, path string) ([]byte, error) {
	var b bounded
	if err := c.Archive(path, &b); err != nil {
		return nil, err
	}
	r := tar.NewReader(&b.Buffer)
	if h, err := r.Next(); err != nil || h.Typeflag != tar.TypeReg {
		return nil, cmp.Or(err, errors.New("it is no file"))
	}
	return io.ReadAll(r)
}

// bounded keeps what is written to it, up to what a bundle may have.
type bounded struct {
	bytes.Buffer
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > rootfs.MaxBundle {
		b.over = true
		return 0, errors.New("it is too large")
	}
	return b.Buffer.Write(p)
}

// etcOver streams the image's /etc into the tree. An image without one has an empty one.
func etcOver(c Contents, dir string, o rootfs.Options) (rootfs.Tree, error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.Archive("/etc", w)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		_ = w.CloseWithError(err) // never fails
		done <- err
	}()
	tree, err := rootfs.BuildOnImage(dir, o, rootfs.FromImage{Etc: r, Read: func(p string) ([]byte, error) { return fileOf(c, p) }})
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
