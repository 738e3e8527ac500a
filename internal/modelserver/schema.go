package modelserver

import (
	"encoding/json"
	"strings"
)

// schema is as much of JSON Schema as tools' declarations and answers' formats use. Gemini writes types in capitals.
type schema struct {
	Type       typeName          `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	Enum       []any             `json:"enum"`
	Const      any               `json:"const"`
	AnyOf      []schema          `json:"anyOf"`
}

// typeName is a JSON type in small letters, the first if there are several.
type typeName string

// UnmarshalJSON accepts a name or a list of names; anything else is no type.
func (t *typeName) UnmarshalJSON(b []byte) error {
	var one string
	var many []string
	if json.Unmarshal(b, &one) != nil && json.Unmarshal(b, &many) == nil && len(many) > 0 {
		one = many[0]
	}
	*t = typeName(strings.ToLower(one))
	return nil
}

// sample is a value that fits the schema.
func (s schema) sample() any {
	switch {
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.AnyOf) > 0:
		return s.AnyOf[0].sample()
	}
	switch s.Type {
	case "object":
		return s.fill(func(string) (any, bool) { return nil, false })
	case "array":
		return []any{}
	case "integer", "number":
		return 1
	case "boolean":
		return false
	case "null":
		return nil
	}
	return "hello"
}

// fill makes an object: what value knows, and a sample of whatever else is required.
func (s schema) fill(value func(property string) (any, bool)) obj {
	out := obj{}
	for name := range s.Properties {
		if v, ok := value(name); ok {
			out[name] = v
		}
	}
	for _, name := range s.Required {
		if _, ok := out[name]; !ok {
			out[name] = s.Properties[name].sample()
		}
	}
	return out
}

// command makes a shell tool's arguments; some take a text, some an argument vector, some a list of lines.
func (s schema) command(line string) obj {
	return s.fill(func(property string) (any, bool) {
		switch property {
		case "command", "cmd", "script":
			if s.Properties[property].Type == "array" {
				return []string{"sh", "-c", line}, true
			}
			return line, true
		case "commands": // one after the other, each a line of its own
			return []string{line}, true
		case "description":
			return "Run the task's command", true
		}
		return nil, false
	})
}
