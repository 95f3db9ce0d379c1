package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
	"weak"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/packet"
)

// How many bytes of documents, a second and at once, are prepared for a transfer of one guest's: to be hashed and
// compressed takes a few per cent of a processor then. An honest guest needs them once at a boot.
const (
	offerRate  = 2 << 20
	offerBurst = packet.MaxDocument
)

// transfer is what a guest of version 2 said in its last hello: enough to make the same offer again.
type transfer struct {
	mu       sync.Mutex
	said     bool
	nics     []nocloud.NIC
	compress bool
	paid     time.Time // until when the offers so far use up what offerRate allows
}

// afford reports whether another offer may be made now, whose size will be charged for.
func (t *transfer) afford() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Until(t.paid) <= offerBurst*time.Second/offerRate
}

// charge is for an offer of documents of size bytes.
func (t *transfer) charge(size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.paid.Before(now) {
		t.paid = now
	}
	t.paid = t.paid.Add(time.Duration(size) * time.Second / offerRate)
}

// hello answers REQUEST_HELLO.
func (g *guest) hello(ctx context.Context, data []byte) ([]byte, error) {
	hello, err := packet.ParseHello(data)
	if err != nil {
		return nil, &packet.Error{Code: packet.BadRequest, Message: err.Error()}
	}
	t := &g.transfer
	t.mu.Lock()
	t.said, t.compress, t.nics = true, hello.Accepts(packet.Gzip), nil
	for _, nic := range hello.NICs {
		t.nics = append(t.nics, nocloud.NIC{Name: nic.Name, MAC: nic.MAC})
	}
	t.mu.Unlock()
	offer, err := g.offer(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := offer.Hello(hello, 0)
	if err != nil {
		return nil, err
	}
	return packet.AppendFrame(nil, packet.ResponseHello, reply.Append(nil)), nil
}

// offer makes the guest's offer from what the driver has now, and keeps it. While that is the same, and the guest says
// the same of itself, the offer is: compressing it again at each hello would let a guest keep a processor busy.
func (g *guest) offer(ctx context.Context) (*packet.Offer, error) {
	vm, instance, err := g.find(ctx)
	if err != nil {
		return nil, err
	}
	t := &g.transfer
	t.mu.Lock()
	made := making{vm, weak.Make(instance), t.nics, t.compress}
	t.mu.Unlock()
	if former, of := g.server.offers.of(g); former != nil && of.equal(made) {
		return former, nil
	}
	if !t.afford() {
		g.server.stats.Throttled.Add(1)
		return nil, &packet.Error{Code: packet.Unavailable, Message: "too many transfers were begun; try again"}
	}
	all, err := documents(vm, instance, nocloud.Options{NICs: made.nics})
	if err != nil {
		return nil, err
	}
	size := 0
	for _, data := range all {
		size += len(data)
	}
	t.charge(size)
	offer, err := g.server.offers.maker.Make(all, made.compress)
	if err != nil {
		return nil, err
	}
	g.server.offers.keep(g, offer, made)
	return offer, nil
}

// making is what an offer is made of.
type making struct {
	vm       metadata.VM
	instance weak.Pointer[metadata.Instance] // an offer does not keep it
	nics     []nocloud.NIC
	compress bool
}

func (m making) equal(other making) bool {
	return m.vm == other.vm && m.instance == other.instance && m.compress == other.compress && slices.Equal(m.nics, other.nics)
}

// chunk answers REQUEST_CHUNK. An offer that is no longer kept is made again; it is as good if the data is the same.
func (g *guest) chunk(ctx context.Context, data []byte) ([]byte, error) {
	request, err := packet.ParseChunkRequest(data)
	if err != nil {
		return nil, &packet.Error{Code: packet.BadRequest, Message: err.Error()}
	}
	offer, _ := g.server.offers.of(g)
	if offer == nil {
		g.transfer.mu.Lock()
		said := g.transfer.said
		g.transfer.mu.Unlock()
		if !said {
			return nil, &packet.Error{Code: packet.Stale, Message: "say hello first"}
		}
		if offer, err = g.offer(ctx); err != nil {
			return nil, err
		}
	}
	chunk, err := offer.Chunk(request, 0)
	if err != nil {
		return nil, err
	}
	return packet.AppendFrame(nil, packet.ResponseChunk, chunk.Append(nil)), nil
}

// report answers REQUEST_REPORT.
func (g *guest) report(data []byte) ([]byte, error) {
	report, err := packet.ParseReport(data)
	if err != nil {
		return nil, &packet.Error{Code: packet.BadRequest, Message: err.Error()}
	}
	g.server.offers.drop(g)
	level, message := slog.LevelInfo, "the guest reports"
	if report.Result != "" && report.Result != "ok" {
		level, message = slog.LevelWarn, "the guest reports a failure"
	}
	g.server.quiet.log(g.server.log, level, message+" "+sayKey(g.vm()), message,
		logged(g.vm()), "stage", report.Stage, "result", report.Result, "instance-id", report.InstanceID, "message", report.Message)
	return packet.AppendFrame(nil, packet.ResponseReport, []byte("{}")), nil
}

// offers keeps the offers of transfers under way, within a limit.
type offers struct {
	limit int // bytes
	maker packet.OfferMaker

	mu      sync.Mutex
	byGuest map[*guest]keptOffer
	size    int
}

type keptOffer struct {
	*packet.Offer
	made making
}

func (o *offers) of(g *guest) (*packet.Offer, making) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.byGuest[g]
	return kept.Offer, kept.made
}

func (o *offers) keep(g *guest, offer *packet.Offer, made making) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(g)
	if o.byGuest == nil {
		o.byGuest = make(map[*guest]keptOffer)
	}
	o.byGuest[g] = keptOffer{offer, made}
	o.size += offer.Size()
	for other := range o.byGuest { // any will do: all can be made again
		if o.size <= o.limit {
			break
		}
		if other != g {
			o.remove(other)
		}
	}
	if g.isClosed() {
		o.remove(g)
	}
}

func (o *offers) drop(g *guest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(g)
}

func (o *offers) remove(g *guest) {
	if kept, ok := o.byGuest[g]; ok {
		o.size -= kept.Size()
		delete(o.byGuest, g)
	}
}
