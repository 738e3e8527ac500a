package modelserver

import (
	"encoding/json"
	"net/http"
)

// anthropicRequest is the part of POST /v1/messages that matters here.
type anthropicRequest struct {
	Model    string         `json:"model"`
	Stream   bool           `json:"stream"`
	System   anthropicParts `json:"system"`
	Messages []struct {
		Role    string         `json:"role"`
		Content anthropicParts `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Name   string `json:"name"`
		Schema schema `json:"input_schema"`
	} `json:"tools"`
	OutputConfig struct {
		Format *struct {
			Schema schema `json:"schema"`
		} `json:"format"`
	} `json:"output_config"`
	OutputFormat *struct {
		Schema schema `json:"schema"`
	} `json:"output_format"`
}

// anthropicParts is content: a text, or a list of blocks.
type anthropicParts []anthropicPart

type anthropicPart struct {
	Type    string         `json:"type"`
	Text    string         `json:"text"`
	Content anthropicParts `json:"content"` // of a tool result
}

// UnmarshalJSON turns a bare text into one block.
func (p *anthropicParts) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*p = anthropicParts{{Type: "text", Text: text}}
		return nil
	}
	var parts []anthropicPart
	err := json.Unmarshal(b, &parts)
	*p = parts
	return err
}

func (p anthropicParts) text() string {
	var all string
	for _, part := range p {
		all += part.Text
	}
	return all
}

func (r anthropicRequest) conversation() conversation {
	var c conversation
	c.texts = append(c.texts, r.System.text())
	for _, t := range r.Tools {
		c.tools = append(c.tools, tool{name: t.Name, schema: t.Schema})
	}
	for _, m := range r.Messages {
		for _, part := range m.Content {
			switch {
			case m.Role == "system":
				c.texts = append(c.texts, part.Text)
			case part.Type == "tool_result":
				c.returned(part.Content.text())
			case m.Role == "user":
				c.said(part.Text)
			}
		}
	}
	switch {
	case r.OutputConfig.Format != nil:
		c.answer = &r.OutputConfig.Format.Schema
	case r.OutputFormat != nil:
		c.answer = &r.OutputFormat.Schema
	}
	return c
}

func (x *exchange) anthropicMessages() {
	var r anthropicRequest
	if err := json.Unmarshal(x.req.Body, &r); err != nil {
		x.fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	next := x.decide(r.conversation())
	message := obj{
		"id": x.id("msg_"), "type": "message", "role": "assistant", "model": r.Model,
		"content": []obj{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": obj{"input_tokens": tokens(x.req.Body), "output_tokens": 1},
	}
	if r.Stream {
		x.anthropicStream(message, next)
		return
	}
	message["content"] = []obj{x.anthropicBlock(next)}
	message["stop_reason"] = anthropicReason(next)
	x.json(message)
}

// decide asks the task and notes in the record where it stands.
func (x *exchange) decide(c conversation) step {
	next := x.server.cfg.Task.next(c)
	x.req.Turn, x.req.Results = next.turn, c.results
	return next
}

func (x *exchange) anthropicBlock(s step) obj {
	if s.tool == nil {
		return obj{"type": "text", "text": s.text}
	}
	return obj{"type": "tool_use", "id": x.id("toolu_"), "name": s.tool.name, "input": s.input}
}

func anthropicReason(s step) string {
	if s.tool == nil {
		return "end_turn"
	}
	return "tool_use"
}

func (x *exchange) anthropicStream(message obj, s step) {
	out := x.stream()
	out.event("message_start", obj{"type": "message_start", "message": message})
	block := x.anthropicBlock(s)
	delta := obj{"type": "text_delta", "text": s.text}
	if s.tool == nil {
		block["text"] = ""
	} else {
		block["input"] = obj{}
		delta = obj{"type": "input_json_delta", "partial_json": s.inputJSON()}
	}
	out.event("content_block_start", obj{"type": "content_block_start", "index": 0, "content_block": block})
	out.event("content_block_delta", obj{"type": "content_block_delta", "index": 0, "delta": delta})
	out.event("content_block_stop", obj{"type": "content_block_stop", "index": 0})
	out.event("message_delta", obj{
		"type":  "message_delta",
		"delta": obj{"stop_reason": anthropicReason(s), "stop_sequence": nil},
		"usage": obj{"output_tokens": 12},
	})
	out.event("message_stop", obj{"type": "message_stop"})
}
