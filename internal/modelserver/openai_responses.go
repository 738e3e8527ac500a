package modelserver

import (
	"encoding/json"
	"net/http"
)

// responsesRequest is the part of POST /v1/responses that matters here.
type responsesRequest struct {
	Model        string         `json:"model"`
	Stream       bool           `json:"stream"`
	Instructions string         `json:"instructions"`
	Input        responsesItems `json:"input"`
	Tools        responsesTools `json:"tools"`
	Text         struct {
		Format *struct {
			Type   string `json:"type"`
			Schema schema `json:"schema"`
		} `json:"format"`
	} `json:"text"`
}

// responsesTools are tools, or namespaces of tools.
type responsesTools []struct {
	Type       string         `json:"type"`
	Name       string         `json:"name"`
	Parameters schema         `json:"parameters"`
	Tools      responsesTools `json:"tools"`
}

func (r responsesTools) flat(namespace string) []tool {
	var all []tool
	for _, t := range r {
		if t.Type == "namespace" {
			all = append(all, t.Tools.flat(t.Name)...)
		} else {
			all = append(all, tool{name: t.Name, namespace: namespace, free: t.Type == "custom", schema: t.Parameters})
		}
	}
	return all
}

type responsesItems []responsesItem

type responsesItem struct {
	Type    string          `json:"type"`
	Role    string          `json:"role"`
	Content responsesTexts  `json:"content"`
	Output  json.RawMessage `json:"output"`
	Tools   responsesTools  `json:"tools"` // of "additional_tools", with which Codex declares its own
}

// UnmarshalJSON turns a bare text into the message of a user.
func (p *responsesItems) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*p = responsesItems{{Type: "message", Role: "user", Content: responsesTexts{text}}}
		return nil
	}
	var items []responsesItem
	err := json.Unmarshal(b, &items)
	*p = items
	return err
}

// responsesTexts is content: a text, or a list of parts that hold texts.
type responsesTexts []string

// UnmarshalJSON keeps the texts alone.
func (p *responsesTexts) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*p = responsesTexts{text}
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		*p = append(*p, part.Text)
	}
	return nil
}

func (r responsesRequest) conversation() conversation {
	c := conversation{texts: []string{r.Instructions}, tools: r.Tools.flat("")}
	for _, item := range r.Input {
		c.tools = append(c.tools, item.Tools.flat("")...)
		switch {
		case item.Type == "function_call_output" || item.Type == "custom_tool_call_output":
			c.returned(textOf(item.Output))
		case item.Role == "user":
			for _, text := range item.Content {
				c.said(text)
			}
		case item.Role == "developer" || item.Role == "system":
			c.texts = append(c.texts, item.Content...)
		}
	}
	if f := r.Text.Format; f != nil && f.Type == "json_schema" {
		c.answer = &f.Schema
	}
	return c
}

// textOf is a JSON string's value, or other JSON as it stands.
func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func (x *exchange) openaiResponses() {
	var r responsesRequest
	if err := json.Unmarshal(x.req.Body, &r); err != nil {
		x.fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	next := x.decide(r.conversation())
	item := x.responsesItem(next)
	response := obj{
		"id": x.id("resp_"), "object": "response", "created_at": 1700000000, "model": r.Model,
		"status": "in_progress", "output": []obj{},
	}
	completed := obj{}
	for k, v := range response {
		completed[k] = v
	}
	completed["status"], completed["output"] = "completed", []obj{item}
	completed["usage"] = obj{
		"input_tokens": tokens(x.req.Body), "input_tokens_details": obj{"cached_tokens": 0},
		"output_tokens": 12, "output_tokens_details": obj{"reasoning_tokens": 0},
		"total_tokens": tokens(x.req.Body) + 12,
	}
	if !r.Stream {
		x.json(completed)
		return
	}
	x.responsesStream(response, item, completed, next)
}

func (x *exchange) responsesItem(s step) obj {
	if s.tool == nil {
		return obj{
			"type": "message", "id": x.id("msg_"), "role": "assistant", "status": "completed",
			"content": []obj{{"type": "output_text", "text": s.text, "annotations": []obj{}}},
		}
	}
	call := obj{"id": x.id("fc_"), "call_id": x.id("call_"), "status": "completed", "name": s.tool.name}
	if s.tool.namespace != "" {
		call["namespace"] = s.tool.namespace
	}
	if s.tool.free {
		call["type"], call["input"] = "custom_tool_call", s.input["input"]
	} else {
		call["type"], call["arguments"] = "function_call", s.inputJSON()
	}
	return call
}

func (x *exchange) responsesStream(response, item, completed obj, s step) {
	out := x.stream()
	sequence := 0
	send := func(name string, v obj) {
		v["type"], v["sequence_number"] = name, sequence
		sequence++
		out.event(name, v)
	}
	send("response.created", obj{"response": response})
	send("response.in_progress", obj{"response": response})
	send("response.output_item.added", obj{"output_index": 0, "item": opened(item)})
	x.responsesDeltas(send, item, s)
	send("response.output_item.done", obj{"output_index": 0, "item": item})
	send("response.completed", obj{"response": completed})
}

// opened is an item as it is announced, before its content has come.
func opened(item obj) obj {
	o := obj{}
	for k, v := range item {
		o[k] = v
	}
	o["status"] = "in_progress"
	for k, empty := range map[string]any{"content": []obj{}, "arguments": "", "input": ""} {
		if _, ok := o[k]; ok {
			o[k] = empty
		}
	}
	return o
}

func (x *exchange) responsesDeltas(send func(string, obj), item obj, s step) {
	at := func(more obj) obj {
		more["item_id"], more["output_index"] = item["id"], 0
		return more
	}
	switch {
	case s.tool == nil:
		part := obj{"type": "output_text", "text": s.text, "annotations": []obj{}}
		send("response.content_part.added", at(obj{"content_index": 0, "part": obj{"type": "output_text", "text": "", "annotations": []obj{}}}))
		send("response.output_text.delta", at(obj{"content_index": 0, "delta": s.text}))
		send("response.output_text.done", at(obj{"content_index": 0, "text": s.text}))
		send("response.content_part.done", at(obj{"content_index": 0, "part": part}))
	case s.tool.free:
		send("response.custom_tool_call_input.delta", at(obj{"delta": s.input["input"]}))
		send("response.custom_tool_call_input.done", at(obj{"input": s.input["input"]}))
	default:
		send("response.function_call_arguments.delta", at(obj{"delta": s.inputJSON()}))
		send("response.function_call_arguments.done", at(obj{"arguments": s.inputJSON()}))
	}
}
