package policy

import (
	"net/url"
	"strings"
)

// Names of headers under which servers and frameworks take another method, or another path, than the request line's;
// of the latter some move or copy between the two. They are spelled here in lower case with hyphens; gateway interfaces
// make the same of "_". Methods are taken from a query's parameters too, where PHP makes "_" of "." and " ".
//
// A request with one of them is refused where rules go by methods, or by paths: to take the header away would have the
// server do something else than was asked for. What is out of sight is a "_method" in the body of a form, or a batch of
// calls in one, so a rule that allows POST allows what a server makes of a POST.
var (
	methodNames = map[string]bool{
		"x-http-method-override": true, "x-method-override": true, "x-http-method": true, "x-original-method": true,
		"x-forwarded-method": true, "-method": true,
	}
	pathNames = map[string]bool{
		"x-original-url": true, "x-rewrite-url": true, "x-original-uri": true, "x-rewrite-uri": true, "x-forwarded-uri": true,
		"x-forwarded-path": true, "x-forwarded-prefix": true, "destination": true, "x-copy-from": true,
		"x-amz-copy-source": true, "x-goog-copy-source": true, "x-ms-copy-source": true, "x-ms-rename-source": true,
	}
)

var likeHyphen = strings.NewReplacer("_", "-", ".", "-", " ", "-")

// Overrides names what in a request asks the server to take it for one with another method, or names another path to it:
// a header, or a parameter of the query. Either is "" where nothing does.
func Overrides(header map[string][]string, query string) (method, path string) {
	for name := range header {
		switch plain := likeHyphen.Replace(strings.ToLower(name)); {
		case methodNames[plain]:
			method = name
		case pathNames[plain]:
			path = name
		}
	}
	for part := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		key, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(key); err == nil && methodNames[likeHyphen.Replace(strings.ToLower(plain))] {
			method = "the query's " + key
		}
	}
	return method, path
}
