package main

import "runtime/debug"

// uncollected leaves garbage where it is until the function that it returns is called, or until there is much of it:
// what reads profiles is over before collecting would pay.
func uncollected() (collected func()) {
	const much = 256 << 20
	limit := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, much))
	percent := debug.SetGCPercent(-1)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}
