//go:build linux

package transport_test

import (
	"testing"

	"agentbox/internal/shimwire"
	"agentbox/internal/transport"
	"agentbox/internal/transport/transporttest"
)

func TestMain(m *testing.M) { transporttest.Main(m) }

func TestPass(t *testing.T) { transporttest.Run(t, transport.New(shimwire.Pass)) }

func TestRelay(t *testing.T) { transporttest.Run(t, transport.New(shimwire.Relay)) }
