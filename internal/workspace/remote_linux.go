package workspace

import (
	"slices"

	"golang.org/x/sys/unix"
)

// remote are the file systems whose other end is elsewhere or in a program: none of them can be an upper layer.
var remote = []int64{unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC,
	unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC}

func isRemote(st *unix.Statfs_t) bool { return slices.Contains(remote, st.Type) }
