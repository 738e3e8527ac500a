package policy

// Overlaps reports whether there is a path that both patterns name. It goes by the patterns alone: that two of them meet
// only in paths that are not in normal form is taken for an overlap too. Its time is bounded by the product of their
// lengths.
func (p PathPattern) Overlaps(q PathPattern) bool {
	if p.units == "" || q.units == "" {
		return false
	}
	width := len(q.units) + 1
	seen := make([]bool, (len(p.units)+1)*width)
	next := []int{0}
	visit := func(i, j int) {
		if at := i*width + j; !seen[at] {
			seen[at] = true
			next = append(next, at)
		}
	}
	for len(next) > 0 {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		i, j := at/width, at%width
		switch {
		case i == len(p.units) && j == len(q.units):
			return true
		case i < len(p.units) && isStar(p.units[i]):
			visit(i+1, j) // it stands for nothing more
			if j < len(q.units) && (isStar(q.units[j]) || takes(p.units[i], q.units[j])) {
				visit(i, j+1)
			}
		case j < len(q.units) && isStar(q.units[j]):
			visit(i, j+1)
			if i < len(p.units) && takes(q.units[j], p.units[i]) {
				visit(i+1, j)
			}
		case i < len(p.units) && j < len(q.units) && p.units[i] == q.units[j]:
			visit(i+1, j+1)
		}
	}
	return false
}

// takes reports whether a star stands for a unit.
func takes(star, unit byte) bool {
	stays, _ := follows(star, unit, false)
	return stays
}

// Within reports whether another pattern surely names all that p names: it is the same, or ends in "**" behind what p
// begins with.
func (p PathPattern) Within(other PathPattern) bool {
	if p == other {
		return p.text != ""
	}
	n := len(other.units) - 1
	if n < 0 || other.units[n] != unitStars {
		return false
	}
	for i := range n {
		if isStar(other.units[i]) || i >= len(p.units) || p.units[i] != other.units[i] {
			return false
		}
	}
	return true
}
