package modelserver

import (
	"encoding/json"
	"net/http"
)

// geminiRequest is the part of models/M:generateContent that matters here.
type geminiRequest struct {
	Contents          []geminiContent `json:"contents"`
	SystemInstruction geminiContent   `json:"systemInstruction"`
	Tools             []struct {
		Functions []struct {
			Name       string  `json:"name"`
			Parameters *schema `json:"parameters"`
			JSONSchema *schema `json:"parametersJsonSchema"`
		} `json:"functionDeclarations"`
	} `json:"tools"`
	Config struct {
		Schema     *schema `json:"responseSchema"`
		JSONSchema *schema `json:"responseJsonSchema"`
	} `json:"generationConfig"`
}

type geminiContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text     string `json:"text"`
		Response *struct {
			Response json.RawMessage `json:"response"`
		} `json:"functionResponse"`
	} `json:"parts"`
}

func (r geminiRequest) conversation() conversation {
	var c conversation
	for _, part := range r.SystemInstruction.Parts {
		c.texts = append(c.texts, part.Text)
	}
	for _, t := range r.Tools {
		for _, f := range t.Functions {
			c.tools = append(c.tools, tool{name: f.Name, schema: first(f.Parameters, f.JSONSchema)})
		}
	}
	for _, content := range r.Contents {
		if content.Role == "model" {
			continue
		}
		for _, part := range content.Parts {
			if part.Response != nil {
				c.returned(string(part.Response.Response))
			} else {
				c.said(part.Text)
			}
		}
	}
	if r.Config.Schema != nil || r.Config.JSONSchema != nil {
		s := first(r.Config.Schema, r.Config.JSONSchema)
		c.answer = &s
	}
	return c
}

func first(schemas ...*schema) schema {
	for _, s := range schemas {
		if s != nil {
			return *s
		}
	}
	return schema{}
}

// geminiForm is how the answer goes out.
type geminiForm int

const (
	whole       geminiForm = iota // one object
	array                         // a list of chunks
	eventStream                   // chunks as events
)

func (x *exchange) geminiGenerate(form geminiForm) {
	var r geminiRequest
	if err := json.Unmarshal(x.req.Body, &r); err != nil {
		x.fail(http.StatusBadRequest, "invalid_argument", err.Error())
		return
	}
	chunk := x.geminiChunk(x.decide(r.conversation()))
	switch form {
	case whole:
		x.json(chunk)
	case array:
		x.json([]obj{chunk})
	case eventStream:
		x.stream().event("", chunk)
	}
}

func (x *exchange) geminiChunk(s step) obj {
	part := obj{"text": s.text}
	if s.tool != nil {
		part = obj{"functionCall": obj{"id": x.id("call_"), "name": s.tool.name, "args": s.input}}
	}
	n := tokens(x.req.Body)
	return obj{
		"candidates": []obj{{
			"index": 0, "finishReason": "STOP",
			"content": obj{"role": "model", "parts": []obj{part}},
		}},
		"usageMetadata": obj{"promptTokenCount": n, "candidatesTokenCount": 12, "totalTokenCount": n + 12},
		"modelVersion":  "test",
	}
}
