// Package packet is what a guest and the server say to each other over the virtual serial port: frames of the form
//
//	!!CODE#BASE64\n
//
// and the messages inside them. Version 1 of the protocol is one request and one answer for each document; version 2
// fetches a document in small, checked pieces, over a line that loses bytes. docs/serial-protocol.md describes both.
//
// [Scanner] takes frames out of bytes that arrive in any pieces, [Reader] out of an io.Reader; [AppendFrame] makes them.
// [Offer] is the server's side of version 2, without a transport.
package packet

import (
	"encoding/base64"
	"strings"
)

// Limits of the protocol.
const (
	// MaxLine is the longest line, in bytes without its end, that a server takes from a guest. Every request fits
	// in a tenth of it; a guest can't make a server hold more.
	MaxLine = 64 << 10
	// MaxCode is the longest code.
	MaxCode = 32
)

// Code says what a frame is: 1 to MaxCode of A-Z, 0-9 and _.
type Code string

// Version 1: one request for each document, answered with the whole document.
const (
	RequestMetaData     Code = "REQUEST_METADATA"
	ResponseMetaData    Code = "RESPONSE_METADATA"
	RequestNetworkData  Code = "REQUEST_NETWORKDATA"
	ResponseNetworkData Code = "RESPONSE_NETWORKDATA"
	RequestUserData     Code = "REQUEST_USERDATA"
	ResponseUserData    Code = "RESPONSE_USERDATA"
	RequestVendorData   Code = "REQUEST_VENDORDATA"
	ResponseVendorData  Code = "RESPONSE_VENDORDATA"
)

// Version 2, and the answer to any request that fails.
const (
	RequestHello   Code = "REQUEST_HELLO"
	ResponseHello  Code = "RESPONSE_HELLO"
	RequestChunk   Code = "REQUEST_CHUNK"
	ResponseChunk  Code = "RESPONSE_CHUNK"
	RequestReport  Code = "REQUEST_REPORT"
	ResponseReport Code = "RESPONSE_REPORT"
	ResponseError  Code = "RESPONSE_ERROR"
)

const (
	requestPrefix  = "REQUEST_"
	responsePrefix = "RESPONSE_"
)

// IsRequest says whether a server answers c. All else is dropped in silence: a guest's tty with echo on sends a
// server's own answers back.
func (c Code) IsRequest() bool { return strings.HasPrefix(string(c), requestPrefix) }

// IsResponse says whether c is an answer.
func (c Code) IsResponse() bool { return strings.HasPrefix(string(c), responsePrefix) }

// Response returns the code of the answer to a request, and "" for what is no request.
func (c Code) Response() Code {
	name, ok := strings.CutPrefix(string(c), requestPrefix)
	if !ok {
		return ""
	}
	return responsePrefix + Code(name)
}

// Document returns the document that a request or an answer of version 1 is about.
func (c Code) Document() (Document, bool) {
	switch c {
	case RequestMetaData, ResponseMetaData:
		return MetaData, true
	case RequestNetworkData, ResponseNetworkData:
		return NetworkConfig, true
	case RequestUserData, ResponseUserData:
		return UserData, true
	case RequestVendorData, ResponseVendorData:
		return VendorData, true
	}
	return "", false
}

// Document is the name of one of NoCloud's files.
type Document string

// The documents, named as the files of a NoCloud seed are.
const (
	MetaData      Document = "meta-data"
	UserData      Document = "user-data"
	VendorData    Document = "vendor-data"
	NetworkConfig Document = "network-config"
)

// Documents lists all of them, in the order in which a guest fetches them.
func Documents() []Document { return []Document{MetaData, UserData, VendorData, NetworkConfig} }

// Valid says whether d is a known document.
func (d Document) Valid() bool { return d.Request() != "" }

// Request returns version 1's request for d, and "" for an unknown document.
func (d Document) Request() Code {
	switch d {
	case MetaData:
		return RequestMetaData
	case UserData:
		return RequestUserData
	case VendorData:
		return RequestVendorData
	case NetworkConfig:
		return RequestNetworkData
	}
	return ""
}

// AppendFrame appends a frame to dst. The code must be well formed.
func AppendFrame(dst []byte, code Code, data []byte) []byte {
	dst = append(dst, '!', '!')
	dst = append(dst, code...)
	dst = append(dst, '#')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '\n')
}

// FrameLen returns the length of the frame that AppendFrame makes of n bytes of data.
func FrameLen(code Code, n int) int {
	return len("!!#\n") + len(code) + base64.StdEncoding.EncodedLen(n)
}
