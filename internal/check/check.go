// Package check looks at the data of many VMs before a VM does: whether it can be read and rendered, what cloud-init would say to
// it, and what no two VMs may share.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/nocloud/schema"
)

// Severity is how bad a finding is.
type Severity string

// An Error is what the server or cloud-init refuses, or what does harm to another VM. A Warning is what both take, and is
// hardly meant so.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// The rules that findings are of.
const (
	RuleData          = "data"           // what the driver or the rendering refuses
	RuleUserData      = "user-data"      // cloud-init's schema for cloud-config
	RuleNetworkConfig = "network-config" // cloud-init's schema for networks
	RulePublicKey     = "public-key"
	RuleDuplicate     = "duplicate"
)

// Finding is one thing that is wrong. It shows nothing of a document but keys, names and addresses.
type Finding struct {
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	// VM is the driver's own name for the data.
	VM string `json:"vm"`
	// File, Line and Column are the place, as far as it is known.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Path is the keys and indices that lead to the value.
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

func (f Finding) String() string {
	text := f.Message
	if f.Path != "" {
		text = f.Path + ": " + text
	}
	return fmt.Sprintf("%s: %s: %s", f.place(), f.Severity, text)
}

func (f Finding) place() string {
	if f.File == "" {
		return f.VM
	}
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// Checker collects findings. Its methods may be called at once.
type Checker struct {
	schemas *schema.Schemas

	mu       sync.Mutex
	checked  int
	findings map[Finding]Finding // by what is said, and of which VM only where no file is known
	shared   map[trait][]owner
}

// trait is what VMs should not share.
type trait struct{ kind, value string }

type owner struct{ vm, place, path string }

// New returns a Checker. Without schemas, user-data is only parsed.
func New(schemas *schema.Schemas) *Checker {
	return &Checker{schemas: schemas, findings: map[Finding]Finding{}, shared: map[trait][]owner{}}
}

// Add checks what a driver has for one VM: data, or the error that there is in its place.
func (c *Checker) Add(entry metadata.Entry, err error) {
	v := &vm{key: cmp.Or(entry.Key, entry.VM.String()), instance: entry.Instance}
	if err == nil {
		err = v.check(c.schemas, entry.VM)
	}
	for _, problem := range flatten(err) {
		v.problem(problem)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked++
	for _, f := range v.findings {
		said := f
		if f.File != "" { // a mistake in what many VMs share is one mistake
			said.VM = ""
		}
		if _, known := c.findings[said]; !known {
			c.findings[said] = f
		}
	}
	for t, o := range v.traits {
		c.shared[t] = append(c.shared[t], o)
	}
}

// Checked returns how many VMs were checked so far.
func (c *Checker) Checked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checked
}

// Findings returns what was found so far, in order of their places.
func (c *Checker) Findings() []Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	var findings []Finding
	for _, f := range c.findings {
		findings = append(findings, f)
	}
	for t, owners := range c.shared {
		if len(owners) < 2 {
			continue
		}
		slices.SortFunc(owners, func(a, b owner) int { return cmp.Compare(a.vm, b.vm) })
		for _, o := range owners[1:] {
			findings = append(findings, duplicate(t, o, owners[0]))
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.VM, b.VM), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return findings
}

func duplicate(t trait, o, first owner) Finding {
	f := Finding{Severity: Error, Rule: RuleDuplicate, VM: o.vm, Path: o.path}
	f.File, f.Line, f.Column = splitPlace(o.place)
	f.Message = fmt.Sprintf("the %s %s is also that of %s", t.kind, t.value, cmp.Or(first.place, first.vm))
	if t.kind == kindHostname { // unlucky, and no harm in different domains
		f.Severity = Warning
	}
	return f
}

// flatten returns the errors that were joined.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, inner := range joined.Unwrap() {
			all = append(all, flatten(inner)...)
		}
		return all
	}
	return []error{err}
}

// vm is the check of one VM.
type vm struct {
	key      string
	instance *metadata.Instance
	findings []Finding
	traits   map[trait]owner
}

func (v *vm) problem(err error) {
	f := Finding{Severity: Error, Rule: RuleData, VM: v.key, Message: err.Error()}
	if e, ok := errors.AsType[*metadata.DataError](err); ok {
		f.Path, f.Message = e.Path, e.Problem
		f.File, f.Line, f.Column = splitPlace(e.Origin)
	}
	v.findings = append(v.findings, f)
}

