package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"agentbox/internal/logins"
	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/secrets"
)

// login is the subscription login of an agent, which is refreshed from here.
func (j *job) login(o plan.OAuth) (secrets.Source, error) {
	l, ok := logins.Find(o.Login)
	if !ok {
		return nil, fmt.Errorf("this version of agentbox does not know the login %q", o.Login)
	}
	client, err := j.ownClient()
	if err != nil {
		return nil, err
	}
	out := &secrets.OAuth{Login: l, Client: client}
	if o.Keyring != "" {
		out.Store = secrets.LoginKeyring{Account: o.Keyring, Keyring: secrets.Keyring{}, State: j.places.State}
		return out, nil
	}
	path := o.File
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(j.plan.Binding.User.Home, rest)
	}
	out.Store = secrets.LoginFile{Path: path, Outside: j.plan.Binding.Repo, Locks: l.Locks, Tip: "log in once: " + l.How}
	return out, nil
}

// ownClient is for what agentbox itself asks servers.
func (j *job) ownClient() (*http.Client, error) {
	if j.client != nil {
		return j.client, nil
	}
	upstream := j.plan.Binding.Upstream
	var password run.Password
	if p := upstream.Proxy; p != nil && p.User != "" {
		password = func(ctx context.Context) (string, error) { return j.password(ctx) } // which there is by then
	}
	var err error
	j.client, err = run.NewClient(upstream, password, time.Now())
	return j.client, err
}
