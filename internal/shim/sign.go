//go:build linux

package shim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// maxSigned is more than the host takes, so that what is too large is the host's to refuse, and to record.
const maxSigned = 1<<20 + 1

// askGPG is gpg as git calls it: `--status-fd=2 -bsau KEY` signs standard input onto standard output. The key is the
// host's choice. What is no signing is the real gpg's.
func askGPG(args []string) int {
	if !slices.Contains(args, "-bsau") {
		return become("gpg", args)
	}
	payload, err := readPayload(os.Stdin)
	if err != nil {
		return gpgFailed(err)
	}
	signature, err := askToSign(shimwire.SignRequest{Format: "openpgp"}, payload)
	if err != nil {
		return gpgFailed(err)
	}
	if _, err := os.Stdout.Write(signature); err != nil {
		return gpgFailed(err)
	}
	status := statusFile(args)
	if _, err := fmt.Fprint(status, "\n[GNUPG:] SIG_CREATED D\n"); err != nil { // git looks for the line, not for what it tells
		return gpgFailed(err)
	}
	return 0
}

// statusFile is where gpg's machine-readable lines go.
func statusFile(args []string) *os.File {
	for _, arg := range args {
		if fd, ok := number(strings.TrimPrefix(arg, "--status-fd=")); ok && fd == 1 {
			return os.Stdout
		}
	}
	return os.Stderr
}

// gpgFailed tells why. git before 2.41 keeps to itself what gpg says, so it is told where git's own messages go too.
func gpgFailed(err error) int {
	text := "agentbox: no signature: " + err.Error() + "\n"
	fmt.Fprint(os.Stderr, text)
	if f, err := os.OpenFile("/proc/"+strconv.Itoa(os.Getppid())+"/fd/2", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		_, _ = f.WriteString(text) // it was said once already
		_ = f.Close()
	}
	return 1
}

// askSSH is ssh-keygen as git calls it: `-Y sign -n git -f KEY FILE` signs FILE into FILE.sig.
func askSSH(args []string) int {
	if len(args) < 2 || args[0] != "-Y" || args[1] != "sign" {
		return become("ssh-keygen", args)
	}
	if err := signFile(args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "agentbox: no signature: %v\n", err)
		return 1
	}
	return 0
}

func signFile(args []string) error {
	var space, file string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-n" && i+1 < len(args):
			i++
			space = args[i]
		case (arg == "-f" || arg == "-O") && i+1 < len(args): // the key is the host's choice
			i++
		case arg == "-U":
		case strings.HasPrefix(arg, "-"), file != "":
			return fmt.Errorf("%q is nothing that git asks for", arg)
		default:
			file = arg
		}
	}
	if file == "" {
		return errors.New("there is no file to sign")
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	payload, err := readPayload(in)
	if err != nil {
		return err
	}
	signature, err := askToSign(shimwire.SignRequest{Format: "ssh", Namespace: space}, payload)
	if err != nil {
		return err
	}
	return os.WriteFile(file+".sig", signature, 0o666)
}

func readPayload(r io.Reader) ([]byte, error) {
	payload, err := io.ReadAll(io.LimitReader(r, maxSigned))
	if err != nil {
		return nil, fmt.Errorf("reading what is to be signed: %w", err)
	}
	return payload, nil
}

// askToSign asks the host and waits for its answer, which may be a person's.
func askToSign(q shimwire.SignRequest, payload []byte) ([]byte, error) {
	conn, err := dialUnix(shimwire.SignSock)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	q.Size = int64(len(payload))
	line, err := shimwire.EncodeLine(q)
	if err != nil {
		return nil, err
	}
	_, sent := io.Copy(conn, io.MultiReader(bytes.NewReader(line), bytes.NewReader(payload)))
	answer, err := shimwire.ReadSignAnswer(bufio.NewReader(conn)) // there is one too when the host did not want to read all
	switch {
	case err != nil:
		return nil, errors.Join(sent, err)
	case answer.Refused != "":
		return nil, errors.New(answer.Refused)
	case len(answer.Signature) == 0:
		return nil, errors.New("the host gave none")
	}
	return answer.Signature, nil
}

// become runs the real program in place of this one.
func become(name string, args []string) int {
	file, err := lookPath(name, os.Environ(), "/")
	if err != nil {
		complain("%v", err)
		return exitNotFound
	}
	err = syscall.Exec(file, append([]string{name}, args...), os.Environ())
	complain("running %q: %v", file, err)
	return exitNotFound
}
