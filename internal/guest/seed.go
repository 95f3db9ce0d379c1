package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"vmw-cloudinit-metadata/internal/tty"
	"vmw-cloudinit-metadata/nocloud/seed"
	"vmw-cloudinit-metadata/packet"
)

const (
	// DefaultWait is how long a first boot waits for a server.
	DefaultWait = 120 * time.Second
	// LaterWait is the most that a later boot waits: cloud-init has all it needs.
	LaterWait = 10 * time.Second
	// DefaultCloudDir is where cloud-init keeps its state.
	DefaultCloudDir = "/var/lib/cloud"

	// openWait is how long a port may refuse to be opened before that is final: who has it may be just ending.
	openWait = 5 * time.Second
	// reportWait is how long the server's taking note of the end may hold up a boot.
	reportWait = 5 * time.Second
	// reminder is how often the console hears what is being waited for.
	reminder = 5 * time.Second
	// rate is what a transfer may count on, in bytes a second. It bounds how long a slow server holds up a boot.
	rate = 4096
	// unknown is the time for a transfer by version 1, whose size nobody knows in advance.
	unknown = 10 * time.Minute
)

// Port is an open serial line.
type Port interface {
	Line
	Close() error
}

// Config says where things are. The zero value is a machine as it boots.
type Config struct {
	// Device is the port to use; empty to look for it.
	Device string
	// Speed is the port's; 0 means tty.DefaultSpeed.
	Speed int
	// Protocol is as in Client.
	Protocol int
	// Agent is as in Client.
	Agent string
	// Wait is for first boots; 0 means DefaultWait. Later ones wait LaterWait, or Wait where that is less.
	Wait time.Duration
	// Dir is the seed's folder; empty means seed.DefaultDir.
	Dir string
	// CloudDir is cloud-init's folder; empty means DefaultCloudDir.
	CloudDir string
	// Root is where /sys and /proc are; empty means "/".
	Root string
	// Log, if set, hears what happens, a line each. Console, if set, hears what a person in front of it must know.
	// Both are called from more than one goroutine.
	Log, Console func(line string)
	// Open opens a port; nil means tty.Open.
	Open func(path string, speed int) (Port, error)
}

func (c Config) withDefaults() Config {
	if c.Wait <= 0 {
		c.Wait = DefaultWait
	}
	if c.Dir == "" {
		c.Dir = seed.DefaultDir
	}
	if c.CloudDir == "" {
		c.CloudDir = DefaultCloudDir
	}
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	if c.Console == nil {
		c.Console = func(string) {}
	}
	if c.Open == nil {
		c.Open = func(path string, speed int) (Port, error) { return tty.Open(path, speed) }
	}
	return c
}

