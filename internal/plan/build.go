package plan

// ForBuild is the plan of building an image: what the profile allows of the network, and nothing else of it. No
// credential takes part, no mount, no variable; the repository's own remote means nothing.
func ForBuild(in Inputs) (Plan, error) {
	g, err := Grant(GrantInputs{Profile: in.Profile, Floors: in.Floors, Timeout: in.Timeout, Mode: in.Mode})
	if err != nil {
		return Plan{}, err
	}
	g.Agent = Agent{Command: []string{"build"}, Rootfs: g.Agent.Rootfs, Containerfile: g.Agent.Containerfile}
	g.Credentials, g.Mounts, g.Servers, g.Signing, g.Use = nil, nil, nil, Signing{}, nil
	if g.Isolation.Runtime != "container" {
		return Plan{}, &Refusal{Text: "the profile asks for " + g.Isolation.Runtime + ", and an image is built in ordinary containers",
			Tip: `name an image that was built elsewhere: image = "registry.example.com/name@sha256:…"`}
	}
	in.Host.Env, in.Host.Tools, in.Host.Remote, in.Host.Shown = nil, nil, Remote{}, nil
	b, err := binding(in, g)
	if err != nil {
		return Plan{}, err
	}
	return Plan{Version: 1, Hash: g.Hash(), Grants: g, Binding: b}, nil
}
