package packet_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/packet"
)

func documents() map[packet.Document][]byte {
	random := make([]byte, 5000)
	rand.NewChaCha8([32]byte{1}).Read(random)
	return map[packet.Document][]byte{
		packet.MetaData: []byte(strings.Repeat(`{"instance-id":"i"}`, 100)), packet.UserData: {}, packet.VendorData: random,
	}
}

// fetch reads a document of an offer in chunks, as a client does.
func fetch(t *testing.T, o *packet.Offer, reply *packet.HelloReply, name packet.Document, length int64) []byte {
	t.Helper()
	info := reply.Documents[name]
	var encoded []byte
	for int64(len(encoded)) < info.EncodedSize {
		chunk, err := o.Chunk(&packet.ChunkRequest{Generation: reply.Generation, Document: name, Offset: int64(len(encoded)), Length: length}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(chunk.Data) == 0 || len(chunk.Data) > 1000 || int64(len(chunk.Data)) > length || chunk.Offset != int64(len(encoded)) || chunk.Document != name {
			t.Fatalf("asked for %d at %d, got %d at %d of %s", length, len(encoded), len(chunk.Data), chunk.Offset, chunk.Document)
		}
		encoded = append(encoded, chunk.Data...)
	}
	if int64(len(encoded)) != info.EncodedSize {
		t.Fatalf("%s has %d encoded bytes, and %d were announced", name, len(encoded), info.EncodedSize)
	}
	if info.Encoding == "" {
		return encoded
	}
	r, err := gzip.NewReader(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOffer(t *testing.T) {
	for _, compress := range []bool{false, true} {
		o, err := packet.NewOffer(documents(), compress)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := o.Hello(&packet.Hello{Versions: []int{3, 2}, Nonce: "n", Encodings: []string{"zstd", "gzip"}}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Nonce != "n" || reply.Version != 2 || reply.MaxChunk != 1000 || len(reply.Documents) != 3 {
			t.Errorf("got %+v", reply)
		}
		if _, err := packet.ParseHelloReply(reply.Append(nil)); err != nil {
			t.Errorf("the reply is out of its own bounds: %v", err)
		}
		size := 0
		for name, want := range documents() {
			info := reply.Documents[name]
			size += int(info.EncodedSize)
			digest := sha256.Sum256(want)
			if info.Size != int64(len(want)) || info.SHA256 != hex.EncodeToString(digest[:]) {
				t.Errorf("%s: %+v", name, info)
			}
			if gz := info.Encoding == packet.Gzip; gz != (compress && name == packet.MetaData) {
				t.Errorf("%s has encoding %q", name, info.Encoding)
			}
			for _, length := range []int64{1, 999, packet.MaxDocument} {
				if got := fetch(t, o, reply, name, length); !bytes.Equal(got, want) {
					t.Errorf("%s in chunks of %d differs", name, length)
				}
			}
		}
		if o.Size() != size {
			t.Errorf("size %d, and the documents have %d bytes", o.Size(), size)
		}
	}
}

func TestOfferGenerations(t *testing.T) {
	generation := func(compress bool, change func(map[packet.Document][]byte)) string {
		docs := documents()
		change(docs)
		o, err := packet.NewOffer(docs, compress)
		if err != nil {
			t.Fatal(err)
		}
		return o.Generation()
	}
	same := func(map[packet.Document][]byte) {}
	seen := map[string]string{}
	for name, g := range map[string]string{
		"plain": generation(false, same),
		"gzip":  generation(true, same),
		"renamed": generation(false, func(d map[packet.Document][]byte) {
			d[packet.NetworkConfig] = d[packet.VendorData]
			delete(d, packet.VendorData)
		}),
		"one bit": generation(false, func(d map[packet.Document][]byte) { d[packet.VendorData][4999] ^= 1 }),
		"absent":  generation(false, func(d map[packet.Document][]byte) { delete(d, packet.UserData) }),
	} {
		if other, ok := seen[g]; ok {
			t.Errorf("%s and %s have one generation", name, other)
		}
		seen[g] = name
	}
	if first, second := generation(true, same), generation(true, same); first != second {
		t.Error("the same documents have two generations")
	}
}

func TestOfferRefuses(t *testing.T) {
	if _, err := packet.NewOffer(map[packet.Document][]byte{"passwd": nil}, false); err == nil {
		t.Error("an unknown document is taken")
	}
	if _, err := packet.NewOffer(map[packet.Document][]byte{packet.UserData: make([]byte, packet.MaxDocument+1)}, false); err == nil {
		t.Error("a document over the limit is taken")
	}
	o, err := packet.NewOffer(documents(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Hello(&packet.Hello{Versions: []int{1}, Nonce: "n"}, 0); code(err) != packet.BadRequest {
		t.Errorf("a hello of version 1: %v", err)
	}
	if _, err := o.Hello(&packet.Hello{Versions: []int{2}, Nonce: "n"}, 0); err == nil {
		t.Error("gzip is offered to a client that can't undo it")
	}
	for _, tc := range []struct {
		request packet.ChunkRequest
		want    packet.ErrorCode
	}{
		{packet.ChunkRequest{Generation: "other", Document: packet.VendorData, Length: 1}, packet.Stale},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.NetworkConfig, Length: 1}, packet.BadRequest},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.VendorData, Offset: 5000, Length: 1}, packet.BadRequest},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.VendorData, Offset: -1, Length: 1}, packet.BadRequest},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.VendorData, Offset: 0, Length: 0}, packet.BadRequest},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.VendorData, Offset: 1 << 62, Length: 1 << 62}, packet.BadRequest},
		{packet.ChunkRequest{Generation: o.Generation(), Document: packet.UserData, Offset: 0, Length: 1}, packet.BadRequest},
	} {
		if chunk, err := o.Chunk(&tc.request, 0); code(err) != tc.want {
			t.Errorf("%+v: got %v, %v, want %s", tc.request, chunk, err, tc.want)
		}
	}
	chunk, err := o.Chunk(&packet.ChunkRequest{Generation: o.Generation(), Document: packet.VendorData, Offset: 4999, Length: 1 << 62}, 1<<30)
	if err != nil || len(chunk.Data) != 1 || cap(chunk.Data) != 1 {
		t.Errorf("the last byte: %+v, %v", chunk, err)
	}
}