// Seed gets this machine's data and writes the seed, or leaves one with which cloud-init goes on as the instance that
// it was. It returns in bounded time: the wait, and 4 KiB a second for what there is to fetch.
func Seed(ctx context.Context, config Config) *Result {
	c := config.withDefaults()
	started := time.Now()
	cached := CachedInstance(c.CloudDir)
	r := &Result{Boot: first, Seed: SeedNone, Started: started.UTC().Truncate(time.Millisecond)}
	if cached != "" {
		r.Boot = later
		c.Wait = min(c.Wait, LaterWait)
	}
	if err := seed.Recover(c.Dir); err != nil {
		c.Log(err.Error())
	}
	err := c.run(ctx, r)
	if err != nil {
		r.Message = strings.ReplaceAll(err.Error(), "\n", "; ")
		c.fallBack(r, cached)
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	c.say(r)
	return r
}

func (c *Config) run(ctx context.Context, r *Result) error {
	p, err := c.find(ctx)
	if p != nil {
		r.Device = p.path
		defer p.close()
	}
	if err != nil {
		r.Result = outcomeOfSearch(err)
		return err
	}
	r.Protocol = p.client.Version()
	c.Log(fmt.Sprintf("%s answers with version %d", p.path, r.Protocol))

	limit := c.Wait + time.Duration(p.client.Encoded())*time.Second/rate
	if r.Protocol == 1 {
		limit = unknown
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p.client.Stall = c.Wait
	var progress atomic.Pointer[string]
	p.client.Progress = func(name packet.Document, done, total int64) {
		text := fmt.Sprintf("fetching %s from %s: %d of %d bytes", name, p.path, done, total)
		progress.Store(&text)
	}
	stop := c.remind(ctx, func(time.Duration) string {
		if text := progress.Load(); text != nil {
			return *text
		}
		return "fetching the data from " + p.path
	})
	current := c.current()
	documents, err := p.client.Fetch(within, packet.Documents(), current)
	stop()
	r.Retries, r.Generation = p.client.Retries, p.client.Generation()
	if err != nil {
		r.Result = OutcomeOf(err)
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("stopped in the middle of fetching the data from %s: %w", p.path, err)
		case r.Result == Unreachable:
			err = fmt.Errorf("the server on %s stopped answering in the middle: %w", p.path, err)
		}
		if errors.Is(err, errBroken) {
			c.report(ctx, p.client, r, err.Error())
		}
		return err
	}
	if r.Boot == later && r.Protocol == 2 && len(p.client.NICs) == 0 && !c.foreign() && sameInstance(current, documents) {
		c.Log("no network card is there yet: the network-config of before stays")
		documents[packet.NetworkConfig] = current[packet.NetworkConfig]
	}
	files := map[string][]byte{}
	r.Documents = map[packet.Document]Length{}
	for name, data := range documents {
		files[string(name)] = data
		r.Documents[name] = Length{len(data)}
	}
	if _, ok := files[seed.UserData]; !ok {
		files[seed.UserData] = nil // cloud-init wants the file
	}
	changed, err := seed.Write(c.Dir, files)
	if err != nil {
		r.Result = Failed
		c.report(ctx, p.client, r, err.Error())
		return err
	}
	r.InstanceID = seed.InstanceID(files[seed.MetaData])
	r.Result, r.Seed, r.Message = OK, SeedUnchanged, "the seed is the same as before"
	if changed {
		r.Seed, r.Message = SeedWritten, "the seed is written"
	}
	if err := c.claim(); err != nil {
		c.Log(err.Error())
	}
	c.report(ctx, p.client, r, r.Message)
	return nil
}

// report tells the server how it went, as far as that goes within reportWait.
func (c *Config) report(ctx context.Context, client *Client, r *Result, message string) {
	within, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	client.Report(within, packet.Report{
		BootID: orElse(BootID(c.Root), "unknown"), Stage: "seed", Generation: r.Generation,
		InstanceID: r.InstanceID, Result: string(r.Result), Message: message,
	})
}

// current returns the documents of the seed that is there, so that what did not change is not fetched.
func (c *Config) current() map[packet.Document][]byte {
	documents := map[packet.Document][]byte{}
	for _, name := range packet.Documents() {
		if data, err := os.ReadFile(filepath.Join(c.Dir, string(name))); err == nil {
			documents[name] = data
		}
	}
	return documents
}

// sameInstance says whether both are the data of one instance, with a network-config each. What the server makes for a
// machine that names no network card lacks the MAC address that an earlier boot got.
func sameInstance(current, documents map[packet.Document][]byte) bool {
	is, was := seed.InstanceID(documents[packet.MetaData]), seed.InstanceID(current[packet.MetaData])
	return is != "" && is == was && len(documents[packet.NetworkConfig]) > 0 && len(current[packet.NetworkConfig]) > 0
}

// fallBack leaves what cloud-init needs when there is nothing new.
func (c *Config) fallBack(r *Result, cached string) {
	switch complete := seed.Complete(c.Dir); {
	case cached == "" && complete && c.foreign():
		// A template's, copied with its disk. With it this machine would come up under the template's name and address.
		if err := os.RemoveAll(c.Dir); err != nil {
			c.Log(err.Error())
			return
		}
		r.Seed = SeedRemoved
		if err := os.Remove(c.owner()); err != nil { // a seed that somebody makes here now is nobody else's
			c.Log(err.Error())
		}
	case complete:
		r.Seed = SeedKept
	case cached != "":
		if err := c.identity(cached); err != nil {
			c.Log("the identity can't be written: " + err.Error())
			return
		}
		r.Seed = SeedIdentity
	}
	if r.Seed == SeedKept || r.Seed == SeedIdentity {
		metaData, _ := os.ReadFile(filepath.Join(c.Dir, seed.MetaData))
		r.InstanceID = seed.InstanceID(metaData)
	}
}

// identity writes a seed from what cloud-init has cached. cloud-init compares the instance-id, finds its own, and goes
// on with its cache.
func (c *Config) identity(cached string) error {
	metaData, err := json.Marshal(map[string]string{"instance-id": cached})
	if err != nil {
		return err
	}
	files := map[string][]byte{seed.MetaData: metaData, seed.UserData: nil}
	for name, cache := range map[string]string{seed.UserData: "user-data.txt", seed.VendorData: "vendor-data.txt"} {
		if data, err := os.ReadFile(filepath.Join(c.CloudDir, "instance", cache)); err == nil && len(data) > 0 {
			files[name] = data
		}
	}
	_, err = seed.Write(c.Dir, files)
	return err
}

// owner is the file that says for which machine a seed was fetched. It stands beside the seed, where neither
// cloud-init nor its clean command looks.
func (c *Config) owner() string { return filepath.Clean(c.Dir) + ".machine" }

// foreign says whether the seed is known to be another machine's. A seed made by hand has no owner, and stays.
func (c *Config) foreign() bool {
	owner, this := line(c.owner()), MachineID(c.Root)
	return owner != "" && this != "" && owner != this
}

// claim notes that the seed is this machine's.
func (c *Config) claim() error {
	this := MachineID(c.Root)
	if this == "" || this == line(c.owner()) {
		return nil
	}
	return os.WriteFile(c.owner(), []byte(this+"\n"), 0o600)
}

// say tells the log how it ended, and the console unless all is well.
func (c *Config) say(r *Result) {
	text := r.Message
	switch r.Seed {
	case SeedKept:
		text += "; the seed of an earlier boot stays"
	case SeedIdentity:
		text += "; cloud-init goes on as the instance that it was"
	case SeedRemoved:
		text += "; the seed of the machine that this one is a copy of is removed"
	case SeedNone:
		text += "; cloud-init gets no data"
	}
	text = fmt.Sprintf("%s: %s (%.1f s)", r.Result, text, r.Seconds)
	c.Log(text)
	if r.Result != OK && r.Result != NoPort {
		c.Console(text)
	}
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// remind tells the log and the console every few seconds what is being waited for, until stop is called.
func (c *Config) remind(ctx context.Context, what func(since time.Duration) string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := time.Duration(1); pause(ctx, reminder) == nil; n++ {
			text := what(n * reminder)
			c.Log(text)
			c.Console(text)
		}
	}()
	return func() { cancel(); <-ended }
}
