package event

import "maps"

// Clean gives the event with every string in it passed through text. E is not changed.
func (e Event) Clean(text func(string) string) Event {
	for _, s := range []*string{&e.Host, &e.Method, &e.Path, &e.Rule, &e.Reason, &e.Via, &e.Credential, &e.Who, &e.Scheme, &e.MethodBy, &e.PathBy} {
		*s = text(*s)
	}
	if e.Detail != nil {
		e.Detail = maps.Collect(func(yield func(string, string) bool) {
			for k, v := range e.Detail {
				if !yield(text(k), text(v)) {
					return
				}
			}
		})
	}
	if e.Git != nil {
		g := *e.Git
		g.Repo, g.Op, g.Flaw = text(g.Repo), text(g.Op), text(g.Flaw)
		g.Refs = nil
		for _, ref := range e.Git.Refs {
			g.Refs = append(g.Refs, text(ref))
		}
		e.Git = &g
	}
	return e
}
