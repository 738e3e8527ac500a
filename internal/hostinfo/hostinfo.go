// Package hostinfo reads what this machine offers to containers: Podman's own description of itself, the cgroup
// controllers a process may use, and a person's ranges of subordinate ids.
//
// It only reads, and only what it is pointed at: files lie below a root that the caller names ("/" on a real
// machine), and Podman's output is handed in. It owns nothing.
package hostinfo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoCgroup2 says that this process is in no cgroup v2 tree.
var ErrNoCgroup2 = errors.New("no cgroup v2 tree")

// Podman is what `podman info` says, as far as agentbox depends on it.
type Podman struct {
	Version           Version
	Rootless          bool
	CgroupVersion     string   // "v1" or "v2"
	CgroupManager     string   // "systemd" or "cgroupfs"
	Controllers       []string // those that containers of this person can be limited by
	Runtime           string   // the OCI runtime: "crun", "runc"
	RuntimePath       string
	RuntimeVersion    string // "1.8.1"
	Driver            string // of storage: "overlay", "vfs"
	MountProgram      string // fuse-overlayfs, when it stands in for the kernel's overlay
	NativeOverlayDiff bool
	GraphRoot         string
	Socket            string // the path of the API's socket, whether it exists or not
	UIDs, GIDs        int    // how many ids a container can have
	Seccomp           bool
	SELinux           bool
	AppArmor          bool
	Remote            bool // the service runs on another machine, or in a virtual one
}

// ParsePodman reads the output of `podman info --format json`.
func ParsePodman(data []byte) (Podman, error) {
	var in struct {
		Host struct {
			CgroupManager     string   `json:"cgroupManager"`
			CgroupVersion     string   `json:"cgroupVersion"`
			CgroupControllers []string `json:"cgroupControllers"`
			ServiceIsRemote   bool     `json:"serviceIsRemote"`
			OCIRuntime        struct {
				Name    string `json:"name"`
				Path    string `json:"path"`
				Version string `json:"version"`
			} `json:"ociRuntime"`
			IDMappings struct {
				UIDMap []mapping `json:"uidmap"`
				GIDMap []mapping `json:"gidmap"`
			} `json:"idMappings"`
			RemoteSocket struct {
				Path string `json:"path"`
			} `json:"remoteSocket"`
			Security struct {
				Rootless bool `json:"rootless"`
				Seccomp  bool `json:"seccompEnabled"`
				SELinux  bool `json:"selinuxEnabled"`
				AppArmor bool `json:"apparmorEnabled"`
			} `json:"security"`
		} `json:"host"`
		Store struct {
			Driver  string                     `json:"graphDriverName"`
			Root    string                     `json:"graphRoot"`
			Options map[string]json.RawMessage `json:"graphOptions"`
			Status  map[string]string          `json:"graphStatus"`
		} `json:"store"`
		Version struct {
			Version string `json:"Version"`
		} `json:"version"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Podman{}, fmt.Errorf("reading podman's description of itself: %w", err)
	}
	v, err := ParseVersion(in.Version.Version)
	if err != nil {
		return Podman{}, fmt.Errorf("reading podman's description of itself: %w", err)
	}
	return Podman{
		Version:           v,
		Rootless:          in.Host.Security.Rootless,
		CgroupVersion:     in.Host.CgroupVersion,
		CgroupManager:     in.Host.CgroupManager,
		Controllers:       in.Host.CgroupControllers,
		Runtime:           in.Host.OCIRuntime.Name,
		RuntimePath:       in.Host.OCIRuntime.Path,
		RuntimeVersion:    runtimeVersion(in.Host.OCIRuntime.Version),
		Driver:            in.Store.Driver,
		MountProgram:      mountProgram(in.Store.Options),
		NativeOverlayDiff: in.Store.Status["Native Overlay Diff"] == "true",
		GraphRoot:         in.Store.Root,
		Socket:            strings.TrimPrefix(in.Host.RemoteSocket.Path, "unix://"),
		UIDs:              total(in.Host.IDMappings.UIDMap),
		GIDs:              total(in.Host.IDMappings.GIDMap),
		Seccomp:           in.Host.Security.Seccomp,
		SELinux:           in.Host.Security.SELinux,
		AppArmor:          in.Host.Security.AppArmor,
		Remote:            in.Host.ServiceIsRemote,
	}, nil
}

type mapping struct {
	Size int `json:"size"`
}

func total(ms []mapping) int {
	n := 0
	for _, m := range ms {
		n += m.Size
	}
	return n
}

// runtimeVersion takes "1.8.1" out of "crun version 1.8.1\ncommit: …".
func runtimeVersion(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	fields := strings.Fields(first)
	if len(fields) == 0 {
		return ""
	}
	return fields[len(fields)-1]
}

// mountProgram finds the storage option whose value is {"Executable": …}.
func mountProgram(options map[string]json.RawMessage) string {
	for name, raw := range options {
		if !strings.HasSuffix(name, ".mount_program") {
			continue
		}
		var program struct{ Executable string }
		if json.Unmarshal(raw, &program) == nil && program.Executable != "" {
			return program.Executable
		}
		return strings.Trim(string(raw), `"`)
	}
	return ""
}

