package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"agentbox/internal/hostinfo"
)

// userNamespaces tries one, through Podman. Where that fails, the kernel's switches tell why.
func (m Machine) userNamespaces(ctx context.Context) Finding {
	f := Finding{ID: "user-namespaces", Title: "user namespaces", Status: OK, Detail: "they can be made"}
	restricted := m.read("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
	var err error
	if _, missing := m.LookPath("podman"); missing == nil && m.UID != 0 {
		_, err = m.ask(ctx, "podman", "unshare", "true")
		if err == nil {
			return f
		}
	}
	switch {
	case m.read("proc/sys/user/max_user_namespaces") == "0":
		f.Status, f.Detail = Fail, "the kernel allows none (user.max_user_namespaces is 0)"
		f.Fix = sysctl("user.max_user_namespaces", "15000")
	case m.read("proc/sys/kernel/unprivileged_userns_clone") == "0":
		f.Status, f.Detail = Fail, "the kernel allows them to root only (kernel.unprivileged_userns_clone is 0)"
		f.Fix = sysctl("kernel.unprivileged_userns_clone", "1")
	case err != nil && restricted:
		f.Status, f.Detail = Fail, "AppArmor takes their rights away (kernel.apparmor_restrict_unprivileged_userns is 1), and Podman has no profile that lifts it"
		f.Fix = "sudo apt install --reinstall apparmor podman && sudo systemctl reload apparmor; or, for all programs: " +
			sysctl("kernel.apparmor_restrict_unprivileged_userns", "0")
	case err != nil:
		f.Status, f.Detail = Fail, "podman unshare: "+err.Error()
		f.Fix = "podman unshare true shows it; the checks of subordinate ids and of newuidmap tell the usual reasons"
	default:
		f.Status, f.Detail = Info, "not tried, for want of Podman or an ordinary user"
	}
	return f
}

func sysctl(key, value string) string {
	return fmt.Sprintf("echo '%s=%s' | sudo tee /etc/sysctl.d/60-agentbox.conf && sudo sysctl --system", key, value)
}

// needIDs is how many subordinate ids images expect: all that fit in 16 bits.
const needIDs = 65536

func (m Machine) subIDs(info *hostinfo.Podman) Finding {
	f := Finding{ID: "subids", Title: "subordinate ids", Status: OK}
	uids, gids := 0, 0
	if info != nil {
		// They may come from a directory service, which the files do not show. One of each is the person's own.
		uids, gids = info.UIDs-1, info.GIDs-1
	}
	uidRanges, freeUID, err1 := hostinfo.SubIDs(m.Root, "etc/subuid", m.User, m.UID)
	gidRanges, freeGID, err2 := hostinfo.SubIDs(m.Root, "etc/subgid", m.User, m.UID)
	uids, gids = max(uids, size(uidRanges)), max(gids, size(gidRanges))
	f.Detail = fmt.Sprintf("%d uids, %d gids", uids, gids)
	for _, err := range []error{err1, err2} {
		if err != nil && min(uids, gids) < needIDs {
			f.Detail += "; " + err.Error()
		}
	}
	if m.UID == 0 || min(uids, gids) >= needIDs {
		return f
	}
	first := max(freeUID, freeGID)
	f.Status = Fail
	f.Detail = fmt.Sprintf("%s has %s, and needs %d of each", m.User, f.Detail, needIDs)
	f.Fix = fmt.Sprintf("sudo usermod --add-subuids %[1]d-%[2]d --add-subgids %[1]d-%[2]d %[3]s && podman system migrate",
		first, first+needIDs-1, m.User)
	return f
}

func size(ranges []hostinfo.Range) int {
	n := 0
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

// idMappers checks the two programs by which an ordinary user gets subordinate ids.
func (m Machine) idMappers() Finding {
	f := Finding{ID: "newuidmap", Title: "newuidmap and newgidmap", Status: OK}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path, err := m.LookPath(name)
		if err != nil {
			f.Status, f.Detail = Fail, name+" is not installed"
			f.Fix = m.install("uidmap", "shadow-utils", "shadow")
			return f
		}
		if !privileged(path) {
			f.Status, f.Detail = Fail, path+" is neither setuid nor has it the capability it needs"
			f.Fix = "sudo chmod u+s " + path
			return f
		}
	}
	f.Detail = "present, with their rights"
	return f
}

// privileged says whether a program gains rights when it is run: by its mode or by file capabilities.
func privileged(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.Mode()&fs.ModeSetuid != 0 {
		return true
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

func (m Machine) yama() Finding {
	f := Finding{ID: "yama", Title: "ptrace", Status: Info}
	switch scope := m.read("proc/sys/kernel/yama/ptrace_scope"); scope {
	case "":
		f.Detail = "the kernel has no Yama; agentbox protects its own processes inside containers without it"
	case "0":
		f.Detail = "Yama allows it among processes of one user; agentbox protects its own without it"
	default:
		f.Status, f.Detail = OK, "Yama restricts it (scope "+scope+")"
	}
	return f
}

func (m Machine) cgroups(info hostinfo.Podman) Finding {
	f := Finding{ID: "cgroups", Title: "cgroups", Status: OK, Detail: info.CgroupVersion + ", managed by " + info.CgroupManager}
	if info.CgroupVersion != "v2" {
		f.Status = Warn
		f.Detail = "this machine has " + info.CgroupVersion + ", where nothing limits a rootless container's memory, processor time or processes"
		f.Fix = "sudo grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1; on Debian: add it to GRUB_CMDLINE_LINUX in /etc/default/grub, sudo update-grub; then restart"
	}
	return f
}

func (m Machine) controllers(info hostinfo.Podman) Finding {
	f := Finding{ID: "controllers", Title: "cgroup controllers", Status: OK, Detail: strings.Join(info.Controllers, " ")}
	var lacking []string
	for _, c := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(info.Controllers, c) {
			lacking = append(lacking, c)
		}
	}
	if len(lacking) == 0 {
		return f
	}
	f.Status = Warn
	f.Detail = strings.Join(lacking, ", ") + " not delegated to you: limits on these do not hold"
	f.Fix = `sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log out and in again`
	if m.oldHierarchy(lacking) {
		f.Detail += " (the old cgroup v1 tree holds them)"
		f.Fix = "start the kernel with cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
	}
	return f
}

// oldHierarchy says whether a controller is bound to a cgroup v1 tree, from where nobody can delegate it.
func (m Machine) oldHierarchy(controllers []string) bool {
	for line := range strings.Lines(m.read("proc/self/cgroup")) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && slices.ContainsFunc(strings.Split(parts[1], ","), func(c string) bool { return slices.Contains(controllers, c) }) {
			return true
		}
	}
	return false
}

func selinux(info hostinfo.Podman) Finding {
	f := Finding{ID: "selinux", Title: "SELinux", Status: OK, Detail: "off"}
	if info.SELinux {
		f.Status = Info
		f.Detail = "on; agentbox does not relabel your files, so its containers run with label=disable and lean on the other layers"
	}
	return f
}

func seccomp(info hostinfo.Podman) Finding {
	f := Finding{ID: "seccomp", Title: "seccomp", Status: OK, Detail: "on"}
	if !info.Seccomp {
		f.Status, f.Detail = Fail, "Podman was built, or the kernel started, without it"
		f.Fix = "use a kernel with CONFIG_SECCOMP_FILTER and your distribution's own Podman"
	}
	return f
}
