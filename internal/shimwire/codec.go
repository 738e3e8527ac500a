package shimwire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// MaxMessage bounds one encoded message with its newline, in bytes, in either direction.
const MaxMessage = 1 << 20

// MaxListeners bounds Config.Listen.
const MaxListeners = 1024

// MaxHeader bounds an encoded RelayHeader with its newline, in bytes.
const MaxHeader = 256

// ErrTooLong says that a message is longer than MaxMessage.
var ErrTooLong = errors.New("message is longer than 1 MiB")

// Encode gives m as one line, newline included.
func Encode(m Message) ([]byte, error) {
	if err := checkOne(m); err != nil {
		return nil, err
	}
	line, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	if len(line)+1 > MaxMessage {
		return nil, fmt.Errorf("encoding a message: %w", ErrTooLong)
	}
	return append(line, '\n'), nil
}

// Decode reads one line. Unknown fields, more or less than one message, and anything after it are errors.
func Decode(line []byte) (Message, error) {
	var m Message
	if err := decodeStrictly(line, &m); err != nil {
		return Message{}, err
	}
	return m, checkOne(m)
}

// decodeStrictly reads one value and nothing after it, without fields that nobody knows.
func decodeStrictly(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decoding a message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decoding a message: more than one value on a line")
	}
	return nil
}

// Read reads and decodes the next line of r. io.EOF means that the other side closed between two messages.
func Read(r *bufio.Reader) (Message, error) {
	line, err := readLine(r, MaxMessage)
	if err != nil {
		return Message{}, err
	}
	return Decode(line)
}

// EncodeHeader gives h as one line, newline included.
func EncodeHeader(h RelayHeader) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding a relay header: %w", err)
	}
	return append(line, '\n'), nil
}

// ReadHeader reads the first line of a relay connection. What follows it stays in r.
func ReadHeader(r *bufio.Reader) (RelayHeader, error) {
	var h RelayHeader
	line, err := readLine(r, MaxHeader)
	if err != nil {
		return h, fmt.Errorf("reading a relay header: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return RelayHeader{}, fmt.Errorf("decoding a relay header: %w", err)
	}
	return h, nil
}

// readLine gives the next line without its newline, of at most limit bytes with it.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, ErrTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// checkOne reports whether exactly one field of m is set.
func checkOne(m Message) error {
	v, set := reflect.ValueOf(m), 0
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("a message holds %d kinds, not one", set)
	}
	return nil
}
