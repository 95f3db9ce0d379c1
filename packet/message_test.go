package packet_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/packet"
)

const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func reply() *packet.HelloReply {
	return &packet.HelloReply{Version: 2, Nonce: "n", Generation: "g", MaxChunk: 4096, Documents: map[packet.Document]packet.DocumentInfo{
		packet.MetaData: {Size: 9, SHA256: sum, Encoding: packet.Gzip, EncodedSize: 5}, packet.UserData: {SHA256: sum},
	}}
}

// appender is what all messages have.
type appender interface{ Append([]byte) []byte }

func TestMessagesPrintAndParse(t *testing.T) {
	for _, tc := range []struct {
		message appender
		text    string
		parse   func([]byte) (any, error)
	}{
		{
			&packet.Error{Request: packet.RequestUserData, Code: packet.NotFound, Message: "no <user-data>"},
			`{"request":"REQUEST_USERDATA","code":"not-found","message":"no <user-data>"}`,
			func(b []byte) (any, error) { return packet.ParseError(b) },
		},
		{
			&packet.Hello{Versions: []int{2}, Agent: "a/1", Encodings: []string{"gzip"}, Nonce: "n", NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:00:00:01"}}},
			`{"versions":[2],"agent":"a/1","encodings":["gzip"],"nonce":"n","nics":[{"name":"ens192","mac":"00:50:56:00:00:01"}],"crc32c":"b07a98d2"}`,
			func(b []byte) (any, error) { return packet.ParseHello(b) },
		},
		{
			reply(),
			`{"version":2,"nonce":"n","generation":"g","max_chunk":4096,"documents":{"meta-data":{"size":9,"sha256":"` + sum +
				`","encoding":"gzip","encoded_size":5},"user-data":{"size":0,"sha256":"` + sum + `","encoded_size":0}},"crc32c":"467e5dfb"}`,
			func(b []byte) (any, error) { return packet.ParseHelloReply(b) },
		},
		{
			&packet.ChunkRequest{Generation: "g", Document: packet.UserData, Offset: 4096, Length: 256},
			`{"generation":"g","document":"user-data","offset":4096,"length":256}`,
			func(b []byte) (any, error) { return packet.ParseChunkRequest(b) },
		},
		{
			&packet.Chunk{Document: packet.UserData, Offset: 7, Data: []byte("123456789"), Generation: "g"},
			`{"document":"user-data","offset":7,"length":9,"crc32c":"e3069283","generation":"g"}` + "\n123456789",
			func(b []byte) (any, error) { return packet.ParseChunk(b) },
		},
		{
			&packet.Report{BootID: "b", Stage: "seed", Generation: "g", InstanceID: "i", Result: "ok", Message: "m"},
			`{"boot_id":"b","stage":"seed","generation":"g","instance_id":"i","result":"ok","message":"m","crc32c":"8344f064"}`,
			func(b []byte) (any, error) { return packet.ParseReport(b) },
		},
	} {
		text := string(tc.message.Append([]byte("ahead ")))
		if text != "ahead "+tc.text {
			t.Errorf("%T prints as\n%s, want\n%s", tc.message, text, tc.text)
		}
		got, err := tc.parse([]byte(tc.text))
		if err != nil || !reflect.DeepEqual(got, tc.message) {
			t.Errorf("%T parses as %+v, %v", tc.message, got, err)
		}
		later := strings.Replace(tc.text, `{"`, `{"later":[{}],"`, 1)
		if _, err := tc.parse([]byte(later)); (err != nil) != packet.Sealed([]byte(tc.text)) {
			t.Errorf("%T with a key that came in unsealed: %v", tc.message, err)
		}
		if _, err := tc.parse([]byte(tc.text[:len(tc.text)-1])); err == nil {
			t.Errorf("%T: a message cut short is taken", tc.message)
		}
	}
}

func TestUnknownKeysAndEntriesAreIgnored(t *testing.T) {
	hello, err := packet.ParseHello([]byte(`{"versions":[1,2,3],"nonce":"n","colour":"red","nics":[{"name":"a","mac":"00:50:56:AB:00:01","speed":1},{"name":"ib0","mac":"80:00:02:08:fe:80"},` +
		`{"name":"b","mac":"zz:50:56:00:00:01"},{"name":"ib1","mac":"80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:0a:0b:0c"},{"name":"c","mac":"00-50-56-00-00-01"},{"name":"d"},{"name":"","mac":"00:50:56:00:00:02"}]}`))
	want := &packet.Hello{Versions: []int{1, 2, 3}, Nonce: "n", NICs: []packet.NIC{{Name: "a", MAC: "00:50:56:ab:00:01"}, {Name: "ib0", MAC: "80:00:02:08:fe:80"}}}
	if err != nil || !reflect.DeepEqual(hello, want) {
		t.Errorf("got %+v, %v", hello, err)
	}
	r, err := packet.ParseHelloReply([]byte(`{"version":2,"nonce":"n","generation":"g","max_chunk":1,"documents":{"user-data":{"size":0,"sha256":"` + sum + `"},"new-data":{"size":-1}}}`))
	if err != nil || len(r.Documents) != 1 || r.Documents[packet.UserData].SHA256 != sum {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestEncodedSizeMayBeLeftOutWithoutAnEncoding(t *testing.T) {
	r, err := packet.ParseHelloReply([]byte(`{"version":2,"nonce":"n","generation":"g","max_chunk":1,"documents":{"user-data":{"size":9,"sha256":"` + sum + `"}}}`))
	if want := (packet.DocumentInfo{Size: 9, SHA256: sum, EncodedSize: 9}); err != nil || r.Documents[packet.UserData] != want {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestMessagesOutOfBounds(t *testing.T) {
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	info := func(text string) string {
		return `{"version":2,"nonce":"n","generation":"g","max_chunk":1,"documents":{"user-data":` + text + `}}`
	}
	for name, parse := range map[string]func(string) error{
		"hello":  func(s string) error { _, err := packet.ParseHello([]byte(s)); return err },
		"reply":  func(s string) error { _, err := packet.ParseHelloReply([]byte(s)); return err },
		"chunk?": func(s string) error { _, err := packet.ParseChunkRequest([]byte(s)); return err },
		"chunk":  func(s string) error { _, err := packet.ParseChunk([]byte(s)); return err },
		"report": func(s string) error { _, err := packet.ParseReport([]byte(s)); return err },
		"error":  func(s string) error { _, err := packet.ParseError([]byte(s)); return err },
	} {
		for _, text := range map[string][]string{
			"hello": {
				``, `[]`, `{}`, `{"nonce":""}`, `{"nonce":"` + strings.Repeat("n", 129) + `"}`, `{"nonce":"a\nb"}`, "{\"nonce\":\"\xff\"}",
				`{"nonce":"n","versions":[` + many(17, "2") + `]}`, `{"nonce":"n","encodings":[` + many(9, `"a"`) + `]}`, `{"nonce":"n","encodings":[""]}`,
				`{"nonce":"n","nics":[` + many(65, `{}`) + `]}`, `{"nonce":"n","agent":"\u001b[2J"}`, `{"nonce":"n"} {}`,
				`{"nonce":"n","crc32c":"00000000"}`,
			},
			"reply": {
				`{"version":2,"nonce":"n","generation":"","max_chunk":1}`, `{"version":2,"nonce":"n","generation":"g","max_chunk":0}`,
				`{"version":2,"nonce":"n","generation":"g","max_chunk":65537}`, info(`{"size":-1,"sha256":"` + sum + `"}`),
				info(`{"size":33554433,"sha256":"` + sum + `"}`), info(`{"size":1,"sha256":"00"}`), info(`{"size":1,"encoded_size":2,"sha256":"` + sum + `"}`),
				info(`{"size":1,"encoded_size":33554433,"encoding":"gzip","sha256":"` + sum + `"}`),
			},
			"chunk?": {
				`{}`, `{"generation":"g","document":"user-data","offset":-1,"length":1}`, `{"generation":"g","document":"user-data","offset":0,"length":0}`,
				`{"generation":"g","document":"","offset":0,"length":1}`, `{"generation":"g","document":"user-data","offset":99999999999,"length":1}`,
			},
			"chunk": {
				`{"document":"user-data","offset":7,"length":9,"crc32c":"e3069283"}`, `{"document":"user-data","offset":7,"length":8,"crc32c":"e3069283"}` + "\n123456789",
				`{"document":"user-data","offset":7,"length":9,"crc32c":"e3069284"}` + "\n123456789", `{"offset":7,"length":9,"crc32c":"e3069283"}` + "\n123456789",
			},
			"report": {`{}`, `{"boot_id":"b"}`, `{"boot_id":"b","stage":"s","message":"` + strings.Repeat("m", 1025) + `"}`},
			"error":  {`{}`, `{"code":""}`, `{"code":"invalid","request":"` + strings.Repeat("R", 33) + `"}`},
		}[name] {
			if parse(text) == nil {
				t.Errorf("%s: %s is taken", name, text)
			}
		}
	}
}

func TestErrorMessageIsFitForATerminal(t *testing.T) {
	e := packet.Error{Request: "REQUEST_X", Code: packet.Invalid, Message: "line 1\nline 2\x1b[2J\u009b"}
	if got, err := packet.ParseError(e.Append(nil)); err != nil || got.Message != "line 1 line 2 [2J " {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestErrorMessageIsCutBetweenCharacters(t *testing.T) {
	e := packet.Error{Request: "REQUEST_X", Code: packet.Invalid, Message: "e" + strings.Repeat("é", 600)}
	sent := e.Append(nil)
	if len(sent) > 1100 {
		t.Errorf("%d bytes are sent", len(sent))
	}
	whole := bytes.Replace(sent, []byte("é"), []byte(strings.Repeat("é", 600)), 1) // of who does not cut
	for _, data := range [][]byte{sent, whole} {
		if got, err := packet.ParseError(data); err != nil || got.Message != "e"+strings.Repeat("é", 511) {
			t.Errorf("%d bytes, %v", len(got.Message), err)
		}
	}
}

// What protects a message must find a single flipped bit anywhere in it, or leave the message unharmed.
func TestSealFindsEveryFlippedBit(t *testing.T) {
	want := reply()
	text := want.Append(nil)
	for i := range text {
		for bit := range 8 {
			damaged := bytes.Clone(text)
			damaged[i] ^= 1 << bit
			if got, err := packet.ParseHelloReply(damaged); err == nil && !reflect.DeepEqual(got, want) {
				t.Fatalf("%s is taken", damaged)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add((&packet.Error{Request: "REQUEST_X", Code: packet.Stale, Message: "m"}).Append(nil))
	f.Add((&packet.Hello{Versions: []int{2}, Nonce: "n", NICs: []packet.NIC{{Name: "a", MAC: "00:50:56:00:00:01"}}}).Append(nil))
	f.Add(reply().Append(nil))
	f.Add((&packet.ChunkRequest{Generation: "g", Document: "user-data", Length: 1}).Append(nil))
	f.Add((&packet.Chunk{Document: "user-data", Data: []byte("data")}).Append(nil))
	f.Add((&packet.Report{BootID: "b", Stage: "seed"}).Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (appender, error){
			func(b []byte) (appender, error) { return packet.ParseError(b) },
			func(b []byte) (appender, error) { return packet.ParseHello(b) },
			func(b []byte) (appender, error) { return packet.ParseHelloReply(b) },
			func(b []byte) (appender, error) { return packet.ParseChunkRequest(b) },
			func(b []byte) (appender, error) { return packet.ParseChunk(b) },
			func(b []byte) (appender, error) { return packet.ParseReport(b) },
		} {
			message, err := parse(data)
			if err != nil {
				continue
			}
			text := message.Append(nil)
			again, err := parse(text)
			if err != nil {
				t.Fatalf("%T: %s does not parse: %v", message, text, err)
			}
			if printed := again.Append(nil); !bytes.Equal(printed, text) {
				t.Fatalf("%T: %s, and then %s", message, text, printed)
			}
		}
	})
}

func TestReportsMessageIsMadeToFit(t *testing.T) {
	long := packet.Report{BootID: "b", Stage: "seed", Message: "no\nspace\u0085left " + strings.Repeat("ü", 1000)}
	got, err := packet.ParseReport(long.Append(nil))
	if err != nil || !strings.HasPrefix(got.Message, "no space left üü") || len(got.Message) > 1024 {
		t.Errorf("got %+v, %v", got, err)
	}
}
