// Package resilient stands between a server and a driver that may be slow, hang or fail: so that this is one VM's
// trouble and not everybody's, and that data found before outlives an outage of where it came from.
package resilient

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"vmw-cloudinit-metadata/internal/lru"
	"vmw-cloudinit-metadata/metadata"
)

// What a zero Config means.
const (
	DefaultTimeout      = 5 * time.Second
	DefaultStaleIfError = time.Hour
	DefaultCacheBytes   = 64 << 20
	DefaultFailures     = 5
	DefaultCooldown     = 5 * time.Second
)

// StaleInterval is how long Config.Stale is told no more of a VM.
const StaleInterval = 10 * time.Second

// Config says how patient a Driver is. The zero value is a good start.
type Config struct {
	// Timeout bounds a call of the driver, DefaultTimeout if 0.
	Timeout time.Duration
	// StaleIfError is how long after it was last found a VM's data may be given out while the driver fails;
	// DefaultStaleIfError if 0, never if negative.
	StaleIfError time.Duration
	// CacheBytes bounds, roughly, the data kept for that; DefaultCacheBytes if 0.
	CacheBytes int
	// Failures is of how many different VMs the calls fail, with none succeeding in between, until the driver is
	// left alone for the Cooldown; DefaultFailures if 0, never if negative. One VM alone can't bring that about.
	Failures int
	// Cooldown is the time until one call is tried again, DefaultCooldown if 0.
	Cooldown time.Duration

	// Stale, if not nil, is called when data that was found age ago is given out because of err; for one VM at most once
	// in StaleInterval, since a guest can ask without a pause. It is called within a Find, which waits for it, and
	// perhaps several times at once.
	Stale func(vm metadata.VM, age time.Duration, err error)
	// Circuit, if not nil, is called when the driver is left alone (open, because of err), and when it works again: within
	// a Find, which waits for it, never twice at once, and in the order of what happens.
	Circuit func(open bool, err error)
}

// Driver is a metadata.Driver around another. A VM's calls become one while it is under way; it ends at the
// deadline even if the driver does not; and so on, as Config says. What it knows about a VM is bound to all fields
// of metadata.VM: one that was renamed is another.
//
// ErrNotFound, ErrInvalid and ErrDenied are answers, and passed on at once: they also end the life of the data found before.
type Driver struct {
	config  Config
	flights flights
	breaker breaker
	last    *lru.Cache[metadata.VM, *found]
}

type found struct {
	instance *metadata.Instance
	at       time.Time
	told     atomic.Pointer[time.Time] // when Stale was called last
}

// tell says whether Stale may be called.
func (f *found) tell() bool {
	now, told := time.Now(), f.told.Load()
	if told != nil && now.Sub(*told) < StaleInterval {
		return false
	}
	return f.told.CompareAndSwap(told, &now)
}

// New returns a Driver around driver.
func New(driver metadata.Driver, config Config) *Driver {
	defaults(&config.Timeout, DefaultTimeout)
	defaults(&config.StaleIfError, DefaultStaleIfError)
	defaults(&config.CacheBytes, DefaultCacheBytes)
	defaults(&config.Failures, DefaultFailures)
	defaults(&config.Cooldown, DefaultCooldown)
	return &Driver{
		config:  config,
		flights: flights{driver: driver, timeout: config.Timeout, calls: map[metadata.VM]*call{}},
		breaker: breaker{failures: config.Failures, cooldown: config.Cooldown, changed: config.Circuit, failing: map[metadata.VM]struct{}{}},
		last:    lru.New[metadata.VM, *found](config.CacheBytes),
	}
}

// Find returns the data of vm, as the wrapped driver finds it or found it before.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	instance, err := d.guarded(ctx, vm)
	switch {
	case err == nil:
		d.keep(vm, instance)
		return instance, nil
	case isAnswer(err):
		d.last.Remove(vm)
		return nil, err
	case ctx.Err() != nil:
		return nil, err
	}
	if last, ok := d.last.Get(vm); ok {
		if age := time.Since(last.at); age <= d.config.StaleIfError {
			if d.config.Stale != nil && last.tell() {
				d.config.Stale(vm, age, err)
			}
			return last.instance, nil
		}
		d.last.Remove(vm)
	}
	return nil, err
}

// guarded calls the driver, if it is not left alone.
func (d *Driver) guarded(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	trial, err := d.breaker.enter()
	if err != nil {
		return nil, err
	}
	instance, err := d.flights.find(ctx, vm)
	d.breaker.leave(vm, err, trial, ctx.Err() != nil)
	return instance, err
}

func (d *Driver) keep(vm metadata.VM, instance *metadata.Instance) {
	if d.config.StaleIfError > 0 {
		d.last.Put(vm, &found{instance: instance, at: time.Now()}, size(instance))
	}
}

// isAnswer is for errors that a driver which works gives.
func isAnswer(err error) bool {
	return errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrDenied)
}

func defaults[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

// size estimates the memory that an instance holds. What finds its values' places is about as big as they are.
func size(instance *metadata.Instance) int {
	values := sizeOf(instance.MetaData) + sizeOf(instance.Network)
	if instance.Origin != nil {
		values *= 2
	}
	return values + len(instance.UserData) + len(instance.VendorData)
}

func sizeOf(value any) int {
	const slot = 48 // an interface in a map, its box, its share of the map's own
	total := slot
	switch v := value.(type) {
	case string:
		total += len(v)
	case []any:
		for _, item := range v {
			total += sizeOf(item)
		}
	case map[string]any:
		for key, item := range v {
			total += len(key) + sizeOf(item)
		}
	}
	return total
}
