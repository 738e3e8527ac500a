// Package rootfs makes the host's own toolchain a container's root, without an image.
//
// Build lays a skeleton: real directories for every mount point, the links that the host has at its top level,
// a generated /etc, and a list of mounts that fills it: /usr read-only, an audited list of /etc (data/etc.txt),
// toolchain roots outside /usr (data/roots.txt, found by Scan), tmpfs for everything that may be written. The
// caller owns the directory, one per run. Every mount point exists before the container does, so that the
// engine makes none as a subordinate uid and os.RemoveAll takes the skeleton away.
//
// A tmpfs is a copy of the skeleton's directory below it (tmpcopyup), owner included. That is how the home
// directory comes to hold the profile's first-run files, and how the parents of roots and of a repo below it
// belong to the person, who may write next to them. The top of the home directory is made the person's by
// Podman's option U. gVisor does not copy (it makes missing parents of mounts with mode 0777): there, the
// caller has Tree.Home copied by the shim.
//
// A skeleton is some 100 small files and directories: about 5 ms on an idle machine's disk. On a busy one a
// tmpfs such as XDG_RUNTIME_DIR took a third of what the disk took.
//
// # Names on a machine that has only loopback
//
// The container has one interface, lo. Resolvers that are told to skip families without a configured address
// (AI_ADDRCONFIG) might find nothing there. Tried, with only 127.0.0.1 and with ::1 as well, from a line in
// /etc/hosts and from a DNS server on 127.0.0.1, in a container on this root, on glibc 2.36 and 2.41, and musl 1.2:
//
//   - glibc counts every IPv4 address but exactly 127.0.0.1. When it counts neither family, a look-up of any
//     family (AF_UNSPEC) is not narrowed and succeeds. So these work, without anything done for them: curl and
//     wget (with -4 too), git, ssh, Python (urllib, asyncio), Node (http, fetch, dns.lookup, dns.resolve), Go
//     (its own resolver and cgo), Java, Perl, static glibc, getent hosts.
//   - glibc refuses AF_INET with AI_ADDRCONFIG, before it looks at any source: getent ahostsv4, and Node's
//     dns.lookup when called with family 4 and the ADDRCONFIG hint both. Lines in /etc/hosts, nsswitch.conf,
//     gai.conf and resolv.conf change nothing. A second address on lo (127.0.0.2/8) would, and needs a
//     capability that nothing in the container has; so would refusing netlink sockets, which breaks
//     os.networkInterfaces of Node, and with it development servers. Neither is done.
//   - musl asks whether it can reach 127.0.0.1, and finds that it can: everything works.
//
// The generated files keep it so. resolv.conf names 127.0.0.1 and sets only options that every resolver knows
// (Go leaves its own resolver at an unknown one). localhost has an IPv4 line alone, because ::1 may not exist.
// nsswitch.conf names files and dns, because other sources hang or fail without their daemons.
package rootfs
