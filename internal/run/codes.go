package run

// Exit codes of a run, beside the agent's own.
const (
	CodeBudget   = 124 // a budget ended it
	CodeFailed   = 125 // agentbox failed: Podman, the log, the supervisor
	CodeRefused  = 126 // it was refused before the agent started
	CodeNotFound = 127 // the agent's command was not found
	CodeStopped  = 137 // agentbox stop
)

// Failure is why a run did not come about, with its exit code and what to do next.
type Failure struct {
	Code int
	Text string
	Hint string
}

func (f *Failure) Error() string { return f.Text }