func code(err error) packet.ErrorCode {
	if e, ok := errors.AsType[*packet.Error](err); ok {
		return e.Code
	}
	return ""
}

// TestOffersMadeAtOnce holds that what compresses one VM's documents leaves nothing of them for the next.
func TestOffersMadeAtOnce(t *testing.T) {
	var maker packet.OfferMaker
	for i := range 20 {
		t.Run(fmt.Sprint("VM ", i), func(t *testing.T) {
			t.Parallel()
			for size := 200; size < 20_000; size *= 3 {
				data := bytes.Repeat(fmt.Appendf(nil, "VM %d ", i), size)
				o, err := maker.Make(map[packet.Document][]byte{packet.UserData: data}, true)
				if err != nil {
					t.Fatal(err)
				}
				reply, err := o.Hello(&packet.Hello{Versions: []int{packet.Version}, Nonce: "n", Encodings: []string{packet.Gzip}}, 0)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(fetch(t, o, reply, packet.UserData, 500), data) {
					t.Error("got something else")
				}
			}
		})
	}
}

func BenchmarkOffer(b *testing.B) {
	documents := map[packet.Document][]byte{
		packet.MetaData: []byte(`{"instance-id":"i-1","hostname":"web1","local-hostname":"web1"}`),
		packet.UserData: []byte("#cloud-config\n" + strings.Repeat("# something or other\n", 50)),
	}
	var maker packet.OfferMaker
	b.ReportAllocs()
	for b.Loop() {
		if _, err := maker.Make(documents, true); err != nil {
			b.Fatal(err)
		}
	}
}
