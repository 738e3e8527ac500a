package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// The numbers of RFC 1928 and RFC 1929.
const (
	socksVersion   = 5
	socksConnect   = 1
	socksNoLogin   = 0
	socksPassword  = 2
	socksIPv4      = 1
	socksName      = 3
	socksIPv6      = 4
	socksLoginForm = 1
)

var errNotSOCKS = errors.New("does not answer as a SOCKS5 proxy does")

// socks5 asks a SOCKS5 proxy to connect to target. It reads only what belongs to the answers, none longer than 262 bytes.
func socks5(conn net.Conn, target string, login *account) error {
	request, err := socksRequest(target)
	if err != nil {
		return err
	}
	if err := socksGreet(conn, login); err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	return socksReply(conn)
}

// socksRequest names an address by its bytes, and everything else by name.
func socksRequest(target string) ([]byte, error) {
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	port, err := parsePort(digits)
	if err != nil {
		return nil, err
	}
	out := []byte{socksVersion, socksConnect, 0}
	switch addr, err := netip.ParseAddr(host); {
	case err != nil && len(host) > 255:
		return nil, errors.New("the name is too long for SOCKS5")
	case err != nil:
		out = append(append(out, socksName, byte(len(host))), host...)
	case addr.Is4():
		out = append(append(out, socksIPv4), addr.AsSlice()...)
	default:
		out = append(append(out, socksIPv6), addr.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(out, port), nil
}

// socksGreet agrees on how to log in, and does.
func socksGreet(conn net.Conn, login *account) error {
	hello := []byte{socksVersion, 1, socksNoLogin}
	if login != nil {
		hello = []byte{socksVersion, 2, socksNoLogin, socksPassword}
	}
	var choice [2]byte
	if err := exchange2(conn, hello, &choice); err != nil {
		return err
	}
	switch {
	case choice[0] != socksVersion:
		return errNotSOCKS
	case choice[1] == socksNoLogin:
		return nil
	case choice[1] == socksPassword && login != nil:
		return socksLogin(conn, *login)
	case login == nil:
		return &parentError{reason: "wants a name and a password, or another way to log in"}
	}
	return &parentError{reason: "takes no name and password"}
}

func socksLogin(conn net.Conn, login account) error {
	if len(login.user) > 255 || login.password == "" || len(login.password) > 255 {
		return &parentError{reason: "can't be logged in to: SOCKS5 takes names and passwords of 1 to 255 bytes"}
	}
	out := append([]byte{socksLoginForm, byte(len(login.user))}, login.user...)
	out = append(append(out, byte(len(login.password))), login.password...)
	var status [2]byte
	if err := exchange2(conn, out, &status); err != nil {
		return err
	}
	if status[1] != 0 {
		return &parentError{reason: "does not take the name and the password that it was given", account: true}
	}
	return nil
}

// exchange2 sends a message and reads an answer of two bytes.
func exchange2(conn net.Conn, out []byte, in *[2]byte) error {
	if _, err := conn.Write(out); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, in[:])
	return err
}

func socksReply(conn net.Conn) error {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return errNotSOCKS
	}
	if head[1] != 0 {
		return &parentError{reason: "refused: " + socksReason(head[1]), address: head[1] >= 3 && head[1] <= 6}
	}
	rest, err := socksBound(conn, head[3])
	if err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, rest))
	return err
}

// socksBound is how many bytes of an address of a kind are still to come, its port included.
func socksBound(conn net.Conn, kind byte) (int, error) {
	switch kind {
	case socksIPv4:
		return 4 + 2, nil
	case socksIPv6:
		return 16 + 2, nil
	case socksName:
		var length [1]byte
		_, err := io.ReadFull(conn, length[:])
		return int(length[0]) + 2, err
	}
	return 0, errNotSOCKS
}

func socksReason(code byte) string {
	switch code {
	case 1:
		return "it failed itself"
	case 2:
		return "its rules do not allow the connection"
	case 3:
		return "it can't reach the network"
	case 4:
		return "it can't reach the host"
	case 5:
		return "the server refused the connection"
	case 6:
		return "the server did not answer in time"
	case 7, 8:
		return "it does not know the kind of request or address"
	}
	return fmt.Sprintf("reason %d", code)
}
