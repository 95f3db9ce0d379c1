package guest

import (
	"context"
	"encoding/json"
	"errors"
	"time"
	"vmw-cloudinit-metadata/packet"
)

func (c *Client) askOld(ctx context.Context, wait time.Duration) error {
	data, err := c.old(ctx, packet.MetaData, wait)
	if err != nil || c.reply != nil {
		return err
	}
	c.oldMeta = data
	return nil
}

// old asks for one document in the way of version 1. A late answer to a hello ends it, too: c.reply is then set.
func (c *Client) old(ctx context.Context, name packet.Document, wait time.Duration) (data []byte, err error) {
	err = c.exchange(ctx, name.Request(), nil, wait, func(frame packet.Frame) error {
		if frame.Code == packet.ResponseHello {
			return c.takeHello(frame)
		}
		if name == packet.MetaData && (len(frame.Data) == 0 || frame.Data[0] == '{' && !json.Valid(frame.Data)) {
			return errDamaged
		}
		data = append([]byte{}, frame.Data...)
		return nil
	})
	return data, err
}

// fetchOld asks for the documents one after the other. A server of version 1 may keep silent about what it doesn't
// have: that is believed once it has answered another question after it.
func (c *Client) fetchOld(ctx context.Context, want []packet.Document) (map[packet.Document][]byte, error) {
	documents := map[packet.Document][]byte{}
	for _, name := range want {
		data, found, err := c.fetchOne(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case found && (len(data) > 0 || name == packet.UserData):
			documents[name] = data
		}
	}
	return documents, nil
}

func (c *Client) fetchOne(ctx context.Context, name packet.Document) (data []byte, found bool, err error) {
	if name == packet.MetaData {
		return c.oldMeta, true, nil
	}
	started := time.Now()
	for n := 0; ; n++ {
		data, err := c.old(ctx, name, oldPatience)
		if errors.Is(err, errSilence) && (n+1 >= tries || name == packet.VendorData) {
			data, err = c.instead(ctx, name)
		}
		failed, answered := errors.AsType[*packet.Error](err)
		switch {
		case err == nil:
			return data, data != nil, nil
		case answered && failed.Code == packet.NotFound, answered && failed.Code == packet.BadRequest && name == packet.VendorData:
			return nil, false, nil
		}
		if err := c.again(ctx, err, started); err != nil {
			return nil, false, err
		}
	}
}

// instead asks for meta-data after a silence about name. An answer about name that comes all the same is returned: the
// server has answered what had queued up.
func (c *Client) instead(ctx context.Context, name packet.Document) (late []byte, err error) {
	c.late = name.Request()
	defer func() { c.late = "" }()
	err = c.exchange(ctx, packet.RequestMetaData, nil, oldPatience, func(frame packet.Frame) error {
		if frame.Code == c.late.Response() {
			late = append([]byte{}, frame.Data...)
		}
		return nil
	})
	return late, err
}
