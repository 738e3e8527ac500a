package synthdns

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

const (
	ttl        = 5    // seconds; the address never changes, but a refused name may be allowed later
	maxRefused = 4096 // distinct names whose refusal is recorded
	maxUDP     = 1232 // bytes of an answer over UDP, whatever the query offers
	minUDP     = 512
)

// answerer turns a query into its answer.
type answerer struct {
	table   *Table
	allowed func(policy.Host) bool
	events  event.Sink

	mu      sync.Mutex
	refused map[string]bool // names whose refusal was recorded
}

// answer gives the packed answer to a packed query, or nil when there is none to give. udp bounds its size.
func (a *answerer) answer(packed []byte, udp bool) []byte {
	var query dns.Msg
	if err := query.Unpack(packed); err != nil || query.Response {
		return nil
	}
	reply := new(dns.Msg)
	reply.SetReply(&query)
	reply.Authoritative, reply.RecursionAvailable = true, true
	switch {
	case query.Opcode != dns.OpcodeQuery:
		reply.Rcode, reply.Question = dns.RcodeNotImplemented, nil
	case len(query.Question) != 1:
		reply.Rcode, reply.Question = dns.RcodeFormatError, nil
	case query.Question[0].Qclass != dns.ClassINET:
		reply.Rcode = dns.RcodeNotImplemented
	default:
		a.fill(reply, query.Question[0])
	}
	out, err := pack(reply, &query, udp)
	if err != nil {
		return nil
	}
	return out
}

func pack(reply, query *dns.Msg, udp bool) ([]byte, error) {
	size := minUDP
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(maxUDP, false)
		size = min(max(int(opt.UDPSize()), minUDP), maxUDP)
	}
	if !udp {
		size = dns.MaxMsgSize
	}
	reply.Truncate(size)
	return reply.Pack()
}

func (a *answerer) fill(reply *dns.Msg, q dns.Question) {
	name := strings.TrimSuffix(strings.ToLower(q.Name), ".")
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		reply.Answer = addressRecords(q, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case strings.HasSuffix(name, ".127.in-addr.arpa"):
		a.fillReverse(reply, q, name)
	default:
		a.fillForward(reply, q, name)
	}
}

func (a *answerer) fillForward(reply *dns.Msg, q dns.Question, name string) {
	host, err := policy.ParseHost(name)
	if err != nil || !a.allowed(host) {
		reply.Rcode = dns.RcodeNameError
		if !a.isService(name) && !a.refuse(name, "the name may not be looked up: no rule allows it") {
			reply.Rcode = dns.RcodeServerFailure
		}
		return
	}
	addr := a.table.Assign(host)
	if !addr.IsValid() {
		a.refuse(name, "too many names were looked up in this run")
		reply.Rcode = dns.RcodeServerFailure
		return
	}
	reply.Answer = addressRecords(q, addr)
}

// isService reports whether a name asks for a service of a name that is allowed (_https._tcp.good.test), which
// programs do by themselves before they ask for its address.
func (a *answerer) isService(name string) bool {
	for range 2 {
		label, rest, ok := strings.Cut(name, ".")
		if !ok || !strings.HasPrefix(label, "_") {
			break
		}
		name = rest
	}
	host, err := policy.ParseHost(name)
	return err == nil && a.allowed(host)
}

// addressRecords answers an A query; every other type of an existing name has no data.
func addressRecords(q dns.Question, addr netip.Addr) []dns.RR {
	if q.Qtype != dns.TypeA && q.Qtype != dns.TypeANY {
		return nil
	}
	return []dns.RR{&dns.A{Hdr: header(q, dns.TypeA), A: addr.AsSlice()}}
}

func (a *answerer) fillReverse(reply *dns.Msg, q dns.Question, name string) {
	owner, ok := a.reverse(name)
	switch {
	case !ok:
		reply.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY:
		reply.Answer = []dns.RR{&dns.PTR{Hdr: header(q, dns.TypePTR), Ptr: owner + "."}}
	}
}

func (a *answerer) reverse(name string) (string, bool) {
	labels := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
	if len(labels) != 4 {
		return "", false
	}
	addr, err := netip.ParseAddr(strings.Join([]string{labels[3], labels[2], labels[1], labels[0]}, "."))
	if err != nil {
		return "", false
	}
	if addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return "localhost", true
	}
	host, ok := a.table.Lookup(addr)
	return host.String(), ok
}

func header(q dns.Question, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// refuse records that a name was refused: once a name, and once more for all that come after maxRefused of them. It
// reports whether the log took it.
func (a *answerer) refuse(name, reason string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused[name] || len(a.refused) > maxRefused {
		return true
	}
	if len(a.refused) == maxRefused {
		name, reason = "", "more names were refused than are recorded one by one"
	}
	err := a.events.Emit(event.Event{Kind: event.DNSRefused, Decision: event.Deny, Host: name, Via: "direct", Rule: "default", Reason: reason})
	if err != nil {
		return false
	}
	a.refused[name] = true
	return true
}
