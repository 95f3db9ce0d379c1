package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vmw-cloudinit-metadata/internal/late"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

const (
	// maxFresh bounds how long a document is used without asking, whatever the server says.
	maxFresh = time.Hour
	// parsedCost is how much bigger a document is once it is parsed.
	parsedCost = 4
)

// document is what was made of a server's answer.
type document struct {
	value          any
	err            error // an ErrInvalid: what is wrong stays wrong until the document changes
	size           int
	etag, modified string
	freshUntil     time.Time
	storable       bool
}

// place is how errors name a URL: without its query, which may hold what is not for logs.
func place(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// get returns what parse makes of the document at u, from the cache where the server allowed that.
func (d *Driver) get(ctx context.Context, u *url.URL, parse func(name string, body []byte) (any, error)) (any, error) {
	key := u.String()
	cached, _ := d.cache.Get(key)
	if cached != nil && time.Now().Before(cached.freshUntil) {
		return cached.value, cached.err
	}
	fetched, err := d.fetch(ctx, u, cached, parse)
	switch {
	case err != nil:
		if errors.Is(err, metadata.ErrNotFound) {
			d.cache.Remove(key)
		}
		return nil, err
	case fetched.storable:
		d.cache.Put(key, fetched, parsedCost*fetched.size)
	default:
		d.cache.Remove(key)
	}
	return fetched.value, fetched.err
}

func (d *Driver) fetch(ctx context.Context, u *url.URL, cached *document, parse func(name string, body []byte) (any, error)) (*document, error) {
	var missing missing
	request, err := d.request(missing.watch(ctx), u, cached)
	if err != nil {
		return nil, err
	}
	failed := func(err error) error {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = &late.Error{Limit: d.config.Timeout, Missing: missing.String()}
		}
		return fmt.Errorf("http: %s: %w", place(u), err)
	}
	response, err := d.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL in it is whole
		}
		return nil, failed(err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && cached != nil:
		renewed := *cached
		renewed.keep(response.Header)
		return &renewed, nil
	case response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("http: %s: %w", place(u), metadata.ErrNotFound)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("http: %s: the server answers %d %s", place(u), response.StatusCode, http.StatusText(response.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, vmfile.MaxSize+1))
	if err != nil {
		return nil, failed(err)
	}
	fetched := &document{size: len(body)}
	if len(body) > vmfile.MaxSize {
		fetched.err = &metadata.DataError{Origin: place(u), Problem: fmt.Sprintf("is larger than %d MiB", vmfile.MaxSize>>20)}
		fetched.size = 0
	} else {
		fetched.value, fetched.err = parse(place(u), body)
	}
	fetched.keep(response.Header)
	return fetched, nil
}

// missing is what a request still waits for.
type missing struct{ atomic.Value }

func (m *missing) String() string { return m.Load().(string) }

// watch returns a context for the request.
func (m *missing) watch(ctx context.Context) context.Context {
	m.Store("connection")
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart:    func() { m.Store("end of the TLS handshake") },
		GotConn:              func(httptrace.GotConnInfo) { m.Store("answer") },
		GotFirstResponseByte: func() { m.Store("end of the answer") },
	})
}

func (d *Driver) request(ctx context.Context, u *url.URL, cached *document) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("http: %s: can't be asked for", place(u))
	}
	request.Header.Set("Accept", "application/yaml, application/json, text/plain, */*;q=0.5")
	request.Header.Set("User-Agent", "vmw-cloudinit-metadata")
	token, err := d.token()
	if err != nil {
		return nil, fmt.Errorf("http: the bearer token: %w", err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if cached != nil && cached.etag != "" {
		request.Header.Set("If-None-Match", cached.etag)
	}
	if cached != nil && cached.modified != "" {
		request.Header.Set("If-Modified-Since", cached.modified)
	}
	return request, nil
}

// keep sets how long the document may be used, after RFC 9111: we are a private cache.
func (doc *document) keep(header http.Header) {
	if etag := header.Get("ETag"); etag != "" {
		doc.etag = etag
	}
	if modified := header.Get("Last-Modified"); modified != "" {
		doc.modified = modified
	}
	now := time.Now()
	fresh, stated := time.Duration(0), false
	store := header.Get("Vary") != "*"
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store":
			store = false
		case "no-cache":
			fresh, stated = 0, true
		case "max-age":
			if !stated {
				fresh, stated = seconds(strings.Trim(value, `"`)), true
			}
		}
	}
	if expires, err := http.ParseTime(header.Get("Expires")); err == nil && !stated {
		written, err := http.ParseTime(header.Get("Date")) // by the server's clock, as Expires is
		if err != nil {
			written = now
		}
		fresh = expires.Sub(written)
	}
	fresh -= seconds(header.Get("Age"))
	doc.freshUntil = now.Add(min(max(fresh, 0), maxFresh))
	doc.storable = store && (doc.etag != "" || doc.modified != "" || fresh > 0)
}

// seconds reads a number of seconds; what is none is 0.
func seconds(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
