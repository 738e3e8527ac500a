package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/secrets"
)

// openSecrets makes the placeholders and starts to read the real values, while the container is being made.
func (j *job) openSecrets(ctx context.Context) error {
	in := surroundings{repo: j.plan.Binding.Repo, home: j.ground.host.User.Home, state: j.places.State,
		lookup: j.variable, keyring: secrets.Once(secrets.Keyring{})}
	if slices.ContainsFunc(j.plan.Grants.Credentials, asksService) {
		var err error
		late := func(ctx context.Context) (string, error) { return j.password(ctx) } // the broker that reads it is still to be made
		if j.client, err = run.NewClient(j.plan.Binding.Upstream, late, time.Now()); err != nil {
			return err
		}
		in.client = j.client
	}
	var creds []secrets.Credential
	var err error
	for _, c := range j.plan.Grants.Credentials {
		source, err := source(c.Source, in)
		if err != nil {
			return err
		}
		creds = append(creds, secrets.Credential{Name: c.Name, Hosts: c.Hosts, Ports: c.Ports, Methods: c.Methods, Paths: c.Paths,
			Header: c.Header, Basic: c.Basic, Query: c.Query, Body: c.Body, Shape: c.Shape, Claims: c.Claims,
			Source: source, TTL: c.TTL, Rule: c.Origin, From: kindOf(c.Source)})
	}
	if j.broker, err = secrets.NewBroker(ctx, creds); err != nil {
		return err
	}
	j.broker.Record(j.waits, &secrets.Debts{Dir: j.session.Dir, Run: j.session.Meta.ID, Vault: secrets.Keyring{}})
	j.password = j.proxyPassword(j.plan.Binding.Upstream.Proxy, in)
	j.broker.Preload()
	j.problems = make(chan []error, 1)
	go func() { j.problems <- j.broker.Problems(ctx) }()
	return nil
}

// clean takes real values out of what is logged, shown or said.
func (j *job) clean(text string) string {
	if j.broker == nil {
		return text
	}
	return j.broker.Values().Text(text)
}

// say is the app's, without real values.
func (j *job) say(format string, args ...any) { j.app.say("%s", j.clean(fmt.Sprintf(format, args...))) }

// stored is a value in a variable, or an account of the keyring.
func stored(env, account string, in surroundings) secrets.Source {
	return secrets.Stored{Env: env, Account: account, Lookup: in.lookup, Keyring: in.keyring}
}

// proxyPassword is nil for a proxy that nobody logs in to.
func (j *job) proxyPassword(p *plan.UpstreamProxy, in surroundings) run.Password {
	if p == nil || p.User == "" {
		return nil
	}
	value := j.broker.Value("upstream.proxy_password", stored(p.Password.Env, p.Password.Keyring, in))
	return func(ctx context.Context) (string, error) {
		secret, err := value(ctx)
		return secret.Reveal(), err
	}
}
