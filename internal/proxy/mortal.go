package proxy

import (
	"context"
	"errors"
	"net/http"
)

// Ender is an Injector whose credentials may end while requests with them are on their way: what Life gives for the name of
// one is done then, and the requests are cut off.
type Ender interface {
	Life(credential string) context.Context
}

// Ruler is an Injector that knows by which rule a credential is used, for the log.
type Ruler interface {
	Rule(credential string) string
}

var errCut = errors.New("its credential was stopped while it was on its way")

// mortal has a request that carries a credential end with it. Done gives up watching.
func (x *exchange) mortal(req *http.Request) (_ *http.Request, done func()) {
	ender, ok := x.proxy.injector.(Ender)
	if !ok || x.credential == "" {
		return req, func() {}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	x.life = ctx
	life := ender.Life(x.credential)
	stop := context.AfterFunc(life, func() { cancel(errCut) })
	if life.Err() != nil { // by now: the other takes a moment
		cancel(errCut)
	}
	return req.WithContext(ctx), func() {
		stop()
		cancel(nil)
	}
}

// cut reports whether the request was cut off.
func (x *exchange) cut() bool { return x.life != nil && errors.Is(context.Cause(x.life), errCut) }
