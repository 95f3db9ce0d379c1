package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/nocloud/seed"
	"vmw-cloudinit-metadata/packet"
)

const renderHelp = `render prints what a VM would get, with no server and no VM: all of its documents, or with --document that
one alone, byte for byte.

With --output, what would be printed goes into a file; without --document, into a folder, as the seed of
cloud-init's datasource NoCloud. The folder may be there already if it has nothing but such a seed.`

const renderExample = `  vmw-cloudinit-metadata render --name web1 --driver file --driver-opts '{"directory": "/etc/my-vms"}'`

type renderFlags struct {
	vm       metadata.VM
	driver   driverFlags
	document string
	output   string
}

func newRenderCommand() *cobra.Command {
	var f renderFlags
	cmd := &cobra.Command{
		Use:     "render {--name NAME | --uuid UUID} --driver-opts JSON",
		Short:   "Print what a VM would get",
		Long:    renderHelp,
		Example: renderExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.vm.Name, "name", "", "the VM's `NAME` in vSphere")
	flags.StringVar(&f.vm.UUID, "uuid", "", "its VC `UUID`: vc.uuid, or config.instanceUuid in the API")
	flags.StringVar(&f.vm.BIOSUUID, "bios-uuid", "", "its BIOS `UUID`: uuid.bios, or config.uuid in the API")
	flags.StringVar(&f.document, "document", "", "this `DOCUMENT` alone: "+documentNames())
	flags.StringVar(&f.output, "output", "", "the `PATH` to write to instead: a file with --document, else a folder")
	f.driver.register(flags)
	fromEnvironment(cmd)
	return cmd
}

func documentNames() string {
	var names []string
	for _, document := range packet.Documents() {
		names = append(names, string(document))
	}
	return strings.Join(names, ", ")
}

func (f *renderFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	vm, err := checkedVM(f.vm)
	if err != nil {
		return err
	}
	if f.document != "" && !packet.Document(f.document).Valid() {
		return usageErrorf("--document %q: it must be one of %s", f.document, documentNames())
	}
	driver, closeDriver, err := f.driver.open(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	defer closeDriver()
	documents, err := render(ctx, driver, vm)
	if err != nil {
		return err
	}
	if f.document == "" {
		return f.all(documents, stdout)
	}
	content, ok := documents[packet.Document(f.document)]
	switch {
	case !ok:
		return fmt.Errorf("the VM %v has no %s", vm, f.document)
	case f.output != "":
		return os.WriteFile(f.output, content, 0o600)
	}
	_, err = stdout.Write(content)
	return err
}

func (f *renderFlags) all(documents map[packet.Document][]byte, stdout io.Writer) error {
	if f.output == "" {
		return printDocuments(stdout, documents)
	}
	if err := checkSeedFolder(f.output); err != nil {
		return err
	}
	files := make(map[string][]byte)
	for document, content := range documents {
		files[string(document)] = content
	}
	if files[seed.UserData] == nil {
		files[seed.UserData] = []byte{} // cloud-init takes no seed without it
	}
	_, err := seed.Write(f.output, files)
	return err
}

// checkSeedFolder refuses a place with something else than a seed: the seed takes the place of all that is there.
func checkSeedFolder(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	for _, entry := range entries {
		if !packet.Document(entry.Name()).Valid() {
			return fmt.Errorf("--output: the folder %s has something else in it than a seed (%s): name another, or one that is not there yet", path, entry.Name())
		}
	}
	return nil
}

// checkedVM returns vm with its UUIDs as drivers know them. It must have a name or a UUID.
func checkedVM(vm metadata.VM) (metadata.VM, error) {
	for _, id := range []struct {
		flag string
		text *string
	}{{"uuid", &vm.UUID}, {"bios-uuid", &vm.BIOSUUID}} {
		if *id.text == "" {
			continue
		}
		uuid, ok := metadata.ParseUUID(*id.text)
		if !ok {
			return vm, usageErrorf("--%s %q: not a UUID, which is 32 hexadecimal digits, as in 50370a1b-4a5f-4c2e-9f0b-1d2c3b4a5f6e", id.flag, *id.text)
		}
		*id.text = uuid
	}
	if vm == (metadata.VM{}) {
		return vm, usageErrorf("which VM? Give --name, --uuid or both")
	}
	return vm, nil
}

func render(ctx context.Context, driver metadata.Driver, vm metadata.VM) (map[packet.Document][]byte, error) {
	instance, err := driver.Find(ctx, vm)
	switch {
	case errors.Is(err, metadata.ErrNotFound):
		return nil, fmt.Errorf("the driver has nothing for the VM %v: %w", vm, err)
	case err != nil:
		return nil, err
	}
	rendered, err := nocloud.Render(vm, instance, nocloud.Options{})
	if err != nil {
		return nil, err
	}
	documents := map[packet.Document][]byte{
		packet.MetaData:      rendered.MetaData,
		packet.UserData:      rendered.UserData,
		packet.VendorData:    rendered.VendorData,
		packet.NetworkConfig: rendered.NetworkConfig,
	}
	for document, content := range documents {
		if content == nil {
			delete(documents, document)
		}
	}
	return documents, nil
}

// printDocuments prints documents for a person, each under its name.
func printDocuments(w io.Writer, documents map[packet.Document][]byte) error {
	var text bytes.Buffer
	for i, document := range packet.Documents() {
		if i > 0 {
			text.WriteByte('\n')
		}
		content, ok := documents[document]
		if !ok {
			fmt.Fprintf(&text, "==> %s: none\n", document)
			continue
		}
		fmt.Fprintf(&text, "==> %s (%d bytes)\n%s", document, len(content), content)
		if len(content) > 0 && content[len(content)-1] != '\n' {
			text.WriteByte('\n')
		}
	}
	_, err := w.Write(text.Bytes())
	return err
}
