package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"time"
)

const (
	portSSH     = 22
	sshTime     = 5 * time.Second
	maxSSHWords = 64 << 10 // bytes that a client of ssh says before it looks at the answer
)

// sshHint is what to do instead of ssh, which no way leads out by unless a rule names it with protocol = "tcp".
func sshHint(host string) string {
	return "ssh does not pass the boundary: use https. agentbox rewrites git@" + host + ": to https://" + host +
		"/ where a [[git]] rule or the set \"origin\" names the host; elsewhere: git remote set-url origin https://" + host + "/…"
}

// refuseSSH closes a connection that was made for ssh, in words that its client shows. It owns conn.
func (p *Proxy) refuseSSH(conn net.Conn, t target) {
	defer func() { _ = conn.Close() }()
	hint := sshHint(t.host.String())
	p.refused(t, hint)
	if conn.SetDeadline(time.Now().Add(sshTime)) != nil {
		return
	}
	if _, err := conn.Write(append([]byte("SSH-2.0-agentbox\r\n"), sshDisconnect("denied by agentbox: "+hint)...)); err != nil {
		return
	}
	if closeWrite(conn) == nil { // what is still unread would have the answer thrown away with the connection
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxSSHWords))
	}
}

// sshDisconnect is the message by which a server ends a connection before anything is agreed on (RFC 4253, 6 and 11.1).
func sshDisconnect(why string) []byte {
	const disconnect, notAllowed, block, leastPadding = 1, 1, 8, 4
	payload := binary.BigEndian.AppendUint32([]byte{disconnect}, notAllowed)
	payload = append(binary.BigEndian.AppendUint32(payload, uint32(len(why))), why...) //nolint:gosec // a sentence
	payload = binary.BigEndian.AppendUint32(payload, 0)                                // no language
	padding := leastPadding + block - (4+1+len(payload)+leastPadding)%block
	packet := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding)) //nolint:gosec // as above
	packet = append(append(packet, byte(padding)), payload...)
	return append(packet, make([]byte, padding)...)
}
