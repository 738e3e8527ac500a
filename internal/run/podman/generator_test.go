package podman

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/containers/podman/v5/pkg/specgen"

	"agentbox/internal/run"
)

// TestLimitsReachTheEngine: where the controllers are not delegated, nothing may be asked for, as the engine refuses.
func TestLimitsReachTheEngine(t *testing.T) {
	if r := generator(run.Spec{}).ResourceLimits; r != nil {
		t.Errorf("without limits: %+v", r)
	}
	r := generator(run.Spec{Limits: run.Limits{Memory: 4 << 30, CPUs: 1.5, Pids: 99}}).ResourceLimits
	text, err := json.Marshal(r)
	must(t, err)
	want := `{"memory":{"limit":4294967296,"swap":4294967296},"cpu":{"quota":150000,"period":100000},"pids":{"limit":99}}`
	if string(text) != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
}

// TestTheBoundaryIsTheSameForEveryContainer: what stands in no field of a Spec can be in none.
func TestTheBoundaryIsTheSameForEveryContainer(t *testing.T) {
	g := generator(run.Spec{Terminal: true, UID: 7, GID: 8})
	is := func(what string, ok bool) {
		if !ok {
			t.Errorf("%s is not as it must be: %+v", what, g)
		}
	}
	is("the network", g.NetNS.NSMode == specgen.NoNetwork)
	is("the set of capabilities", slices.Equal(g.CapDrop, []string{"all"}) && len(g.CapAdd) == 0)
	is("no_new_privs", g.NoNewPrivileges != nil && *g.NoNewPrivileges)
	is("the root", g.ReadOnlyFilesystem != nil && *g.ReadOnlyFilesystem)
	is("the environment", g.HTTPProxy != nil && !*g.HTTPProxy && g.EnvHost != nil && !*g.EnvHost)
	is("the identity", g.UserNS.NSMode == specgen.KeepID && g.User == "7:8")
	is("privilege", g.Privileged == nil || !*g.Privileged)
	is("the process namespace", g.PidNS.NSMode == specgen.Private && g.IpcNS.NSMode == specgen.Private)
	is("its end", g.Remove != nil && *g.Remove)
	is("the log", g.LogConfiguration.Driver == "none")
}
