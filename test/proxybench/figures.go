//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// target says what one contender has to reach beside another.
type target struct {
	one, other string
	ratio      float64
	atMost     bool // else at least
	more       bool // more than, not at least
}

// figure is one kind of measurement that all contenders take in turns.
type figure struct {
	name    string
	unit    string
	format  string
	job     job
	value   func(outcome) float64
	spent   bool   // the value is the processor time of the proxy, in µs
	times   int    // as many rounds as others have; 0 is 1
	less    string // a contender whose value is taken off everybody's
	targets []target
	leave   []string // contenders that have no part in it
}

func perSecond(o outcome) float64 { return o.perSecond() }

func megabytes(o outcome) float64 { return o.perSecond() * bigSize / 1e6 }

func micros(o outcome) float64 { return float64(o.Middle.Nanoseconds()) / 1000 }

// aim are the targets of speed, which hold for small answers and big ones. times is how much faster than mitmproxy.
func aim(times float64) []target {
	return []target{
		{one: inspected, other: goproxyBest, ratio: 0.95}, {one: inspected, other: goproxyBare, ratio: 0.95},
		{one: inspected, other: mitm, ratio: times}, {one: inspected, other: squid, ratio: 1, more: true},
		{one: inspected, other: uncredited, ratio: 0.95}, // what a credential costs
	}
}

// How much faster than mitmproxy: by requests, and by bytes, where fifteen times would be beyond a direct connection.
const (
	timesSmall = 15
	timesBig   = 1
)

func raced() []figure {
	const second = 700 * time.Millisecond
	return []figure{
		{name: "small requests per second, 16 warm connections", format: "%.0f", job: job{Kind: "small", Conns: 16, For: second}, value: perSecond, targets: aim(timesSmall)},
		{name: "small requests per second, 64 warm connections", format: "%.0f", job: job{Kind: "small", Conns: 64, For: second}, value: perSecond, targets: aim(timesSmall)},
		{name: "small requests per second, 1 warm connection", format: "%.0f", job: job{Kind: "small", Conns: 1, For: second}, value: perSecond},
		{name: "small requests per second over HTTP/2, 16 streams of one connection", format: "%.0f", job: job{Kind: "small2", Conns: 16, For: second}, value: perSecond,
			leave: []string{direct, goproxyBare, goproxyBest, mitm, squid, srtSpliced, srtOpened, spliced, uncredited}},
		{name: "latency added to one small request, median", unit: " µs", format: "%.0f", job: job{Kind: "latency", Count: 1500}, value: micros, less: direct,
			targets: []target{{one: inspected, other: goproxyBest, ratio: 1.15, atMost: true}, {one: inspected, other: goproxyBare, ratio: 1.15, atMost: true}}},
		{name: "throughput of one 64 MB answer", unit: " MB/s", format: "%.0f", job: job{Kind: "big", Conns: 1}, value: megabytes,
			targets: append(aim(timesBig), target{one: spliced, other: direct, ratio: 0.9}, target{one: spliced, other: srtSpliced, ratio: 1, more: true})},
		{name: "processor time of the proxy for one 64 MB answer, with a credential and without", unit: " µs", format: "%.0f", job: job{Kind: "big", Conns: 1},
			spent: true, times: 3, leave: []string{direct, goproxyBare, goproxyBest, mitm, squid, srtSpliced, srtOpened, spliced},
			targets: []target{{one: inspected, other: uncredited, ratio: 1.05, atMost: true}}},
		{name: "processor time of the proxy for one small request, with a credential and without", unit: " µs", format: "%.1f", job: job{Kind: "small", Conns: 16, For: second},
			spent: true, times: 3, leave: []string{direct, goproxyBare, goproxyBest, mitm, squid, srtSpliced, srtOpened, spliced},
			targets: []target{{one: inspected, other: uncredited, ratio: 1.05, atMost: true}}},
		{name: "new connections with one request each, per second", format: "%.0f", job: job{Kind: "connect", Conns: 4, For: second}, value: perSecond,
			targets: []target{{one: inspected, other: goproxyBare, ratio: 1.3}, {one: inspected, other: goproxyBest, ratio: 1.3}}},
	}
}

