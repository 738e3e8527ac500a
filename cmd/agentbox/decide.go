package main

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"agentbox/internal/layerfiles"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/run"
)

// policyFile is the organisation's.
const policyFile = "/etc/agentbox/policy.toml"

// decision is what a profile comes to in one repository for this person, before this machine is looked at.
type decision struct {
	profile  profiles.Profile
	warnings profiles.Problems
	floors   profiles.Floors
	grants   plan.Grants
	manifest string // the hash of what the built-in and the repository's layers alone grant; "" where they make no profile
	consent  consent
	build    buildFile // what the root is built from; zero where nothing is
}

// flags are those of the command line that are layers.
type flags struct {
	timeout *time.Duration
	mode    plan.Mode
}

// decide says what a profile grants, and what of it the person has not seen yet.
func (l layers) decide(name string, floors profiles.Floors, fl flags) (decision, error) {
	loaded, err := profiles.Load(name, l.files)
	if err != nil {
		return decision{}, wayOut(err, l.files)
	}
	d := decision{profile: loaded.Profile, warnings: loaded.Warnings, floors: floors}
	if d.grants, err = plan.Grant(plan.GrantInputs{Profile: d.profile, Floors: floors, Timeout: fl.timeout, Mode: fl.mode}); err != nil {
		return decision{}, err
	}
	d.manifest = manifestHash(name, l.files)
	if d.build, err = l.buildFile(d.grants.Agent.Containerfile); err != nil {
		return decision{}, err
	}
	d.consent, err = l.consentTo(d.profile, floors, fl, d.grants, d.build)
	d.consent.alone = slices.Contains(l.withoutRepo().files.Names(), name)
	return d, err
}

// manifestHash leaves the person's layers, the organisation's and the flags away.
func manifestHash(name string, f profiles.Files) string {
	f.User, f.Grants = nil, nil
	loaded, err := profiles.Load(name, f)
	if err != nil {
		return ""
	}
	g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile})
	if err != nil {
		return ""
	}
	return g.Hash()
}

// readFloors reads the organisation's policy. One that is there and can't be read or believed refuses the run.
func readFloors(file string) (profiles.Floors, error) {
	data, err := layerfiles.ReadPolicy(file)
	if errors.Is(err, fs.ErrNotExist) {
		return profiles.Floors{}, nil
	}
	if err != nil {
		return profiles.Floors{}, &run.Failure{Code: run.CodeRefused, Text: "reading the organisation's policy: " + err.Error(),
			Hint: "it must be a regular file that root owns and nobody else can write, below directories of the same kind"}
	}
	return profiles.LoadFloors(data, file)
}

// warn shows what is likely a mistake in a profile.
func (a *app) warn(problems profiles.Problems) {
	for _, p := range problems {
		a.say("warning: %s", p.Error())
	}
}
