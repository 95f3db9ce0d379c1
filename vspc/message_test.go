package vspc_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fullList is every command that is known, in the order that a host was seen to list them.
var fullList = []byte{0, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, 80, 81, 84, 85, 86, 87, 82, 83}

const (
	uuidText = "01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00"
	uuidHex  = "30 31 20 32 33 20 34 35 20 36 37 20 38 39 20 61 62 20 63 64 20 65 66 2d" +
		"66 65 20 64 63 20 62 61 20 39 38 20 30 30 20 30 30 20 30 30 20 30 30"
)

func TestMessagesOnTheWire(t *testing.T) {
	for _, tc := range []struct {
		wire string
		want vspc.Message
	}{
		{"ff fa e8 00 00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 54 55 56 57 52 53 ff f0", vspc.KnownSuboptions1{Commands: fullList}},
		{"ff fa e8 01 00 ff ff 53 ff f0", vspc.KnownSuboptions2{Commands: []byte{0, 255, 0x53}}},
		{"ff fa e8 02 63 ff f0", vspc.UnknownSuboption1{Unknown: 99}},
		{"ff fa e8 03 63 ff f0", vspc.UnknownSuboption2{Unknown: 99}},
		{"ff fa e8 03 ff ff ff f0", vspc.UnknownSuboption2{Unknown: 255}},
		{"ff fa e8 28 76 19 ff ff e9 ff f0", vspc.VMotionBegin{Sequence: []byte{0x76, 0x19, 0xff, 0xe9}}},
		{"ff fa e8 28 ff f0", vspc.VMotionBegin{Sequence: []byte{}}},
		{"ff fa e8 29 ff ff ff ff f0 ff ff 11 22 33 ff ff ff f0", vspc.VMotionGoAhead{SequenceAndSecret: []byte{0xff, 0xff, 0xf0, 0xff, 0x11, 0x22, 0x33, 0xff}}},
		{"ff fa e8 2b cd 52 67 55 ff f0", vspc.VMotionNotNow{Sequence: []byte{0xcd, 0x52, 0x67, 0x55}}},
		{"ff fa e8 2c 44 da 87 f1 3c e6 4d ab ff f0", vspc.VMotionPeer{SequenceAndSecret: []byte{0x44, 0xda, 0x87, 0xf1, 0x3c, 0xe6, 0x4d, 0xab}}},
		{"ff fa e8 2d 76 19 ff ff e9 ff f0", vspc.VMotionPeerOK{Sequence: []byte{0x76, 0x19, 0xff, 0xe9}}},
		{"ff fa e8 2e 44 da 87 f1 ff f0", vspc.VMotionComplete{Sequence: []byte{0x44, 0xda, 0x87, 0xf1}}},
		{"ff fa e8 30 ff f0", vspc.VMotionAbort{Ignored: []byte{}}},
		{"ff fa e8 30 07 ff f0", vspc.VMotionAbort{Ignored: []byte{7}}},
		{"ff fa e8 46 53 76 53 50 43 2e 70 79 ff f0", vspc.DoProxy{Direction: vspc.Server, ServiceURI: "vSPC.py"}},
		{"ff fa e8 46 43 78 ff f0", vspc.DoProxy{Direction: vspc.Client, ServiceURI: "x"}},
		{"ff fa e8 46 43 ff f0", vspc.DoProxy{Direction: vspc.Client}},
		{"ff fa e8 47 ff f0", vspc.WillProxy{}},
		{"ff fa e8 49 ff f0", vspc.WontProxy{}},
		{"ff fa e8 50 " + uuidHex + "ff f0", vspc.VMVCUUID{Text: uuidText}},
		{"ff fa e8 51 ff f0", vspc.GetVMVCUUID{}},
		{"ff fa e8 52 76 6d 2d 30 30 30 30 30 ff f0", vspc.VMName{Name: "vm-00000"}},
		{"ff fa e8 52 80 ff ff ff f0", vspc.VMName{Name: "\x80\xff"}},
		{"ff fa e8 53 ff f0", vspc.GetVMName{}},
		{"ff fa e8 54 " + uuidHex + "ff f0", vspc.VMBIOSUUID{Text: uuidText}},
		{"ff fa e8 55 ff f0", vspc.GetVMBIOSUUID{}},
		{"ff fa e8 56 " + uuidHex + "ff f0", vspc.VMLocationUUID{Text: uuidText}},
		{"ff fa e8 57 ff f0", vspc.GetVMLocationUUID{}},
		{"ff fa e8 63 01 ff ff ff f0", vspc.UnknownMessage{Code: 99, Params: []byte{1, 0xff}}},
	} {
		t.Run(tc.want.Command().String(), func(t *testing.T) {
			wire := unhex(t, tc.wire)
			if got := vspc.Append(nil, tc.want); !bytes.Equal(got, wire) {
				t.Errorf("printed % x, want % x", got, wire)
			}
			ev, n, err := new(telnet.Decoder).Next(wire)
			if err != nil || n != len(wire) || ev.Kind != telnet.Subnegotiation || ev.Option != vspc.Option {
				t.Fatalf("telnet: %+v, %d, %v", ev, n, err)
			}
			got, err := vspc.Parse(ev.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("parsed %#v, want %#v", got, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, params := range []string{"", "46", "02", "03 01 02", "47 00", "51 00", "53 61"} {
		_, err := vspc.Parse(unhex(t, params))
		var protocol *vspc.ProtocolError
		if !errors.As(err, &protocol) {
			t.Errorf("Parse(%s): error %v, want a ProtocolError", params, err)
		}
	}
}

// FuzzParse checks that what parses prints back to the same bytes.
func FuzzParse(f *testing.F) {
	for code := range 90 {
		f.Add([]byte{byte(code)})
		f.Add([]byte{byte(code), 'C', 0xff, 0xf0})
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		m, err := vspc.Parse(params)
		if err != nil {
			return
		}
		if got := append([]byte{byte(m.Command())}, m.AppendParams(nil)...); !bytes.Equal(got, params) {
			t.Errorf("% x printed back as % x", params, got)
		}
		if want := telnet.AppendSubnegotiation(nil, vspc.Option, params); !bytes.Equal(vspc.Append(nil, m), want) {
			t.Errorf("on the wire % x, want % x", vspc.Append(nil, m), want)
		}
	})
}
