package policy

import "math/bits"

// follows says what a pattern's unit does with a path's unit: a star may stay where it is, and what is named by itself
// moves on to the unit after it. wide is the reading of rules that deny or ask.
func follows(pattern, path byte, wide bool) (stays, moves bool) {
	switch pattern {
	case unitStars:
		return true, false
	case unitStar:
		return path != '/' && (wide || path > unitBack), false
	}
	return false, pattern == path || wide && isSeparator(pattern) && isSeparator(path)
}

func isStar(unit byte) bool { return unit == unitStar || unit == unitStars }

// matchUnits reports whether a pattern names a path in normal form, both in units. Its time is bounded by the product
// of their lengths, and it allocates nothing.
func matchUnits(pattern string, path []byte, wide bool) bool {
	for pattern != "" && !isStar(pattern[0]) {
		if len(path) == 0 {
			return false
		}
		if _, moves := follows(pattern[0], path[0], wide); !moves {
			return false
		}
		pattern, path = pattern[1:], path[1:]
	}
	if pattern == "" {
		return len(path) == 0
	}
	if len(pattern) == 1 && pattern[0] == unitStars {
		return true
	}
	return matchStars(pattern, path, wide)
}

// positions is a set of places in a pattern, its end included.
type positions [maxPathPattern/64 + 1]uint64

// add adds a place and, since stars may be empty, those that follow it.
func (s *positions) add(pattern string, at int) {
	for {
		s[at>>6] |= 1 << (at & 63)
		if at == len(pattern) || !isStar(pattern[at]) {
			return
		}
		at++
	}
}

func (s *positions) has(at int) bool { return s[at>>6]&(1<<(at&63)) != 0 }

// matchStars follows all places in the pattern at once that the path can have come to.
func matchStars(pattern string, path []byte, wide bool) bool {
	var now positions
	now.add(pattern, 0)
	words := len(pattern)>>6 + 1
	for _, unit := range path {
		var next positions
		alive := false
		for w := range words {
			for set := now[w]; set != 0; set &= set - 1 {
				at := w<<6 + bits.TrailingZeros64(set)
				if at == len(pattern) {
					continue
				}
				stays, moves := follows(pattern[at], unit, wide)
				switch {
				case stays:
					next.add(pattern, at)
				case moves:
					next.add(pattern, at+1)
				}
				alive = alive || stays || moves
			}
		}
		if !alive {
			return false
		}
		now = next
	}
	return now.has(len(pattern))
}
