package modelserver

import (
	"encoding/json"
	"net/http"
)

// chatRequest is the part of POST /v1/chat/completions that matters here.
type chatRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string         `json:"role"`
		Content responsesTexts `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name       string `json:"name"`
			Parameters schema `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
	ResponseFormat *struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema schema `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

func (r chatRequest) conversation() conversation {
	var c conversation
	for _, t := range r.Tools {
		c.tools = append(c.tools, tool{name: t.Function.Name, schema: t.Function.Parameters})
	}
	for _, m := range r.Messages {
		for _, text := range m.Content {
			switch m.Role {
			case "tool":
				c.returned(text)
			case "user":
				c.said(text)
			case "system", "developer":
				c.texts = append(c.texts, text)
			}
		}
	}
	if f := r.ResponseFormat; f != nil && f.Type == "json_schema" {
		c.answer = &f.JSONSchema.Schema
	}
	return c
}

func (x *exchange) openaiChat() {
	var r chatRequest
	if err := json.Unmarshal(x.req.Body, &r); err != nil {
		x.fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	next := x.decide(r.conversation())
	message, reason := x.chatMessage(next)
	usage := obj{"prompt_tokens": tokens(x.req.Body), "completion_tokens": 12, "total_tokens": tokens(x.req.Body) + 12}
	answer := obj{"id": x.id("chatcmpl-"), "created": 1700000000, "model": r.Model}
	if !r.Stream {
		answer["object"], answer["usage"] = "chat.completion", usage
		answer["choices"] = []obj{{"index": 0, "message": message, "finish_reason": reason}}
		x.json(answer)
		return
	}
	answer["object"] = "chat.completion.chunk"
	out := x.stream()
	answer["choices"] = []obj{{"index": 0, "delta": message, "finish_reason": nil}}
	out.event("", answer)
	answer["choices"] = []obj{{"index": 0, "delta": obj{}, "finish_reason": reason}}
	out.event("", answer)
	answer["choices"], answer["usage"] = []obj{}, usage
	out.event("", answer)
	out.raw("", "[DONE]")
}

func (x *exchange) chatMessage(s step) (message obj, reason string) {
	if s.tool == nil {
		return obj{"role": "assistant", "content": s.text}, "stop"
	}
	call := obj{
		"index": 0, "id": x.id("call_"), "type": "function",
		"function": obj{"name": s.tool.name, "arguments": s.inputJSON()},
	}
	return obj{"role": "assistant", "content": nil, "tool_calls": []obj{call}}, "tool_calls"
}
