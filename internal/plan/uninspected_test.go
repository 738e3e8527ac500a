package plan

import (
	"slices"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

// A host that was denied and is now passed through unopened is told as allowed, not as something that was open before.
func TestAHostThatIsNewAndUninspectedIsToldAsNew(t *testing.T) {
	pattern, err := policy.ParsePattern("new.example.com")
	if err != nil {
		t.Fatal(err)
	}
	from, to := everything(t), everything(t)
	from.Network.Only, to.Network.Only = nil, nil
	to.Network.Rules = slices.Clone(to.Network.Rules)
	to.Network.Rules = append(to.Network.Rules, policy.Rule{Action: policy.Allow, Host: pattern, Ports: []uint16{443}, Origin: "x.toml:3"})
	changes := Widenings(Diff(from, to))
	if len(changes) != 1 || !strings.HasPrefix(changes[0].Text, "allows ") || !strings.Contains(changes[0].Text, "not looked into") {
		t.Errorf("got %+v", changes)
	}
}
