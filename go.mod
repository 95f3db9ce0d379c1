module vmw-cloudinit-metadata

go 1.26
