package learn

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"agentbox/internal/policy"
	"agentbox/internal/replay"
)

// What names look like that carry data: many below one parent, or very long ones.
const (
	manyNames = 10
	longLabel = 40
	longName  = 100
)

// dataNames says of each refused host whose name may be a message why it looks like one. The parents are those that
// somebody can own; under a public suffix names have nothing to do with each other.
func dataNames(log *replay.Log) map[policy.Host]string {
	below := map[string]map[policy.Host]bool{}
	var hosts []policy.Host
	for _, g := range log.Groups {
		h := g.Request.Host
		if !refused(g) {
			continue
		}
		hosts = append(hosts, h)
		if parent := owned(h); parent != "" {
			if below[parent] == nil {
				below[parent] = map[policy.Host]bool{}
			}
			below[parent][h] = true
		}
	}
	out := map[policy.Host]string{}
	for _, h := range hosts {
		parent := owned(h)
		switch n := len(below[parent]); {
		case parent != "" && n >= manyNames:
			out[h] = fmt.Sprintf("%d different names below %s were refused: that looks like data sent out in names", n, parent)
		case long(h.String()):
			out[h] = "its name is very long: it looks like data sent out in a name"
		}
	}
	return out
}

// owned is the domain that somebody registered above a name; "" for that domain itself, and for what has none.
func owned(h policy.Host) string {
	domain, err := publicsuffix.EffectiveTLDPlusOne(h.String())
	if err != nil || domain == h.String() {
		return ""
	}
	return domain
}

func long(name string) bool {
	if len(name) > longName {
		return true
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > longLabel {
			return true
		}
	}
	return false
}
