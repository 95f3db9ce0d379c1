package server

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"vmw-cloudinit-metadata/internal/dedupe"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/packet"
)

// frames are one VM's documents as answers of version 1, ready to be sent, in the order of packet.Documents; nil where there
// is no such document.
type frames [4][]byte

// of returns the answer with a document, or nil.
func (f *frames) of(document packet.Document) []byte {
	for i, d := range packet.Documents() {
		if d == document {
			return f[i]
		}
	}
	return nil
}

// rendering is frames that are kept.
type rendering struct {
	vm       metadata.VM
	instance weak.Pointer[metadata.Instance] // a rendering does not keep it
	frames   atomic.Pointer[frames]          // nil once they had to make room: guests may keep the rest
	shared   [4]*dedupe.Document             // those of frames that may be other VMs' too; nil as well then
	size     int                             // of the other frames
}

// documents renders instance for vm, and returns the documents by the names that the protocol has for them. There always
// is a user-data, since cloud-init takes no seed without it.
func documents(vm metadata.VM, instance *metadata.Instance, options nocloud.Options) (map[packet.Document][]byte, error) {
	docs, err := nocloud.Render(vm, instance, options)
	if err != nil {
		return nil, err
	}
	all := map[packet.Document][]byte{packet.MetaData: docs.MetaData, packet.UserData: docs.UserData}
	if docs.VendorData != nil {
		all[packet.VendorData] = docs.VendorData
	}
	if docs.NetworkConfig != nil {
		all[packet.NetworkConfig] = docs.NetworkConfig
	}
	for _, document := range packet.Documents() {
		if size := len(all[document]); size > packet.MaxDocument {
			return nil, tooLarge(instance, document, size)
		}
	}
	return all, nil
}

// tooLarge is the error of a document that no guest takes.
func tooLarge(instance *metadata.Instance, document packet.Document, size int) error {
	path := map[packet.Document]string{
		packet.MetaData: "metadata", packet.UserData: "userdata", packet.VendorData: "vendordata", packet.NetworkConfig: "network",
	}[document]
	problem := fmt.Sprintf("the %s has %d bytes, and a guest takes at most %d: let it fetch the rest, with #include say", document, size, packet.MaxDocument)
	origin := ""
	if instance.Origin != nil {
		origin = instance.Origin.Locate(path)
	}
	return &metadata.DataError{Origin: origin, Path: path, Problem: problem}
}

// renderings keeps renderings for as long as the driver has the same instance, within a limit.
type renderings struct {
	limit  int             // bytes
	shared [4]dedupe.Table // of documents with their frames, in the order of packet.Documents

	mu    sync.Mutex
	byKey map[weak.Pointer[metadata.Instance]]*rendering // nil for an instance whose rendering had to make room
	size  int
}

// kept returns the rendering of instance for vm if there is one already.
func (rs *renderings) kept(vm metadata.VM, instance *metadata.Instance) *rendering {
	key := weak.Make(instance)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.byKey[key]; r != nil && r.vm == vm {
		return r
	}
	return nil
}

// of returns the answers for vm that instance makes.
func (rs *renderings) of(vm metadata.VM, instance *metadata.Instance) (*frames, error) {
	if r := rs.kept(vm, instance); r != nil {
		if ready := r.frames.Load(); ready != nil {
			return ready, nil
		}
	}
	all, err := documents(vm, instance, nocloud.Options{})
	if err != nil {
		return nil, err
	}
	r, ready := &rendering{vm: vm, instance: weak.Make(instance)}, new(frames)
	for i, document := range packet.Documents() {
		data, ok := all[document]
		if !ok {
			continue
		}
		// Only these are what VMs have in common.
		if text := document == packet.UserData || document == packet.VendorData; text && len(data) >= dedupe.MinSize {
			r.shared[i] = rs.shared[i].Of(data, func(data []byte) (kept, made []byte) { return data, frameOf(document, data) })
			ready[i] = r.shared[i].Made
			continue
		}
		ready[i] = frameOf(document, data)
		r.size += len(ready[i])
	}
	r.frames.Store(ready)
	rs.keep(instance, r)
	return ready, nil
}

// frameOf returns the answer with a document.
func frameOf(document packet.Document, data []byte) []byte {
	code := document.Request().Response()
	return packet.AppendFrame(make([]byte, 0, packet.FrameLen(code, len(data))), code, data)
}

func (rs *renderings) keep(instance *metadata.Instance, r *rendering) {
	key := r.instance
	if r.total() > rs.limit {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byKey == nil {
		rs.byKey = make(map[weak.Pointer[metadata.Instance]]*rendering)
	}
	former, known := rs.byKey[key]
	if !known { // one cleanup an instance, however often it is rendered
		runtime.AddCleanup(instance, rs.forget, key)
	}
	rs.byKey[key] = r
	rs.charge(r)
	if former != nil {
		rs.release(former)
	}
	for other, o := range rs.byKey { // any will do: all can be made again
		if rs.size <= rs.limit {
			break
		}
		if o != nil && other != key {
			rs.byKey[other] = nil
			rs.release(o)
		}
	}
}

// total is what r takes if no other has anything in common with it.
func (r *rendering) total() int {
	total := r.size
	for _, d := range r.shared {
		if d != nil {
			total += len(d.Made)
		}
	}
	return total
}

// charge counts what r takes: answers, but not the documents themselves, which are the instance's. rs.mu is held.
func (rs *renderings) charge(r *rendering) {
	rs.size += r.size
	for i, d := range r.shared {
		if d != nil && rs.shared[i].Use(d) > 0 {
			rs.size += len(d.Made)
		}
	}
}

// release is for an r that is kept no longer, and leaves nothing to those that hold it. rs.mu is held.
func (rs *renderings) release(r *rendering) {
	r.frames.Store(nil)
	rs.size -= r.size
	for i, d := range r.shared {
		if d != nil && rs.shared[i].Release(d) > 0 {
			rs.size -= len(d.Made)
		}
		r.shared[i] = nil
	}
}

// forget drops the rendering of an instance that the driver has dropped.
func (rs *renderings) forget(key weak.Pointer[metadata.Instance]) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.byKey[key]; r != nil {
		rs.release(r)
	}
	delete(rs.byKey, key)
}
