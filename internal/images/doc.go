// Package images holds what there is to know of a build before it begins: what a Containerfile says, which files of the
// repository it takes, the key under which its result is found again, and the record of what was built.
//
// A Containerfile is read strictly, and what the engine gets is not the file but one written anew from what was read: a
// line an instruction, no flag that was not understood. So no reading of the engine's can find in it what this one
// missed. The package makes no container, talks to no engine and reaches no network.
package images
