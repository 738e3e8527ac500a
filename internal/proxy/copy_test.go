package proxy

import "testing"

func TestCopyBufferFollowsWhatIsRead(t *testing.T) {
	var b buffers
	c := b.get()
	for _, step := range []struct{ read, size int }{
		{1, smallBuffer}, {smallBuffer, bigBuffer}, {16 << 10, bigBuffer}, {bigBuffer, hugeBuffer}, {hugeBuffer, hugeBuffer},
		{smallBuffer, hugeBuffer}, {smallBuffer - 1, smallBuffer},
	} {
		if c.read(step.read); len(c.bytes()) != step.size {
			t.Fatalf("after %d bytes at once the buffer has %d, want %d", step.read, len(c.bytes()), step.size)
		}
	}
}

// TestHugeBuffersAreBounded has more connections send much at once than there may be buffers of the greatest size.
func TestHugeBuffersAreBounded(t *testing.T) {
	var b buffers
	grown := func() *copyBuffer {
		c := b.get()
		c.read(smallBuffer)
		c.read(bigBuffer)
		return c
	}
	var all []*copyBuffer
	for range maxHuge {
		c := grown()
		if len(c.bytes()) != hugeBuffer {
			t.Fatalf("buffer %d has %d bytes", len(all), len(c.bytes()))
		}
		all = append(all, c)
	}
	late := grown()
	if late.read(bigBuffer); len(late.bytes()) != bigBuffer {
		t.Fatalf("beyond %d, a buffer has %d bytes", maxHuge, len(late.bytes()))
	}
	all[0].free()
	if late.read(bigBuffer); len(late.bytes()) != hugeBuffer {
		t.Errorf("once one is free again, the buffer has %d bytes", len(late.bytes()))
	}
	late.read(0)
	for _, c := range all[1:] {
		c.free()
	}
	if n := b.huge.Load(); n != 0 {
		t.Errorf("%d are still counted", n)
	}
}
