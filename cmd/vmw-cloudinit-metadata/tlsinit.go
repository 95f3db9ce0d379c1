package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"vmw-cloudinit-metadata/internal/tlspair"
)

func newTLSInitCommand() *cobra.Command {
	var cert, key string
	var names []string
	var days int
	kind := newChoice(string(tlspair.ECDSA), string(tlspair.RSA))
	cmd := &cobra.Command{
		Use:   "tls-init",
		Short: "Make a certificate and its key, for those who have no CA",
		Long: `tls-init makes a key, and a certificate for it that is signed by itself. ESXi hosts check it by the thumbprint
in the proxy URI, which the server logs when it starts.`,
		Example: `  vmw-cloudinit-metadata tls-init --name vspc.example.com --cert cert.pem --key key.pem
  vmw-cloudinit-metadata run … --tls require --tls-cert cert.pem --tls-key key.pem`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 {
				return usageErrorf("--days must be 1 or more")
			}
			if len(names) == 0 {
				hostname, err := os.Hostname()
				if err != nil {
					return usageErrorf("--name is missing: the name or address by which hosts reach the server")
				}
				names = []string{hostname}
			}
			if err := tlspair.Create(cert, key, names, tlspair.KeyType(kind.value), time.Duration(days)*24*time.Hour); err != nil {
				return err
			}
			pair, err := tlspair.Load(cert, key, nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "certificate  %s\nkey          %s\nfor          %s\nuntil        %s\nthumbprint   %s\n",
				cert, key, names, pair.Expires().Format(time.DateOnly), pair.Thumbprint())
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cert, "cert", "cert.pem", "file for the certificate; must not exist")
	flags.StringVar(&key, "key", "key.pem", "file for the key; must not exist")
	flags.StringSliceVar(&names, "name", nil, "name or address by which hosts reach the server; may be repeated (default: this machine's name)")
	flags.Var(kind, "key-type", "kind of key; rsa is for hosts that do not take the other, and costs ten times as much")
	flags.IntVar(&days, "days", 3650, "how long the certificate is good")
	return cmd
}
