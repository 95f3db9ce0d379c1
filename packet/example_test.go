package packet_test

import (
	"errors"
	"fmt"
	"strings"

	"vmw-cloudinit-metadata/packet"
)

func ExampleScanner() {
	var scanner packet.Scanner
	for _, piece := range []string{"web1 login: !!REQUEST_", "METADATA#\r\n!!REQUEST_USERDATA#%%\n"} {
		in := []byte(piece)
		for {
			frame, rest, ok := scanner.Next(in)
			if !ok {
				break
			}
			fmt.Println(frame.Code, frame.Err)
			in = rest
		}
	}
	// Output:
	// REQUEST_METADATA <nil>
	// REQUEST_USERDATA the data is not base64 with padding
}

func ExampleAppendFrame() {
	fmt.Printf("%q\n", packet.AppendFrame(nil, packet.ResponseUserData, []byte("#cloud-config\n")))
	failed := packet.Error{Request: packet.RequestUserData, Code: packet.NotFound, Message: "no user-data"}
	fmt.Printf("%q\n", failed.AppendFrame(nil))
	// Output:
	// "!!RESPONSE_USERDATA#I2Nsb3VkLWNvbmZpZwo=\n"
	// "!!RESPONSE_ERROR#eyJyZXF1ZXN0IjoiUkVRVUVTVF9VU0VSREFUQSIsImNvZGUiOiJub3QtZm91bmQiLCJtZXNzYWdlIjoibm8gdXNlci1kYXRhIn0=\n"
}

// A client of version 1 asks for each document, and reads answers of any length.
func ExampleReader() {
	line := strings.NewReader("login: !!RESPONSE_METADATA#eyJpbnN0YW5jZS1pZCI6ImktMSJ9\n" + // in earnest: the serial port
		`!!RESPONSE_ERROR#eyJyZXF1ZXN0IjoiUkVRVUVTVF9VU0VSREFUQSIsImNvZGUiOiJub3QtZm91bmQiLCJtZXNzYWdlIjoibm8gdXNlci1kYXRhIn0=` + "\n")
	answers := packet.NewReader(line, packet.FrameLen(packet.ResponseMetaData, packet.MaxDocument))
	for _, document := range []packet.Document{packet.MetaData, packet.UserData} {
		fmt.Printf("%q\n", packet.AppendFrame(nil, document.Request(), nil)) // in earnest: written to the port
		answer, err := answers.ReadFrame()
		if err != nil {
			fmt.Println(err)
			return
		}
		if answer.Code == packet.ResponseError {
			failed, err := packet.ParseError(answer.Data)
			fmt.Println(failed, err)
			continue
		}
		fmt.Printf("%s\n", answer.Data)
	}
	// Output:
	// "!!REQUEST_METADATA#\n"
	// {"instance-id":"i-1"}
	// "!!REQUEST_USERDATA#\n"
	// the server says not-found: no user-data <nil>
}

func ExampleOffer() {
	offer, err := packet.NewOffer(map[packet.Document][]byte{
		packet.MetaData: []byte(`{"instance-id":"i-1"}`),
		packet.UserData: []byte("#cloud-config\n"),
	}, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	reply, err := offer.Hello(&packet.Hello{Versions: []int{2}, Nonce: "8c1f"}, 8)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Nonce, reply.MaxChunk, reply.Documents[packet.UserData].Size)

	for _, generation := range []string{reply.Generation, "an older one"} {
		chunk, err := offer.Chunk(&packet.ChunkRequest{Generation: generation, Document: packet.UserData, Offset: 6, Length: 100}, 8)
		if failed, ok := errors.AsType[*packet.Error](err); ok {
			fmt.Println(failed.Code)
			continue
		}
		fmt.Printf("%q\n", chunk.Data)
	}
	// Output:
	// 8c1f 8 14
	// "-config\n"
	// stale
}
