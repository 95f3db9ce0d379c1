// Package etcd is a driver for data in etcd: documents in the file format under a prefix, by UUID and by name.
//
// What was read is kept, and watched: a change ends its life at once. While the watch is not heard of, nothing that
// was kept is given out.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"vmw-cloudinit-metadata/internal/late"
	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// What a zero Config means.
const (
	DefaultPrefix     = "/vmw-cloudinit-metadata/"
	DefaultTimeout    = 5 * time.Second
	DefaultCacheBytes = 64 << 20
)

const (
	// maxName bounds a name in a key, in bytes. vSphere's names have at most 80 characters.
	maxName = 1024
	// keepAlive is how soon a member that went silent is noticed, and another one asked.
	keepAlive = 2 * time.Second
	// lastWord is how long after the end of its time a look-up that logs in may say why it failed.
	lastWord = 100 * time.Millisecond
	// pageSize is how many keys a listing reads at once.
	pageSize = 100
)

// Config says where the data is. Endpoints is required.
type Config struct {
	// Endpoints are the members, "https://etcd1.example:2379". All must be https:// or all http://.
	Endpoints []string
	// Prefix is what the keys start with, DefaultPrefix if empty. "uuid/" or "name/" follows, and the VM's.
	Prefix string
	// Username and PasswordFile log in, if the cluster asks for that.
	Username, PasswordFile string
	// CAFile holds the certificates in PEM to trust instead of the system's, CertFile and KeyFile a client certificate.
	CAFile, CertFile, KeyFile string
	// Timeout bounds one look-up, DefaultTimeout if 0.
	Timeout time.Duration
	// CacheBytes bounds the memory for documents, roughly. 0 means DefaultCacheBytes; -1 means that none is kept.
	CacheBytes int
}

// ParseConfig reads a Config from a JSON object. Its keys are endpoints, prefix, username, password-file, ca-file,
// cert-file, key-file, timeout and cache-bytes.
func ParseConfig(data json.RawMessage) (Config, error) {
	var o struct {
		Endpoints    []string         `json:"endpoints"`
		Prefix       string           `json:"prefix"`
		Username     string           `json:"username"`
		PasswordFile string           `json:"password-file"`
		CAFile       string           `json:"ca-file"`
		CertFile     string           `json:"cert-file"`
		KeyFile      string           `json:"key-file"`
		Timeout      options.Duration `json:"timeout"`
		CacheBytes   int              `json:"cache-bytes"`
	}
	if err := options.Decode(data, &o); err != nil {
		return Config{}, fmt.Errorf("etcd: %w", err)
	}
	return Config{
		Endpoints: o.Endpoints, Prefix: o.Prefix, Username: o.Username, PasswordFile: o.PasswordFile, CAFile: o.CAFile,
		CertFile: o.CertFile, KeyFile: o.KeyFile, Timeout: time.Duration(o.Timeout), CacheBytes: o.CacheBytes,
	}, nil
}

// Driver asks etcd.
type Driver struct {
	config Config
	client clientv3.Config
	cache  *cache
	tries  reasons

	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup

	mu        sync.Mutex
	connected *clientv3.Client
}

// New returns a driver. The cluster need not be there yet. Close ends its watch and its connections.
func New(config Config) (*Driver, error) {
	if config.Prefix == "" {
		config.Prefix = DefaultPrefix
	}
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.CacheBytes == 0 {
		config.CacheBytes = DefaultCacheBytes
	}
	client, err := clientConfig(config)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	d := &Driver{config: config, client: client, cache: newCache(config.CacheBytes)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.client.Context = d.ctx
	d.client.DialOptions = []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(d.tries.watch),
		grpc.WithNoProxy(), // no proxy that nobody meant sees the data
	}
	if config.CacheBytes > 0 {
		d.done.Go(d.watch)
	}
	return d, nil
}

