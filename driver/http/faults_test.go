package http

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

func TestFaults(t *testing.T) {
	metadatatest.Faults{
		Have: []metadatatest.Fault{metadatatest.Slow, metadatatest.Hanging, metadatatest.Dying, metadatatest.Lying, metadatatest.Huge},
		New: func(t *testing.T, fault metadatatest.Fault) metadata.Driver {
			base := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, metadatatest.Victim) {
					fmt.Fprint(w, metadatatest.GoodDocument())
					return
				}
				misbehave(w, r, fault)
			})
			return newDriver(t, Config{URL: base + "/{{.UUID}}", Timeout: 2 * time.Second})
		},
	}.Run(t)
}

func misbehave(w http.ResponseWriter, r *http.Request, fault metadatatest.Fault) {
	switch fault {
	case metadatatest.Slow:
		select {
		case <-time.After(800 * time.Millisecond):
			fmt.Fprint(w, metadatatest.GoodDocument())
		case <-r.Context().Done():
		}
	case metadatatest.Hanging:
		fmt.Fprint(w, "userdata: ")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case metadatatest.Dying:
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, metadatatest.Planted)
	case metadatatest.Lying:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>log in first, "+metadatatest.Planted)
	case metadatatest.Huge:
		for {
			if _, err := w.Write([]byte(strings.Repeat(metadatatest.Planted, 1000))); err != nil {
				return
			}
		}
	}
}
