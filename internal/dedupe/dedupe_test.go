package dedupe

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func encode(data []byte) (kept, made []byte) { return data, bytes.ToUpper(data) }

func alone(data []byte) (kept, made []byte) { return data, nil }

func TestEqualDocumentsAreOne(t *testing.T) {
	var table Table
	a := table.Of([]byte("hello"), encode)
	if held := table.Use(a); held != 10 {
		t.Errorf("the first user holds %d bytes, want 10", held)
	}
	never := func(data []byte) ([]byte, []byte) { t.Error("made twice"); return data, nil }
	b := table.Of([]byte("hello"), never)
	if b != a || string(b.Made) != "HELLO" {
		t.Fatalf("an equal document is another one, %q", b.Made)
	}
	if held := table.Use(b); held != 0 {
		t.Errorf("the second user holds %d bytes", held)
	}
	if freed := table.Release(a); freed != 0 {
		t.Errorf("the first to go frees %d bytes", freed)
	}
	if freed := table.Release(b); freed != 10 || table.Len() != 0 {
		t.Errorf("the last frees %d bytes, and %d documents are left", freed, table.Len())
	}
	if c := table.Of([]byte("hello"), alone); c == a || c.Made != nil {
		t.Error("a document that nobody uses was found")
	}
}

func TestOtherDocumentsAreOthers(t *testing.T) {
	var table Table
	a := table.Of([]byte("one"), alone)
	table.Use(a)
	// As if the hashes were the same.
	b := &Document{Bytes: []byte("two"), sum: a.sum}
	if held := table.Use(b); held != 3 {
		t.Errorf("a document of its own holds %d bytes", held)
	}
	if found := table.Of([]byte("one"), alone); found != a {
		t.Error("the one that came first is not found any more")
	}
	table.bySum[table.sum([]byte("two"))] = a
	if found := table.Of([]byte("two"), alone); found == a || string(found.Bytes) != "two" {
		t.Errorf("%q was given for another document of the same hash", found.Bytes)
	}
	if freed := table.Release(b); freed != 3 || table.bySum[a.sum] != a {
		t.Errorf("%d bytes freed; the other document is gone with it: %v", freed, table.bySum[a.sum] != a)
	}
}

func TestDocumentsMadeAtOnce(t *testing.T) {
	var table Table
	// Both are made before either is used: each has its own then, and both are counted.
	a, b := table.Of([]byte("same"), alone), table.Of([]byte("same"), alone)
	if held := table.Use(a) + table.Use(b); held != 8 {
		t.Errorf("they hold %d bytes, want 8", held)
	}
	if freed := table.Release(a); freed != 4 {
		t.Errorf("%d bytes freed, want 4", freed)
	}
	if freed := table.Release(b); freed != 4 || table.Len() != 0 {
		t.Errorf("%d bytes freed, want 4; %d documents are left", freed, table.Len())
	}
}

func TestUsersAtOnce(t *testing.T) {
	var table Table
	var all sync.WaitGroup
	held := make(chan int, 1000)
	for i := range 1000 {
		all.Go(func() {
			want := strings.Repeat("x", i%7+1)
			d := table.Of([]byte(want), encode)
			n := table.Use(d)
			if string(d.Bytes) != want || string(d.Made) != strings.ToUpper(want) {
				t.Errorf("%q was given for %q", d.Bytes, want)
			}
			held <- n - table.Release(d)
		})
	}
	all.Wait()
	close(held)
	sum := 0
	for n := range held {
		sum += n
	}
	if sum != 0 || table.Len() != 0 {
		t.Errorf("%d bytes and %d documents are left", sum, table.Len())
	}
}
