package run

import (
	"path/filepath"
	"strings"
	"testing"
)

// A disk that can't be measured was taken for one with plenty of room.
func TestADiskThatCannotBeMeasuredEndsTheRun(t *testing.T) {
	m := &meter{work: filepath.Join(t.TempDir(), "gone"), full: make(chan string, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go m.watch()
	<-m.done
	select {
	case reason := <-m.full:
		if !strings.Contains(reason, "can't be measured") {
			t.Error(reason)
		}
	default:
		t.Error("the run goes on")
	}
}
