package podman

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"

	"github.com/containers/podman/v5/pkg/auth"
	"github.com/containers/podman/v5/pkg/bindings"
	"go.podman.io/image/v5/types"
)

// Progress is how far one layer of a pull is.
type Progress struct {
	Layer       string // the beginning of its digest
	Done        bool
	Here        bool  // it was here already
	Read, Total int64 // bytes, as they are sent; 0 when not known
}

// Pull has the engine fetch NAME@DIGEST from its registry. What it fetched before, and what other images have, it does not
// fetch again; it insists on the digests. Credentials are those that Podman itself would use: the files of `podman login`
// and `docker login`, or $REGISTRY_AUTH_FILE. They go to the engine alone.
func (e *Engine) Pull(ctx context.Context, name string, progress func(Progress)) error {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return err
	}
	defer stop()
	client, err := bindings.GetClient(conn)
	if err != nil {
		return err
	}
	header, err := auth.MakeXRegistryAuthHeader(&types.SystemContext{AuthFilePath: os.Getenv("REGISTRY_AUTH_FILE")}, "", "")
	if err != nil {
		return fmt.Errorf("reading your registry credentials: %w", err)
	}
	body, err := askPull(conn, client, name, header)
	if err == nil {
		err = follow(body, progress)
		_ = body.Close() // only read
	}
	if err != nil {
		return fmt.Errorf("pulling the image: %w", cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

// askPull asks as Docker's clients do: Podman's own answer has no numbers in it, in the older versions at all events. Over TCP, for
// which the bindings know more than they tell, it asks by them.
func askPull(ctx context.Context, client *bindings.Connection, name string, header http.Header) (io.ReadCloser, error) {
	if client.URI.Scheme == "tcp" {
		params := url.Values{"reference": {name}, "compatMode": {"true"}, "policy": {"always"}}
		response, err := client.DoRequest(ctx, nil, http.MethodPost, "/images/pull", params, header)
		if err != nil {
			return nil, err
		}
		return response.Body, nil
	}
	where := "http://d/v1.40/images/create?" + url.Values{"fromImage": {name}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	response, err := client.Client.Do(request)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// pullLine is one message of the stream. An error comes in one of three places, by the version of Podman.
type pullLine struct {
	Status         string `json:"status"`
	ID             string `json:"id"`
	ProgressDetail struct {
		Current, Total int64
	} `json:"progressDetail"`
	Error       string `json:"error"`
	ErrorDetail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	Message string   `json:"message"`
	Images  []string `json:"images"` // of Podman's own stream, at its end
}

const complete = "Download complete"

// follow reads the stream to its end. One that ends without success is an error.
func follow(r io.Reader, progress func(Progress)) error {
	last := "nothing"
	for d := json.NewDecoder(r); ; {
		var line pullLine
		err := d.Decode(&line)
		switch {
		case errors.Is(err, io.EOF) && last == complete:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the engine stopped in the middle of it")
		case err != nil:
			return err
		}
		if text := cmp.Or(line.ErrorDetail.Message, line.Error, line.Message); text != "" {
			return errors.New(text)
		}
		if last = line.Status; len(line.Images) > 0 {
			last = complete
			continue
		}
		if line.ID != "" && progress != nil {
			progress(Progress{Layer: line.ID, Done: last == complete || last == "Already exists", Here: last == "Already exists",
				Read: line.ProgressDetail.Current, Total: line.ProgressDetail.Total})
		}
	}
}
