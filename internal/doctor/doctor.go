// Package doctor says what this machine lacks for running agents in a boundary, and the command that mends each
// thing.
//
// It looks and never changes: every check reads files, asks programs for their version, or asks Podman about
// itself. What it looks at comes through a Machine, so that a test can be any machine. Run answers within a bounded
// time even when a keyring or a Podman hangs.
package doctor

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"agentbox/internal/hostinfo"
)

// Status is how a finding weighs.
type Status string

// The weights, from fine to fatal.
const (
	OK   Status = "ok"
	Info Status = "info" // worth knowing, nothing to mend
	Warn Status = "warn" // agents run, with less than they could have
	Fail Status = "fail" // agents do not run
)

// Finding is the answer of one check.
type Finding struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"` // commands or a sentence; set on every warn and fail
}

// patience bounds each question to a program or a service.
const patience = 10 * time.Second

// Run makes every check that applies to the machine, in a fixed order.
func Run(ctx context.Context, m Machine) []Finding {
	var found []Finding
	found = append(found, m.system(), m.user(), m.shim(), m.git())
	if m.OS == "linux" {
		found = append(found, m.runtimeDir())
	}
	podman, info := m.podman(ctx)
	found = append(found, podman...)
	if m.OS == "linux" {
		found = append(found, m.userNamespaces(ctx), m.subIDs(info), m.idMappers(), m.yama())
	}
	if info != nil {
		found = append(found, m.engine(ctx, *info)...)
	}
	found = append(found, m.gvisor(ctx), m.keyring(ctx), m.disk())
	return append(found, m.upstream()...)
}

// engine checks what Podman says of itself.
func (m Machine) engine(ctx context.Context, info hostinfo.Podman) []Finding {
	return []Finding{
		m.service(ctx, info),
		m.cgroups(info),
		m.controllers(info),
		m.storage(info),
		m.ociRuntime(info),
		seccomp(info),
		selinux(info),
	}
}

// Failed says whether a finding keeps agents from running.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Status == Fail })
}

// WriteText prints findings for a person: a line each, what to do about it below, and a last line that sums up.
func WriteText(w io.Writer, findings []Finding) error {
	var b strings.Builder
	count := map[Status]int{}
	for _, f := range findings {
		count[f.Status]++
		writeFinding(&b, f)
	}
	switch {
	case count[Fail] > 0:
		fmt.Fprintf(&b, "\n%s to mend before agents can run\n", things(count[Fail]))
	case count[Warn] > 0:
		fmt.Fprintf(&b, "\nagents can run; %s could be better\n", things(count[Warn]))
	default:
		b.WriteString("\nagents can run\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFinding(b *strings.Builder, f Finding) {
	fmt.Fprintf(b, "%-4s  %s", f.Status, f.Title)
	if f.Detail != "" {
		fmt.Fprintf(b, ": %s", strings.ReplaceAll(f.Detail, "\n", "\n      "))
	}
	b.WriteByte('\n')
	if f.Fix != "" {
		fmt.Fprintf(b, "      fix: %s\n", strings.ReplaceAll(f.Fix, "\n", "\n           "))
	}
}

func things(n int) string {
	if n == 1 {
		return "1 thing"
	}
	return fmt.Sprintf("%d things", n)
}
