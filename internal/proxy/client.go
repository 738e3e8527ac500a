package proxy

import (
	"net/http"
)

// NewClient makes a client for what agentbox itself asks servers. Its connections go the way of the proxy's own: config's
// routing and certificates count, addresses are checked, and no environment is obeyed. It follows no redirect, so that what
// it sends goes to the host that was named. Close its idle connections.
func NewClient(config Config) (*http.Client, error) {
	dial, err := dialerOf(config)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     newTransport(dial),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
