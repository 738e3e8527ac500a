package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// Options says what Build lays. Paths are absolute paths of the host, which are the same inside.
type Options struct {
	Host       string // the directory that stands for the host's root, "" is "/"
	User       User
	Hostname   string // one label
	Hosts      []HostLine
	CA         []byte   // PEM of the run's certificate, without its key
	Untrusting bool     // lays no certificates at all, for a container that speaks with nobody
	Roots      []string // bound read-only, see Scan
	Masked     []string // files and directories in Roots that are shown empty
	Repo       string   // only its mount point is made
	Shown      []Point  // what else of the host is mounted at its own path, or another: only the mount points are made
	Points     []Point  // further mount points of the caller
	Files      []File   // seeded in the home directory
	Sizes      Sizes
}

// User is the person, the same inside and outside.
type User struct {
	UID, GID    int
	Name, Group string
	Home        string
	Shell       string // "" is bash when the host has it, else sh
}

// HostLine is a line of /etc/hosts.
type HostLine struct {
	Name string
	Addr netip.Addr
}

// Point is a mount point that the caller will mount on.
type Point struct {
	Path string
	Dir  bool
}

// File is seeded below the home directory, owned by the person.
type File struct {
	Path    string // "~/.x" or absolute
	Content []byte
	Mode    fs.FileMode // 0 is 0600
}

// Sizes bound what the tmpfs may hold, in bytes. 0 is the default: 2 GiB for Tmp and Home, 1 GiB for VarTmp,
// 512 MiB for Shm, 64 MiB for Run. They take memory only for what is in them.
type Sizes struct {
	Tmp, VarTmp, Home, Run, Shm int64
}

// Tree is a skeleton and what fills it.
type Tree struct {
	Root     string            // the container's root, to be mounted read-only
	Home     string            // in Root: what a runtime that knows no tmpcopyup (gVisor) must copy into the home directory
	Mounts   []Mount           // parents before children; the caller's own come after them
	Points   map[string]string // where Options.Points are, once the links of the host on the way are followed
	Warnings []string
}

// Mount is one mount of the container.
type Mount struct {
	Source   string // on the host; "tmpfs" for a tmpfs
	Target   string
	Type     string // "bind" or "tmpfs"
	ReadOnly bool
	Options  []string // all options, "ro" among them
}

func (o Options) check() error {
	u := o.User
	for _, name := range []string{u.Name, u.Group, u.Home, u.Shell} {
		if strings.ContainsAny(name, ":\n\r\x00") {
			return fmt.Errorf("%q does not fit in /etc/passwd", name)
		}
	}
	switch {
	case u.Name == "" || u.Group == "":
		return errors.New("the user has no name or group")
	case u.UID <= 0 || u.GID < 0:
		return errors.New("running as root is not possible")
	case !filepath.IsAbs(u.Home) || strings.Count(filepath.Clean(u.Home), "/") < 1 || u.Home == "/":
		return fmt.Errorf("%q is not a home directory", u.Home)
	case !isLabel(o.Hostname):
		return fmt.Errorf("%q is not a host name of one label", o.Hostname)
	}
	return o.checkPaths()
}

func (o Options) checkPaths() error {
	all := slices.Concat(o.Roots, o.Masked)
	if o.Repo != "" {
		all = append(all, o.Repo)
	}
	for _, p := range o.Shown {
		all = append(all, p.Path)
	}
	for _, p := range all {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" || strings.ContainsRune(p, 0) {
			return fmt.Errorf("%q is not a clean absolute path", p)
		}
		if within(o.User.Home, p) {
			return fmt.Errorf("%q would show the home directory", p)
		}
		if withinAny(p, []string{"/proc", "/sys", "/dev", "/run", "/etc", "/boot"}) {
			return fmt.Errorf("%q is a directory of the system", p)
		}
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-')
	})
}
