package schema_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/nocloud/schema"
)

func load(t testing.TB, suite string) *schema.Schemas {
	t.Helper()
	s, err := schema.Load(testenv.CloudInit(t, suite))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cases are cloud-configs, and what is wrong with them for the newer cloud-init.
func cases() []struct{ text, want string } {
	return []struct{ text, want string }{
		{"{}", ""},
		{"package_update: yes\nssh_pwauth: no\npackages: [a, [b, '1']]\n", ""},
		{"growpart:\n  mode: auto\n  devices: ['/']\n  ignore_growroot_disabled: false\n", ""},
		{"write_files:\n- path: /a\n  content: !!binary aGVsbG8=\n  permissions: '0644'\n", ""},
		{"runcmd:\n- echo\n- [a, b]\n- ~\n", ""},
		{"runcmd:\n- [su, -, postgres]\n- \"a\tb -, c\"\n", ""},
		{"runcmd:\n- [su, -, po\tgres, -]\n", "3:13: has a tab"},
		{"users:\n- default\n- name: a\n  ssh_authorized_keys: [x]\n", ""},
		{"chpasswd:\n  expire: false\n  users:\n  - {name: a, type: RANDOM}\n", ""},
		{"disk_setup: {/dev/sda: {table_type: gpt, layout: [50, [50, 82]]}}\n", ""},
		{"apt: {sources: {a.list: {source: x}}, primary: [{arches: [default], uri: 'not a uri'}]}\n", ""},
		{"hostname: web1\nfqdn: web1.example.com\n", ""},
		{"mounts: [[a, b], [c]]\n", ""},
		{"ntp: {servers: ['not a host name!']}\n", ""},
		{"x: 1\n", "2:1: x: there is no such key here"},
		{"pakages: [a]\n", "2:1: pakages: there is no such key here: did you mean packages?"},
		{"packages: a\n", "2:1: packages: must be a list, not text"},
		{"packages: [1]\n", "2:12: packages.0: must be a mapping, a list or text, not a number"},
		{"package_update: 'yes'\n", "2:1: package_update: must be true or false, not text"},
		{"growpart:\n  mode: sometimes\n", "3:3: growpart.mode: must be one of auto, growpart, gpart, off"},
		{"growpart: {mod: auto}\n", "2:12: growpart.mod: there is no such key here: did you mean mode?"},
		{"write_files:\n- content: a\n", "3:3: write_files.0: lacks path"},
		{"runcmd: []\n", "2:1: runcmd: needs at least one item"},
		{"runcmd:\n- {a: b}\n", "3:3: runcmd.0: must be a list, text or nothing, not a mapping"},
		{"users:\n- name: a\n  expiredate: tomorrow\n", "4:3: users.1.expiredate: is not a valid date"},
		{"users:\n- name: 1\n", "users.0.name: must be text, not a number"},
		{"ssh_import_id: a\n", "2:1: ssh_import_id: must be a list, not text"},
		{"swap: {size: 1 pound}\n", "2:8: swap.size: must be one of auto, or does not have the form"},
		{"power_state: {mode: 0644}\n", "power_state.mode: must be text, not a number"},
		{"disable_root: maybe\n", "2:1: disable_root: must be true or false, not text"},
		{"- a\n", "1:1: must be a mapping"},
		{"a: [\n", "is not YAML"},
		{"runcmd:\n- \"a\tb\" # c\td\n- |\n  a:\n  \tb\n- '='\n", ""},
		{"runcmd:\n- echo a\tb\n", "3:9: has a tab"},
		{"package_update:\ttrue\n", "2:16: has a tab"},
		{"runcmd:\n- ü\n-\tb\n", "4:2: has a tab"},
		{"runcmd: # a\tb\n- 'ü\tb' # c\n- 'ü\tb'\t# c\n- a\tb", "4:8: has a tab"},
		{"package_update: true\n\t\n", "3:1: has a tab"},
		{"{\n\t\"package_update\": true\n}\n", "3:1: has a tab"},
		{"runcmd:\n- [test, a, =, b]\n", "3:13: is = or << alone"},
		{"final_message: <<\n", "2:16: is = or << alone"},
		{"runcmd:\n- [curl, 'http://a/?b', \"http://a/?b\"]\n- curl http://a/?b\n- ::1\n", ""},
		{"runcmd:\n- [curl, http://a/?b]\n", "3:10: has a ?, or a : at its start"},
		{"ntp: {servers: [::1]}\n", "2:17: has a ?, or a : at its start"},
		{"users: [{name: a, expiredate: 2032-09-01}]\n", "users.0.expiredate: is a date to YAML, and must be text: put it in quotes"},
		{"final_message: 2032-09-01T00:00:00Z\n", "2:1: final_message: is a date to YAML"},
		{"final_message: 2032-09-01 is no date\n", ""},
		{"swap: {size: 123456789012345678901234567890}\n", ""},
		{"snap: {commands: {" + strings.Repeat("a", 500) + ": b}}\n", ""},
	}
}

// The newer cloud-init's schemas find what they should, where it is. The older one's know no unknown keys at the top.
func TestCloudConfig(t *testing.T) {
	s := load(t, "trixie")
	for _, c := range cases() {
		text := "#cloud-config\n" + c.text
		if c.text[0] == '-' {
			text = c.text
		}
		problems := s.CloudConfig([]byte(text))
		if (len(problems) == 0) != (c.want == "") || !strings.Contains(strings.Replace(fmt.Sprint(problems), "users.1", "users.0", 1), strings.Replace(c.want, "users.1", "users.0", 1)) {
			t.Errorf("%s: got %v, want %q", c.text, problems, c.want)
		}
	}
}

// deprecatedCases are cloud-configs that are fine for the newer cloud-init, and what is deprecated in them.
func deprecatedCases() []struct{ text, want string } {
	return []struct{ text, want string }{
		{"apt_update: true\n", "2:1: apt_update: is deprecated since cloud-init 22.2: Use package_update instead"},
		{"users:\n- name: a\n  lock-passwd: true\n  sudo: false\n", "4:3: users.0.lock-passwd: is deprecated since cloud-init 22.3: Use lock_passwd instead\n" +
			"5:3: users.0.sudo: has changed in cloud-init 22.2: The value false is deprecated for this key, use null instead"},
		{"ca-certs: {remove-defaults: true}\n", "2:1: ca-certs: is deprecated since cloud-init 22.3: Use ca_certs instead\n" +
			"2:12: ca-certs.remove-defaults: is deprecated since cloud-init 22.3: Use remove_defaults instead"},
		{"chpasswd: {list: 'a:b'}\n", "2:12: chpasswd.list: is deprecated since cloud-init 22.2: Use users instead"},
		{"vendor_data: {enabled: 'true'}\n", "vendor_data.enabled: is deprecated"},
		{"ssh_pwauth: 'yes'\n", "ssh_pwauth: has changed in cloud-init 22.3"},
		{"users:\n- {name: a, groups: {b: ~}, uid: '5'}\n", "users.0.groups.b: is deprecated since cloud-init 23.1"},
		{"grub-dpkg: {enabled: true}\n", "grub-dpkg: is deprecated"},
		{"apt_pipelining: none\n", "apt_pipelining: is deprecated since cloud-init 22.4: Use os instead"},
		{"apt_pipelining: os\n", ""},
		{"system_info: {}\n", "system_info: is deprecated"},
		{"ubuntu_advantage: {token: x}\n", "2:1: ubuntu_advantage: is deprecated since cloud-init 24.1: Use ubuntu_pro instead"},
		{"manage_etc_hosts: template\n", "manage_etc_hosts: has changed"},
		{"growpart: {mode: false}\n", "growpart.mode: has changed"},
		{"power_state: {delay: '5', mode: reboot}\n", "power_state.delay: has changed"},
		{"rh_subscription: {org: 5}\n", "rh_subscription.org: is deprecated since cloud-init 24.2"},
		{"package_update: true\ngroups: [a]\n", ""},
		{"package_update: maybe\npackage_update: true\n", "3:1: package_update: is there twice, first in the line above: remove one"},
		{"package_update: maybe\nlocale: C\npackage_update: true\n", "4:1: package_update: is there twice, first 2 lines above: remove one"},
		{"{package_update: maybe, package_update: true}\n", "2:25: package_update: is there twice, first in the same line: remove one"},
		{"write_files:\n- {path: /a, content: !!binary 'aGVs....bG8='}\n", "3:23: write_files.0.content: is !!binary, and no valid base64"},
	}
}

func TestDeprecated(t *testing.T) {
	s := load(t, "trixie")
	for _, c := range deprecatedCases() {
		var lines []string
		for _, p := range s.CloudConfig([]byte("#cloud-config\n" + c.text)) {
			lines = append(lines, p.String())
			if !p.Warning {
				t.Errorf("%s: %v is taken for an error", c.text, p)
			}
		}
		if got := strings.Join(lines, "\n"); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s; want %s", c.text, got, c.want)
		}
	}
	want := "2:1: apt_update: is deprecated: Dropped after April 2027. Use package_update. Default: false"
	if got := load(t, "bookworm").CloudConfig([]byte("#cloud-config\napt_update: true\n")); len(got) != 1 || got[0].String() != want {
		t.Errorf("the older cloud-init's: got %v; want %s", got, want)
	}
	// What is wrong goes before what is deprecated.
	if got := s.CloudConfig([]byte("#cloud-config\napt_update: true\npackages: a\n")); len(got) != 1 || got[0].Warning {
		t.Errorf("got %v", got)
	}
}

