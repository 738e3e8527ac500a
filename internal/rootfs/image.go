package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Bounds of what is taken from an image's /etc: far more than any system has there.
const (
	maxEtcEntries = 20_000
	maxEtcBytes   = 64 << 20
)

// MaxBundle bounds a bundle of certificates: those of distributions have a quarter of a megabyte.
const MaxBundle = 8 << 20

// FromImage says what BuildOnImage knows of the image.
type FromImage struct {
	Etc  io.Reader                         // a tar archive of its /etc; empty when it has none
	Read func(path string) ([]byte, error) // reads a file elsewhere in it, to which a link of its /etc leads
}

// BuildOnImage lays what goes over an image's own files, in dir, which it makes and which must not exist: /etc, which is the
// image's own with what Build generates over it, the person's home directory with what is above it, and what may be written.
// Tree.Root is empty: the image is the root. Nothing of the image is trusted: its /etc is laid as a directory that no
// link leads out of while it is written, and what only root may read of it is left out.
func BuildOnImage(dir string, opt Options, from FromImage) (Tree, error) {
	t, err := buildOnImage(dir, opt, from)
	if err != nil {
		return Tree{}, fmt.Errorf("laying what goes over the image: %w", err)
	}
	return t, nil
}

func buildOnImage(dir string, opt Options, from FromImage) (Tree, error) {
	if err := opt.check(); err != nil {
		return Tree{}, err
	}
	above := filepath.Dir(opt.User.Home)
	if !fitForHomes(above) {
		return Tree{}, fmt.Errorf("your home directory %s lies in %s, which is the image's own", opt.User.Home, above)
	}
	if opt.User.Shell == "" {
		opt.User.Shell = "/bin/sh"
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Tree{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Tree{}, err
	}
	defer func() { _ = root.Close() }()
	o := &overImage{root: root, above: above,
		builder: &builder{opt: opt, dir: dir, host: host(filepath.Join(dir, "nothing")), root: filepath.Join(dir, "root"), resolved: map[string]string{}}}
	for _, step := range []func() error{
		func() error { return o.etc(from) }, o.home, o.tmpfs, o.points,
	} {
		if err := step(); err != nil {
			return Tree{}, err
		}
	}
	return Tree{Home: o.builder.home, Mounts: o.mounts, Points: o.builder.resolved, Warnings: o.builder.warnings}, nil
}

// fitForHomes reports whether an image can do without what it has in dir itself: the person's home directory is shown there.
func fitForHomes(dir string) bool {
	switch first, rest, _ := strings.Cut(strings.Trim(dir, "/"), "/"); first {
	case "", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "sys", "dev", "run", "tmp":
		return false
	case "usr", "var", "opt", "nix":
		return rest == "home"
	}
	return true
}

// overImage lays, through a handle that nothing leads out of.
type overImage struct {
	*builder
	root  *os.Root
	above string // the directory that the home directory lies in
}

// etc lays the image's own, and over it what is generated.
func (o *overImage) etc(from FromImage) error {
	if err := o.root.MkdirAll("root/etc", 0o755); err != nil {
		return err
	}
	if err := o.unpack(from.Etc); err != nil {
		return fmt.Errorf("unpacking the image's /etc: %w", err)
	}
	files, err := o.generatedFiles()
	if err != nil {
		return err
	}
	for p, content := range files {
		if err := o.put(p, content); err != nil {
			return err
		}
	}
	if err := o.link("/proc/mounts", "/etc/mtab"); err != nil {
		return err
	}
	if err := o.certificates(from.Read); err != nil {
		return err
	}
	o.mounts = append(o.mounts, bindMount(filepath.Join(o.builder.root, "etc"), "/etc"))
	for _, p := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} { // or the engine writes the host's
		o.mounts = append(o.mounts, bindMount(filepath.Join(o.builder.root, p), p))
	}
	return nil
}

// unpack lays an archive whose entries are "etc/…".
func (o *overImage) unpack(archive io.Reader) error {
	left, entries := int64(maxEtcBytes), 0
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entries++; entries > maxEtcEntries {
			return fmt.Errorf("it has more than %d entries", maxEtcEntries)
		}
		if left -= h.Size; left < 0 || h.Size < 0 {
			return fmt.Errorf("it is larger than %d MiB", maxEtcBytes>>20)
		}
		if err := o.entry(h, r); err != nil {
			return err
		}
	}
}

