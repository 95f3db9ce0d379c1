package simulator

import (
	"fmt"
	"io"

	"vmw-cloudinit-metadata/packet"
)

// Guest asks for documents over a port, by version 1 of the serial protocol.
type Guest struct {
	port   io.ReadWriter
	reader *packet.Reader
}

// NewGuest makes a Guest of a port. All that the port reads is the Guest's from now on.
func NewGuest(port io.ReadWriter) *Guest {
	limit := packet.FrameLen(packet.ResponseNetworkData, packet.MaxDocument)
	return &Guest{port: port, reader: packet.NewReader(port, limit)}
}

// Ask asks for one document. The error is a *packet.Error if the server says that there is none, and why; otherwise
// the port's. Ask does not return before an answer comes or the port is closed: that is the way to end it.
func (g *Guest) Ask(document packet.Document) ([]byte, error) {
	request := document.Request()
	if _, err := g.port.Write(packet.AppendFrame(nil, request, nil)); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", document, err)
	}
	for {
		frame, err := g.reader.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", document, err)
		}
		switch {
		case frame.Code == packet.ResponseError && frame.Err == nil:
			refusal, err := packet.ParseError(frame.Data)
			if err != nil {
				return nil, fmt.Errorf("waiting for %s: %w", document, err)
			}
			if refusal.Request == request {
				return nil, refusal
			}
		case frame.Code == request.Response() && frame.Err != nil:
			return nil, fmt.Errorf("waiting for %s: %w", document, frame.Err)
		case frame.Code == request.Response():
			return append([]byte{}, frame.Data...), nil
		}
	}
}
