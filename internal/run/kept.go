package run

import (
	"cmp"

	"agentbox/internal/rootfs"
)

// kept gives the mounts of what outlives the run. Like every bind they are nosuid and nodev; what they show was written by
// agents and is not looked at here.
func (x *execution) kept(tree rootfs.Tree) (mounts []Mount) {
	for _, k := range x.Plan.Binding.Kept {
		target := cmp.Or(tree.Points[k.Target], k.Target)
		mounts = append(mounts, Mount{Type: "bind", Source: k.Source, Target: target, ReadOnly: k.ReadOnly})
		if k.ReadOnly {
			x.keptReadOnly = append(x.keptReadOnly, target)
		}
	}
	return mounts
}
