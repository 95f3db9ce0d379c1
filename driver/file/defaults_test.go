package file_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
)

func TestDefaultsLieBelow(t *testing.T) {
	dir := t.TempDir()
	web1 := metadata.VM{Name: "web1"}
	driver := open(t, file.Config{Directory: dir})
	write(t, filepath.Join(dir, "web1.yaml"), "metadata: {hostname: web1}\nnetwork: {address: 192.0.2.7}\n")
	write(t, filepath.Join(dir, "defaults.yaml"), "metadata: {hostname: none, region: eu}\nnetwork: {netmask: 255.255.255.0}\n")
	inst, err := driver.Find(t.Context(), web1)
	if err != nil || inst.MetaData["hostname"] != "web1" || inst.MetaData["region"] != "eu" || inst.Network["netmask"] != "255.255.255.0" {
		t.Fatalf("got %+v, %v", inst, err)
	}
	if got, want := inst.Origin.Locate("metadata.region"), filepath.Join(dir, "defaults.yaml")+":1:28"; got != want {
		t.Errorf("the region comes from %s, want %s", got, want)
	}
	write(t, filepath.Join(dir, "defaults.yaml"), "metadata: {region: us}\n")
	if inst, err := driver.Find(t.Context(), web1); err != nil || inst.MetaData["region"] != "us" {
		t.Errorf("changed defaults: %+v, %v", inst, err)
	}
	for _, name := range []string{"db1", "defaults", "DEFAULTS"} {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: name}); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("%s has no file of its own: %v, want ErrNotFound", name, err)
		}
	}
	write(t, filepath.Join(dir, "defaults.yaml"), "metdata: {}\n")
	if _, err := driver.Find(t.Context(), web1); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "defaults.yaml:1:1") {
		t.Errorf("bad defaults: %v", err)
	}
}

func TestDefaultsForAll(t *testing.T) {
	dir := t.TempDir()
	driver := open(t, file.Config{Directory: dir, DefaultsForAll: true})
	db1 := metadata.VM{Name: "db1"}
	if _, err := driver.Find(t.Context(), db1); !errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("without any file: %v", err)
	}
	write(t, filepath.Join(dir, "defaults.yml"), "metadata: {region: eu}\n")
	for _, vm := range []metadata.VM{db1, {}, {Name: "defaults"}, {Name: "../x"}} {
		if inst, err := driver.Find(t.Context(), vm); err != nil || inst.MetaData["region"] != "eu" {
			t.Errorf("%s: %+v, %v", vm, inst, err)
		}
	}
}

func TestTemplates(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "defaults.yaml"), "metadata: {hostname: '{{ .VM.Name | lower }}'}\n")
	write(t, filepath.Join(dir, "WEB1.yaml"), "userdata: |\n  #cloud-config\n  fqdn: {{ .VM.Name }}\n")
	write(t, filepath.Join(dir, "bad.yaml"), "userdata: |\n  #cloud-config\n  fqdn: {{ .VM.Nam }}\n")
	write(t, filepath.Join(dir, "42130000-1111-2222-3333-44445555666b.yaml"), "{}\n")
	plain, filled := open(t, file.Config{Directory: dir}), open(t, file.Config{Directory: dir, Templates: true})
	web1 := metadata.VM{Name: "WEB1"}
	if inst, err := plain.Find(t.Context(), web1); err != nil || inst.MetaData["hostname"] != "{{ .VM.Name | lower }}" {
		t.Errorf("templates are not asked for: %+v, %v", inst, err)
	}
	inst, err := filled.Find(t.Context(), web1)
	if err != nil || inst.MetaData["hostname"] != "web1" || string(inst.UserData) != "#cloud-config\nfqdn: WEB1\n" {
		t.Errorf("got %+v, %v", inst, err)
	}
	if _, err := filled.Find(t.Context(), metadata.VM{Name: "bad"}); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "bad.yaml:3:15: userdata: the template has a field .VM.Nam") {
		t.Errorf("a bad one: %v", err)
	}
	var listed []string
	for entry, err := range filled.All(t.Context()) {
		if entry.Instance == nil {
			listed = append(listed, entry.Key+" "+fmt.Sprint(err != nil))
			continue
		}
		listed = append(listed, entry.Key+" "+fmt.Sprint(entry.Instance.MetaData["hostname"]))
	}
	want := "42130000-1111-2222-3333-44445555666b.yaml 42130000-1111-2222-3333-44445555666b, WEB1.yaml web1, bad.yaml true"
	if got := strings.Join(listed, ", "); got != want {
		t.Errorf("listed are\n%s, want\n%s", got, want)
	}
}