func clientConfig(config Config) (clientv3.Config, error) {
	client := clientv3.Config{
		Endpoints: config.Endpoints, DialTimeout: config.Timeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAlive,
		Logger: zap.NewNop(), // ours are the errors
	}
	secure := 0
	for _, endpoint := range config.Endpoints {
		host, isHTTPS := strings.CutPrefix(endpoint, "https://")
		host, isHTTP := strings.CutPrefix(host, "http://")
		if isHTTPS == isHTTP || host == "" || strings.Contains(host, "@") {
			return client, &options.Error{Key: "endpoints", Problem: "each must be https://host:2379, or http:// without encryption"}
		}
		if isHTTPS {
			secure++
		}
	}
	switch {
	case len(config.Endpoints) == 0:
		return client, &options.Error{Key: "endpoints", Problem: `are missing: the members, as in ["https://etcd1.example:2379"]`}
	case secure != 0 && secure != len(config.Endpoints):
		return client, &options.Error{Key: "endpoints", Problem: "are https:// all, or none: what one encrypts, another would show"}
	case (config.Username == "") != (config.PasswordFile == ""):
		return client, &options.Error{Problem: `the options "username" and "password-file" go together`}
	case (config.CertFile == "") != (config.KeyFile == ""):
		return client, &options.Error{Problem: `the options "cert-file" and "key-file" go together`}
	case secure == 0 && config.CAFile+config.CertFile != "":
		return client, &options.Error{Key: "endpoints", Problem: "are http://, which uses no certificates: write https://"}
	}
	if config.Username != "" {
		password, err := os.ReadFile(config.PasswordFile)
		if err != nil {
			return client, &options.Error{Key: "password-file", Problem: err.Error()}
		}
		client.Username, client.Password = config.Username, strings.TrimSpace(string(password))
		if client.Password == "" { // etcd's client would not log in, and etcd complain of a missing name
			return client, &options.Error{Key: "password-file", Problem: config.PasswordFile + " holds no password"}
		}
	}
	if secure == 0 {
		return client, nil
	}
	client.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return client, &options.Error{Key: "ca-file", Problem: err.Error()}
		}
		client.TLS.RootCAs = x509.NewCertPool()
		if !client.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return client, &options.Error{Key: "ca-file", Problem: config.CAFile + " holds no certificate in PEM"}
		}
	}
	if config.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(config.CertFile, config.KeyFile)
		if err != nil {
			return client, &options.Error{Key: "cert-file", Problem: err.Error()}
		}
		client.TLS.Certificates = []tls.Certificate{certificate}
	}
	return client, nil
}

// connect returns the client. Logging in takes a member that answers, so it may fail, and is tried again.
func (d *Driver) connect() (*clientv3.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connected != nil {
		return d.connected, nil
	}
	if d.ctx.Err() != nil {
		return nil, errClosed
	}
	client, err := clientv3.New(d.client)
	if err != nil {
		return nil, err
	}
	d.connected = client
	return client, nil
}

var errClosed = errors.New("the driver is closed")

// Close ends the watch and the connections.
func (d *Driver) Close() error {
	d.stop()
	d.done.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connected != nil {
		end(d.connected)
		d.connected = nil
	}
	return nil
}

// endTimeout is far more than etcd's client takes to end.
const endTimeout = 2 * time.Second

// end closes client. If a watch is refused at this very moment, the client's goroutines wait for each other for ever
// (client/v3 3.7: watchGRPCStream.run does not know of a refused one any more); they are left behind then, without a connection.
func end(client *clientv3.Client) {
	ended := make(chan struct{})
	go func() {
		_ = client.Close() // it says that its context is over, which is the point
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endTimeout):
		_ = client.ActiveConnection().Close()
	}
}

// Find returns the document under the VM's UUID, else under its name.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	keys := d.keys(vm)
	if len(keys) == 0 {
		return nil, fmt.Errorf("etcd: no UUID, and no name that a key can have: %w", metadata.ErrNotFound)
	}
	if doc := d.cache.first(keys); doc != nil {
		return doc.instance, doc.err
	}
	timed, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	doc, err := d.fetch(timed, keys)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("etcd: %w", oneLine{d.explain(err)})
	}
	return doc.instance, doc.err
}

// explain says of an err that is the end of Config.Timeout what did not come in it, and as far as is known why.
func (d *Driver) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return d.tries.explain(&late.Error{Limit: d.config.Timeout, Missing: "answer from " + strings.Join(d.config.Endpoints, ", ")})
}

