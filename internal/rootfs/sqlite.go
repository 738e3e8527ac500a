package rootfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// sqlitePage is the size of a page, and so the most that a table may hold here.
const sqlitePage = 4096

// sqliteDatabase writes a database of one table, whose key is id: 1, 2, 3 … A column that a row does not name is null, the
// others are blobs. (An SQLite for two rows would be more than the rest of this package.)
func sqliteDatabase(table string, columns []string, rows []map[string]string) ([]byte, error) {
	sql := "CREATE TABLE " + table + " (id INTEGER PRIMARY KEY, " + strings.Join(columns, ", ") + ")"
	schema, err := sqliteLeaf(100, [][]byte{sqliteCell(1, []any{"table", table, table, 2, sql})})
	if err != nil {
		return nil, err
	}
	var cells [][]byte
	for i, row := range rows {
		values := make([]any, 1, 1+len(columns)) // the key stands before the row
		for _, column := range columns {
			if text, ok := row[column]; ok {
				values = append(values, []byte(text))
			} else {
				values = append(values, nil)
			}
		}
		cells = append(cells, sqliteCell(i+1, values))
	}
	content, err := sqliteLeaf(0, cells)
	if err != nil {
		return nil, err
	}
	copy(schema, sqliteHeader())
	return append(schema, content...), nil
}

func sqliteHeader() []byte {
	h := make([]byte, 100)
	copy(h, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(h[16:], sqlitePage)
	copy(h[18:], []byte{1, 1, 0, 64, 32, 32}) // a rollback journal, whole pages, and three numbers that are fixed
	for at, v := range map[int]uint32{
		24: 1, 92: 1, // changes so far
		28: 2, // pages
		40: 1, // version of the schema
		44: 4, // … and of its format
		56: 1, // UTF-8
		96: 3_040_000,
	} {
		binary.BigEndian.PutUint32(h[at:], v)
	}
	return h
}

// sqliteLeaf is a page of a table, whose rows are in order. The first one of a file leaves room for its header.
func sqliteLeaf(at int, cells [][]byte) ([]byte, error) {
	page := make([]byte, sqlitePage)
	end, pointers := sqlitePage, at+8
	for i, cell := range cells {
		if end -= len(cell); end < pointers+2*len(cells) {
			return nil, fmt.Errorf("a table of more than %d bytes", sqlitePage)
		}
		copy(page[end:], cell)
		binary.BigEndian.PutUint16(page[pointers+2*i:], uint16(end))
	}
	page[at] = 0x0d
	binary.BigEndian.PutUint16(page[at+3:], uint16(len(cells)))
	binary.BigEndian.PutUint16(page[at+5:], uint16(end))
	return page, nil
}

// sqliteCell is a row: texts, blobs, nils and a number below 128.
func sqliteCell(id int, values []any) []byte {
	var kinds, body []byte
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			kinds = append(kinds, 0)
		case int:
			kinds, body = append(kinds, 1), append(body, byte(v))
		case string:
			kinds, body = sqliteVarint(kinds, 2*len(v)+13), append(body, v...)
		case []byte:
			kinds, body = sqliteVarint(kinds, 2*len(v)+12), append(body, v...)
		}
	}
	head := len(kinds) + 1
	if head > 127 {
		head++ // its own length takes two bytes
	}
	record := append(sqliteVarint(nil, head), kinds...)
	record = append(record, body...)
	return bytes.Join([][]byte{sqliteVarint(nil, len(record)), sqliteVarint(nil, id), record}, nil)
}

// sqliteVarint writes a number below 1<<21, the high bits first.
func sqliteVarint(b []byte, v int) []byte {
	if v >= 1<<14 {
		b = append(b, byte(v>>14)|0x80)
	}
	if v >= 1<<7 {
		b = append(b, byte(v>>7)|0x80)
	}
	return append(b, byte(v)&0x7f)
}
