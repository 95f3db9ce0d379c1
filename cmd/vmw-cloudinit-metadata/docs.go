package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// newDocsCommand is for those who make packages.
func newDocsCommand() *cobra.Command {
	docs := &cobra.Command{Use: "docs", Short: "Make documents from this program", Hidden: true, Args: noArguments}
	docs.AddCommand(&cobra.Command{
		Use:   "man FOLDER",
		Short: "Write a manual page for each command into a folder that is there",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("the folder to write to is missing, or there is more than one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			for _, command := range root.Commands() {
				command.Flags().VisitAll(tellChoices)
			}
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{
				Section: "1",
				Source:  "vmw-cloudinit-metadata",
				Manual:  "vmw-cloudinit-metadata",
			}, args[0])
		},
	})
	return docs
}

// tellChoices adds the words that a flag takes to its description: manual pages have no room for them beside its name.
func tellChoices(f *pflag.Flag) {
	if c, ok := f.Value.(*choice); ok {
		f.Usage = "(" + strings.Join(c.words, ", ") + ") " + f.Usage
	}
}
