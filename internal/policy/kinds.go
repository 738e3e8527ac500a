package policy

// kinds is a set of the kinds of requests that rules tell apart beside methods and paths.
type kinds uint8

const (
	plainHTTPS kinds = 1 << iota
	socketHTTPS
	plainHTTP
	socketHTTP

	anyKind = plainHTTPS | socketHTTPS | plainHTTP | socketHTTP
)

func (k kinds) has(all kinds) bool   { return k&all == all }
func (k kinds) meets(any kinds) bool { return k&any != 0 }

// take reports whether a rule for k speaks of a request that is one of these kinds; wide is the reading of rules that
// deny or ask.
func (k kinds) take(one kinds, wide bool) bool {
	if wide {
		return k.meets(one)
	}
	return k.has(one)
}

// kindsOf gives the kinds of one scheme; all where it is not known.
func kindsOf(scheme string) kinds {
	switch scheme {
	case "https":
		return plainHTTPS | socketHTTPS
	case "http":
		return plainHTTP | socketHTTP
	}
	return anyKind
}

// kinds gives what the rule is about. What is not understood allows nothing, and denies and asks about everything.
func (r *Rule) kinds() kinds {
	k, known := kindsOf(r.Scheme), r.Scheme == "" || r.Scheme == "https" || r.Scheme == "http"
	switch r.WebSocket {
	case WebSocketOnly:
		k &= socketHTTPS | socketHTTP
	case WebSocketNever:
		k &= plainHTTPS | plainHTTP
	case "":
	default:
		known = false
	}
	switch {
	case known:
		return k
	case r.Action == Allow:
		return 0
	}
	return anyKind
}

// kinds gives what the request may turn out to be.
func (r Request) kinds() kinds {
	k := kindsOf(r.Scheme)
	switch {
	case r.partial():
		return k
	case r.WebSocket:
		return k & (socketHTTPS | socketHTTP)
	}
	return k & (plainHTTPS | plainHTTP)
}