// networks are network-configs, and whether they are fine.
func networks() map[string]bool {
	return map[string]bool{
		"version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - type: static\n    address: 192.168.1.1/24\n": true,
		"network:\n  version: 1\n  config:\n  - type: physical\n    name: eth0\n":                                          true,
		"version: 2\nethernets:\n  eth0: {dhcp4: true, addresses: [192.168.1.1/24]}\n":                                     true,
		"network: {version: 2, ethernets: {eth0: {dhcp4: yes}}}\n":                                                         true,
		"version: 1\nconfig: disabled\n":                                                                                   false,
		"version: 1\nconfig:\n- type: fysical\n  name: eth0\n":                                                             false,
		"version: 1\nconfig:\n- type: physical\n":                                                                          false,
		"version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets: [{type: statik}]\n":                               false,
		"version: 2\nethernets:\n  eth0: {dhcp4: perhaps}\n":                                                               false,
		"version: 2\nethernets: [eth0]\n":                                                                                  false,
		"network:\n  version: 2\n  ethernets:\n    eth0: {mtu: big}\n":                                                     false,
	}
}

func TestNetworkConfig(t *testing.T) {
	s := load(t, "trixie")
	for text, fine := range networks() {
		if problems := s.NetworkConfig([]byte(text)); (len(problems) == 0) != fine {
			t.Errorf("%s: got %v, want fine %v", text, problems, fine)
		}
	}
	for text, want := range map[string]string{
		"version: 3\n": "1:1: version: must be 1 or 2", "config: []\n": "1:1: version: must be 1 or 2", "network: {version: '2'}\n": "1:11: network.version: must be 1 or 2", "": "must be 1 or 2",
		"a: [":                          "is not YAML",
		"a: 1\nnetwork: {version: 2}\n": "1:1: a: can't be there beside network",
		"version: 2\nethernets: {eth0: {routes: [{to: default, vai: 192.0.2.1}]}}\n":          "2:43: ethernets.eth0.routes.0.vai: there is no such key here: did you mean via?",
		"network:\n  version: 2\n  ethernets:\n    eth0:\n      mtu: big\n":                   "5:7: network.ethernets.eth0.mtu: must be a whole number, not text",
		"version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - type: statik\n": "6:5: config.0.subnets.0.type: must be one of dhcp4",
		"version: 1\nconfig:\n- type: vlan\n  name: eth0.7\n  vlan_id: 7\n":                   "[3:3: config.0: lacks vlan_link]",
	} {
		if got := fmt.Sprint(s.NetworkConfig([]byte(text))); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	// What cloud-init's parser takes, and its schema lacks, is warned of.
	for text, want := range map[string]string{
		"version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.1\n    prefix: 24\n": "8:5: config.0.subnets.0.prefix: is taken, and yet not in",
		"network:\n  version: 1\n  config:\n  - name: lo\n    type: loopback\n    subnets: [{type: static, address: 127.0.0.1/8}]\n":  "5:5: network.config.0.type: is taken, and yet not in",
		"version: 1\nconfig:\n- {type: infiniband, name: ib0}\n":                                                                      "3:4: config.0.type: is taken, and yet not in",
	} {
		if got := s.NetworkConfig([]byte(text)); len(got) != 1 || !got[0].Warning || !strings.HasPrefix(got[0].String(), want) {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
	}
	// Of version 2 cloud-init asks netplan, where there is one: the schema lacks much of what that takes.
	for text, want := range map[string]string{
		"version: 2\ntunnels: {}\n": "2:1: tunnels: is not in cloud-init's schema",
		"network:\n  version: 2\n  ethernets: {eth0: {routes: [{to: default, via: 192.0.2.1, on-link: true}]}}\n":             "3:61: network.ethernets.eth0.routes.0.on-link: is not in cloud-init's schema",
		"version: 2\nbonds: {b: {interfaces: [], parameters: {mode: 802.3ad, mii-monitor-interval: 100, up-delay: '5ms'}}}\n": "",
		"version: 2\nbridges: {b: {interfaces: [a], parameters: {path-cost: {a: 50}}}}\n":                                     "",
		"version: 2\nethernets: {a: {addresses: [{192.0.2.1/24: {label: b}}]}}\n":                                             "",
	} {
		got := s.NetworkConfig([]byte(text))
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !got[0].Warning || !strings.HasPrefix(got[0].String(), want)) {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
	}
	if older := load(t, "bookworm"); older.HasNetworks() || older.NetworkConfig([]byte("version: 1\nconfig: 1\n")) != nil {
		t.Error("cloud-init 22.4 has no schemas for networks")
	}
}

// Our verdict is that of the real command, of both releases.
func TestVerdictsAreCloudInits(t *testing.T) {
	type document struct {
		Text    string
		Network bool
	}
	warnings := regexp.MustCompile(`(?:deprecations:|,) [\w.-]+: +(?:DEPRECATED: |Deprecated in |Changed in )`)
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			s := load(t, suite)
			root := testenv.CloudInit(t, suite)
			python := testenv.Python(t, "yaml", "jinja2", "configobj", "requests", "jsonpatch", "jsonschema", "oauthlib", "netifaces")
			var documents []document
			for _, c := range append(cases(), deprecatedCases()...) {
				documents = append(documents, document{Text: "#cloud-config\n" + c.text})
			}
			if s.HasNetworks() {
				for text := range networks() {
					documents = append(documents, document{text, true})
				}
			}
			input, err := json.Marshal(documents)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "verdicts.py"), filepath.Join(root, "usr", "lib", "python3", "dist-packages"))
			cmd.Stdin = bytes.NewReader(input)
			cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			output, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.Bytes())
			}
			var verdicts []struct {
				Failed bool
				Said   string
			}
			if err := json.Unmarshal(output, &verdicts); err != nil || len(verdicts) != len(documents) {
				t.Fatalf("%d verdicts for %d documents: %v", len(verdicts), len(documents), err)
			}
			for i, d := range documents {
				ours := s.CloudConfig([]byte(d.Text))
				if d.Network {
					ours = s.NetworkConfig([]byte(d.Text))
				}
				if strings.Contains(fmt.Sprint(ours), "is there twice") || strings.Contains(fmt.Sprint(ours), "no valid base64") {
					continue // PyYAML takes the last of two, and what it can decode, and cloud-init never sees the rest
				}
				deprecated := slices.ContainsFunc(ours, func(p schema.Problem) bool { return p.Warning })
				if (len(ours) > 0 && !deprecated) != verdicts[i].Failed {
					t.Errorf("%s\nours: %v\ncloud-init's: %s", d.Text, ours, verdicts[i].Said)
				}
				if theirs := warnings.FindAllString(verdicts[i].Said, -1); !verdicts[i].Failed && len(theirs) != len(ours) {
					t.Errorf("%s\nours: %v\ncloud-init's: %s", d.Text, ours, verdicts[i].Said)
				}
				for _, p := range ours {
					if p.Warning && !strings.Contains(verdicts[i].Said, " "+p.Path+": ") {
						t.Errorf("%s: %v, of which cloud-init says nothing: %s", d.Text, p, verdicts[i].Said)
					}
				}
			}
		})
	}
}

