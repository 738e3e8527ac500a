package workspace

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"crypto/sha1" //nolint:gosec // git's own names of objects
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"

	"agentbox/internal/layerfiles"
)

const (
	maxCommits = 50_000  // that are read to find one in the history of another
	maxCommit  = 1 << 20 // bytes of one
)

// History answers from a repository's object store whether one commit is in the history of another.
//
// The agent writes that store, so nothing in it is believed: each commit that is read is held against its name, which
// is its hash, and what says that history is otherwise than commits do (replacements, grafts, shallow, commit-graphs) is
// not read. All that an agent can achieve is that nothing is found.
type History struct {
	dir, git string
	more     string // another store; "" is none
}

// HistoryOf gives the history that repo holds.
func HistoryOf(repo Repo) History { return History{dir: repo.Root, git: repo.Git} }

// HistoryIn gives the history that repo holds, with what was committed in a layer over it.
func HistoryIn(repo Repo, l Layer) History {
	h := HistoryOf(repo)
	h.more = l.place(repo, "objects")
	return h
}

// Descends reports whether the commit old is in the history of the commit now: never wrong when it says yes. It reads
// by one process of the host's git, which is given an end with ctx.
func (h History) Descends(ctx context.Context, now, old string) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, err := layerfiles.GitCommand(ctx, h.dir, "--git-dir="+h.git, "-c", "core.commitGraph=false", "cat-file", "--batch")
	if err != nil {
		return false
	}
	if info, err := os.Lstat(h.more); err == nil && info.IsDir() { // not where a link of the agent's leads
		cmd.Env = append(cmd.Env, "GIT_ALTERNATE_OBJECT_DIRECTORIES="+alternate(h.more))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return false
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return false
	}
	w := walk{in: in, out: bufio.NewReader(out), seen: map[string]bool{}}
	found := w.find(now, old)
	cancel()
	_ = cmd.Wait() // it was ended
	return found
}

// alternate writes one path for git's list of them, in which a colon ends a path that has no quotes.
func alternate(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// walk goes from a commit to its parents, the youngest first.
type walk struct {
	in    io.Writer
	out   *bufio.Reader
	queue queue
	seen  map[string]bool
}

func (w *walk) find(from, want string) bool {
	w.seen[from] = true
	heap.Push(&w.queue, dated{name: from})
	for len(w.queue) > 0 && len(w.seen) <= maxCommits {
		next := heap.Pop(&w.queue).(dated)
		parents, err := w.parents(next)
		if err != nil {
			return false
		}
		for _, p := range parents {
			if p.name == want {
				return true
			}
			if !w.seen[p.name] {
				w.seen[p.name] = true
				heap.Push(&w.queue, p)
			}
		}
	}
	return false
}

// parents reads a commit. Those that are not there end their line of history, as in a shallow clone. The parents are
// given its own date: theirs is known when they are read, and all that hangs on it is the order.
func (w *walk) parents(c dated) ([]dated, error) {
	if _, err := io.WriteString(w.in, c.name+"\n"); err != nil {
		return nil, err
	}
	header, err := w.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	f := strings.Fields(header)
	if len(f) == 2 && f[1] == "missing" {
		return nil, nil
	}
	if len(f) != 3 || f[0] != c.name || f[1] != "commit" {
		return nil, errNoCommit
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 || size > maxCommit {
		return nil, errNoCommit
	}
	data := make([]byte, size+1) // a line feed follows
	if _, err := io.ReadFull(w.out, data); err != nil {
		return nil, err
	}
	return readParents(c.name, data[:size])
}

var errNoCommit = errors.New("what is stored under the name of a commit is not that commit")

// readParents gives the parents of the commit name, if data is that commit.
func readParents(name string, data []byte) ([]dated, error) {
	if nameOf(data, len(name)) != name {
		return nil, errNoCommit
	}
	head, _, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !strings.HasPrefix(lines[0], "tree ") {
		return nil, errNoCommit
	}
	date := dateOf(lines)
	var out []dated
	for _, line := range lines[1:] {
		parent, ok := strings.CutPrefix(line, "parent ")
		if !ok {
			break
		}
		if len(parent) != len(name) || strings.Trim(parent, "0123456789abcdef") != "" {
			return nil, errNoCommit
		}
		out = append(out, dated{parent, date})
	}
	return out, nil
}

// nameOf is the name of a commit, as long as digits says.
func nameOf(data []byte, digits int) string {
	var h hash.Hash
	switch digits {
	case 2 * sha1.Size:
		h = sha1.New() //nolint:gosec // git's own
	case 2 * sha256.Size:
		h = sha256.New()
	default:
		return ""
	}
	_, _ = fmt.Fprintf(h, "commit %d\x00", len(data))
	_, _ = h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func dateOf(lines []string) int64 {
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "committer" {
			date, _ := strconv.ParseInt(f[len(f)-2], 10, 64)
			return date
		}
	}
	return 0
}

// dated is a commit that is still to be read, with the date of the one that led to it.
type dated struct {
	name string
	date int64
}

// queue is a heap, the youngest first.
type queue []dated

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].date > q[j].date }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(dated)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
