package packet

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
)

// Offer is the server's side of version 2: a VM's documents, ready to be fetched in chunks. It never changes once it is
// made, so any number of requests, and VMs with the same documents, may share one.
type Offer struct {
	generation string
	documents  map[Document]offered
}

type offered struct {
	info    DocumentInfo
	encoded []byte
}

// OfferMaker makes offers, and uses again what compressing takes: 800 KiB, at a storm of boots more than the documents
// themselves. The zero value is ready. Its methods may be called at once.
type OfferMaker struct {
	writers sync.Pool // of *gzip.Writer
}

// NewOffer makes an offer as an OfferMaker does.
func NewOffer(documents map[Document][]byte, compress bool) (*Offer, error) {
	return new(OfferMaker).Make(documents, compress)
}

// Make makes an offer of documents, which must not be changed any more. With compress, those that gzip makes
// smaller are sent with it: the hello must accept Gzip. The same documents make the same offer, on any server of the
// same build, so that a transfer survives a server's restart.
func (m *OfferMaker) Make(documents map[Document][]byte, compress bool) (*Offer, error) {
	o := &Offer{documents: make(map[Document]offered, len(documents))}
	names := make([]Document, 0, len(documents))
	for name, data := range documents {
		if !name.Valid() {
			return nil, fmt.Errorf("packet: %q is no document", name)
		}
		if len(data) > MaxDocument {
			return nil, fmt.Errorf("packet: %s has %d bytes, and may have %d", name, len(data), MaxDocument)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range names {
		o.documents[name] = m.offer(documents[name], compress)
		info := o.documents[name].info
		fmt.Fprintf(sum, "%s %s %s %d\n", name, info.SHA256, info.Encoding, info.EncodedSize)
		sum.Write(o.documents[name].encoded)
	}
	o.generation = hex.EncodeToString(sum.Sum(nil)[:16])
	return o, nil
}

func (m *OfferMaker) offer(data []byte, compress bool) offered {
	sum := sha256.Sum256(data)
	info := DocumentInfo{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), EncodedSize: int64(len(data))}
	if compress {
		if smaller := m.compressed(data); len(smaller) < len(data) {
			info.Encoding, info.EncodedSize = Gzip, int64(len(smaller))
			data = smaller
		}
	}
	return offered{info, data}
}

func (m *OfferMaker) compressed(data []byte) []byte {
	var buffer bytes.Buffer
	w, ok := m.writers.Get().(*gzip.Writer)
	if !ok {
		w = gzip.NewWriter(nil)
	}
	defer m.writers.Put(w)
	w.Reset(&buffer)
	// Neither can fail: a Buffer takes all.
	_, _ = w.Write(data)
	_ = w.Close()
	return buffer.Bytes()
}

// Generation names the offer's content.
func (o *Offer) Generation() string { return o.generation }

// Size returns how many bytes of memory the encoded documents take.
func (o *Offer) Size() int {
	n := 0
	for _, d := range o.documents {
		n += len(d.encoded)
	}
	return n
}

// Hello answers a hello. maxChunk bounds the chunks; 0 means DefaultChunk. An error that is the
// request's fault is an *Error.
func (o *Offer) Hello(hello *Hello, maxChunk int) (*HelloReply, error) {
	if !slices.Contains(hello.Versions, Version) {
		return nil, &Error{RequestHello, BadRequest, "this server speaks version 2"}
	}
	reply := &HelloReply{
		Version: Version, Nonce: hello.Nonce, Generation: o.generation, MaxChunk: chunkSize(maxChunk),
		Documents: make(map[Document]DocumentInfo, len(o.documents)),
	}
	for name, d := range o.documents {
		if d.info.Encoding != "" && !hello.Accepts(d.info.Encoding) {
			return nil, fmt.Errorf("packet: the offer of %s is encoded, and the hello does not accept that", name)
		}
		reply.Documents[name] = d.info
	}
	return reply, nil
}

// Chunk answers a request for a chunk, with at most maxChunk bytes (0 means DefaultChunk) and never more than there
// are. The Chunk's Data belongs to the offer. The error is an *Error.
func (o *Offer) Chunk(request *ChunkRequest, maxChunk int) (*Chunk, error) {
	if request.Generation != o.generation {
		return nil, &Error{RequestChunk, Stale, "the data changed: say hello again"}
	}
	d, ok := o.documents[request.Document]
	size := int64(len(d.encoded))
	switch {
	case !ok:
		return nil, &Error{RequestChunk, BadRequest, "no such document was offered"}
	case request.Offset < 0 || request.Offset >= size || request.Length < 1:
		return nil, &Error{RequestChunk, BadRequest, "offset or length out of range"}
	}
	end := min(size, request.Offset+min(request.Length, int64(chunkSize(maxChunk))))
	return &Chunk{request.Document, request.Offset, d.encoded[request.Offset:end:end], o.generation}, nil
}

func chunkSize(n int) int {
	if n <= 0 {
		return DefaultChunk
	}
	return min(n, MaxChunk)
}
