// Package sys is what Linux has and other systems lack or call otherwise: numbers, calls and types' widths.
//
// On Linux each name is golang.org/x/sys/unix's own. Elsewhere a call that the system has under another name is that
// one, and any other answers errors.ErrUnsupported, so that what needs it is refused and never half done. Runs need
// Linux and are refused before any of this is asked; what is left to other systems is all that reads, checks and
// explains profiles, and the keyring.
package sys
