package answers_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vmw-cloudinit-metadata/bench/answers"
)

func TestQuestionsAreRead(t *testing.T) {
	for q := range answers.Questions {
		line := q.AppendRequest(nil)
		for _, spelling := range [][]byte{line, bytes.TrimSuffix(line, []byte("\n")), append(bytes.TrimSpace(line), '\r', '\n')} {
			if got, ok := answers.Parse(spelling); !ok || got != q {
				t.Errorf("Parse(%q) = %v, %v; want %v", spelling, got, ok, q)
			}
		}
	}
	for _, noise := range []string{"", "!!REQUEST_METADATA", "login: !!REQUEST_METADATA#", "!!RESPONSE_METADATA#"} {
		if q, ok := answers.Parse([]byte(noise)); ok {
			t.Errorf("Parse(%q) = %v, want none", noise, q)
		}
	}
}

func TestAnAnswerIsItsDocument(t *testing.T) {
	document := []byte("#cloud-config\n\xff\x00")
	line := answers.UserData.Line(document)
	if want := "!!RESPONSE_USERDATA#I2Nsb3VkLWNvbmZpZwr/AA==\n"; string(line) != want {
		t.Errorf("Line = %q, want %q", line, want)
	}
	got, err := answers.UserData.Document(line)
	if err != nil || !bytes.Equal(got, document) {
		t.Errorf("Document = %q, %v; want %q", got, err, document)
	}
	for _, wrong := range []string{
		"", "!!RESPONSE_METADATA#I2Ns\n", "!!RESPONSE_USERDATA#I2Ns", "!!RESPONSE_USERDATA#I2N\n",
		"!!RESPONSE_ERROR#e30=\n",
	} {
		if got, err := answers.UserData.Document([]byte(wrong)); err == nil {
			t.Errorf("Document(%q) = %q, want an error", wrong, got)
		}
	}
}

func TestASavedSetIsLoaded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	saved := answers.Set{
		answers.MetaData.Line([]byte("{}")), answers.NetworkData.Line(nil), answers.UserData.Line([]byte("#!/bin/sh\n")),
	}
	if err := saved.Save(dir); err != nil {
		t.Fatal(err)
	}
	loaded, err := answers.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for q := range answers.Questions {
		if !bytes.Equal(loaded[q], saved[q]) {
			t.Errorf("%s is loaded as %q, was saved as %q", q, loaded[q], saved[q])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "USERDATA"), []byte("!!RESPONSE_USERDATA#cut"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.Load(dir); err == nil {
		t.Error("a damaged answer is loaded")
	}
}
