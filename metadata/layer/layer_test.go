package layer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
	"vmw-cloudinit-metadata/vmfile"
)

func parse(t *testing.T, name, text string) *metadata.Instance {
	t.Helper()
	instance, err := vmfile.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return instance
}

const site = `metadata:
  region: eu
  tags: [site, common]
  deep: {a: 1, b: {c: 2, d: 3}}
network:
  netmask: 255.255.255.0
  nameservers: [192.0.2.53, 192.0.2.54]
userdata: |
  #cloud-config
  packages: [chrony]
`

const own = `metadata:
  hostname: web1
  tags: [web]
  deep: {b: {c: 20}, e: [1]}
network:
  address: 192.0.2.7
  gateway: 192.0.2.1
`

func TestMerge(t *testing.T) {
	lower, upper := parse(t, "site.yaml", site), parse(t, "web1.yaml", own)
	before := fmt.Sprint(*lower, *upper)
	merged, err := layer.Merge(lower, upper)
	if err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(*lower, *upper); after != before {
		t.Error("Merge changed what it was given")
	}
	wantMeta := map[string]any{
		"region": "eu", "hostname": "web1", "tags": []any{"web"},
		"deep": map[string]any{"a": int64(1), "b": map[string]any{"c": int64(20), "d": int64(3)}, "e": []any{int64(1)}},
	}
	if !reflect.DeepEqual(merged.MetaData, wantMeta) {
		t.Errorf("metadata is\n%v, want\n%v", merged.MetaData, wantMeta)
	}
	wantNetwork := map[string]any{
		"netmask": "255.255.255.0", "address": "192.0.2.7", "gateway": "192.0.2.1", "nameservers": []any{"192.0.2.53", "192.0.2.54"},
	}
	if !reflect.DeepEqual(merged.Network, wantNetwork) {
		t.Errorf("network is\n%v, want\n%v", merged.Network, wantNetwork)
	}
	if string(merged.UserData) != "#cloud-config\npackages: [chrony]\n" || merged.VendorData != nil {
		t.Errorf("user-data %q, vendor-data %q: what one layer has goes on as it is", merged.UserData, merged.VendorData)
	}
	for path, want := range map[string]string{
		"metadata.region":       "site.yaml:2:3",
		"metadata.hostname":     "web1.yaml:2:3",
		"metadata.tags.0":       "web1.yaml:3:10",
		"metadata.deep.b.c":     "web1.yaml:4:14",
		"metadata.deep.b.d":     "site.yaml:4:26",
		"metadata.deep.nothing": "web1.yaml:4:3",
		"network.nameservers.1": "site.yaml:7:29",
		"network.address":       "web1.yaml:6:3",
		"network.nothing":       "web1.yaml:5:1",
		"userdata":              "site.yaml:8:1",
		"vendordata":            "web1.yaml:1:1",
		"":                      "web1.yaml:1:1",
	} {
		if got := merged.Origin.Locate(path); got != want {
			t.Errorf("Locate(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestMergeReplaces(t *testing.T) {
	for _, c := range []struct{ name, lower, upper, want string }{
		{"another form", "network: {address: 192.0.2.1}", "network: {version: 2, ethernets: {}}", "map[ethernets:map[] version:2]"},
		{"another version", "network: {version: 1, config: []}", "network: {version: 2, ethernets: {}}", "map[ethernets:map[] version:2]"},
		{"the same version", "network: {version: 2, ethernets: {a: {mtu: 1}}}", "network: {version: 2, ethernets: {a: {dhcp4: true}, b: {}}}",
			"map[ethernets:map[a:map[dhcp4:true mtu:1] b:map[]] version:2]"},
		{"a list", "network: {version: 1, config: [1, 2]}", "network: {version: 1, config: [3]}", "map[config:[3] version:1]"},
		{"a mapping by text", "network: {search: {a: 1}}", "network: {search: b}", "map[search:b]"},
		{"by nothing", "network: {address: 192.0.2.1}", "{}", "map[address:192.0.2.1]"},
		{"by nothing, in version 2", "network: {version: 2, ethernets: {}}", "metadata: {a: 1}", "map[ethernets:map[] version:2]"},
		{"with network around it", "network: {address: 192.0.2.1}", "network: {network: {version: 2}}", "map[network:map[version:2]]"},
		{"both with network around them", "network: {network: {version: 2, ethernets: {a: }}}", "network: {network: {version: 2, ethernets: {b: }}}",
			"map[network:map[ethernets:map[a:<nil> b:<nil>] version:2]]"},
		{"by a version that is none", "network: {version: [1]}", "network: {version: [2]}", "map[version:[2]]"},
	} {
		merged, err := layer.Merge(parse(t, "a", c.lower), parse(t, "b", c.upper))
		if err != nil || fmt.Sprint(merged.Network) != c.want {
			t.Errorf("%s: got %v, %v, want %s", c.name, merged.Network, err, c.want)
		}
	}
	merged, err := layer.Merge(parse(t, "a", "network: {address: 192.0.2.1}"), parse(t, "b", "network: {version: 2}"))
	if err != nil || merged.Origin.Locate("network.address") != "b:1:1" {
		t.Errorf("a value that was replaced is still found in the layer below: %v, %v", merged.Origin.Locate("network.address"), err)
	}
}

// The key network around a network-config makes no other form of it.
func TestMergeWithNetworkAround(t *testing.T) {
	const bare, around = "network: {version: 2,\n ethernets: {eth0: {mtu: 1400}}}", "network: {network: {version: 2,\n  ethernets: {eth0: {dhcp4: true}}}}"
	const both = "map[ethernets:map[eth0:map[dhcp4:true mtu:1400]] version:2]"
	for _, c := range []struct{ lower, upper, path, want, mtu, dhcp4 string }{
		{bare, around, "network.", both, "a:2:21", "b:2:22"},
		{around, bare, "network.network.", "map[network:" + both + "]", "b:2:21", "a:2:22"},
	} {
		merged, err := layer.Merge(parse(t, "a", c.lower), parse(t, "b", c.upper))
		if err != nil || fmt.Sprint(merged.Network) != c.want {
			t.Fatalf("got %v, %v, want %s", merged.Network, err, c.want)
		}
		mtu, dhcp4 := merged.Origin.Locate(c.path+"ethernets.eth0.mtu"), merged.Origin.Locate(c.path+"ethernets.eth0.dhcp4")
		if mtu != c.mtu || dhcp4 != c.dhcp4 {
			t.Errorf("mtu is at %s, dhcp4 at %s; want %s and %s", mtu, dhcp4, c.mtu, c.dhcp4)
		}
	}
	other, err := layer.Merge(parse(t, "a", "network: {network: {version: 1, config: []}}"), parse(t, "b", bare))
	if err != nil || fmt.Sprint(other.Network) != "map[ethernets:map[eth0:map[mtu:1400]] version:2]" {
		t.Errorf("over another version: %v, %v", other.Network, err)
	}
	without, err := layer.Merge(&metadata.Instance{Network: map[string]any{"version": 2}}, &metadata.Instance{Network: map[string]any{"network": map[string]any{"version": 2}}})
	if err != nil || without.Origin.Locate("network.version") != "" {
		t.Errorf("without origins: %v", err)
	}
}

func TestKeysWithDots(t *testing.T) {
	merged, err := layer.Merge(parse(t, "a", `metadata: {"x.y": {z: 1}, "x": 2}`), parse(t, "b", `metadata: {q: 1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := merged.Origin.Locate("metadata.x.y.z"); got != "a:1:20" {
		t.Errorf("got %s", got)
	}
}

func TestLocateLine(t *testing.T) {
	lower := parse(t, "a.yaml", "userdata: |\n  #cloud-config\n  a: 1\n")
	upper := parse(t, "b.yaml", "userdata: |\n  #cloud-config\n  b: 1\n  bb: 2\n")
	merged, err := layer.Merge(lower, parse(t, "x", "{}"), upper)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for i, line := range strings.Split(string(merged.UserData), "\n") {
		found[line] = merged.Origin.(metadata.LineOrigin).LocateLine("userdata", i+1, 1)
	}
	for line, want := range map[string]string{"a: 1": "a.yaml:3:3", "b: 1": "b.yaml:3:3", "bb: 2": "b.yaml:4:3", "MIME-Version: 1.0": ""} {
		if found[line] != want {
			t.Errorf("%q is at %q, want %q", line, found[line], want)
		}
	}
	merged, err = layer.Merge(parse(t, "x", "{}"), upper)
	if err != nil {
		t.Fatal(err)
	}
	if got := merged.Origin.(metadata.LineOrigin).LocateLine("userdata", 2, 2); got != "b.yaml:3:4" {
		t.Errorf("of one layer alone: %q", got)
	}
}

func TestVendorDataIsMergedOnItsOwn(t *testing.T) {
	merged, err := layer.Merge(parse(t, "site.yaml", "vendordata: |\n  #cloud-config\n  a: 1\n"), parse(t, "web1.yaml", "userdata: |\n  #!/bin/sh\n"))
	if err != nil || string(merged.VendorData) != "#cloud-config\na: 1\n" || string(merged.UserData) != "#!/bin/sh\n" {
		t.Errorf("of one layer each: user-data %q, vendor-data %q, %v", merged.UserData, merged.VendorData, err)
	}
	lower, upper := parse(t, "site.yaml", "vendordata: |\n  #cloud-config\n  a: 1\n"), parse(t, "web1.yaml", "vendordata: |\n  #cloud-config\n  b: 1\n")
	merged, err = layer.Merge(lower, upper)
	if err != nil || merged.UserData != nil || !strings.Contains(string(merged.VendorData), "\na: 1\n") || !strings.Contains(string(merged.VendorData), "\nb: 1\n") {
		t.Errorf("of two layers: user-data %q, vendor-data %q, %v", merged.UserData, merged.VendorData, err)
	}
	bad := parse(t, "web1.yaml", "vendordata: !!binary H4sIAAAAAAAAA/8=\n")
	if _, err := layer.Merge(lower, bad); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "web1.yaml:1:1: vendordata:") {
		t.Errorf("bad gzip: %v", err)
	}
}

func TestBadGzip(t *testing.T) {
	bad := parse(t, "web1.yaml", "userdata: !!binary H4sIAAAAAAAAA/8=\n")
	_, err := layer.Merge(parse(t, "site.yaml", site), bad)
	if !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "web1.yaml:1:1: userdata: starts as gzip does") {
		t.Errorf("got %v", err)
	}
	if _, err := layer.Merge(bad); err != nil {
		t.Errorf("alone it goes on as it is: %v", err)
	}
	bomb := &metadata.Instance{UserData: compress(t, strings.Repeat("\x00", 17<<20))}
	if _, err := layer.Merge(bomb, bomb); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("a bomb: %v", err)
	}
}

func TestEqualMessages(t *testing.T) {
	one, other := []byte("#!/bin/sh\n"), []byte("#cloud-config\n{}\n")
	first := merge(t, one, other)
	if again := merge(t, one, other); string(again) != string(first) {
		t.Error("equal layers give different messages")
	}
}

// fixed is a driver with data for some names.
type fixed map[string]*metadata.Instance

func (f fixed) Find(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if instance := f[vm.Name]; instance != nil {
		return instance, nil
	}
	return nil, metadata.ErrNotFound
}

func (f fixed) All(context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) {
		for _, name := range []string{"bad", "db1", "web1"} {
			instance := f[name]
			if instance == nil {
				continue
			}
			var err error
			if name == "bad" {
				instance, err = nil, &metadata.DataError{Problem: "bad"}
			}
			if !yield(metadata.Entry{Key: name, VM: metadata.VM{Name: name}, Instance: instance}, err) {
				return
			}
		}
	}
}

func failing(err error) metadata.Driver {
	return metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) { return nil, err })
}

func TestFind(t *testing.T) {
	errIO := errors.New("on fire")
	instance := func(text string) *metadata.Instance { return &metadata.Instance{UserData: []byte(text)} }
	everyone := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) { return instance("site"), nil })
	known := fixed{"web1": instance("own")}
	for _, c := range []struct {
		name   string
		layers []layer.Layer
		vm     string
		want   string
		err    error
	}{
		{"the first has it", []layer.Layer{{Driver: known}, {Driver: fixed{}}}, "web1", "own", nil},
		{"the last has it", []layer.Layer{{Driver: fixed{}}, {Driver: known}}, "web1", "own", nil},
		{"nobody has it", []layer.Layer{{Driver: fixed{}}, {Driver: known}}, "db1", "", metadata.ErrNotFound},
		{"defaults for all", []layer.Layer{{Driver: everyone}, {Driver: known}}, "db1", "site", nil},
		{"defaults for the known", []layer.Layer{{Driver: everyone}, {Driver: known, Required: true}}, "db1", "", metadata.ErrNotFound},
		{"an outage", []layer.Layer{{Driver: failing(errIO)}, {Driver: known}}, "web1", "", errIO},
		{"bad data", []layer.Layer{{Driver: known}, {Driver: failing(metadata.ErrInvalid)}}, "web1", "", metadata.ErrInvalid},
		{"denied", []layer.Layer{{Driver: known}, {Driver: failing(metadata.ErrDenied)}}, "web1", "", metadata.ErrDenied},
		{"no layers", nil, "web1", "", metadata.ErrNotFound},
	} {
		got, err := layer.New(c.layers...).Find(t.Context(), metadata.VM{Name: c.vm})
		if !errors.Is(err, c.err) || err == nil && string(got.UserData) != c.want {
			t.Errorf("%s: got %v, %v, want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestFindAsksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := metadata.DriverFunc(func(ctx context.Context, _ metadata.VM) (*metadata.Instance, error) {
			select {
			case <-time.After(time.Second):
				return &metadata.Instance{UserData: []byte("x")}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		start := time.Now()
		d := layer.New(layer.Layer{Driver: slow}, layer.Layer{Driver: slow}, layer.Layer{Driver: slow})
		if _, err := d.Find(t.Context(), metadata.VM{}); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %s, want a second for all", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.Find(ctx, metadata.VM{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFindEndsTheOthersWhenOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errIO := errors.New("on fire")
		var told error
		patient := metadata.DriverFunc(func(ctx context.Context, _ metadata.VM) (*metadata.Instance, error) {
			<-ctx.Done()
			told = ctx.Err()
			return nil, told
		})
		if _, err := layer.New(layer.Layer{Driver: patient}, layer.Layer{Driver: failing(errIO)}).Find(t.Context(), metadata.VM{}); !errors.Is(err, errIO) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if !errors.Is(told, context.Canceled) {
			t.Errorf("the other layer was told %v, want that nobody waits any more", told)
		}
	})
}

func TestFindCatchesPanics(t *testing.T) {
	bad := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) { panic("a secret") })
	_, err := layer.New(layer.Layer{Driver: bad}, layer.Layer{Driver: bad}).Find(t.Context(), metadata.VM{Name: "web"})
	if p, ok := errors.AsType[*metadata.PanicError](err); !ok || !strings.Contains(string(p.Stack), "TestFindCatchesPanics") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want a PanicError with the layer's stack, and nothing of the value", err)
	}
}

func TestFindWantsDataOrAnError(t *testing.T) {
	silent := layer.Layer{Driver: metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) { return nil, nil })}
	site := layer.Layer{Driver: fixed{"web1": {UserData: []byte("site")}}}
	for _, required := range []bool{false, true} {
		silent.Required = required
		for _, layers := range [][]layer.Layer{{silent}, {site, silent}} {
			instance, err := layer.New(layers...).Find(t.Context(), metadata.VM{Name: "web1"})
			if err == nil || instance != nil || errors.Is(err, metadata.ErrNotFound) {
				t.Errorf("required %v, of %d: got %v, %v; want an error: half of the data may be missing", required, len(layers), instance, err)
			}
		}
	}
}

func TestAll(t *testing.T) {
	one := &metadata.Instance{UserData: []byte("one")}
	d := layer.New(layer.Layer{Driver: failing(metadata.ErrNotFound)}, layer.Layer{Driver: fixed{"web1": one, "db1": one, "bad": one}},
		layer.Layer{Driver: fixed{"web1": one}, Required: true})
	var got []string
	for entry, err := range d.All(t.Context()) {
		got = append(got, fmt.Sprintln(entry.Key, entry.Instance != nil, err))
	}
	if want := []string{"bad false bad\n", "web1 true <nil>\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAllEndsWhenItsCallerHasEnough(t *testing.T) {
	one := &metadata.Instance{UserData: []byte("one")}
	vms := layer.Layer{Driver: fixed{"web1": one, "db1": one}}
	n := 0
	for range layer.New(vms, vms).All(t.Context()) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d entries", n)
	}
}

// lost is a driver whose list can't be had.
type lost struct {
	fixed
	err error
}

func (l lost) All(context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) { yield(metadata.Entry{}, l.err) }
}

func TestAllTellsOfALostList(t *testing.T) {
	for _, want := range []error{errors.New("on fire"), fmt.Errorf("the table of VMs: %w", metadata.ErrNotFound)} {
		var got []error
		for _, err := range layer.New(layer.Layer{Driver: fixed{}}, layer.Layer{Driver: lost{err: want}}).All(t.Context()) {
			got = append(got, err)
		}
		if len(got) != 1 || !errors.Is(got[0], want) {
			t.Errorf("got %v, want only %q: it looks like an inventory without VMs", got, want)
		}
	}
}

func Example() {
	site := fixed{"web1": &metadata.Instance{MetaData: map[string]any{"region": "eu", "tags": []any{"site"}}}}
	own := fixed{"web1": &metadata.Instance{MetaData: map[string]any{"hostname": "web1", "tags": []any{"web"}}}}
	driver := layer.New(layer.Layer{Driver: site}, layer.Layer{Driver: own, Required: true})
	instance, err := driver.Find(context.Background(), metadata.VM{Name: "web1"})
	fmt.Println(instance.MetaData, err)
	// Output: map[hostname:web1 region:eu tags:[web]] <nil>
}