// Version is a version of Podman.
type Version struct{ Major, Minor, Patch int }

// ParseVersion reads "5.4.2", "4.9.4-rhel" and the like.
func ParseVersion(s string) (Version, error) {
	core, _, _ := strings.Cut(s, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.SplitN(core, ".", 3)
	var n [3]int
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 {
			return Version{}, fmt.Errorf("version %q is not of the form 1.2.3", s)
		}
		n[i] = v
	}
	return Version{n[0], n[1], n[2]}, nil
}

// AtLeast says whether v is major.minor or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Controllers returns the cgroup v2 controllers that this process's own cgroup has, in the order in which the kernel
// names them. They are what a child cgroup can be limited by where Podman manages cgroups itself (cgroupfs). Under
// systemd, containers get another branch of the tree: there Podman.Controllers tells. The error is ErrNoCgroup2 where
// the process is in no such tree.
func Controllers(root string) ([]string, error) {
	own, err := ownCgroup(root)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(root, "sys/fs/cgroup", own, "cgroup.controllers")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoCgroup2 // the tree is mounted elsewhere, as in the hybrid layout
	}
	if err != nil {
		return nil, fmt.Errorf("reading cgroup controllers: %w", err)
	}
	return strings.Fields(string(data)), nil
}

func ownCgroup(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return "", fmt.Errorf("reading this process's cgroup: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "", ErrNoCgroup2
}

// Range is a block of subordinate ids.
type Range struct{ Start, Count int }

// SubIDs returns the ranges that file ("/etc/subuid" or "/etc/subgid", below root) gives to a person, by name or
// by number, and the first id above every range in it, which nobody has. A missing file has no ranges.
func SubIDs(root, file, user string, uid int) (ranges []Range, free int, err error) {
	const lowest = 100000 // where distributions begin to give them out
	free = lowest
	f, err := os.Open(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, free, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading subordinate ids: %w", err)
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		who, r, ok := parseSubID(scan.Text())
		if !ok {
			continue
		}
		free = max(free, r.Start+r.Count)
		if who == user || who == strconv.Itoa(uid) {
			ranges = append(ranges, r)
		}
	}
	return ranges, free, scan.Err()
}

func parseSubID(line string) (who string, r Range, ok bool) {
	parts := strings.Split(strings.TrimSpace(line), ":")
	if len(parts) != 3 {
		return "", Range{}, false
	}
	start, err1 := strconv.Atoi(parts[1])
	count, err2 := strconv.Atoi(parts[2])
	return parts[0], Range{start, count}, err1 == nil && err2 == nil
}
