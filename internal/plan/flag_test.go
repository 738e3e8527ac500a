package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"agentbox/internal/profiles"
)

// A flag is looser than a floor: nothing in a file is to be changed.
func TestAFlagUnderAFloorIsToBeLeftOut(t *testing.T) {
	floors, err := profiles.LoadFloors([]byte("version = 1\n[workspace]\nmode = 'readonly'\n[budget]\ntime = '1h'\n"), organisationFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profiles.Parse("x", []byte("version = 1\nagent.command = ['x']\n"), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	long := 2 * time.Hour
	_, err = Grant(GrantInputs{Profile: p.Profile, Floors: floors, Mode: Direct, Timeout: &long})
	var refused *Refusals
	if !errors.As(err, &refused) || strings.Contains(refused.Hint(), "write ") ||
		!strings.Contains(refused.Hint(), "leave out --workspace") || !strings.Contains(refused.Hint(), "leave out --timeout") {
		t.Errorf("%v", err)
	}
}
