package plan

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"agentbox/internal/profiles"
)

// cell is what one floor holds one value to: a word that is at least as careful, or a number that is at most as large.
// The zero cell holds it to nothing.
type cell struct {
	word string
	most int64
}

// row is one value and what each tier holds it to.
type row struct {
	path  string
	tiers [4]cell // in the order of tierNames
}

func tierNames() []string { return []string{"low", "medium", "high", "critical"} }

// tierTable is all that tiers say. Values are in the units of Grants; budget.usd is in millionths.
func tierTable() []row {
	word := func(low, medium, high, critical string) [4]cell {
		return [4]cell{{word: low}, {word: medium}, {word: high}, {word: critical}}
	}
	most := func(low, medium, high, critical int64) [4]cell {
		return [4]cell{{most: low}, {most: medium}, {most: high}, {most: critical}}
	}
	const hour = int64(time.Hour)
	return []row{
		{"isolation.runtime", word("container", "container", "gvisor", "microvm")},
		{"workspace.mode", word("direct", "review", "review", "review")},
		{"network.default", word("allow", "ask", "deny", "deny")},
		{pathWrites, word("allow", "allow", "ask", "ask")},
		{pathInspect, word("", "", "true", "true")},
		{pathTTL, most(0, 8*hour, hour, hour/4)},
		{"budget.time", most(0, 8*hour, 2*hour, hour)},
		{"budget.usd", most(0, 0, 20_000_000, 5_000_000)},
		{"budget.denials", most(0, 0, 50, 10)},
	}
}

// Paths of what a floor says about every rule and every credential.
const (
	pathWrites  = "network.rule.action"
	pathInspect = "network.rule.inspect"
	pathTTL     = "credential.ttl"
	pathSigning = "signing.commits"
)

// ranks order words from the loosest to the most careful.
func ranks(path string) []string {
	switch path {
	case "isolation.runtime":
		return []string{"container", "gvisor", "microvm"}
	case "workspace.mode":
		return []string{string(Direct), string(Review), string(ReadOnly)}
	case "network.default", pathWrites, pathSigning:
		return []string{"allow", "ask", "deny"}
	case pathInspect:
		return []string{"false", "true"}
	case "budget.on_limit":
		return []string{"ask", "stop"}
	case "tier":
		return tierNames()
	}
	return nil
}

func rank(path, word string) int { return slices.Index(ranks(path), word) }

// bound is a cell with who says so.
type bound struct {
	cell
	by    string // what Origins says of a value that it fills: "tier medium", "/etc/agentbox/policy.toml:3"
	named string // as a refusal names it: "tier medium (agentbox.toml:2)"
}

// floors is what every value is held to: the strictest cell of the tier's and the organisation's.
type floors map[string]bound

func (f floors) add(path string, c cell, by, named string) {
	if old, ok := f[path]; c != (cell{}) && (!ok || stricter(path, c, old.cell)) {
		f[path] = bound{c, by, named}
	}
}

func stricter(path string, a, b cell) bool {
	if ranks(path) != nil {
		return rank(path, a.word) > rank(path, b.word)
	}
	return a.most < b.most
}

// tierFloors adds what a tier says. Origin is where the tier was chosen; "default" names no floor, because nobody chose it.
func (f floors) tier(name, origin string) {
	i := slices.Index(tierNames(), name)
	if i < 0 {
		return
	}
	by, named := "tier "+name, "tier "+name+" ("+origin+")"
	if origin == fromDefault {
		by, named = fromDefault, "tier "+name
	}
	for _, r := range tierTable() {
		f.add(r.path, r.tiers[i], by, named)
	}
}

// organisation adds what policy.toml says.
func (f floors) organisation(o profiles.Floors) {
	cells := map[string]cell{
		"workspace.mode": {word: string(o.Workspace.Mode)}, "network.default": {word: string(o.Network.Default)},
		"budget.time": {most: int64(o.Budget.Time)}, "budget.usd": {most: int64(o.Budget.USD)}, "budget.tokens": {most: int64(o.Budget.Tokens)},
		"budget.requests": {most: int64(o.Budget.Requests)}, "budget.tool_calls": {most: int64(o.Budget.ToolCalls)},
		"budget.denials": {most: int64(o.Budget.Denials)}, "budget.on_limit": {word: string(o.Budget.OnLimit)},
		"limits.memory": {most: int64(o.Limits.Memory)}, "limits.cpus": {most: millionths(o.Limits.CPUs)}, "limits.pids": {most: o.Limits.Pids},
		"limits.disk": {most: int64(o.Limits.Disk)},
	}
	if o.Isolation.Runtime != "auto" {
		cells["isolation.runtime"] = cell{word: string(o.Isolation.Runtime)}
	}
	for path, c := range cells {
		where := placeOr(o.Origins, path, organisationFile)
		f.add(path, c, where, where)
	}
}

const organisationFile = "/etc/agentbox/policy.toml"

// show writes a cell's number as a profile would.
func show(path string, n int64) string {
	switch path {
	case "budget.time", pathTTL:
		return strconv.Quote(short(time.Duration(n)))
	case "budget.usd":
		return dollars(n)
	case "limits.memory", "limits.disk":
		return strconv.Quote(size(n))
	case "limits.cpus":
		return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64)
	}
	return strconv.FormatInt(n, 10)
}

func millionths(f float64) int64 { return int64(f*1e6 + 0.5) }

// dollars writes millionths as a decimal with at least two places: "5.00", "0.125".
func dollars(micro int64) string {
	s := fmt.Sprintf("%d.%06d", micro/1e6, micro%1e6)
	for s[len(s)-1] == '0' && s[len(s)-3] != '.' {
		s = s[:len(s)-1]
	}
	return s
}

// microDollars is the opposite of dollars; what is no such decimal is 0.
func microDollars(s string) int64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return millionths(f)
}