// entry lays one. What others than root can't read inside is left out, as are devices and the like.
func (o *overImage) entry(h *tar.Header, content io.Reader) error {
	p := path.Clean("/" + h.Name)
	if !within(p, "/etc") || p == "/etc" || forRoot(p) || !o.isDir(path.Dir(p)) { // the last: below what was left out
		return nil
	}
	inside, mode := "root"+p, fs.FileMode(h.Mode)&0o777
	switch h.Typeflag {
	case tar.TypeDir:
		if mode&0o005 != 0o005 {
			return nil
		}
		return ignoreExisting(o.root.Mkdir(inside, 0o755))
	case tar.TypeSymlink:
		return ignoreExisting(o.root.Symlink(h.Linkname, inside))
	case tar.TypeReg:
		if mode&0o004 == 0 {
			return nil
		}
		return o.write(p, content, 0o644|mode&0o111)
	case tar.TypeLink:
		return o.name(p, path.Clean("/"+h.Linkname))
	}
	return nil
}

// name gives a file that came before one more name, as the image has it: a copy for each would be as large as an image likes.
// What was left out has no other name either.
func (o *overImage) name(p, of string) error {
	if info, err := o.root.Lstat("root" + of); err != nil || info.IsDir() || p == of {
		return nil //nolint:nilerr // it is not there
	}
	if err := o.clear(p); err != nil {
		return err
	}
	return o.root.Link("root"+of, "root"+p)
}

// forRoot reports whether a file of /etc is for root alone, whatever its mode.
func forRoot(p string) bool {
	name := strings.TrimSuffix(p, "-")
	return name == "/etc/shadow" || name == "/etc/gshadow" || p == "/etc/ld.so.preload"
}

func (o *overImage) isDir(p string) bool {
	info, err := o.root.Lstat("root" + p)
	return err == nil && info.IsDir()
}