// check looks at the VM's data. Its error is what keeps it from being rendered.
func (v *vm) check(schemas *schema.Schemas, identity metadata.VM) error {
	if identity == (metadata.VM{}) { // of VMs that are not named
		identity.UUID = "00000000-0000-4000-8000-000000000000"
	}
	if identity.Name == "" {
		identity.Name = identity.UUID // names are asked for by templates and for default hostnames alone
	}
	documents, err := nocloud.Render(identity, v.instance, nocloud.Options{})
	v.document(RuleUserData, "userdata", schemas.UserData(v.instance.UserData))
	v.document(RuleUserData, "vendordata", schemas.UserData(v.instance.VendorData))
	v.publicKeys()
	for _, doubt := range nocloud.Doubts(v.instance) {
		if e, ok := errors.AsType[*metadata.DataError](doubt); ok {
			v.at(Warning, RuleNetworkConfig, e.Path, e.Problem)
		}
	}
	v.collect()
	if err != nil {
		return err
	}
	if _, versioned := v.instance.Network["version"]; schemas != nil && documents.NetworkConfig != nil && (versioned || v.instance.Network["network"] != nil) {
		for _, p := range schemas.NetworkConfig(documents.NetworkConfig) {
			network, prefix := v.instance.Network, "network."
			if !versioned {
				network, _ = network["network"].(map[string]any)
				prefix = "network.network."
			}
			path := strings.TrimSuffix(prefix+asGiven(network, p.Path), ".")
			v.at(severityOf(p), RuleNetworkConfig, path, p.Text)
		}
	}
	return nil
}

// asGiven returns a path in a network-config with the key that a card has in the data, where the rendering gave it the card's name.
func asGiven(network map[string]any, path string) string {
	rest, isCard := strings.CutPrefix(path, "ethernets.")
	cards, _ := network["ethernets"].(map[string]any)
	name, below, _ := strings.Cut(rest, ".")
	if _, given := cards[name]; !isCard || given {
		return path
	}
	for key, value := range cards {
		if card, _ := value.(map[string]any); card["set-name"] == name {
			return strings.TrimSuffix("ethernets."+key+"."+below, ".")
		}
	}
	return path
}

// at adds a finding at a path.
func (v *vm) at(severity Severity, rule, path, message string) {
	f := Finding{Severity: severity, Rule: rule, VM: v.key, Path: path, Message: message}
	f.File, f.Line, f.Column = splitPlace(v.locate(path))
	v.findings = append(v.findings, f)
}

func (v *vm) locate(path string) string {
	if v.instance.Origin == nil {
		return ""
	}
	return v.instance.Origin.Locate(path)
}

// severityOf takes what cloud-init warns of for a warning.
func severityOf(p schema.Problem) Severity {
	if p.Warning {
		return Warning
	}
	return Error
}

// document adds what is wrong within user-data or vendor-data, at its own line where that stands in the source.
func (v *vm) document(rule, area string, problems []schema.Problem) {
	lines, hasLines := v.instance.Origin.(metadata.LineOrigin)
	for _, p := range problems {
		f := Finding{Severity: severityOf(p), Rule: rule, VM: v.key, Path: strings.TrimSuffix(area+"."+p.Path, "."), Message: p.Text}
		place := ""
		if hasLines && p.Line > 0 {
			place = lines.LocateLine(area, p.Line, p.Column)
		}
		if place == "" {
			place = v.locatePart(f.Path, p)
			if p.Line > 0 && place == v.locatePart(area, p) {
				f.Message += fmt.Sprintf(" (line %d, column %d of the %s)", p.Line, p.Column, area)
			}
		}
		f.File, f.Line, f.Column = splitPlace(place)
		v.findings = append(v.findings, f)
	}
}

// locatePart is locate for a problem in a document, which may be a message that layers are the parts of.
func (v *vm) locatePart(path string, p schema.Problem) string {
	if parts, ok := v.instance.Origin.(interface {
		LocatePart(path string, line int) string
	}); ok {
		if place := parts.LocatePart(path, cmp.Or(p.Line, p.Part)); place != "" {
			return place
		}
	}
	return v.locate(path)
}

// publicKeys reads the keys as OpenSSH does: those of a list, or of names with a key or a list of keys each.
func (v *vm) publicKeys() {
	const path = "metadata.public-keys"
	switch keys := v.instance.MetaData["public-keys"].(type) {
	case []any:
		v.publicKey(path, keys)
	case map[string]any:
		for name, value := range keys {
			v.publicKey(path+"."+name, value)
		}
	}
}

// publicKey reads one key, or a list of them. What is neither is the rendering's business.
func (v *vm) publicKey(path string, value any) {
	switch key := value.(type) {
	case []any:
		for i, item := range key {
			if _, ok := item.(string); ok {
				v.publicKey(path+"."+strconv.Itoa(i), item)
			}
		}
	case string:
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil {
			v.at(Warning, RulePublicKey, path, "is no public key that OpenSSH can read, so that nobody can log in with it: a key is one line of an authorized_keys file, as in a .pub file")
		}
	}
}

// splitPlace takes "file:line:column" apart. What has no such end is a file.
func splitPlace(place string) (file string, line, column int) {
	rest, last, ok := cutLast(place)
	if !ok {
		return place, 0, 0
	}
	file, line, ok = cutLast(rest)
	if !ok {
		return place, 0, 0
	}
	return file, line, last
}

func cutLast(text string) (string, int, bool) {
	i := strings.LastIndexByte(text, ':')
	if i <= 0 {
		return text, 0, false
	}
	n, err := strconv.Atoi(text[i+1:])
	return text[:i], n, err == nil && n > 0
}
