package resilient_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/resilient"
)

var (
	web   = metadata.VM{Name: "web1", UUID: "5012f6b4-0000-4000-8000-000000000001"}
	db    = metadata.VM{Name: "db1", UUID: "5012f6b4-0000-4000-8000-000000000002"}
	data  = &metadata.Instance{UserData: []byte("#cloud-config\n")}
	later = &metadata.Instance{UserData: []byte("#cloud-config\n{}\n")}
	errIO = errors.New("the inventory is on fire")
)

func numbered(i int) metadata.VM { return metadata.VM{Name: fmt.Sprintf("vm%d", i)} }

// hang never returns before its context is done; deaf does not even then, but at release.
func hang(ctx context.Context, _ metadata.VM) (*metadata.Instance, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func deaf(release chan struct{}) metadata.DriverFunc {
	return func(context.Context, metadata.VM) (*metadata.Instance, error) {
		<-release
		return data, nil
	}
}

func TestOneCallForManyWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		d := resilient.New(metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
			calls.Add(1)
			time.Sleep(time.Second)
			return data, nil
		}), resilient.Config{})
		results := make(chan *metadata.Instance)
		for range 10 {
			go func() {
				instance, err := d.Find(t.Context(), web)
				if err != nil {
					t.Error(err)
				}
				results <- instance
			}()
		}
		for range 10 {
			if got := <-results; got != data {
				t.Errorf("got %v", got)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("the driver was called %d times for one VM at once, want 1", n)
		}
		if _, err := d.Find(t.Context(), web); err != nil || calls.Load() != 2 {
			t.Errorf("a later request: %v after %d calls, want the driver to be asked again", err, calls.Load())
		}
	})
}

// A waiter who leaves takes nobody with him; when the last leaves, the driver is told.
func TestLeavingWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan error, 1)
		d := resilient.New(metadata.DriverFunc(func(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
			select {
			case <-ctx.Done():
				told <- ctx.Err()
				return nil, ctx.Err()
			case <-time.After(3 * time.Second):
				return data, nil
			}
		}), resilient.Config{})
		impatient, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		stayed := make(chan error)
		go func() {
			_, err := d.Find(t.Context(), web)
			stayed <- err
		}()
		synctest.Wait()
		if _, err := d.Find(impatient, web); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the impatient one got %v, want his context's error", err)
		}
		if err := <-stayed; err != nil {
			t.Errorf("the patient one got %v", err)
		}
		alone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := d.Find(alone, web); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("alone: %v", err)
		}
		if err := <-told; !errors.Is(err, context.Canceled) {
			t.Errorf("the driver was told %v, want that it was cancelled", err)
		}
	})
}

func TestAHangDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		stuck := deaf(release)
		d := resilient.New(metadata.DriverFunc(func(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
			if vm == web {
				return stuck(ctx, vm)
			}
			return data, nil
		}), resilient.Config{Timeout: 2 * time.Second})
		start := time.Now()
		hanging := make(chan error)
		go func() {
			_, err := d.Find(t.Context(), web)
			hanging <- err
		}()
		synctest.Wait()
		if _, err := d.Find(t.Context(), db); err != nil || time.Since(start) != 0 {
			t.Errorf("another VM: %v after %s, want its data at once", err, time.Since(start))
		}
		if err := <-hanging; !errors.Is(err, resilient.ErrTimeout) || time.Since(start) != 2*time.Second {
			t.Errorf("the hanging one: %v after %s, want ErrTimeout after 2s", err, time.Since(start))
		}
	})
}

func TestTooManyStuckCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := resilient.New(deaf(release), resilient.Config{Timeout: time.Second, Failures: -1})
		var err error
		started := 0
		for ; started < 5000 && !errors.Is(err, resilient.ErrStuck); started++ {
			_, err = d.Find(t.Context(), numbered(started))
		}
		if !errors.Is(err, resilient.ErrStuck) {
			t.Fatalf("after %d calls that never came back: %v, want ErrStuck", started, err)
		}
		close(release)
		synctest.Wait()
		if _, err := d.Find(t.Context(), web); err != nil {
			t.Errorf("they came back, and still: %v", err)
		}
	})
}