// None of the examples that cloud-init itself comes with is an error.
func TestExamplesOfCloudInit(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		s := load(t, suite)
		files, err := filepath.Glob(filepath.Join(testenv.CloudInit(t, suite), "usr", "share", "doc", "cloud-init", "examples", "cloud-config*"))
		if err != nil || len(files) < 20 {
			t.Fatalf("%s: %d examples: %v", suite, len(files), err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, ".gz") {
				data = gzipped(t, string(data))
			}
			for _, p := range s.UserData(data) {
				payload := strings.Contains(file, "archive") && strings.Contains(p.Text, "must be a mapping") // whose texts stand for any
				if !p.Warning && !payload && !strings.Contains(file, "datasources") {                         // which is for a file of cloud-init's own
					t.Errorf("%s: %v", file, p)
				}
			}
		}
	}
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUserData(t *testing.T) {
	s := load(t, "trixie")
	const bad = "#cloud-config\npakages: []\n"
	message := func(parts ...string) string {
		text := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n"
		for _, part := range parts {
			text += "--b\n" + part + "\n"
		}
		return text + "--b--\n"
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(bad))
	for _, c := range []struct{ name, data, want string }{
		{"empty", "", ""},
		{"blank", " \n\n", ""},
		{"good", "#cloud-config\npackages: [a]\n", ""},
		{"bad", bad, "2:1: pakages"},
		{"blank lines first", "\n\n" + bad, "4:1: pakages"},
		{"upper case", "#Cloud-Config\npakages: []\n", "2:1: pakages"},
		{"script", "#!/bin/sh\npakages: []\n", ""},
		{"boothook", "#cloud-boothook\npakages: []\n", ""},
		{"archive", "#cloud-config-archive\n- '#!/bin/sh'\n- |\n  #cloud-config\n  packages: [a]\n- {type: text/jinja2, content: 'x', filename: a}\n- {type: text/cloud-config, content: 'packages: [a]'}\n", ""},
		{"archive with cloud-config", "#cloud-config-archive\n- |\n  #cloud-config\n  pakages: []\n- content: |\n    pakages: []\n",
			"[pakages: there is no such key here: did you mean packages? (line 2, column 1 of entry 1 of the archive) pakages: there is no such key here: did you mean packages? (line 1, column 1 of entry 2 of the archive)]"},
		{"archive of another form", "#cloud-config-archive\na: b\n", "1:1: must be a list"},
		{"archive that is no YAML", "#cloud-config-archive\n- [\n", "is not YAML"},
		{"archive with a wrong type", "#cloud-config-archive\n- {type: cloud-config, content: 'a: b'}\n", "2:4: 0.type: must be a type as in a MIME message"},
		{"archive with a number", "#cloud-config-archive\n- {content: 5}\n", "2:4: 0.content: must be text"},
		{"archive with a list", "#cloud-config-archive\n- [a]\n", "2:3: 0: must be text, or a mapping"},
		{"include", "#include\nhttp://x\n", ""},
		{"jinja", "## template: jinja\n#cloud-config\npakages: {{ v1.region }}\n", ""},
		{"no sign", "packages: [a]\n", "1:1: is of no kind that cloud-init knows"},
		{"almost the sign", "# cloud-config\npackages: [a]\n", "here it looks like #cloud-config"},
		{"gzip", string(gzipped(t, bad)), "pakages: there is no such key here: did you mean packages? (line 2, column 1 of the unpacked text)"},
		{"broken gzip", "\x1f\x8bxx", "can't be unpacked"},
		{"message", message("Content-Type: text/x-shellscript\n\n#!/bin/sh\n", "Content-Type: text/cloud-config\n\n"+bad), "13:1: pakages"},
		{"message, no type", message("Content-Type: text/plain\n\n" + bad), "8:1: pakages"},
		{"message, base64", message("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n" + encoded[:8] + "\n" + encoded[8:] + "\n"),
			"(line 2, column 1 of part 1)"},
		{"message, quoted", message("Content-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-config\npakages=3A []\n"), "(line 2, column 1 of part 1)"},
		{"message, gzip", message("Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(gzipped(t, bad))), "(line 2, column 1 of part 1)"},
		{"message in a message", message("Content-Type: multipart/mixed; boundary=\"c\"\n\n--c\nContent-Type: text/cloud-config\n\n" + bad + "--c--\n"), "pakages"},
		{"one part", "Content-Type: text/cloud-config\nMIME-Version: 1.0\n\n" + bad, "5:1: pakages"},
		{"bad base64", message("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n!!!\n"), "part 1 of the MIME message is not in the encoding"},
		{"no boundary", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"x\"\n\n--y\n", "parts can't be told apart"},
		{"no headers", "\nno\nmime-version: 1.0", "is of no kind"},
		{"bad headers", "no\nmime-version: 1.0", "headers can't be read"},
		{"script that sends mail", "#!/bin/sh\necho 'MIME-Version: 1.0' | sendmail root\n", ""},
		{"cloud-config that sends mail", bad + "# MIME-Version: 1.0\n", "2:1: pakages"},
		{"script that sends mail in German", "#!/bin/sh\necho 'MIME-Version: 1.0\nGrüße' | sendmail root\n", "3:3: is not ASCII"},
		{"message in German", message("Content-Type: text/cloud-config; charset=utf-8\n\n#cloud-config\nfinal_message: Größe\n"), "8:18: is not ASCII"},
		{"jinja in a message", message("Content-Type: text/jinja2\n\n## template: jinja\n#cloud-config\nx: {{ y }}\n"), ""},
		{"jinja in a message without a type", message("Content-Type: text/plain\n\n## template: jinja\n#cloud-config\nx: {{ y }}\n"), ""},
		{"jinja in a message, as cloud-config", message("Content-Type: text/cloud-config\n\n## template: jinja\n#cloud-config\nx: {{ y }}\n"), "7:1: is a template, which cloud-init fills in only"},
		{"message without an end", strings.TrimSuffix(message("Content-Type: text/cloud-config\n\n"+bad), "--b--\n"), "[8:1: pakages: there is no such key here: did you mean packages? is a MIME message that ends within a part"},
		{"message with bytes", message("Content-Type: application/octet-stream\n\n" + bad), "part 1 is of a type that cloud-init knows nothing of"},
		{"message with a script for each boot", message("Content-Type: text/x-shellscript-per-boot\n\n#!/bin/sh\n"), ""},
		{"message, gunzip", message("Content-Type: application/x-gunzip\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(gzipped(t, bad))), "(line 2, column 1 of part 1)"},
	} {
		got := s.UserData([]byte(c.data))
		if (len(got) == 0) != (c.want == "") || !strings.Contains(fmt.Sprint(got), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, got, c.want)
		}
	}
	var none *schema.Schemas
	if got := none.UserData([]byte("#cloud-config\na: [\n")); len(got) != 1 {
		t.Errorf("without schemas: %v, want that it is no YAML", got)
	}
	if got := none.UserData([]byte(bad)); len(got) != 0 {
		t.Errorf("without schemas: %v", got)
	}
}

func TestLoad(t *testing.T) {
	if _, err := schema.Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "name the directory with cloud-init's schemas") {
		t.Errorf("an empty directory: %v", err)
	}
	dir := t.TempDir()
	for content, want := range map[string]string{"{": "schema-cloud-config-v1.json", `{"type": 1}`: "schema-cloud-config-v1.json", `{"$ref": "https://example.com/x"}`: "not loaded"} {
		if err := os.WriteFile(filepath.Join(dir, "schema-cloud-config-v1.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := schema.Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", content, err, want)
		}
	}
	inside := filepath.Join(testenv.CloudInit(t, "trixie"), "usr", "lib", "python3", "dist-packages", "cloudinit", "config", "schemas")
	if _, err := schema.Load(inside); err != nil {
		t.Error(err)
	}
	for _, place := range schema.Places() {
		if _, err := schema.Load(place); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
}

func FuzzUserData(f *testing.F) {
	for _, seed := range []string{"#cloud-config\na: b\n", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\nx\n--b--\n", "\x1f\x8b", "#cloud-config-archive\n- content: a\n- '#cloud-config-archive'\n"} {
		f.Add([]byte(seed))
	}
	var s *schema.Schemas
	f.Fuzz(func(t *testing.T, data []byte) {
		first := s.UserData(data)
		if again := s.UserData(data); !reflect.DeepEqual(first, again) {
			t.Errorf("%v, and the second time %v", first, again)
		}
	})
}

func ExampleSchemas_CloudConfig() {
	places := schema.Places()
	if len(places) == 0 {
		fmt.Println("cloud-init is not installed: give Load the directory with its schemas")
		return
	}
	schemas, err := schema.Load(places[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, problem := range schemas.CloudConfig([]byte("#cloud-config\npakages: [nginx]\n")) {
		fmt.Println(problem)
	}
}
