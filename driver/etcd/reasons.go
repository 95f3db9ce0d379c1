package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmw-cloudinit-metadata/internal/late"
)

// maxShown bounds what an error shows of why a try failed, in bytes.
const maxShown = 400

// reasons remembers why the last try failed: etcd's client tries again until the time is over, and says only that.
type reasons struct {
	mu   sync.Mutex
	last string
}

// watch is a grpc.UnaryClientInterceptor that sees each try.
func (r *reasons) watch(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	failed := status.Convert(err)
	reason := failed.Message()
	switch failed.Code() {
	case codes.OK, codes.Unavailable:
	default: // of the end of its time it may say why there was no connection until then
		var known bool
		if _, reason, known = strings.Cut(reason, "latest balancer error: "); !known {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = reason
	return err
}

// explain returns err, which says that the time is over, with the reason.
func (r *reasons) explain(err *late.Error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == "" {
		return err
	}
	return fmt.Errorf("%w: %.*s", err, maxShown, r.last)
}
