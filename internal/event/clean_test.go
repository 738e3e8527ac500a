package event

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// fill sets every string that can be reached to one that holds a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("it is v4lue")
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key v4lue"), reflect.ValueOf("it is v4lue"))
	}
}

func TestCleanReachesEveryString(t *testing.T) {
	var e Event
	fill(reflect.ValueOf(&e).Elem())
	e.Kind, e.Decision, e.Run = RunStart, Allow, "run" // agentbox's own words, and what the log sets
	before, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	after, err := json.Marshal(e.Clean(func(s string) string { return strings.ReplaceAll(s, "v4lue", "placeholder") }))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(string(before), "v4lue", "placeholder"); string(after) != want {
		t.Errorf("cleaned it is\n%s\nwant\n%s", after, want)
	}
	if again, _ := json.Marshal(e); string(again) != string(before) {
		t.Errorf("the event itself was changed: %s", again)
	}
}
