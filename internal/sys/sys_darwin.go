package sys

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Flags of open(2), renameatx_np(2) and utimensat(2). There is no descriptor that is a place alone: a directory is opened
// for reading, and what goes by way of /proc/self/fd finds nothing.
const (
	OPath           = unix.O_RDONLY
	RenameNoReplace = unix.RENAME_EXCL
	RenameExchange  = unix.RENAME_SWAP
	UtimeOmit       = -2
)

// Requests of ioctl(2) about a terminal.
const (
	GetTermios      = unix.TIOCGETA
	SetTermios      = unix.TIOCSETA
	SetTermiosFlush = unix.TIOCSETAF
)

// Renameat2 renames as the flags say.
func Renameat2(fromDir int, from string, toDir int, to string, flags uint) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, uint32(flags))
}

// OpenBeneath is Linux's.
func OpenBeneath(int, string, int) (int, error) { return -1, errors.ErrUnsupported }

// Getdents is Linux's.
func Getdents(int, []byte) (int, error) { return 0, errors.ErrUnsupported }

// CloneFile is Linux's.
func CloneFile(int, int) error { return errors.ErrUnsupported }

// FlushInput drops what was typed at a terminal and not read.
func FlushInput(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, freadQueue) }

const freadQueue = 1 // FREAD of <sys/fcntl.h>: what came in, not what goes out

// ShutMemory has nobody trace this process or read its memory.
func ShutMemory() error { return unix.PtraceDenyAttach() }

// PeerUID is whose process is at the other end.
func PeerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	var inner error
	err = raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) })
	if err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	return int(cred.Uid), nil
}

// Mode is a file's mode with its type.
func Mode(st *unix.Stat_t) uint32 { return uint32(st.Mode) }

// Device is where a file lies.
func Device(st *unix.Stat_t) uint64 { return uint64(st.Dev) }

// DeviceOf is where a file lies; 0 where that is not known.
func DeviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}

// ChangeTime is when a file was last changed, its inode included, in nanoseconds.
func ChangeTime(st *syscall.Stat_t) int64 { return st.Ctimespec.Nano() }

// BlockSize is the unit of a file system's counts.
func BlockSize(st *unix.Statfs_t) int64 { return int64(st.Bsize) }
