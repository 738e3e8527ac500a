package sys

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Flags of open(2), renameat2(2) and utimensat(2).
const (
	OPath           = unix.O_PATH
	RenameNoReplace = unix.RENAME_NOREPLACE
	RenameExchange  = unix.RENAME_EXCHANGE
	UtimeOmit       = unix.UTIME_OMIT
)

// Requests of ioctl(2) about a terminal.
const (
	GetTermios      = unix.TCGETS
	SetTermios      = unix.TCSETS
	SetTermiosFlush = unix.TCSETSF
)

// Renameat2 renames as the flags say.
func Renameat2(fromDir int, from string, toDir int, to string, flags uint) error {
	return unix.Renameat2(fromDir, from, toDir, to, flags)
}

// OpenBeneath opens what lies below a directory, by no link and not past the directory's top.
func OpenBeneath(dir int, name string, flags int) (int, error) {
	for tries := 1; ; tries++ {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		// EAGAIN says that something was renamed meanwhile; or, for longer, that somebody has a lease on the file.
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) && tries < 1000 {
			continue
		}
		return fd, err
	}
}

// Getdents reads entries of a directory, as linux_dirent64.
func Getdents(fd int, buf []byte) (int, error) { return unix.Getdents(fd, buf) }

// CloneFile shares one file's blocks with another.
func CloneFile(to, from int) error { return unix.IoctlFileClone(to, from) }

// FlushInput drops what was typed at a terminal and not read.
func FlushInput(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }

// ShutMemory has nobody trace this process or read its memory.
func ShutMemory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// PeerUID is whose process is at the other end.
func PeerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	return int(cred.Uid), nil
}

// Mode is a file's mode with its type.
func Mode(st *unix.Stat_t) uint32 { return st.Mode }

// Device is where a file lies.
func Device(st *unix.Stat_t) uint64 { return st.Dev }

// DeviceOf is where a file lies; 0 where that is not known.
func DeviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}

// ChangeTime is when a file was last changed, its inode included, in nanoseconds.
func ChangeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

// BlockSize is the unit of a file system's counts.
func BlockSize(st *unix.Statfs_t) int64 { return st.Bsize }