// A VM's templates and those of the defaults are filled in before their user-datas become one message.
func TestTemplatesOverDefaults(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "defaults.yaml"), "userdata: |\n  #cloud-config\n  final_message: größe {{ .VM.Name }}\n")
	write(t, filepath.Join(dir, "web1.yaml"), "userdata: |\n  ## template: jinja\n  #cloud-config\n  fqdn: {{ v1.local_hostname }}\n")
	inst, err := open(t, file.Config{Directory: dir, Templates: true}).Find(t.Context(), metadata.VM{Name: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	_, encoded, _ := strings.Cut(string(inst.UserData), "base64\n\n")
	encoded, rest, _ := strings.Cut(encoded, "\n--")
	if text, err := base64.StdEncoding.DecodeString(encoded); err != nil || string(text) != "#cloud-config\nfinal_message: größe web1\n" {
		t.Errorf("the defaults' part is %q, %v", text, err)
	}
	if !strings.Contains(rest, "fqdn: {{ v1.local_hostname }}\n") {
		t.Errorf("cloud-init's own template was touched:\n%s", rest)
	}
}

// Whoever may rename a VM can change no more of its user-data than the values that are to hold the name.
func TestTemplatesAgainstNames(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "defaults.yaml"), `metadata: {region: '{{ default "eu" .VM.BIOSUUID }}'}
userdata:
  hostname: '{{ .VM.Name }}'
  write_files:
  - path: /etc/name
    content: '{{ .VM.Name }}'
vendordata:
  fqdn: "{{ .VM.Name }}"
`)
	driver := open(t, file.Config{Directory: dir, Templates: true, DefaultsForAll: true})
	for name, quoted := range map[string]string{
		"x\"\nruncmd: [reboot]\nfinal_message: \"": `"x\"\nruncmd: [reboot]\nfinal_message: \""`,
		`x", "runcmd": ["reboot`:                   `"x\", \"runcmd\": [\"reboot"`,
		"x\nruncmd: [reboot]":                      `"x\nruncmd: [reboot]"`,
		`x\`:                                       `"x\\"`,
		"true":                                     `"true"`,
		"web1":                                     "web1",
	} {
		inst, err := driver.Find(t.Context(), metadata.VM{Name: name})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		want := "#cloud-config\nhostname: " + quoted + "\nwrite_files:\n- path: /etc/name\n  content: " + quoted + "\n"
		if got := string(inst.UserData); got != want {
			t.Errorf("user-data is\n%s, want\n%s", got, want)
		}
		if got := string(inst.VendorData); got != "#cloud-config\nfqdn: "+quoted+"\n" {
			t.Errorf("vendor-data is\n%s", got)
		}
	}
}

func TestListedVMsInLayersHaveStandIns(t *testing.T) {
	site, own := t.TempDir(), t.TempDir()
	write(t, filepath.Join(site, "defaults.yaml"), "metadata: {hostname: \"h-{{ .VM.Name }}\", instance-id: \"i-{{ .VM.UUID }}\", bios: \"{{ slice .VM.BIOSUUID 0 8 }}\"}\n")
	write(t, filepath.Join(own, testUUID+".yaml"), "metadata: {own: 1}")
	write(t, filepath.Join(own, "web1.yaml"), "metadata: {own: 2}")
	write(t, filepath.Join(own, "web2.yaml"), "metadata: {own: 3}")
	driver := layer.New(layer.Layer{Driver: open(t, file.Config{Directory: site, Templates: true, DefaultsForAll: true})},
		layer.Layer{Driver: open(t, file.Config{Directory: own}), Required: true})
	ids := map[any]string{}
	var got []string
	for entry, err := range driver.All(t.Context()) {
		if err != nil {
			t.Fatalf("%s: %v", entry.Key, err)
		}
		got = append(got, fmt.Sprintln(entry.Key, entry.Instance.MetaData["hostname"], entry.Instance.MetaData["own"]))
		ids[entry.Instance.MetaData["instance-id"]] = entry.Key
	}
	want := []string{testUUID + ".yaml h-" + testUUID + " 1\n", "web1.yaml h-web1 2\n", "web2.yaml h-web2 3\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(ids) != len(want) || ids["i-"+testUUID] != testUUID+".yaml" {
		t.Errorf("VMs share what stands in for their UUIDs: %v", ids)
	}
	unknown := ""
	for id, key := range ids {
		if key == "web1.yaml" {
			unknown = strings.TrimPrefix(id.(string), "i-")
		}
	}
	write(t, filepath.Join(own, unknown+".yaml"), "metadata: {own: 4}")
	if inst, err := driver.Preview(t.Context(), metadata.VM{Name: "web1"}); err != nil || inst.MetaData["own"] != int64(2) {
		t.Errorf("a stand-in leads to a file: %v, %v", inst, err)
	}
}

func TestListHasTheDefaultsForAll(t *testing.T) {
	directory := t.TempDir()
	defaults := filepath.Join(directory, "defaults.yaml")
	write(t, defaults, "metadata: {hostname: \"h-{{ .VM.Name }}\"}")
	config := file.Config{Directory: directory, Templates: true}
	for range open(t, config).All(t.Context()) {
		t.Error("defaults.yaml is listed, though nobody gets it alone")
	}
	config.DefaultsForAll = true
	driver := open(t, config)
	n := 0
	for entry, err := range driver.All(t.Context()) {
		n++
		if err != nil || entry.Key != "defaults.yaml" || entry.VM != (metadata.VM{}) || !strings.HasPrefix(entry.Instance.MetaData["hostname"].(string), "h-0") {
			t.Errorf("got %+v, %v", entry, err)
		}
	}
	if counted, err := driver.Count(t.Context()); n != 1 || counted != 1 || err != nil {
		t.Errorf("%d entries, Count: %d, %v", n, counted, err)
	}
	for entry := range layer.New(layer.Layer{Driver: driver}, layer.Layer{Driver: driver}).All(t.Context()) {
		t.Errorf("%s is listed over layers, where it may be half of a VM's data", entry.Key)
	}
	write(t, defaults, "metadta: {}")
	for _, err := range driver.All(t.Context()) {
		if !errors.Is(err, metadata.ErrInvalid) || strings.Count(err.Error(), "metadta") != 1 {
			t.Errorf("a mistake in it: %v", err)
		}
	}
}
