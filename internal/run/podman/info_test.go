package podman

import "testing"

func TestInfo(t *testing.T) {
	info, err := engine(t).Info(t.Context())
	must(t, err)
	if info.Runtime == "" || info.CgroupManager == "" || !info.Rootless || info.Remote {
		t.Errorf("got %+v", info)
	}
}