func TestPanic(t *testing.T) {
	d := resilient.New(metadata.DriverFunc(func(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
		if vm == web {
			panic("password: secret")
		}
		return &metadata.Instance{UserData: vm2bytes(nil)}, nil
	}), resilient.Config{})
	_, err := d.Find(t.Context(), web)
	if p, ok := errors.AsType[*metadata.PanicError](err); !ok || len(p.Stack) == 0 {
		t.Errorf("got %v, want a PanicError with its stack", err)
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("the error shows data: %v", err)
	}
	if _, err := d.Find(t.Context(), db); !strings.Contains(fmt.Sprint(err), "index out of range") {
		t.Errorf("got %v, want the runtime's text", err)
	}
}

// vm2bytes has the commonest bug there is.
func vm2bytes(list []string) []byte { return []byte(list[0]) }

func TestNeitherDataNorError(t *testing.T) {
	d := resilient.New(metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) { return nil, nil }), resilient.Config{})
	if instance, err := d.Find(t.Context(), web); instance != nil || err == nil {
		t.Errorf("got %v, %v, want an error", instance, err)
	}
}

// script is a driver whose answers are set from outside.
type script struct {
	instance *metadata.Instance
	err      error
	calls    int
}

func (s *script) Find(context.Context, metadata.VM) (*metadata.Instance, error) {
	s.calls++
	return s.instance, s.err
}

func TestLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &script{instance: data}
		var stale []time.Duration
		d := resilient.New(driver, resilient.Config{StaleIfError: time.Minute, Failures: -1, Stale: func(vm metadata.VM, age time.Duration, err error) {
			if vm != web || !errors.Is(err, errIO) {
				t.Errorf("the hook is told of %v and %v", vm, err)
			}
			stale = append(stale, age)
		}})
		find := func(want *metadata.Instance, wantErr error) {
			t.Helper()
			if got, err := d.Find(t.Context(), web); got != want || !errors.Is(err, wantErr) {
				t.Errorf("got %v, %v, want %v, %v", got, err, want, wantErr)
			}
		}
		find(data, nil)
		driver.instance, driver.err = nil, errIO
		time.Sleep(time.Minute)
		find(data, nil)
		if len(stale) != 1 || stale[0] != time.Minute {
			t.Errorf("the hook was called with %v, want once with a minute", stale)
		}
		time.Sleep(time.Nanosecond)
		find(nil, errIO)
		if _, err := d.Find(t.Context(), db); !errors.Is(err, errIO) {
			t.Errorf("another VM got %v: only what was found for it may stand in", err)
		}

		for _, answer := range []error{metadata.ErrNotFound, metadata.ErrDenied, &metadata.DataError{Problem: "bad"}} {
			driver.instance, driver.err = later, nil
			find(later, nil)
			driver.instance, driver.err = nil, fmt.Errorf("file driver: %w", answer)
			find(nil, answer)
			driver.err = errIO
			find(nil, errIO) // what was withdrawn does not come back
		}

		driver.instance, driver.err = later, nil
		find(later, nil)
		driver.instance, driver.err = nil, errIO
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := d.Find(gone, web); !errors.Is(err, context.Canceled) && !errors.Is(err, errIO) {
			t.Errorf("one who left got %v", err)
		}
	})
}

// TestAnOutageIsToldOfNowAndThen has a guest that asks without a pause.
func TestAnOutageIsToldOfNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver, told := &script{instance: data}, map[metadata.VM]int{}
		d := resilient.New(driver, resilient.Config{Stale: func(vm metadata.VM, _ time.Duration, _ error) { told[vm]++ }})
		for _, vm := range []metadata.VM{web, db} {
			if _, err := d.Find(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
		}
		driver.instance, driver.err = nil, errIO
		for range 1000 {
			if got, err := d.Find(t.Context(), web); got != data {
				t.Fatal(err)
			}
			time.Sleep(resilient.StaleInterval / 500)
		}
		if _, err := d.Find(t.Context(), db); err != nil || told[web] != 2 || told[db] != 1 {
			t.Errorf("%v; the hook was called %d times for a VM in %v, and %d times for another", err, told[web], 2*resilient.StaleInterval, told[db])
		}
	})
}

