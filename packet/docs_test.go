package packet_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/packet"
)

// transcript is a conversation as the documentation shows it: each frame, and what is in its base64.
type transcript struct{ strings.Builder }

func (tr *transcript) say(who string, code packet.Code, data []byte) {
	fmt.Fprintf(tr, "%-6s  %s", who, packet.AppendFrame(nil, code, data))
	for line := range strings.Lines(string(data)) {
		fmt.Fprintf(tr, "      |   %s\n", strings.TrimSuffix(line, "\n"))
	}
}

// The documentation's examples are what this package sends, byte for byte.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../docs/serial-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	metaData, userData := []byte(`{"hostname":"web1","instance-id":"i-1"}`), []byte("#cloud-config\nlocale: C.UTF-8\n")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	var one transcript
	one.say("guest", packet.RequestMetaData, nil)
	one.say("server", packet.ResponseMetaData, metaData)
	one.say("guest", packet.RequestUserData, nil)
	one.say("server", packet.ResponseUserData, userData)
	one.say("guest", packet.RequestVendorData, nil)
	one.say("server", packet.ResponseError, (&packet.Error{Request: packet.RequestVendorData, Code: packet.NotFound, Message: "this VM has no vendor-data"}).Append(nil))

	var two transcript
	hello := packet.Hello{
		Versions: []int{2}, Agent: "example/1.0", Encodings: []string{packet.Gzip}, Nonce: "8c1f09d2",
		NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:ab:00:01"}},
	}
	offer, err := packet.NewOffer(map[packet.Document][]byte{packet.MetaData: metaData, packet.UserData: userData}, hello.Accepts(packet.Gzip))
	must(err)
	reply, err := offer.Hello(&hello, 0)
	must(err)
	two.say("guest", packet.RequestHello, hello.Append(nil))
	two.say("server", packet.ResponseHello, reply.Append(nil))
	ask := func(offset, length int64) {
		request := packet.ChunkRequest{Generation: reply.Generation, Document: packet.UserData, Offset: offset, Length: length}
		chunk, err := offer.Chunk(&request, 0)
		must(err)
		two.say("guest", packet.RequestChunk, request.Append(nil))
		two.say("server", packet.ResponseChunk, chunk.Append(nil))
	}
	ask(0, 14)
	ask(14, 4096)
	report := packet.Report{BootID: "6f2c", Stage: "seed", Generation: reply.Generation, InstanceID: "i-1", Result: "ok"}
	two.say("guest", packet.RequestReport, report.Append(nil))
	two.say("server", packet.ResponseReport, []byte("{}"))

	var three transcript
	request := packet.ChunkRequest{Generation: "0123456789abcdef", Document: packet.UserData, Offset: 14, Length: 4096}
	_, err = offer.Chunk(&request, 0)
	three.say("guest", packet.RequestChunk, request.Append(nil))
	three.say("server", packet.ResponseError, err.(*packet.Error).Append(nil))

	for _, want := range []*transcript{&one, &two, &three} {
		if !strings.Contains(string(page), "```text\n"+want.String()+"```\n") {
			t.Errorf("docs/serial-protocol.md does not show this conversation:\n%s", want.String())
		}
	}
	for _, limit := range []int{packet.MaxLine, packet.MaxCode, packet.MaxDocument, packet.MaxChunk, packet.DefaultChunk} {
		if !strings.Contains(string(page), fmt.Sprintf("| %d |", limit)) {
			t.Errorf("docs/serial-protocol.md does not give the limit %d", limit)
		}
	}
	for _, code := range []packet.ErrorCode{packet.NotFound, packet.Invalid, packet.Unavailable, packet.Denied, packet.Stale, packet.BadRequest} {
		if !strings.Contains(string(page), "| `"+string(code)+"` |") {
			t.Errorf("docs/serial-protocol.md does not explain %s", code)
		}
	}
}

// A message may have as much in it as the documentation says, and no more.
func TestDocumentedLimitsOfMessages(t *testing.T) {
	page, err := os.ReadFile("../docs/serial-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	limit := func(row string) int {
		t.Helper()
		match := regexp.MustCompile(row).FindSubmatch(page)
		if match == nil {
			t.Fatalf("docs/serial-protocol.md has nothing like %s", row)
		}
		n, _ := strconv.Atoi(string(match[1])) // digits
		return n
	}
	hello := func(change func(h *packet.Hello, n int)) func(int) error {
		return func(n int) error {
			h := packet.Hello{Versions: []int{2}, Nonce: "n"}
			change(&h, n)
			_, err := packet.ParseHello(h.Append(nil))
			return err
		}
	}
	report := func(change func(r *packet.Report, n int)) func(int) error {
		return func(n int) error {
			r := packet.Report{BootID: "b", Stage: "seed"}
			change(&r, n)
			_, err := packet.ParseReport(r.Append(nil))
			return err
		}
	}
	token, name, text := `\| bytes of `+"`agent`"+`.* \| (\d+) \|`, `\| bytes of a document's name.* \| (\d+) \|`, `\| bytes of `+"`instance_id`"+`.* \| (\d+) \|`
	for what, tc := range map[string]struct {
		row   string
		parse func(n int) error
	}{
		"versions":    {`\| (\d+) .versions.,`, hello(func(h *packet.Hello, n int) { h.Versions = make([]int, n) })},
		"encodings":   {` (\d+) .encodings.,`, hello(func(h *packet.Hello, n int) { h.Encodings = strings.Split(strings.Repeat("a", n), "") })},
		"nics":        {` (\d+) .nics. \|`, hello(func(h *packet.Hello, n int) { h.NICs = make([]packet.NIC, n) })},
		"agent":       {token, hello(func(h *packet.Hello, n int) { h.Agent = strings.Repeat("a", n) })},
		"nonce":       {token, hello(func(h *packet.Hello, n int) { h.Nonce = strings.Repeat("a", n) })},
		"encoding":    {name, hello(func(h *packet.Hello, n int) { h.Encodings = []string{strings.Repeat("a", n)} })},
		"boot_id":     {token, report(func(r *packet.Report, n int) { r.BootID = strings.Repeat("a", n) })},
		"stage":       {name, report(func(r *packet.Report, n int) { r.Stage = strings.Repeat("a", n) })},
		"result":      {name, report(func(r *packet.Report, n int) { r.Result = strings.Repeat("a", n) })},
		"instance_id": {text, report(func(r *packet.Report, n int) { r.InstanceID = strings.Repeat("a", n) })},
	} {
		n := limit(tc.row)
		if err := tc.parse(n); err != nil {
			t.Errorf("%s at the limit of %d: %v", what, n, err)
		}
		if tc.parse(n+1) == nil {
			t.Errorf("%s may be more than the documented %d", what, n)
		}
	}
}
