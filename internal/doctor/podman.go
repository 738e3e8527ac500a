package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"agentbox/internal/hostinfo"
)

// podman looks for Podman and asks it about itself; the description is nil where it has none to give.
func (m Machine) podman(ctx context.Context) ([]Finding, *hostinfo.Podman) {
	f := Finding{ID: "podman", Title: "Podman", Status: Fail}
	path, err := m.LookPath("podman")
	if err != nil {
		f.Detail, f.Fix = "it is not installed", m.install("podman crun uidmap", "podman", "podman crun")
		return []Finding{f}, nil
	}
	out, err := m.ask(ctx, "podman", "info", "--format", "json")
	if err != nil {
		f.Detail, f.Fix = "podman info: "+err.Error(), "podman info shows it; podman system migrate mends a store after a change of subordinate ids"
		return []Finding{f}, nil
	}
	info, err := hostinfo.ParsePodman(out)
	if err != nil {
		f.Detail, f.Fix = err.Error(), m.install("podman", "podman", "podman")
		return []Finding{f}, nil
	}
	f.Detail = fmt.Sprintf("%s, %s", info.Version, path)
	if !info.Version.AtLeast(4, 3) {
		f.Detail += "; agentbox needs 4.3"
		f.Fix = m.install("podman", "podman", "podman") + ", from a release of your distribution that has 4.3 or newer"
		return []Finding{f}, nil
	}
	f.Status = OK
	return []Finding{f, rootless(info)}, &info
}

func rootless(info hostinfo.Podman) Finding {
	f := Finding{ID: "rootless", Title: "rootless", Status: OK}
	if !info.Rootless {
		f.Status, f.Detail = Fail, "this Podman runs as root"
		f.Fix = "run agentbox as an ordinary user, and unset CONTAINER_HOST where it names root's socket"
	}
	return f
}

func (m Machine) service(ctx context.Context, info hostinfo.Podman) Finding {
	f := Finding{ID: "service", Title: "Podman's API", Status: OK, Detail: "agentbox starts it for each run"}
	if host := m.Getenv("CONTAINER_HOST"); host != "" {
		f.Status, f.Detail = Info, "CONTAINER_HOST names "+redactUserInfo(host)
		return f
	}
	if info.Socket == "" {
		return f
	}
	path := filepath.Join(m.Root, info.Socket)
	if _, err := os.Lstat(path); err != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.Dial(ctx, path); err != nil {
		f.Status, f.Detail = Warn, fmt.Sprintf("nothing answers at %s, though the socket is there", info.Socket)
		f.Fix = "systemctl --user restart podman.socket; without systemd: rm " + info.Socket
		return f
	}
	f.Detail = info.Socket + " answers"
	return f
}

// redactUserInfo removes what stands before the @ of a URL.
func redactUserInfo(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	if !ok || at < 0 {
		return url
	}
	return scheme + "://…@" + authority[at+1:] + "/" + path
}

func (m Machine) storage(info hostinfo.Podman) Finding {
	f := Finding{ID: "storage", Title: "Podman's storage", Status: OK, Detail: info.Driver}
	switch {
	case info.Driver == "overlay" && info.MountProgram == "":
		f.Detail = "overlay, by the kernel"
	case info.Driver == "overlay":
		f.Status = Warn
		f.Detail = "overlay, by " + info.MountProgram + ", which is slower than the kernel's own"
		f.Fix = "remove mount_program from storage.conf (~/.config/containers or /etc/containers), then podman system reset, which deletes your images and containers"
	default:
		f.Status = Warn
		f.Detail = info.Driver + ", which copies whole images"
		f.Fix = `mkdir -p ~/.config/containers && printf '[storage]\ndriver = "overlay"\n' >~/.config/containers/storage.conf && podman system reset, which deletes your images and containers`
	}
	return f
}

func (m Machine) ociRuntime(info hostinfo.Podman) Finding {
	f := Finding{ID: "runtime", Title: "OCI runtime", Status: OK, Detail: info.Runtime + " " + info.RuntimeVersion}
	if info.Runtime == "crun" {
		return f
	}
	f.Status = Warn
	f.Detail += "; agentbox is tested with crun"
	f.Fix = m.install("crun", "crun", "crun") + ` && mkdir -p ~/.config/containers/containers.conf.d && printf '[engine]\nruntime = "crun"\n' >~/.config/containers/containers.conf.d/crun.conf`
	return f
}

// Releases of gVisor are dates. Those of 2022 cannot list directories of a root that is made of the host's own
// toolchain; that of July 2024 is known to work.
const (
	brokenGVisor = "20230101"
	triedGVisor  = "20240729"
)

var releaseDate = regexp.MustCompile(`\b20\d{6}\b`)

func (m Machine) gvisor(ctx context.Context) Finding {
	f := Finding{ID: "gvisor", Title: "gVisor (runsc)", Status: Info}
	newer := "install a release of " + triedGVisor[:4] + " or newer, as https://gvisor.dev/docs/user_guide/install says"
	if _, err := m.LookPath("runsc"); err != nil {
		f.Detail = "not installed; only profiles that ask for runtime = \"gvisor\" need it"
		return f
	}
	out, err := m.ask(ctx, "runsc", "--version")
	if err != nil {
		f.Status, f.Detail, f.Fix = Warn, "runsc --version: "+err.Error(), newer
		return f
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	date := releaseDate.FindString(first)
	switch {
	case date == "":
		f.Detail = first + ": of unknown age"
	case date < brokenGVisor:
		f.Status, f.Detail, f.Fix = Warn, "the release of "+date+" fails at listing directories in agentbox's root, so it cannot be used", newer
	case date < triedGVisor:
		f.Status, f.Detail, f.Fix = Warn, "the release of "+date+" is older than the oldest that was tried ("+triedGVisor+")", newer
	default:
		f.Status, f.Detail = OK, "release of "+date
	}
	return f
}
