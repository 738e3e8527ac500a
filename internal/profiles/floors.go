package profiles

import "agentbox/internal/policy"

// LoadFloors reads the organisation's policy. Its rules may deny and ask, never allow. The error is Problems.
func LoadFloors(data []byte, file string) (Floors, error) {
	f, origins, _, err := alone(newSource(file, Organisation, data), (*document).checkFloors)
	if err != nil {
		return Floors{}, err
	}
	f.Origins = origins
	for i := range f.Network.Rules {
		f.Network.Rules[i].Origin = origins["network.rule"+index(i)].String()
	}
	return f, nil
}

func (d *document) checkFloors(f *Floors) {
	d.checkVersion(f.Version)
	d.checkHide(f.Workspace.Hide, "workspace", "hide")
	d.checkFilled([]string{"network", "only"}, "leave it out for no limit", "no host is named, which would close the network to everyone")
	d.checkRules(f.Network.Rules, "network", "rule")
	for i, r := range f.Network.Rules {
		if r.Action == Action(policy.Allow) {
			d.value([]string{"network", "rule", index(i), "action"}, "floor-allows", `write "deny" or "ask"; what may be reached at all is said by network.only`, "a policy binds, and allows nothing by itself")
		}
	}
	d.checkBudget(f.Budget)
	d.checkLimits(f.Limits)
	if f.Isolation.Runtime == "auto" {
		d.value([]string{"isolation", "runtime"}, "bad-value", `write "container", "gvisor" or "microvm"`, `"auto" is whatever the tier asks for, and binds nobody`)
	}
}
