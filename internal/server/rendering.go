package server

import (
	"runtime"
	"sync"
	"weak"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/packet"
)

// rendering is one VM's documents as answers of version 1, ready to be sent.
type rendering struct {
	vm     metadata.VM
	frames [4][]byte // in the order of packet.Documents; nil where there is no such document
	size   int
}

// frame returns the answer with a document, or nil.
func (r *rendering) frame(document packet.Document) []byte {
	for i, d := range packet.Documents() {
		if d == document {
			return r.frames[i]
		}
	}
	return nil
}

// documents returns what the protocol calls the renderings of a VM. There always is a user-data, since cloud-init takes
// no seed without it.
func documents(docs *nocloud.Documents) map[packet.Document][]byte {
	all := map[packet.Document][]byte{packet.MetaData: docs.MetaData, packet.UserData: docs.UserData}
	if docs.UserData == nil {
		all[packet.UserData] = []byte{}
	}
	if docs.VendorData != nil {
		all[packet.VendorData] = docs.VendorData
	}
	if docs.NetworkConfig != nil {
		all[packet.NetworkConfig] = docs.NetworkConfig
	}
	return all
}

// renderings keeps renderings for as long as the driver has the same instance, within a limit.
type renderings struct {
	limit int // bytes

	mu      sync.Mutex
	byKey   map[weak.Pointer[metadata.Instance]]*rendering
	watched map[weak.Pointer[metadata.Instance]]struct{} // instances whose end forget is told of
	size    int
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

// of returns the rendering of instance for vm.
func (rs *renderings) of(vm metadata.VM, instance *metadata.Instance) (*rendering, error) {
	if r := rs.kept(vm, instance); r != nil {
		return r, nil
	}
	key := weak.Make(instance)
	docs, err := nocloud.Render(vm, instance, nocloud.Options{})
	if err != nil {
		return nil, err
	}
	r := &rendering{vm: vm}
	all := documents(docs)
	for i, document := range packet.Documents() {
		if data, ok := all[document]; ok {
			code := document.Request().Response()
			r.frames[i] = packet.AppendFrame(make([]byte, 0, packet.FrameLen(code, len(data))), code, data)
			r.size += len(r.frames[i])
		}
	}
	rs.keep(key, instance, r)
	return r, nil
}

func (rs *renderings) keep(key weak.Pointer[metadata.Instance], instance *metadata.Instance, r *rendering) {
	if r.size > rs.limit {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byKey == nil {
		rs.byKey = make(map[weak.Pointer[metadata.Instance]]*rendering)
		rs.watched = make(map[weak.Pointer[metadata.Instance]]struct{})
	}
	if former := rs.byKey[key]; former != nil {
		rs.size -= former.size
	}
	if _, ok := rs.watched[key]; !ok {
		rs.watched[key] = struct{}{}
		runtime.AddCleanup(instance, rs.forget, key)
	}
	rs.byKey[key] = r
	rs.size += r.size
	for other, o := range rs.byKey { // any will do: all can be made again
		if rs.size <= rs.limit {
			break
		}
		if other != key {
			delete(rs.byKey, other)
			rs.size -= o.size
		}
	}
}

// forget drops the rendering of an instance that the driver has dropped.
func (rs *renderings) forget(key weak.Pointer[metadata.Instance]) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.watched, key)
	if r := rs.byKey[key]; r != nil {
		delete(rs.byKey, key)
		rs.size -= r.size
	}
}
