package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/images"
	"github.com/containers/podman/v5/pkg/copy"
	"github.com/containers/podman/v5/pkg/errorhandling"
	"github.com/containers/podman/v5/pkg/specgen"
	"go.podman.io/image/v5/manifest"

	"agentbox/internal/run"
)

var _ run.Images = (*Engine)(nil)

// Image is an image in the engine's own store, and what its makers say of it.
type Image struct {
	ID          string
	Digests     []string // of its manifest and of the index that it was chosen from, as far as the engine knows
	Size        int64    // bytes of its layers, unpacked
	OS, Arch    string
	Env         []string
	User        string
	Workdir     string
	Volumes     []string
	Entrypoint  bool // it has an ENTRYPOINT or a CMD
	Healthcheck bool
	Annotations []string // names
}

// ErrNoImage says that an image is not in the engine's store.
var ErrNoImage = errors.New("the image is not here")

// Image looks an image up by its id, or by NAME@DIGEST. The error is ErrNoImage when it is not here; nothing is pulled.
func (e *Engine) Image(ctx context.Context, name string) (Image, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return Image{}, err
	}
	defer stop()
	report, err := images.GetImage(conn, name, new(images.GetOptions).WithSize(true))
	if isNotFound(err) {
		return Image{}, ErrNoImage
	}
	if err != nil {
		return Image{}, fmt.Errorf("looking for the image: %w", plain(err))
	}
	d := report.ImageData
	i := Image{ID: d.ID, Digests: digests(d.Digest.String(), d.RepoDigests), Size: d.Size, OS: d.Os, Arch: d.Architecture, User: d.User}
	if c := d.Config; c != nil {
		i.Env, i.Workdir, i.Entrypoint = c.Env, c.WorkingDir, len(c.Entrypoint)+len(c.Cmd) > 0
		i.Volumes = sortedKeys(c.Volumes)
	}
	i.Healthcheck = d.HealthCheck != nil && len(d.HealthCheck.Test) > 0 && d.HealthCheck.Test[0] != "NONE"
	i.Annotations = sortedKeys(d.Annotations)
	return i, nil
}

func isNotFound(err error) bool {
	var model *errorhandling.ErrorModel
	return errors.As(err, &model) && model.ResponseCode == http.StatusNotFound
}

// onImage makes the generator's container one of an image, of which nothing but the files is used: PID 1 is ours whatever its
// ENTRYPOINT is, and nobody watches its health.
func onImage(g *specgen.SpecGenerator, s run.Spec) {
	g.Image, g.RawImageName = s.Image, s.Image
	g.Entrypoint, g.Command = s.Command, nil
	g.WorkDir = "/"
	g.HealthConfig = &manifest.Schema2HealthConfig{Test: []string{"NONE"}}
}

// Peek makes a container that is never started, and removes it.
func (e *Engine) Peek(ctx context.Context, s run.Spec, see func(run.Contents) error) (err error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return err
	}
	defer stop()
	yes := true
	g := &specgen.SpecGenerator{}
	onImage(g, s)
	g.Name, g.Labels, g.ImageVolumeMode, g.ReadOnlyFilesystem = s.Name, s.Labels, "ignore", &yes
	g.NetNS, g.User = specgen.Namespace{NSMode: specgen.NoNetwork}, "0:0" // whom the image names, the engine would look up in it
	g.HealthLogDestination, g.HealthMaxLogCount, g.HealthMaxLogSize = "local", 1, 1
	defer func() { // by its name: the engine may have made one also for who did not wait for its answer
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		err = errors.Join(err, e.Remove(ctx, s.Name))
	}()
	made, err := containers.CreateWithSpec(conn, g, nil)
	if err != nil {
		return fmt.Errorf("looking into the image: %w", plain(err))
	}
	if err := endless(conn, made.ID); err != nil {
		return err
	}
	return see(contents{conn, made.ID})
}

// maxPasswd bounds the image's /etc/passwd.
const maxPasswd = 4 << 20

// endless refuses an image whose /etc/passwd cannot be read to its end. The engine reads it whenever it is asked for a file, opens
// whatever is there, and at a pipe would wait for ever, with the container locked.
func endless(conn context.Context, id string) error {
	at := "/etc/passwd"
	for range 2 { // the second time at the end of a link's whole way
		info, err := containers.Stat(conn, id, at)
		switch {
		case errors.Is(err, copy.ErrENOENT):
			return nil
		case err != nil:
			return fmt.Errorf("looking at /etc/passwd in the image: %w", plain(err))
		case info.Mode.IsRegular() && info.Size <= maxPasswd:
			return nil
		case info.Mode&fs.ModeSymlink == 0:
			return &run.Failure{Code: run.CodeRefused, Text: "what the image has as its /etc/passwd is no file, or too large", Hint: "take another image"}
		}
		at = info.LinkTarget
	}
	return &run.Failure{Code: run.CodeRefused, Text: "what the image has as its /etc/passwd leads nowhere", Hint: "take another image"}
}

// contents are those of a container that was never started.
type contents struct {
	conn context.Context // carries the bindings' client, and ends with the call
	id   string
}

// Archive asks the engine.
func (c contents) Archive(path string, w io.Writer) error {
	copied, err := containers.CopyToArchive(c.conn, c.id, path, w)
	if err == nil {
		err = copied()
	}
	if isNotFound(err) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("reading %s in the image: %w", path, plain(err))
	}
	return nil
}

// digests are all that the engine knows of, each once.
func digests(one string, named []string) []string {
	all := []string{one}
	for _, n := range named {
		if _, d, ok := strings.Cut(n, "@"); ok {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(d string) bool { return d == "" })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
