package shimwire

import (
	"bufio"
	"encoding/json"
	"fmt"
)

// Where a program inside asks for a signature, and the names under which the shim is git's program for it.
const (
	SignSock = Dir + "/sign.sock"
	SignGPG  = Dir + "/gpg"
	SignSSH  = Dir + "/ssh-keygen"
)

// SignRequest is the first line of a connection to SignSock; Size bytes follow, which are to be signed. The host answers
// with one line, a SignAnswer. Either side may be a liar.
type SignRequest struct {
	Format    string `json:"format"`    // "openpgp" or "ssh"
	Namespace string `json:"namespace"` // of ssh: "git"
	Size      int64  `json:"size"`
}

// SignAnswer is a signature, or why there is none.
type SignAnswer struct {
	Signature []byte `json:"signature,omitempty"`
	Refused   string `json:"refused,omitempty"`
}

// EncodeLine gives a value of the conversation about signatures as one line, newline included.
func EncodeLine[T SignRequest | SignAnswer](v T) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a line about a signature: %w", err)
	}
	return append(line, '\n'), nil
}

// ReadSignRequest reads the line of a request. What follows it stays in r.
func ReadSignRequest(r *bufio.Reader) (q SignRequest, err error) {
	err = readSigning(r, MaxHeader, &q)
	return q, err
}

// ReadSignAnswer reads the line of an answer.
func ReadSignAnswer(r *bufio.Reader) (a SignAnswer, err error) {
	err = readSigning(r, MaxMessage, &a)
	return a, err
}

func readSigning(r *bufio.Reader, limit int, into any) error {
	line, err := readLine(r, limit)
	if err != nil {
		return fmt.Errorf("reading a line about a signature: %w", err)
	}
	return decodeStrictly(line, into)
}
