package proxy

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// observation reads along while the system's resolver asks its servers, because that tells nobody how long its answers
// hold. It decides nothing about them: what it makes of forged or broken replies can only shorten the time. The lowest
// time of all records of all replies holds, aliases included, and none at all once a reply can't be read.
type observation struct {
	mu      sync.Mutex
	replies int
	records int
	lowest  uint32
	broken  bool
}

// lifetime is how long what was answered may be kept; 0 is not at all, as for what no server was asked for.
func (o *observation) lifetime() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken || o.records == 0 {
		return 0
	}
	return time.Duration(o.lowest) * time.Second
}

// answered reports whether servers were asked, and every reply of theirs could be read.
func (o *observation) answered() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.replies > 0 && !o.broken
}

func (o *observation) reply(message []byte) {
	lowest, records, err := lowestTTL(message)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replies++
	o.broken = o.broken || err != nil
	if records > 0 && (o.records == 0 || lowest < o.lowest) {
		o.lowest = lowest
	}
	o.records += records
}

// lowestTTL is the lowest time to live of the answers in a DNS message. One that is cut off counts for nothing: it is
// asked for again over TCP.
func lowestTTL(message []byte) (lowest uint32, records int, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.Truncated {
		return 0, 0, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return 0, 0, err
	}
	for {
		record, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return lowest, records, nil
		}
		if err == nil {
			err = p.SkipAnswer()
		}
		if err != nil {
			return 0, 0, err
		}
		ttl := record.TTL
		if ttl > math.MaxInt32 {
			ttl = 0 // RFC 2181, section 8
		}
		if records == 0 || ttl < lowest {
			lowest = ttl
		}
		records++
	}
}

// watch gives conn to the resolver, which tells by its kind which form of messages to speak.
func (o *observation) watch(conn net.Conn) net.Conn {
	if packets, ok := conn.(net.PacketConn); ok {
		return &watchedPackets{Conn: conn, PacketConn: packets, seen: o}
	}
	return &watchedStream{Conn: conn, seen: o}
}

// watchedPackets is a connection whose every read is a message.
type watchedPackets struct {
	net.Conn
	PacketConn net.PacketConn
	seen       *observation
}

func (c *watchedPackets) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.seen.reply(p[:n])
	}
	return n, err
}

// ReadFrom makes it a net.PacketConn; the resolver does not use it.
func (c *watchedPackets) ReadFrom(p []byte) (int, net.Addr, error) { return c.PacketConn.ReadFrom(p) }

// WriteTo makes it a net.PacketConn; the resolver does not use it.
func (c *watchedPackets) WriteTo(p []byte, to net.Addr) (int, error) {
	return c.PacketConn.WriteTo(p, to)
}

// watchedStream is a connection on which two bytes before each message give its length.
type watchedStream struct {
	net.Conn
	seen *observation
	held []byte // of the message that is being read: at most its length and 65,535 bytes
}

func (c *watchedStream) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		rest = c.take(rest)
	}
	return n, err
}

// take moves bytes into the message that is being read and gives those that are not of it.
func (c *watchedStream) take(p []byte) (rest []byte) {
	want := 2
	if len(c.held) >= 2 {
		want += int(binary.BigEndian.Uint16(c.held))
	}
	n := min(len(p), want-len(c.held))
	c.held = append(c.held, p[:n]...)
	if whole := len(c.held) >= 2 && len(c.held) == 2+int(binary.BigEndian.Uint16(c.held)); whole {
		c.seen.reply(slices.Clone(c.held[2:]))
		c.held = c.held[:0]
	}
	return p[n:]
}