func (b *bench) figures(ctx context.Context, all []*contender) {
	for _, f := range raced() {
		if b.wanted(f.name) {
			b.race(f, all, b.askClient)
		}
	}
	b.throughContainers(ctx, all)
	b.memoryOfStreams(all)
	b.memoryOfHosts(all)
	b.allocations(ctx)
}

func (b *bench) wanted(name string) bool { return strings.Contains(name, b.only) }

// asker has a contender's client do a job.
type asker func(c *contender, j job) (outcome, error)

func (b *bench) askClient(_ *contender, j job) (outcome, error) { return b.client.ask(j) }

// race measures a figure: in each round every contender once, beginning with another one each time.
func (b *bench) race(f figure, all []*contender, ask asker) {
	fmt.Fprintf(b.out, "\n%s\n", f.name)
	values, own, clients := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	fell := map[string]error{}
	for round := range b.rounds * max(1, f.times) {
		for i := range all {
			c := all[(i+round)%len(all)]
			if c.err != nil || fell[c.name] != nil || slices.Contains(f.leave, c.name) {
				continue
			}
			j := f.job
			j.Way = c.way
			before := c.worked()
			o, err := ask(c, j)
			if err != nil {
				fell[c.name] = err
				continue
			}
			took := (c.worked() - before) / float64(o.Done)
			value := took * 1e6
			if !f.spent {
				value = f.value(o)
			}
			values[c.name] = append(values[c.name], value)
			own[c.name] = append(own[c.name], took)
			clients[c.name] = append(clients[c.name], o.Worked.Seconds()/float64(o.Done))
		}
	}
	for name := range fell {
		delete(values, name)
	}
	b.tell(f, all, less(values, f.less), own, clients, fell)
}

// less takes a contender's value off everybody's, round by round.
func less(values map[string][]float64, name string) map[string][]float64 {
	base := slices.Clone(values[name])
	if name == "" || base == nil {
		return values
	}
	for _, of := range values {
		for i := range of {
			of[i] -= base[i]
		}
	}
	values[name] = base
	return values
}

func (b *bench) tell(f figure, all []*contender, values, own, clients map[string][]float64, fell map[string]error) {
	for _, c := range all {
		switch {
		case slices.Contains(f.leave, c.name):
		case c.err != nil:
			fmt.Fprintf(b.out, "  %-34s not measured: it is not there\n", c.name)
		case fell[c.name] != nil:
			fmt.Fprintf(b.out, "  %-34s not measured: %v\n", c.name, fell[c.name])
		default:
			note := ""
			if f.less == c.name {
				note = "what the others add to"
			}
			if c.inside {
				note = fmt.Sprintf("%.0f µs of the client's processor time each, %.0f of the proxy's", median(clients[c.name])*1e6, median(own[c.name])*1e6)
			} else if c.child != nil {
				note = fmt.Sprintf("%.0f µs of processor time each", median(own[c.name])*1e6)
			}
			fmt.Fprintf(b.out, "  %-34s %s%s  %s\n", c.name, spread(values[c.name], f.format), f.unit, note)
		}
	}
	for _, t := range f.targets {
		b.judge(t, values)
	}
}

func (b *bench) judge(t target, values map[string][]float64) {
	one, other := values[t.one], values[t.other]
	name := t.one + " / " + t.other
	if len(one) == 0 || len(other) == 0 {
		fmt.Fprintf(b.out, "    %-58s not measured\n", name)
		return
	}
	var ratios []float64
	for i := range one {
		ratios = append(ratios, one[i]/other[i])
	}
	fmt.Fprintf(b.out, "    %-58s %s  %s\n", name, spread(ratios, "%.2f"), t.verdict(median(ratios)))
}

func (t target) verdict(got float64) string {
	sign, met := "at least", got >= t.ratio
	switch {
	case t.atMost:
		sign, met = "at most", got <= t.ratio
	case t.more:
		sign, met = "more than", got > t.ratio
	}
	return fmt.Sprintf("(target: %s %.2f, %s)", sign, t.ratio, word(met))
}

func word(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

func spread(xs []float64, format string) string {
	return fmt.Sprintf(format+" / "+format+" / "+format, slices.Min(xs), median(xs), slices.Max(xs))
}

// median returns the middle value; xs must not be empty.
func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}