// keys are a VM's, the one that wins first.
func (d *Driver) keys(vm metadata.VM) []string {
	var keys []string
	if uuid, ok := metadata.ParseUUID(vm.UUID); ok && uuid == vm.UUID {
		keys = append(keys, d.config.Prefix+"uuid/"+uuid)
	}
	if vm.Name != "" && len(vm.Name) <= maxName && utf8.ValidString(vm.Name) {
		keys = append(keys, d.config.Prefix+"name/"+vm.Name)
	}
	return keys
}

// fetch reads all keys at one revision, and keeps what it finds.
func (d *Driver) fetch(ctx context.Context, keys []string) (*document, error) {
	type result struct {
		response *clientv3.TxnResponse
		err      error
	}
	done := make(chan result, 1)
	go func() { // logging in heeds only its own time limit
		client, err := d.connect()
		if err != nil {
			done <- result{err: err}
			return
		}
		gets := make([]clientv3.Op, 0, len(keys))
		for _, key := range keys {
			gets = append(gets, clientv3.OpGet(key))
		}
		response, err := client.Txn(ctx).Then(gets...).Commit()
		done <- result{response, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select {
		case r = <-done: // and why there was no answer is known
		case <-time.After(lastWord):
			return nil, ctx.Err()
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	var first *document
	for i, key := range keys {
		doc := absent(key)
		if kvs := r.response.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			doc = parse(key, kvs[0].Value)
		}
		d.cache.put(key, doc, r.response.Header.Revision)
		if first == nil || first.missing {
			first = doc
		}
	}
	return first, nil
}

// document is what is known of a key.
type document struct {
	missing  bool
	instance *metadata.Instance
	err      error
	size     int
}

func absent(key string) *document {
	return &document{missing: true, err: fmt.Errorf("etcd: no key %q: %w", key, metadata.ErrNotFound)}
}

func parse(key string, value []byte) *document {
	name := key
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		name = fmt.Sprintf("%q", key)
	}
	doc := &document{size: len(value)}
	doc.instance, doc.err = vmfile.Parse("etcd:"+name, value)
	return doc
}

// All implements metadata.Lister: the keys under the prefix, in their order.
func (d *Driver) All(ctx context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) {
		client, err := d.connect()
		if err != nil {
			yield(metadata.Entry{}, fmt.Errorf("etcd: %w", oneLine{d.explain(err)}))
			return
		}
		end := clientv3.GetPrefixRangeEnd(d.config.Prefix)
		revision := int64(0)
		for from := d.config.Prefix; ; {
			timed, cancel := context.WithTimeout(ctx, d.config.Timeout)
			page, err := client.Get(timed, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
			cancel()
			if err != nil {
				err = d.explain(err)
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				yield(metadata.Entry{}, fmt.Errorf("etcd: %w", oneLine{err}))
				return
			}
			revision = page.Header.Revision // all pages show one moment
			for _, kv := range page.Kvs {
				key := string(kv.Key)
				vm, ok := d.identity(key)
				doc := parse(key, kv.Value)
				if !ok {
					doc.instance, doc.err = nil, &metadata.DataError{Origin: "etcd:" + fmt.Sprintf("%q", key), Problem: "is never read: keys are " + d.config.Prefix + "uuid/ with a UUID in lower case, or " + d.config.Prefix + "name/ with a name"}
				}
				if !yield(metadata.Entry{Key: key, VM: vm, Instance: doc.instance}, doc.err) {
					return
				}
			}
			if !page.More {
				return
			}
			from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		}
	}
}

// identity returns what a key tells about its VM; false if no VM would get it.
func (d *Driver) identity(key string) (metadata.VM, bool) {
	var vm metadata.VM
	rest := strings.TrimPrefix(key, d.config.Prefix)
	if uuid, ok := strings.CutPrefix(rest, "uuid/"); ok {
		vm.UUID = uuid
	} else if name, ok := strings.CutPrefix(rest, "name/"); ok {
		vm.Name = name
	}
	return vm, len(d.keys(vm)) == 1
}

// oneLine is an error without line breaks in its text.
type oneLine struct{ err error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }

func (e oneLine) Unwrap() error { return e.err }
