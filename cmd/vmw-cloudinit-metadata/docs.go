package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
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
