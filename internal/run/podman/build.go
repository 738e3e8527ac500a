package podman

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/images"

	"agentbox/internal/run"
)

var _ run.Builder = (*Engine)(nil)

// PID is that of a running container's PID 1, outside.
func (e *Engine) PID(ctx context.Context, name string) (int, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	data, err := containers.Inspect(conn, name, nil)
	if err != nil {
		return 0, fmt.Errorf("looking at the container: %w", plain(err))
	}
	if data.State == nil || !data.State.Running || data.State.Pid <= 1 {
		return 0, errors.New("looking at the container: it does not run")
	}
	return data.State.Pid, nil
}

// beside names what is put into the context beside the files.
type beside struct {
	script       string
	certificates string // the engine moves it away from the context
}

// newBeside gives names that nobody can know before: a file of the repository that has one would be carried out, or shown to
// the steps, in its place; and Podman 4 looks for the script in its own directory first.
func newBeside() beside {
	own := ".agentbox-" + rand.Text()
	return beside{own + "-script", own + "-certificates"}
}

// Build has the engine carry out a script. It finds nothing by itself: bases are ids, and nothing is pulled.
func (e *Engine) Build(ctx context.Context, b run.BuildSpec, told func(string)) (string, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	client, err := bindings.GetClient(conn)
	if err != nil {
		return "", err
	}
	names := newBeside()
	params, err := buildParams(b, names)
	if err != nil {
		return "", err
	}
	body, sent := sending(ctx, b, names)
	header := http.Header{"Content-Type": {"application/x-tar"}}
	response, err := client.DoRequest(conn, body, http.MethodPost, "/build", params, header)
	unread := errors.New("nobody reads any more")
	_ = body.CloseWithError(unread) // never fails
	if serr := <-sent; serr != nil && !errors.Is(serr, io.ErrClosedPipe) && !errors.Is(serr, unread) {
		err = errors.Join(serr, closed(response))
		return "", fmt.Errorf("sending what the build takes: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("beginning to build: %w", plain(err))
	}
	defer response.Body.Close()
	if !response.IsSuccess() {
		return "", fmt.Errorf("beginning to build: %w", plain(response.Process(nil)))
	}
	if err := followBuild(response.Body, told); err != nil {
		return "", errors.Join(ctx.Err(), err)
	}
	return e.built(conn, b)
}

func closed(r *bindings.APIResponse) error {
	if r == nil {
		return nil
	}
	return r.Body.Close()
}

// sending writes the context while the engine reads it.
func sending(ctx context.Context, b run.BuildSpec, names beside) (*io.PipeReader, <-chan error) {
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := b.Files(ctx, w, map[string][]byte{names.script: []byte(b.Script), names.certificates: b.Certificates})
		_ = w.CloseWithError(err) // never fails
		sent <- err
	}()
	return r, sent
}

// built finds the image by its name, which no step of a build can give.
func (e *Engine) built(conn context.Context, b run.BuildSpec) (string, error) {
	report, err := images.GetImage(conn, b.Tag, nil)
	if err != nil {
		return "", fmt.Errorf("finding what was built: %w", plain(err))
	}
	for name, value := range b.Labels {
		if report.Labels[name] != value {
			return "", errors.New("finding what was built: it is another image")
		}
	}
	return report.ID, nil
}

// namespace is how the engine is told of one.
type namespace struct {
	Name string
	Host bool
	Path string
}

// isolated is buildah's number for containers of an OCI runtime. Another one, which a service's environment could choose,
// would know no namespaces.
const isolated = "1"

// buildParams are what stands in the place of the flags of podman build.
func buildParams(b run.BuildSpec, names beside) (url.Values, error) {
	p := url.Values{
		"t": {b.Tag}, "outputformat": {"application/vnd.oci.image.manifest.v1+json"}, "isolation": {isolated},
		"networkmode": {"0"}, // that of the namespace which is named: any other number makes one
		"pullpolicy":  {"never"}, "layers": {"0"}, "rm": {"1"}, "forcerm": {"1"}, "skipunusedstages": {"1"},
		"seccomp": {b.Seccomp}, "identitylabel": {"0"}, "httpproxy": {"0"},
	}
	lists := map[string]any{
		"dockerfile": []string{names.script}, "excludes": []string{names.script, names.certificates},
		"nsoptions": []namespace{{Name: "network", Path: b.Network}, {Name: "pid", Path: b.PIDs}, {Name: "ipc"}, {Name: "uts"}},
		"secrets":   []string{"id=" + b.CertificateID + ",src=" + names.certificates}, "dnsservers": []string{"127.0.0.1"},
		"labels": b.Labels, "labelopts": []string{"disable"}, "buildargs": b.Args, "ulimits": []string{"core=0:0"},
		"dropcaps": notForSteps(),
	}
	for name, value := range lists {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		p.Set(name, string(text))
	}
	return p, nil
}