func TestNoLastGood(t *testing.T) {
	driver := &script{instance: data}
	d := resilient.New(driver, resilient.Config{StaleIfError: -1})
	if _, err := d.Find(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	driver.instance, driver.err = nil, errIO
	if _, err := d.Find(t.Context(), web); !errors.Is(err, errIO) {
		t.Errorf("got %v, want the driver's error: nothing may stand in", err)
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &script{err: errIO}
		var circuit []bool
		d := resilient.New(driver, resilient.Config{Failures: 3, Cooldown: 10 * time.Second, StaleIfError: -1,
			Circuit: func(open bool, _ error) { circuit = append(circuit, open) }})
		for range 20 { // one VM alone does not open it
			if _, err := d.Find(t.Context(), web); errors.Is(err, resilient.ErrOpen) {
				t.Fatal("open after the failures of a single VM")
			}
		}
		for i := range 2 {
			d.Find(t.Context(), numbered(i))
		}
		calls := driver.calls
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrOpen) || !errors.Is(err, errIO) || driver.calls != calls {
			t.Fatalf("after failures of three VMs: %v, want ErrOpen with its cause and no call", err)
		}
		time.Sleep(10 * time.Second) // now one call tries it, and fails
		if _, err := d.Find(t.Context(), db); errors.Is(err, resilient.ErrOpen) || driver.calls != calls+1 {
			t.Fatalf("after the cooldown: %v, want a try", err)
		}
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrOpen) || driver.calls != calls+1 {
			t.Fatalf("after the try failed: %v, want ErrOpen again", err)
		}
		time.Sleep(10 * time.Second)
		driver.err = metadata.ErrNotFound // which is an answer
		if _, err := d.Find(t.Context(), db); !errors.Is(err, metadata.ErrNotFound) {
			t.Fatal(err)
		}
		driver.err = errIO
		if _, err := d.Find(t.Context(), db); errors.Is(err, resilient.ErrOpen) {
			t.Error("still open after it worked")
		}
		if len(circuit) != 2 || !circuit[0] || circuit[1] {
			t.Errorf("the hook was told %v, want open and closed", circuit)
		}
	})
}

// Only one call tries whether the driver works again; a trier who leaves makes room for the next.
func TestOneTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := resilient.New(metadata.DriverFunc(hang), resilient.Config{Timeout: 5 * time.Second, Failures: 1, Cooldown: time.Second, StaleIfError: -1})
		d.Find(t.Context(), web)
		time.Sleep(time.Second)
		trial, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := d.Find(trial, web)
			left <- err
		}()
		synctest.Wait()
		start := time.Now()
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrOpen) || time.Since(start) != 0 {
			t.Errorf("beside a trial: %v after %s, want ErrOpen at once", err, time.Since(start))
		}
		leave()
		<-left
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrTimeout) || errors.Is(err, resilient.ErrOpen) {
			t.Errorf("after the trier left: %v, want the next trial", err)
		}
	})
}

// TestStragglers has calls that were under way when the driver was left alone, and fail later: they say nothing new.
func TestStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var circuit []bool
		d := resilient.New(metadata.DriverFunc(hang), resilient.Config{Timeout: time.Minute, Failures: 1, Cooldown: 10 * time.Second,
			Circuit: func(open bool, _ error) { circuit = append(circuit, open) }})
		find := func(vm metadata.VM) {
			if _, err := d.Find(t.Context(), vm); !errors.Is(err, resilient.ErrTimeout) {
				t.Errorf("%s: %v", vm.Name, err)
			}
		}
		go find(numbered(1)) // opens it after a minute
		time.Sleep(9 * time.Second)
		go find(numbered(2)) // fails in its cooldown
		time.Sleep(6 * time.Second)
		go find(numbered(3)) // fails while another tries it
		time.Sleep(55*time.Second + time.Millisecond)
		go find(web) // after the cooldown: the try
		time.Sleep(10 * time.Second)
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrOpen) {
			t.Errorf("beside a try: %v, want ErrOpen", err)
		}
		time.Sleep(time.Minute)
		if len(circuit) != 1 || !circuit[0] {
			t.Errorf("the hook was told %v, want once that it is open", circuit)
		}
	})
}

func TestCircuitIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		var d *resilient.Driver
		d = resilient.New(metadata.DriverFunc(func(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
			if vm == db {
				return nil, errIO
			}
			time.Sleep(time.Second)
			return data, nil
		}), resilient.Config{Failures: 1, Circuit: func(open bool, _ error) {
			if open { // and while this is being told, the driver works again
				time.Sleep(time.Minute)
				if _, err := d.Find(t.Context(), web); err != nil {
					t.Errorf("Find within Circuit: %v", err)
				}
			}
			told = append(told, open)
		}})
		go d.Find(t.Context(), web) // is under way when the other fails
		synctest.Wait()
		if _, err := d.Find(t.Context(), db); !errors.Is(err, errIO) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if len(told) != 2 || !told[0] || told[1] {
			t.Errorf("told that the driver is left alone: %v, want true, then false", told)
		}
	})
}

// TestZeroConfig has neither hooks nor settings.
func TestZeroConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := &script{instance: data}
		d := resilient.New(driver, resilient.Config{})
		if _, err := d.Find(t.Context(), web); err != nil {
			t.Fatal(err)
		}
		driver.instance, driver.err = nil, errIO
		for i := range resilient.DefaultFailures {
			if _, err := d.Find(t.Context(), numbered(i)); !errors.Is(err, errIO) || errors.Is(err, resilient.ErrOpen) {
				t.Errorf("failure %d: %v", i, err)
			}
		}
		time.Sleep(resilient.DefaultCooldown - time.Nanosecond)
		if _, err := d.Find(t.Context(), db); !errors.Is(err, resilient.ErrOpen) {
			t.Errorf("in the cooldown: %v", err)
		}
		if got, err := d.Find(t.Context(), web); got != data {
			t.Errorf("one that was found before: %v, %v", got, err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := d.Find(t.Context(), db); errors.Is(err, resilient.ErrOpen) {
			t.Errorf("after the cooldown: %v", err)
		}
	})
}

type nowhere struct{}

func (nowhere) Locate(string) string { return "" }

// TestLastGoodIsBounded has two VMs whose data do not fit together, whatever it is that makes them big.
func TestLastGoodIsBounded(t *testing.T) {
	const limit = 100 << 10
	text := strings.Repeat("x", limit*2/3)
	half := text[:limit*2/5]
	for name, big := range map[string]*metadata.Instance{
		"user-data":           {UserData: []byte(text)},
		"vendor-data":         {VendorData: []byte(text)},
		"metadata":            {MetaData: map[string]any{"list": []any{1, map[string]any{"key": text}}}},
		"a key":               {MetaData: map[string]any{text: true}},
		"network":             {Network: map[string]any{"version": 2, "ethernets": text}},
		"many small values":   {MetaData: map[string]any{"list": make([]any, limit*2/3/48)}},
		"values' places, too": {MetaData: map[string]any{"key": half}, Origin: nowhere{}},
	} {
		driver := &script{instance: big}
		d := resilient.New(driver, resilient.Config{CacheBytes: limit, Failures: -1})
		for _, vm := range []metadata.VM{web, db} {
			if _, err := d.Find(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
		}
		driver.instance, driver.err = nil, errIO
		if got, _ := d.Find(t.Context(), db); got != big {
			t.Errorf("%s: the last one is not kept", name)
		}
		if got, _ := d.Find(t.Context(), web); got != nil {
			t.Errorf("%s: more than the bound is kept", name)
		}
	}
}

func Example() {
	inventory := &script{instance: data}
	driver := resilient.New(inventory, resilient.Config{
		StaleIfError: 10 * time.Minute,
		Stale:        func(vm metadata.VM, _ time.Duration, err error) { fmt.Println(vm.Name, "gets what it had:", err) },
	})
	driver.Find(context.Background(), web)

	inventory.instance, inventory.err = nil, errors.New("connection refused")
	instance, err := driver.Find(context.Background(), web)
	fmt.Printf("%q %v\n", instance.UserData, err)
	// Output:
	// web1 gets what it had: connection refused
	// "#cloud-config\n" <nil>
}
