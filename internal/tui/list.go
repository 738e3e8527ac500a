package tui

import "fmt"

// row is a line of the list: an item, or the heading of a group.
type row struct {
	group group
	item  int // index, -1 for a heading
	count int // of the group, for a heading
}

// list is the left side. It holds a row for each item and draws those that are seen.
type list struct {
	items []item
	rows  []row
	at    int // the row under the cursor, an item's unless there is none
	top   int // the first row that is seen
}

func newList(items []item) list {
	l := list{items: items, at: -1}
	for g := range groups {
		head := len(l.rows)
		for i := range items {
			if items[i].group() == g {
				l.rows = append(l.rows, row{g, i, 0})
			}
		}
		if n := len(l.rows) - head; n > 0 {
			l.rows = append(l.rows, row{})
			copy(l.rows[head+1:], l.rows[head:])
			l.rows[head] = row{g, -1, n}
		}
	}
	l.start()
	return l
}

// start puts the cursor on the first change that is taken by itself: what would execute later is in view above it.
func (l *list) start() {
	for i, r := range l.rows {
		if r.item >= 0 && (l.at < 0 || r.group == usual) {
			if l.at = i; r.group == usual {
				return
			}
		}
	}
}

// current is the item under the cursor, or nil.
func (l *list) current() *item {
	if l.at < 0 || l.at >= len(l.rows) || l.rows[l.at].item < 0 {
		return nil
	}
	return &l.items[l.rows[l.at].item]
}

// move goes n rows on, or as far as there are; headings are passed over.
func (l *list) move(n int) {
	if l.current() == nil {
		return
	}
	step := 1
	if n < 0 {
		step, n = -1, -n
	}
	for at := l.at + step; at >= 0 && at < len(l.rows) && n > 0; at += step {
		if l.rows[at].item >= 0 {
			l.at = at
			n--
		}
	}
}

// window gives the rows that are seen on so many lines, the cursor's among them.
func (l *list) window(height int) (from, to int) {
	height = max(height, 1)
	switch {
	case l.at < l.top:
		l.top = l.at
		if l.top == 1 { // the first heading with its first item
			l.top = 0
		}
	case l.at >= l.top+height:
		l.top = l.at - height + 1
	}
	l.top = max(min(l.top, len(l.rows)-height), 0)
	return l.top, min(l.top+height, len(l.rows))
}

// taken counts what is taken, and what can be.
func (l *list) taken() (n, of, laterLeft int) {
	for i := range l.items {
		it := &l.items[i]
		switch {
		case it.group() == outside:
			continue
		case it.on:
			n++
		case it.group() == later:
			laterLeft++
		}
		of++
	}
	return n, of, laterLeft
}

// setUsual takes all that needs no word of its own, or none of it.
func (l *list) setUsual(on bool) {
	for i := range l.items {
		if l.items[i].group() == usual {
			l.items[i].on, l.items[i].hunks, l.items[i].since = on, nil, false
		}
	}
}

// allUsual reports whether everything is taken that needs no word of its own.
func (l *list) allUsual() bool {
	for i := range l.items {
		if it := &l.items[i]; it.group() == usual && (!it.on || it.hunks != nil) {
			return false
		}
	}
	return true
}

func (r row) heading() string {
	switch r.group {
	case later:
		return fmt.Sprintf("WOULD EXECUTE LATER (%d)", r.count)
	case outside:
		return fmt.Sprintf("never applied (%d)", r.count)
	default:
		return fmt.Sprintf("changes (%d)", r.count)
	}
}

// view draws the list into so many cells.
func (l *list) view(p paint, width, height int, focus bool) []string {
	var out []string
	from, to := l.window(height)
	for i := from; i < to; i++ {
		out = append(out, l.line(p, i, width, focus))
	}
	return out
}

func (l *list) line(p paint, i, width int, focus bool) string {
	r := l.rows[i]
	if r.item < 0 {
		st := strong
		if r.group == later {
			st = warning
		}
		return p.in(st, pad(r.heading(), width))
	}
	it := &l.items[r.item]
	text, st := l.text(it, width)
	if i == l.at {
		st = strong
		if focus {
			st = cursor
		}
	}
	return p.in(st, text)
}

// text is an item's line and its style.
func (l *list) text(it *item, width int) (string, style) {
	status, st := Status(it.Change), plain
	switch {
	case it.ChangedOutside:
		status, st = "C", removed
	case it.group() == outside:
		st = faint
	case it.group() == later:
		status, st = status+"!", warning
	}
	counts := Counts(it.Change)
	head := fmt.Sprintf("%s %-2s ", it.box(), status)
	room := width - len(head) - len(counts) - 1
	if room < 8 { // the name is worth more than the numbers
		return pad(head+fit(it.Path, width-len(head)), width), st
	}
	return pad(head+fit(it.Path, room)+" "+counts, width), st
}
