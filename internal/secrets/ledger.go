package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"agentbox/internal/atomicfile"
)

// DebtsFile is the name of a session's file of what has to be taken back. It holds no value.
const DebtsFile = "revoke.json"

// leaseAccounts begins the accounts in which runs keep what has to be taken back. The slash keeps them apart from those that
// a profile can name.
const leaseAccounts = "lease/"

// Claim says how a value is taken back. The zero Claim is none.
type Claim struct {
	Kind string `json:"kind"` // "github_app"
	URL  string `json:"url"`  // of the service, "https://api.github.com"
}

// Debt is a value that has to be taken back, as it is written down.
type Debt struct {
	Credential string    `json:"credential"`
	Claim      Claim     `json:"claim"`
	Account    string    `json:"account"` // of the keyring: where the value is
	Expires    time.Time `json:"expires,omitzero"`
}

// Vault is a keyring that also takes values. Keyring is one.
type Vault interface {
	Getter
	Set(ctx context.Context, name string, value Secret) error
	Delete(ctx context.Context, name string) error
}

// Debts is the Ledger of one run: a file in the session's directory says what, the keyring keeps the value.
type Debts struct {
	Dir   string
	Run   string
	Vault Vault

	mu   sync.Mutex
	next int
	all  []Debt
}

var _ Ledger = (*Debts)(nil)

// Owe writes a lease down. First the file: an account without a value costs nothing, a value that nobody knows of would
// stay.
func (d *Debts) Owe(ctx context.Context, credential string, lease Lease) (func(context.Context) error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	one := Debt{credential, lease.Claim, fmt.Sprintf("%s%s/%s/%d", leaseAccounts, d.Run, credential, d.next), lease.Expires}
	d.all = append(d.all, one)
	err := writeDebts(d.Dir, d.all)
	if err == nil {
		err = d.Vault.Set(ctx, one.Account, lease.Value)
	}
	if err != nil {
		if gone := deleteKept(ctx, d.Vault, one.Account); gone != nil { // it may have been stored all the same: keep its name
			return nil, errors.Join(err, gone)
		}
		return nil, errors.Join(err, d.forget(one))
	}
	return func(ctx context.Context) error {
		if err := deleteKept(ctx, d.Vault, one.Account); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.forget(one)
	}, nil
}

func (d *Debts) forget(one Debt) error {
	d.all = slices.DeleteFunc(d.all, func(o Debt) bool { return o.Account == one.Account })
	return writeDebts(d.Dir, d.all)
}

func deleteKept(ctx context.Context, vault Vault, account string) error {
	if err := vault.Delete(ctx, account); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("removing its value from the keyring: %w", err)
	}
	return nil
}

func writeDebts(dir string, all []Debt) error {
	path := filepath.Join(dir, DebtsFile)
	if len(all) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("writing what must be revoked: %w", err)
		}
		return nil
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = atomicfile.Write(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing what must be revoked: %w", err)
	}
	return nil
}

// Owes reports whether a session's directory says that something has to be taken back.
func Owes(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, DebtsFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// Settle takes back what a dead session left. Revoke does it for one. What fails stays written down; the errors, each
// *Unrevoked, say what. The names are of credentials of which values were taken back.
func Settle(ctx context.Context, dir string, vault Vault, revokeOne func(context.Context, Claim, Secret) error) (done []string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, DebtsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Debt
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what must be revoked: %w", err)
	}
	var left []Debt
	var errs []error
	for _, debt := range all {
		revoked, err := settleOne(ctx, debt, vault, revokeOne)
		if err != nil {
			left = append(left, debt)
			errs = append(errs, &Unrevoked{Credential: debt.Credential, Err: err})
		}
		if revoked {
			done = append(done, debt.Credential)
		}
	}
	return done, errors.Join(append(errs, writeDebts(dir, left))...)
}

func settleOne(ctx context.Context, debt Debt, vault Vault, revokeOne func(context.Context, Claim, Secret) error) (revoked bool, err error) {
	if !debt.Expires.IsZero() && time.Now().After(debt.Expires) {
		return false, deleteKept(ctx, vault, debt.Account)
	}
	value, err := vault.Get(ctx, debt.Account)
	if errors.Is(err, ErrNotFound) {
		return false, nil // it died before anybody had the value, or another command has been here
	}
	if err != nil {
		return false, err
	}
	defer value.Destroy()
	if err := revoke(ctx, func(ctx context.Context) error { return revokeOne(ctx, debt.Claim, value) }); err != nil {
		return false, err
	}
	return true, deleteKept(ctx, vault, debt.Account)
}
