package eventlog

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"agentbox/internal/event"
)

// appendLine appends an event as one line, byte by byte what encoding/json makes of it. Every control character is
// escaped, so an agent's bytes cannot end the line. Events of the network are by far the most, and are written
// without reflection; what only rare ones hold is left to encoding/json.
func appendLine(b []byte, e event.Event) ([]byte, error) {
	if year := e.Time.Year(); e.ExitCode != nil || len(e.Detail) > 0 || e.Git != nil || e.Time.Location() != time.UTC || year < 0 || year > 9999 {
		return appendAny(b, e)
	}
	b = strconv.AppendUint(append(b, `{"seq":`...), e.Seq, 10)
	b = e.Time.AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano)
	b = appendText(append(b, `","run":`...), e.Run)
	b = appendText(append(b, `,"kind":`...), string(e.Kind))
	b = appendString(b, `,"decision":`, string(e.Decision))
	b = appendString(b, `,"host":`, e.Host)
	b = appendNumber(b, `,"port":`, int64(e.Port))
	b = appendString(b, `,"method":`, e.Method)
	b = appendString(b, `,"path":`, e.Path)
	b = appendNumber(b, `,"status":`, int64(e.Status))
	b = appendNumber(b, `,"bytes_up":`, e.BytesUp)
	b = appendNumber(b, `,"bytes_down":`, e.BytesDown)
	b = appendNumber(b, `,"ms":`, e.Millis)
	b = appendString(b, `,"rule":`, e.Rule)
	b = appendString(b, `,"reason":`, e.Reason)
	if e.Count != 0 {
		b = strconv.AppendUint(append(b, `,"count":`...), e.Count, 10)
	}
	b = appendString(b, `,"via":`, e.Via)
	b = appendString(b, `,"credential":`, e.Credential)
	b = appendString(b, `,"who":`, e.Who)
	if e.Alarm {
		b = append(b, `,"alarm":true`...)
	}
	b = appendString(b, `,"scheme":`, e.Scheme)
	if e.WebSocket {
		b = append(b, `,"websocket":true`...)
	}
	b = appendNumber(b, `,"size":`, e.Size)
	b = appendString(b, `,"method_by":`, e.MethodBy)
	b = appendString(b, `,"path_by":`, e.PathBy)
	return append(b, '}', '\n'), nil
}

func appendAny(b []byte, e event.Event) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return buf.Bytes(), err
}

// appendString appends a member that is left out when it is empty.
func appendString(b []byte, member, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(append(b, member...), s)
}

// appendNumber appends a member that is left out when it is 0.
func appendNumber(b []byte, member string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, member...), n, 10)
}

// appendText appends a JSON string.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				b = appendEscape(append(b, s[from:i]...), c)
				from = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[from:i]...), `\ufffd`...)
			from = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(append(b, s[from:i]...), `\u202`...)
			b = append(b, hex[r&0xf])
			from = i + size
		}
		i += size
	}
	return append(append(b, s[from:]...), '"')
}

const hex = "0123456789abcdef"

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}
