package gitwire

import (
	"errors"
	"fmt"
	"io"
)

// PacketKind tells the packets of git's pkt-line format apart.
type PacketKind byte

// The kinds of packets.
const (
	Data      PacketKind = iota
	Flush                // 0000
	Delimiter            // 0001
	End                  // 0002
)

// MaxPacket is the most that one packet carries.
const MaxPacket = 65516

const lengthDigits = 4

var (
	errPacketLength = errors.New("a packet of git's has no valid length")
	errTooLong      = errors.New("there is more of it than is read")
)

// packetReader reads packets and keeps every byte that it took, up to a limit. It reads no byte beyond the packet it gives.
type packetReader struct {
	r     io.Reader
	limit int
	grow  func(n int) bool // asked before n more bytes are kept; nil agrees
	taken []byte
}

// next gives the next packet. Its payload is valid until the reader's next use. io.EOF means that there is none.
func (p *packetReader) next() (PacketKind, []byte, error) {
	head, err := p.take(lengthDigits)
	if err != nil {
		return 0, nil, err
	}
	n, err := packetLength(head)
	if err != nil {
		return 0, nil, err
	}
	if n < lengthDigits {
		return PacketKind(n + 1), nil, nil
	}
	payload, err := p.take(n - lengthDigits)
	if errors.Is(err, io.EOF) && n > lengthDigits {
		err = io.ErrUnexpectedEOF
	}
	return Data, payload, err
}

// take reads n bytes. What comes before an early end is kept too.
func (p *packetReader) take(n int) ([]byte, error) {
	if n > p.limit-len(p.taken) || p.grow != nil && !p.grow(n) {
		return nil, errTooLong
	}
	from := len(p.taken)
	p.taken = append(p.taken, make([]byte, n)...)
	got, err := io.ReadFull(p.r, p.taken[from:])
	p.taken = p.taken[:from+got]
	return p.taken[from:], err
}

// packetLength reads the four digits that a packet begins with: git writes them in lower case.
func packetLength(digits []byte) (int, error) {
	n := 0
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		default:
			return 0, errPacketLength
		}
	}
	if n == lengthDigits-1 || n > MaxPacket+lengthDigits {
		return 0, errPacketLength
	}
	return n, nil
}

// appendPacket adds a packet with the payload, in as many as it takes.
func appendPacket(to []byte, payload string) []byte {
	for len(payload) > MaxPacket {
		to = appendPacket(to, payload[:MaxPacket])
		payload = payload[MaxPacket:]
	}
	return append(fmt.Appendf(to, "%04x", len(payload)+lengthDigits), payload...)
}

const flushPacket = "0000"
