// Package gitwire reads git's smart HTTP as it passes: which repository a request is for (Recognise), what a push asks
// for (ReadPush), what a client of Git LFS asks for (ReadBatch), and how to say no in words that git shows to whoever
// runs it (Rejection, Refused).
//
// It decides nothing and does no I/O but on the readers and writers that it is handed. What it reads comes from an agent,
// so everything is bounded and read strictly: what could be taken for something else by a server is an error, or a
// request of no repository, never a guess.
package gitwire
