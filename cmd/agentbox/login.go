package main

import (
	"fmt"

	"agentbox/internal/logins"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/secrets"
)

// login is a subscription login of an agent's, where its own program or the keyring keeps it.
func login(o plan.OAuth, in surroundings) (secrets.Source, error) {
	l, ok := logins.Find(o.Login)
	if !ok {
		return nil, fmt.Errorf("this version of agentbox does not know the login %q", o.Login)
	}
	out := &secrets.OAuth{Login: l, Client: in.client}
	if o.Keyring != "" {
		out.Store = secrets.LoginKeyring{Account: o.Keyring, Keyring: secrets.Keyring{}, State: in.state}
		return out, nil
	}
	path := profiles.HostPath(o.File).Under(in.home)
	out.Store = secrets.LoginFile{Path: path, Outside: in.repo, Locks: l.Locks, Tip: "log in once: " + l.How}
	return out, nil
}
