//go:build linux

package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"agentbox/internal/shimwire"
)

const loopback = "lo"

// status is /proc/self/status: a name and its value, blanks trimmed.
type status map[string]string

func readStatus() (status, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	return parseStatus(string(text)), nil
}

func parseStatus(text string) status {
	s := status{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			s[name] = strings.TrimSpace(value)
		}
	}
	return s
}

// is reports an error unless name has that value; a missing line has none.
func (s status) is(name, want string) error {
	if got, ok := s[name]; !ok || got != want {
		return fmt.Errorf("%s is %q, not %q", name, got, want)
	}
	return nil
}

// capabilities insists that every set is empty. A kernel that knows no ambient set has no line for it.
func (s status) capabilities() error {
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		value, ok := s[name]
		if !ok && name == "CapAmb" {
			continue
		}
		if n, err := strconv.ParseUint(value, 16, 64); err != nil || n != 0 {
			return fmt.Errorf("%s is %q, not empty", name, value)
		}
	}
	return nil
}

// identity insists on real, effective, saved and file system ids, and on no foreign group.
func (s status) identity(e shimwire.Expect) error {
	if err := allAre(s["Uid"], e.UID); err != nil {
		return fmt.Errorf("uid: %w", err)
	}
	if err := allAre(s["Gid"], e.GID); err != nil {
		return fmt.Errorf("gid: %w", err)
	}
	for _, g := range strings.Fields(s["Groups"]) {
		if g != strconv.Itoa(e.GID) && !e.AnyGroups {
			return fmt.Errorf("supplementary groups are %q", s["Groups"])
		}
	}
	return nil
}

func allAre(ids string, want int) error {
	fields := strings.Fields(ids)
	if len(fields) != 4 {
		return fmt.Errorf("%q is not four ids", ids)
	}
	for _, f := range fields {
		if f != strconv.Itoa(want) {
			return fmt.Errorf("it is %q, not %d", ids, want)
		}
	}
	return nil
}

// interfaceNames reads /proc/net/dev: two lines of heading, then "name: counters".
func interfaceNames(dev string) ([]string, error) {
	var names []string
	for i, line := range strings.Split(strings.TrimRight(dev, "\n"), "\n") {
		if i < 2 {
			continue
		}
		name, _, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("the list of interfaces has the line %q", line)
		}
		names = append(names, strings.TrimSpace(name))
	}
	if len(names) == 0 {
		return nil, errors.New("the list of interfaces is empty")
	}
	return names, nil
}

// routes4 reads /proc/net/route: a heading, then lines that begin with the interface.
func routes4(text string) error {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) == 0 {
			continue
		}
		if fields[0] != loopback {
			return fmt.Errorf("there is a route through %s", fields[0])
		}
	}
	return nil
}

// onlyLoopback reads /proc/net/if_inet6 or ipv6_route: lines that end with the interface.
func onlyLoopback(text string) error {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[len(fields)-1] != loopback {
			return fmt.Errorf("IPv6 knows interface %s", fields[len(fields)-1])
		}
	}
	return nil
}

// onlyOwn insists that every open descriptor is standard, own, or of the Go runtime's poller.
func onlyOwn(open map[int]string, own map[int]bool) error {
	for fd, target := range open {
		switch {
		case fd <= 2, own[fd]:
		case target == "anon_inode:[eventpoll]", target == "anon_inode:[eventfd]":
		default:
			return fmt.Errorf("descriptor %d is open on %s", fd, target)
		}
	}
	return nil
}

// refusal insists on status 403 in the first bytes of an HTTP answer.
func refusal(answer string) error {
	version, rest, _ := strings.Cut(answer, " ")
	if !strings.HasPrefix(version, "HTTP/1.") || strings.TrimSpace(rest) != "403" {
		return fmt.Errorf("the proxy answered %q to the canary", answer)
	}
	return nil
}
