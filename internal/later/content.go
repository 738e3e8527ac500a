package later

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// keysDiffer says whether one of the keys at the top of a JSON text differs. What is no JSON differs.
func keysDiffer(was, now []byte, keys []string) bool {
	old, new, ok := top(was), top(now), true
	if old == nil && len(bytes.TrimSpace(was)) > 0 || new == nil {
		ok = false
	}
	return !ok || slices.ContainsFunc(keys, func(key string) bool { return old[key] != new[key] })
}

// top gives the values at the top of a JSON text, by their keys in lower case; one that stands there twice counts with all
// its values, since tools differ in which they take.
func top(text []byte) map[string]string {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	values := map[string]string{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil
		}
		name, ok := key.(string)
		if !ok {
			return nil
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil
		}
		var tight bytes.Buffer
		if err := json.Compact(&tight, raw); err != nil {
			return nil
		}
		values[strings.ToLower(name)] += tight.String() + "\n"
	}
	if _, err := d.Token(); err != nil {
		return nil
	}
	return values
}

// namesNewHost says whether a text names a host that it did not name before, and that is not one of the known ones.
func namesNewHost(was, now []byte, known []string) bool {
	// A URL with its user, or git's short form.
	urls := regexp.MustCompile(`(?i)(?:[a-z][a-z0-9+.-]*:)?//(?:[^\s/@"'<>]*@)?([^\s/:"'<>,;)\]}#?]+)|\bgit@([^\s:/"']+):`)
	hosts := func(text []byte) map[string]bool {
		found := map[string]bool{}
		for _, m := range urls.FindAllSubmatch(text, -1) {
			found[strings.ToLower(string(m[1])+string(m[2]))] = true
		}
		return found
	}
	old := hosts(was)
	for host := range hosts(now) {
		if !old[host] && !slices.Contains(known, host) {
			return true
		}
	}
	return false
}
