// Package signing has git's commits and tags signed on the host for programs inside that hold no key.
//
// It owns three things: what may be signed (Parse: a commit or an annotated tag, and nothing else that a key could be
// made to sign), with what (Find: the program and the key that the person's own git would use, by their global
// configuration alone), and the socket at which programs inside ask (Server). Whether something is signed its caller
// says, in a Judge, which records it too.
//
// It promises that what is signed is byte for byte what was judged, that one signature is made at a time, that a bounded
// number wait, and that a program of the host which hangs or talks too much is ended. No agent's socket is handed in:
// what comes back is a signature and nothing else.
package signing

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The formats of signatures, as git names them.
const (
	OpenPGP = "openpgp"
	SSH     = "ssh"
)

// Settings are the variables of git's configuration that Find goes by.
func Settings() []string {
	return []string{"gpg.format", "user.signingkey", "gpg.program", "gpg.openpgp.program", "gpg.ssh.program",
		"user.name", "user.email", "committer.name", "committer.email"}
}

// Key is what signs: a program of the host, and the key that it is told to use. The zero Key signs nothing.
type Key struct {
	Format  string
	Program string // absolute
	ID      string // for gpg the user id; for ssh-keygen a file, or "" where Public is used
	Public  string // of ssh, as in a .pub file: "ssh-ed25519 AAAA…"
	Literal bool   // of ssh: Public is the key to use, and an agent of the host holds the rest of it
}

// Name says which key it is: "ssh key SHA256:…".
func (k Key) Name() string {
	if k.Format == SSH {
		return "ssh key " + fingerprint(k.Public)
	}
	return "openpgp key " + k.ID
}

// Unusable says why nothing can be signed on this machine, and what to do.
type Unusable struct{ Text, Tip string }

func (u *Unusable) Error() string { return u.Text }

// Hint says what to do.
func (u *Unusable) Hint() string { return u.Tip }

// Place is where Find looks.
type Place struct {
	Home string
	Not  []string                          // the repository, and its git directory: nothing below is run or believed
	Look func(file string) (string, error) // nil: exec.LookPath
}

// Find gives the key that the person's own git would sign with, by the settings of their global configuration. The error
// is *Unusable.
func Find(settings map[string]string, p Place) (Key, error) {
	switch format := settings["gpg.format"]; format {
	case "", OpenPGP:
		return p.openPGP(settings)
	case SSH:
		return p.ssh(settings)
	default:
		return Key{}, &Unusable{fmt.Sprintf("your git's gpg.format is %q, which agentbox cannot sign with", format), "set gpg.format to ssh or openpgp in your own git configuration"}
	}
}

func (p Place) openPGP(s map[string]string) (Key, error) {
	k := Key{Format: OpenPGP, ID: s["user.signingkey"]}
	if k.ID == "" { // git then names the committer
		name, mail := cmp.Or(s["committer.name"], s["user.name"]), cmp.Or(s["committer.email"], s["user.email"])
		if name == "" || mail == "" {
			return Key{}, &Unusable{"your own git configuration names no key", "git config --global user.signingkey KEY"}
		}
		k.ID = name + " <" + mail + ">"
	}
	if strings.ContainsAny(k.ID, "\n\x00") || strings.HasPrefix(k.ID, "-") {
		return Key{}, &Unusable{fmt.Sprintf("user.signingkey %q is no key", k.ID), "git config --global user.signingkey KEY"}
	}
	var err error
	k.Program, err = p.program(cmp.Or(s["gpg.openpgp.program"], s["gpg.program"], "gpg"))
	return k, err
}

func (p Place) ssh(s map[string]string) (Key, error) {
	k := Key{Format: SSH}
	id := s["user.signingkey"]
	literal, prefixed := strings.CutPrefix(id, "key::")
	switch {
	case id == "":
		return Key{}, &Unusable{"your own git configuration names no key", "git config --global user.signingkey ~/.ssh/id_ed25519.pub"}
	case prefixed || strings.HasPrefix(id, "ssh-"):
		k.Public, k.Literal = literal, true
	default:
		var err error
		if k, err = p.sshFile(k, id); err != nil {
			return Key{}, err
		}
	}
	if fingerprint(k.Public) == "" {
		return Key{}, &Unusable{fmt.Sprintf("user.signingkey %q is no public key of ssh", id), "git config --global user.signingkey ~/.ssh/id_ed25519.pub"}
	}
	var err error
	k.Program, err = p.program(cmp.Or(s["gpg.ssh.program"], "ssh-keygen"))
	return k, err
}

// sshFile reads the public half of a key in a file, for the person to see which it is.
func (p Place) sshFile(k Key, id string) (Key, error) {
	if rest, ok := strings.CutPrefix(id, "~/"); ok {
		id = filepath.Join(p.Home, rest)
	}
	if !filepath.IsAbs(id) {
		return k, &Unusable{fmt.Sprintf("user.signingkey %q is no absolute path", id), "write the whole path of the key in your own git configuration"}
	}
	if p.inside(id) {
		return k, &Unusable{"user.signingkey " + id + " lies in this repository, where an agent may have put it", "keep the key elsewhere"}
	}
	public := id
	if !strings.HasSuffix(id, ".pub") {
		public += ".pub"
	}
	data, err := readSmall(public)
	if err != nil {
		return k, &Unusable{"reading the public half of your signing key: " + err.Error(), fmt.Sprintf("ssh-keygen -y -f %s > %s", strings.TrimSuffix(id, ".pub"), public)}
	}
	k.ID, k.Public = id, strings.TrimSpace(string(data))
	return k, nil
}

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 64<<10) {
		err = fmt.Errorf("%s is no key", file)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// program finds a program of the person's. One that lies in the repository is never run: an agent may have written it.
func (p Place) program(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(p.Home, rest)
	}
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		return "", &Unusable{fmt.Sprintf("the program %q of your git configuration has a relative path", name), "write its whole path"}
	}
	look := p.Look
	if look == nil {
		look = exec.LookPath
	}
	path, err := look(name)
	if err != nil || !filepath.IsAbs(path) {
		return "", &Unusable{fmt.Sprintf("%q, which makes your signatures, is not found on this machine", name), "install it, or correct gpg.program in your own git configuration"}
	}
	if p.inside(path) {
		return "", &Unusable{path + ", which makes your signatures, lies in this repository, where an agent may have written it", "keep the program elsewhere"}
	}
	return path, nil
}

// inside reports whether a path, or what it leads to, lies in the repository.
func (p Place) inside(path string) bool {
	below := func(path string) bool {
		return slices.ContainsFunc(p.Not, func(dir string) bool {
			rel, err := filepath.Rel(dir, path)
			return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
		})
	}
	real, err := filepath.EvalSymlinks(path)
	return below(filepath.Clean(path)) || err == nil && below(real)
}

// fingerprint is how ssh names a public key, or "" where it is none.
func fingerprint(public string) string {
	fields := strings.Fields(public)
	if len(fields) < 2 || strings.ContainsAny(public, "\n\r\x00") {
		return ""
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 || !strings.HasPrefix(string(blob[4:]), fields[0]) {
		return ""
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

var errNoSignature = errors.New("it gave no signature")
