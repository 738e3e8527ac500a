package gitwire

import "strings"

// MediaTypes of answers to git.
const (
	TypePushResult  = "application/x-git-receive-pack-result"
	TypeFetchResult = "application/x-git-upload-pack-result"
	TypeLFS         = "application/vnd.git-lfs+json"
)

// Rejection is the answer to a push of which nothing was done: every ref of it has a reason. note goes to the person who
// runs git, in lines that begin with "remote:". It is nil when the client could not read an answer.
func Rejection(p Push, reasons map[string]string, note string) []byte {
	if !p.Has("report-status") && !p.Has("report-status-v2") {
		return nil
	}
	report := appendPacket(nil, "unpack ok\n")
	for _, c := range p.Commands {
		report = appendPacket(report, "ng "+c.Ref+" "+oneLine(reasons[c.Ref])+"\n")
	}
	report = append(report, flushPacket...)
	if !p.Has("side-band-64k") {
		return report
	}
	out := appendBand(nil, bandProgress, printable(note)+"\n")
	out = appendBand(out, bandData, string(report))
	return append(out, flushPacket...)
}

// Bands of side-band-64k.
const (
	bandData     = "\x01"
	bandProgress = "\x02"
)

func appendBand(to []byte, band, text string) []byte {
	for len(text) > 0 {
		n := min(len(text), MaxPacket-1)
		to = appendPacket(to, band+text[:n])
		text = text[n:]
	}
	return to
}

// Refused is the answer to a fetch that is not carried out: git ends with "fatal: remote error: " and the reason.
func Refused(reason string) []byte {
	return appendPacket(nil, "ERR "+oneLine(reason)+"\n")
}

const maxReason = 1000 // bytes; a packet could carry more, and nobody would read it

func oneLine(s string) string {
	s = strings.Join(strings.Fields(printable(s)), " ")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}

// printable takes out what could redraw a screen.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
