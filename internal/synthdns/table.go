// Package synthdns answers the DNS queries of a sandbox without asking anyone: each name that may be reached gets an
// address of 127.0.0.0/8 that stands for it during this run, and the connection made to that address tells the name.
//
// A Table owns the names and their addresses; an address is known to it before anybody hears of it. A Server owns the
// sockets that it serves and the goroutines on them. Nothing that is asked ever leaves this process: names that may
// not be reached do not exist, and asking for one is an event, once a name.
package synthdns

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"agentbox/internal/policy"
)

// maxNames bounds the names of one run. Addresses are handed out from firstAddr on, far from 127.0.0.1 and 127.0.0.53.
const (
	maxNames  = 1 << 16
	firstAddr = 127<<24 | 64<<16 | 1
)

// Table maps names to synthetic addresses and back. It is safe for concurrent use.
type Table struct {
	mu    sync.RWMutex
	addrs map[policy.Host]netip.Addr
	hosts []policy.Host // by address, from firstAddr on
	limit int
}

// NewTable gives an empty table.
func NewTable() *Table {
	return &Table{addrs: map[policy.Host]netip.Addr{}, limit: maxNames}
}

// Assign gives the address that stands for host, the same during the whole run. The zero Addr means that the table is
// full.
func (t *Table) Assign(host policy.Host) netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr, ok := t.addrs[host]; ok {
		return addr
	}
	if host.IsZero() || len(t.hosts) >= t.limit {
		return netip.Addr{}
	}
	var four [4]byte
	binary.BigEndian.PutUint32(four[:], firstAddr+uint32(len(t.hosts)))
	addr := netip.AddrFrom4(four)
	t.addrs[host] = addr
	t.hosts = append(t.hosts, host)
	return addr
}

// Lookup gives the name that an address stands for.
func (t *Table) Lookup(addr netip.Addr) (policy.Host, bool) {
	addr = addr.Unmap()
	if !addr.Is4() {
		return policy.Host{}, false
	}
	four := addr.As4()
	number := binary.BigEndian.Uint32(four[:])
	t.mu.RLock()
	defer t.mu.RUnlock()
	if number < firstAddr || number-firstAddr >= uint32(len(t.hosts)) {
		return policy.Host{}, false
	}
	return t.hosts[number-firstAddr], true
}
