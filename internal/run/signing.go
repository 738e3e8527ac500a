package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
	"agentbox/internal/shimwire"
	"agentbox/internal/signing"
	"agentbox/internal/workspace"
)

// Signer is what the person's own git would sign with on this machine.
type Signer struct {
	Key     signing.Key
	Problem error // why nothing can be signed; nil with a key
}

// openSigning opens the socket at which programs inside ask for signatures, and lays git's programs that ask there. It
// is there where nothing is signed too: what asks is told why not, and recorded.
func (x *execution) openSigning(dir string) (err error) {
	for _, link := range []string{shimwire.SignGPG, shimwire.SignSSH} {
		if err := os.Symlink(filepath.Base(shimwire.ShimPath), filepath.Join(dir, filepath.Base(link))); err != nil {
			return fmt.Errorf("laying git's program for signatures: %w", err)
		}
	}
	x.signer, err = signing.Listen(filepath.Join(dir, filepath.Base(shimwire.SignSock)), x.Dir, x.Signer.Key, x.judgeOfSigning())
	return err
}

func (x *execution) judgeOfSigning() *signJudge {
	s := x.Plan.Grants.Signing
	j := &signJudge{gate: x.boundary.gate, signer: x.Signer, action: policy.Deny, rule: x.Plan.Grants.Origins["signing.commits"]}
	if j.rule == "" {
		j.rule = "default"
	}
	if s.Commits != "" {
		j.action = policy.Action(s.Commits)
	}
	return j
}

// gitSigning is the part of a ~/.gitconfig for inside that says how git signs there.
func (x *execution) gitSigning() []byte {
	on := x.Plan.Grants.Signing.Commits != "" && x.Signer.Problem == nil
	return workspace.SignInside(workspace.Signs{On: on, Format: x.Signer.Key.Format, PublicKey: x.Signer.Key.Public,
		GPG: shimwire.SignGPG, SSH: shimwire.SignSSH})
}

// signJudge puts what is to be signed before the gate.
type signJudge struct {
	gate   *gate.Gate
	signer Signer
	action policy.Action
	rule   string
}

var _ signing.Judge = (*signJudge)(nil)

func (j *signJudge) Allow(ctx context.Context, r signing.Request) (bool, string) {
	action, s := j.action, gate.Signature{What: r.String() + " with " + j.keyName(), Digest: r.Digest, Rule: j.rule, Reason: j.says()}
	if j.signer.Problem != nil && action != policy.Deny {
		action, s.Reason = policy.Deny, "nothing can be signed on this machine: "+j.signer.Problem.Error()
	}
	d, err := j.gate.Sign(ctx, s, action)
	if err != nil {
		return false, "it could not be recorded, or nobody waits for it any more"
	}
	return d.Allowed(), d.Reason()
}

func (j *signJudge) keyName() string {
	if j.signer.Problem != nil {
		return "no key"
	}
	return j.signer.Key.Name()
}

func (j *signJudge) says() string {
	switch j.action {
	case policy.Allow:
		return `[signing] commits = "allow" has it signed without a question`
	case policy.Ask:
		return `[signing] commits = "ask" wants a person asked`
	}
	return `nothing is signed in this run: [signing] commits = "ask" in a profile of your own would have you asked`
}

func (j *signJudge) Refuse(why string) {
	_ = j.gate.Emit(event.Event{Kind: event.SignRequest, Decision: event.Deny, Who: event.Agent, Rule: "built-in", Reason: why}) // a log that fails shuts the gate
}

func (j *signJudge) Made(r signing.Request, err error) error {
	e := event.Event{Kind: event.SignMade, Who: event.Agent, Detail: map[string]string{"digest": r.Digest, "with": j.keyName()}}
	if err != nil {
		e.Reason = err.Error()
	}
	if recorded := j.gate.Emit(e); recorded != nil {
		return errors.New("it could not be recorded")
	}
	return nil
}
