package check

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
)

// Count returns how many findings are errors, and how many warnings.
func Count(findings []Finding) (errors, warnings int) {
	for _, f := range findings {
		if f.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// WriteText writes a line for each finding, and one in the end.
func WriteText(w io.Writer, checked int, findings []Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	errors, warnings := Count(findings)
	_, err := fmt.Fprintf(w, "%s checked: %s, %s\n", plural(checked, "VM"), plural(errors, "error"), plural(warnings, "warning"))
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// WriteJSON writes one object: {"checked": 2, "errors": 1, "warnings": 0, "findings": […]}.
func WriteJSON(w io.Writer, checked int, findings []Finding) error {
	errors, warnings := Count(findings)
	if findings == nil {
		findings = []Finding{}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Checked  int       `json:"checked"`
		Errors   int       `json:"errors"`
		Warnings int       `json:"warnings"`
		Findings []Finding `json:"findings"`
	}{checked, errors, warnings, findings})
}

// The parts of SARIF 2.1.0 (OASIS) that we write.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID          string    `json:"id"`
		Description sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     Severity        `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artefact sarifArtefact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtefact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
	}
)

func sarifRules() []sarifRule {
	return []sarifRule{
		{RuleData, sarifText{"The data can't be read or rendered."}},
		{RuleUserData, sarifText{"cloud-init would refuse a part of the user-data or vendor-data."}},
		{RuleNetworkConfig, sarifText{"cloud-init would refuse the network-config, or pass over a part of it."}},
		{RulePublicKey, sarifText{"A public key can't be read."}},
		{RuleDuplicate, sarifText{"Two VMs share what one should have alone."}},
	}
}

// WriteSARIF writes the findings in the form that code hosts show beside the lines of a change. Files below the current
// folder are named relative to it.
func WriteSARIF(w io.Writer, version string, findings []Finding) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "vmw-cloudinit-metadata", Version: version, Rules: sarifRules()}}, Results: []sarifResult{}}
	for _, f := range findings {
		text := f.Message
		if f.Path != "" {
			text = f.Path + ": " + text
		}
		location := sarifLocation{Logical: []sarifLogical{{f.VM}}}
		if f.File != "" {
			location.Physical = &sarifPhysical{Artefact: sarifArtefact{relative(f.File)}}
			if f.Line > 0 {
				location.Physical.Region = &sarifRegion{f.Line, f.Column}
			}
		}
		run.Results = append(run.Results, sarifResult{RuleID: f.Rule, Level: f.Severity, Message: sarifText{text}, Locations: []sarifLocation{location}})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

func relative(file string) string {
	here, err := filepath.Abs(".")
	if err != nil {
		return file
	}
	path, err := filepath.Rel(here, file)
	if err != nil || !filepath.IsLocal(path) {
		return filepath.ToSlash(file)
	}
	return filepath.ToSlash(path)
}