// notForSteps are the capabilities that no step has, whatever the person's containers.conf has containers begin with: all but
// those by which a package manager writes files of several owners. The list ends where that of Linux 3.16 did: older kernels
// know no other, and the engine refuses names that its kernel does not know.
func notForSteps() []string {
	return []string{"CAP_DAC_READ_SEARCH", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
		"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
		"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ"}
}

// followBuild hands on what the engine says, line by line, until it says no more. An error is what it says as one.
func followBuild(r io.Reader, told func(string)) error {
	l := lines{told: told}
	defer l.flush()
	for d := json.NewDecoder(r); ; {
		var m struct {
			Stream string `json:"stream"`
			Error  string `json:"error"`
		}
		err := d.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("following the build: %w", err)
		case m.Error != "":
			return &run.StepError{Text: strings.TrimSpace(m.Error)}
		}
		l.add(m.Stream)
	}
}

// lines puts pieces together.
type lines struct {
	told func(string)
	rest string
}

const longestLine = 4096

func (l *lines) add(piece string) {
	l.rest += piece
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok && len(l.rest) < longestLine {
			return
		}
		if !ok {
			line, rest = l.rest[:longestLine], l.rest[longestLine:]
		}
		l.rest = rest
		l.told(strings.TrimSuffix(line, "\r"))
	}
}

func (l *lines) flush() {
	if l.rest != "" {
		l.told(l.rest)
		l.rest = ""
	}
}

// Base is an image that is here, for a build to begin with.
type Base struct{ ID, Digest string }

// Base looks one up; false where it is not here. Nothing is pulled.
func (e *Engine) Base(ctx context.Context, ref string) (Base, bool, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return Base{}, false, err
	}
	defer stop()
	exists, err := images.Exists(conn, ref, nil)
	if err != nil || !exists {
		return Base{}, false, plain(err)
	}
	report, err := images.GetImage(conn, ref, nil)
	if err != nil {
		return Base{}, false, fmt.Errorf("looking at %s: %w", ref, plain(err))
	}
	return Base{ID: report.ID, Digest: report.Digest.String()}, true, nil
}

// Triggers reports whether an image has steps of its own for whoever builds on it (ONBUILD). The engine would carry them out
// as it finds them, also one that asks for the host's network, and does not say that they are there: so this reads what the
// image itself says, out of an archive of it.
func (e *Engine) Triggers(ctx context.Context, id string) (bool, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := images.Export(conn, []string{id}, w, new(images.ExportOptions).WithFormat("docker-archive"))
		_ = w.CloseWithError(err) // never fails
		done <- err
	}()
	found, err := triggers(r)
	_ = r.CloseWithError(errors.New("nobody reads any more")) // never fails
	if werr := <-done; err == nil && werr != nil {
		err = werr
	}
	if err != nil {
		return false, fmt.Errorf("looking into the base: %w", plain(err))
	}
	return found, nil
}

const (
	maxConfig  = 4 << 20 // bytes of one file of JSON in an archive
	maxConfigs = 8
)

// triggers reads an archive to its end, which is where it says which file its configuration is.
func triggers(r io.Reader) (bool, error) {
	small := map[string][]byte{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		if h.Size > maxConfig || len(small) >= maxConfigs {
			return false, errors.New("it says too much of itself")
		}
		if small[h.Name], err = io.ReadAll(t); err != nil {
			return false, err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what pads the archive
		return false, err
	}
	var manifest []struct{ Config string }
	if err := json.Unmarshal(small["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return false, errors.Join(err, errors.New("the archive has not one image"))
	}
	var config struct {
		Config struct{ OnBuild []string } `json:"config"`
	}
	if err := json.Unmarshal(small[manifest[0].Config], &config); err != nil {
		return false, err
	}
	return len(config.Config.OnBuild) > 0, nil
}

// HasImage reports whether an image is here, by its id.
func (e *Engine) HasImage(ctx context.Context, id string) (bool, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	ok, err := images.Exists(conn, id, nil)
	return ok, plain(err)
}

// Built is an image that agentbox built.
type Built struct {
	ID      string
	Key     string // of its label
	Profile string
	Size    int64
	Created time.Time
	InUse   bool     // a container is made of it
	Names   []string // that it has, and had
}

// BuiltImages lists those that carry a label, newest first as the engine has them.
func (e *Engine) BuiltImages(ctx context.Context, label string) ([]Built, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	list, err := images.List(conn, new(images.ListOptions).WithFilters(map[string][]string{"label": {label}}))
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", plain(err))
	}
	var out []Built
	for _, i := range list {
		out = append(out, Built{ID: i.ID, Key: i.Labels[label], Size: i.Size, Created: time.Unix(i.Created, 0), InUse: i.Containers > 0, Names: slices.Concat(i.RepoTags, i.History)})
	}
	return out, nil
}

// RemoveImage removes an image, unless a container is made of it.
func (e *Engine) RemoveImage(ctx context.Context, id string) error {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return err
	}
	defer stop()
	_, errs := images.Remove(conn, []string{id}, new(images.RemoveOptions).WithForce(false).WithIgnore(true))
	return plain(errors.Join(errs...))
}
