package schema

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestCommittedSchemasAreFresh(t *testing.T) {
	for _, kind := range Kinds() {
		want, err := For(kind)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../../schema/" + kind + ".schema.json")
		if err != nil || string(got) != string(want) {
			t.Errorf("schema/%s.schema.json is not what the types say (%v): make generate", kind, err)
		}
	}
}

// Every table closes itself, every key is explained, every pattern is one.
func TestSchemasAreWhole(t *testing.T) {
	for _, kind := range Kinds() {
		data, err := For(kind)
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := json.Unmarshal(data, &root); err != nil {
			t.Fatal(err)
		}
		if keys := walk(t, kind, root); keys < 10 {
			t.Errorf("the schema of a %s has %d keys", kind, keys)
		}
		if required, _ := json.Marshal(root["required"]); !strings.Contains(string(required), `"version"`) || strings.Contains(string(required), "agent") {
			t.Errorf("a %s requires %s", kind, required)
		}
	}
}

func walk(t *testing.T, at string, n map[string]any) (keys int) {
	t.Helper()
	if properties, ok := n["properties"].(map[string]any); ok {
		if n["additionalProperties"] != false {
			t.Errorf("%s takes keys that the format does not have", at)
		}
		for name, v := range properties {
			below := v.(map[string]any)
			if below["description"] == nil {
				t.Errorf("%s.%s is not explained", at, name)
			}
			keys += 1 + walk(t, at+"."+name, below)
		}
	}
	if p, ok := n["pattern"].(string); ok {
		if _, err := regexp.Compile(p); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, part := range []string{"items", "additionalProperties", "propertyNames"} {
		if below, ok := n[part].(map[string]any); ok {
			keys += walk(t, at+"."+part, below)
		}
	}
	return keys
}

func TestUnknownKindsAreRefused(t *testing.T) {
	if _, err := For("plan"); err == nil {
		t.Error("there is a schema of plans")
	}
}
