// Package modelserver is a model API on the loopback interface, for tests, benches and trying things by hand: it
// speaks enough of Anthropic Messages, OpenAI Responses and Chat Completions, and Gemini generateContent for real
// coding agents to work against it without an account.
//
// It leads whatever agent asks through one small task, the same each time: write a file with the agent's own file
// tool, run a command with the agent's own shell tool, then say that it is done. Which tools the agent has, and how
// far it has come, are read from each request, so that the server keeps no conversation of its own and any number of
// agents can use it at once.
//
// A Server owns its listener, its certificate authority (whose private key stays in memory) and the record of all
// requests; Close ends the first and waits for its goroutines.
package modelserver
