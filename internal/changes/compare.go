package changes

import (
	"slices"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// edit replaces lines of the old text by lines of the new one.
type edit struct{ oldAt, oldEnd, newAt, newEnd int }

// compare finds what changed between two texts. Lines that stand once in each are matched first ("patience"): it keeps
// the work small where a longest common subsequence alone would be cut off, and reads better.
func compare(old, now []string) []edit {
	var edits []edit
	between(old, now, 0, 0, &edits)
	return joined(edits)
}

func between(old, now []string, oldAt, newAt int, edits *[]edit) {
	for len(old) > 0 && len(now) > 0 && old[0] == now[0] {
		old, now, oldAt, newAt = old[1:], now[1:], oldAt+1, newAt+1
	}
	for len(old) > 0 && len(now) > 0 && old[len(old)-1] == now[len(now)-1] {
		old, now = old[:len(old)-1], now[:len(now)-1]
	}
	if len(old) == 0 && len(now) == 0 {
		return
	}
	anchors := uniqueLines(old, now)
	if len(old) == 0 || len(now) == 0 || len(anchors) == 0 {
		for _, d := range lcs.DiffLines(old, now) {
			*edits = append(*edits, edit{oldAt + d.Start, oldAt + d.End, newAt + d.ReplStart, newAt + d.ReplEnd})
		}
		return
	}
	o, n := 0, 0
	for _, a := range anchors {
		between(old[o:a.old], now[n:a.now], oldAt+o, newAt+n, edits)
		o, n = a.old+1, a.now+1
	}
	between(old[o:], now[n:], oldAt+o, newAt+n, edits)
}

// joined puts edits together that touch.
func joined(edits []edit) (out []edit) {
	for _, e := range edits {
		if n := len(out); n > 0 && out[n-1].oldEnd == e.oldAt && out[n-1].newEnd == e.newAt {
			out[n-1].oldEnd, out[n-1].newEnd = e.oldEnd, e.newEnd
			continue
		}
		out = append(out, e)
	}
	return out
}

type anchor struct{ old, now int }

// uniqueLines gives the longest run, in order in both, of lines that stand exactly once in each.
func uniqueLines(old, now []string) []anchor {
	type place struct{ old, olds, now, nows int }
	places := map[string]*place{}
	for i, l := range old {
		p := places[l]
		if p == nil {
			p = &place{}
			places[l] = p
		}
		p.old, p.olds = i, p.olds+1
	}
	var both []anchor
	for i, l := range now {
		if p := places[l]; p != nil {
			p.now, p.nows = i, p.nows+1
		}
	}
	for i, l := range old {
		if p := places[l]; p.olds == 1 && p.nows == 1 {
			both = append(both, anchor{i, p.now})
		}
	}
	return longestRising(both)
}

// longestRising keeps the longest subsequence in which now rises.
func longestRising(all []anchor) []anchor {
	var tops []int // of each pile: the index of its top card
	back := make([]int, len(all))
	for i, a := range all {
		at, _ := slices.BinarySearchFunc(tops, a.now, func(top, now int) int { return all[top].now - now })
		back[i] = -1
		if at > 0 {
			back[i] = tops[at-1]
		}
		if at == len(tops) {
			tops = append(tops, i)
		} else {
			tops[at] = i
		}
	}
	if len(tops) == 0 {
		return nil
	}
	run := make([]anchor, len(tops))
	for i, at := len(tops)-1, tops[len(tops)-1]; i >= 0; i, at = i-1, back[at] {
		run[i] = all[at]
	}
	return run
}