func ignoreExisting(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// parents makes the directories above p, in place of links and files that the image has there.
func (o *overImage) parents(p string) error {
	at := "root"
	for _, c := range components(path.Dir(p)) {
		at += "/" + c
		info, err := o.root.Lstat(at)
		if err == nil && info.IsDir() {
			continue
		}
		if err == nil {
			if err := o.root.Remove(at); err != nil {
				return err
			}
		}
		if err := o.root.Mkdir(at, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// clear makes room at p for something that is not a directory.
func (o *overImage) clear(p string) error {
	if err := o.parents(p); err != nil {
		return err
	}
	return o.root.RemoveAll("root" + p)
}

// put writes a file in place of whatever the image has there.
func (o *overImage) put(p string, content []byte) error {
	return o.write(p, strings.NewReader(string(content)), 0o644)
}

func (o *overImage) write(p string, content io.Reader, mode fs.FileMode) error {
	if err := o.clear(p); err != nil {
		return err
	}
	f, err := o.root.OpenFile("root"+p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

func (o *overImage) link(target, p string) error {
	if err := o.clear(p); err != nil {
		return err
	}
	return o.root.Symlink(target, "root"+p)
}

// certificates lays the image's own bundle with the run's CA added, under every name that tools of any distribution look for.
func (o *overImage) certificates(elsewhere func(string) ([]byte, error)) error {
	if o.opt.Untrusting {
		return nil
	}
	own, err := ownCertificate(o.opt.CA)
	if err != nil {
		return err
	}
	bundle := o.bundle(elsewhere)
	if len(certificates(bundle)) == 0 {
		o.warnings = append(o.warnings, "the image has no certificate bundle: hosts that are not inspected cannot be verified")
	}
	bundle = append(append([]byte{}, bundle...), '\n')
	bundle = append(bundle, o.opt.CA...)
	hash, err := subjectHash(own)
	if err != nil {
		return err
	}
	dirs := o.certificateDirs()
	if err := errors.Join(o.put(bundlePath, bundle), o.put(ownCAPath, o.opt.CA), o.link(ownCAPath, "/etc/ssl/certs/"+hash+".0")); err != nil {
		return err
	}
	for _, p := range append(bundlePaths(), bundleLinks()...) {
		if p == bundlePath || !dirs[path.Dir(p)] {
			continue
		}
		if err := o.link(bundlePath, p); err != nil {
			return err
		}
	}
	return errors.Join(o.javaStores(bundle), o.otherStores())
}

// otherStores hands the run's CA to p11-kit, where the image has it, and to Firefox.
func (o *overImage) otherStores() error {
	for _, d := range anchorDirs() {
		if !o.isDir(d) {
			continue
		}
		if err := o.link(ownCAPath, d+"/agentbox-ca.pem"); err != nil {
			return err
		}
	}
	for _, d := range firefoxDirs() {
		if err := o.put(d+"/policies/policies.json", []byte(firefoxPolicy)); err != nil {
			return err
		}
	}
	return nil
}

// bundle is the image's own, in its /etc or where a link there leads.
func (o *overImage) bundle(elsewhere func(string) ([]byte, error)) []byte {
	for _, p := range bundlePaths() {
		at, ok := o.follow(p)
		if !ok {
			continue
		}
		read := elsewhere
		if within(at, "/etc") {
			read = o.small
		}
		if read == nil {
			continue
		}
		if data, err := read(at); err == nil && len(certificates(data)) > 0 {
			return data
		}
	}
	return nil
}

// small reads a file that is not larger than a bundle may be.
func (o *overImage) small(p string) ([]byte, error) {
	info, err := o.root.Lstat("root" + p)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxBundle {
		return nil, errors.New("it is no file, or too large")
	}
	return o.root.ReadFile("root" + p)
}

// follow resolves p as far as its links lie in /etc, in which absolute ones begin at the image's root. False: nothing is there.
func (o *overImage) follow(p string) (string, bool) {
	todo, at := components(p), "/"
	for links := 0; len(todo) > 0; {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		if !within(next, "/etc") {
			return path.Join(append([]string{next}, todo...)...), true
		}
		info, err := o.root.Lstat("root" + next)
		if err != nil {
			return "", false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := o.root.Readlink("root" + next)
		if links++; err != nil || links > 40 {
			return "", false
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(components(target), todo...)
	}
	return at, true
}

// certificateDirs are the directories in which a name of the bundle is laid: those that the image has, and OpenSSL's own.
func (o *overImage) certificateDirs() map[string]bool {
	out := map[string]bool{"/etc/ssl": true, "/etc/ssl/certs": true}
	for _, p := range append(bundlePaths(), bundleLinks()...) {
		if o.isDir(path.Dir(p)) {
			out[path.Dir(p)] = true
		}
	}
	return out
}

// javaStores lays the key store where JDKs of distributions look, when the image has such a place.
func (o *overImage) javaStores(bundle []byte) error {
	for _, d := range []string{"/etc/ssl/certs/java", "/etc/pki/java", "/etc/pki/ca-trust/extracted/java", "/etc/ca-certificates/extracted/java"} {
		if !o.isDir(d) {
			continue
		}
		if err := o.put(d+"/cacerts", javaKeyStore(certificates(bundle))); err != nil {
			return err
		}
	}
	return nil
}

// home lays the home directory with its files, and shows the directory above it: what the image has there is not seen.
func (o *overImage) home() error {
	u := o.opt.User
	if err := o.root.MkdirAll("root"+u.Home, 0o755); err != nil {
		return err
	}
	o.builder.home = filepath.Join(o.builder.root, u.Home)
	if err := os.Chmod(o.builder.home, 0o700); err != nil {
		return err
	}
	o.mounts = append(o.mounts, bindMount(filepath.Join(o.builder.root, o.above), o.above))
	return nil
}

// tmpfs mounts what may be written but the repository. Only the home directory begins with something in it.
func (o *overImage) tmpfs() error {
	u, s := o.opt.User, o.opt.Sizes
	const open = 0o777 | fs.ModeSticky
	empty := []string{"notmpcopyup"} // or it begins with what the image has there
	o.mounts = append(o.mounts,
		o.tmpfsMount("/tmp", s.Tmp, 2<<30, open, empty),
		o.tmpfsMount("/var/tmp", s.VarTmp, 1<<30, open, empty),
		o.tmpfsMount("/run", s.Run, 64<<20, 0o755, append([]string{"noexec"}, empty...)),
		o.tmpfsMount("/dev/shm", s.Shm, 512<<20, open, []string{"noexec"}),
		o.tmpfsMount("/run/lock", 0, 1<<20, open, append([]string{"noexec"}, empty...)),
		o.tmpfsMount(RuntimeDir(u), 0, 16<<20, 0o700, append([]string{"noexec", "U"}, empty...)),
		o.tmpfsMount(u.Home, s.Home, 2<<30, 0o700, []string{"U", "tmpcopyup"}))
	return nil
}

// points makes the mount points below the directory that is shown above the home directory. Elsewhere the engine makes them,
// in a layer of the container's own.
func (o *overImage) points() error {
	all := append(append([]Point{}, o.opt.Points...), o.opt.Shown...)
	if o.opt.Repo != "" {
		all = append(all, Point{o.opt.Repo, true})
	}
	for _, p := range all {
		o.resolved[p.Path] = p.Path
		if !within(p.Path, o.above) {
			continue
		}
		if p.Dir {
			if err := o.root.MkdirAll("root"+p.Path, 0o755); err != nil {
				return err
			}
		} else if err := o.put(p.Path, nil); err != nil {
			return err
		}
	}
	if err := o.seed(); err != nil {
		return err
	}
	return o.nss()
}
