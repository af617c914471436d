package volume

import (
	"context"

	"scoutfs/format"
	"scoutfs/lock"
)

type Volume struct{}

func Open(ctx context.Context, o Options) (*Volume, error) { panic("stub") }
func (v *Volume) Close(ctx context.Context) error          { panic("stub") }
func (v *Volume) Revoke(lk *lock.Lock, old, new format.LockMode, lastDirty uint64) error {
	panic("stub")
}
func (v *Volume) OpenMap(group uint64) (bits [16]uint64)                      { panic("stub") }
func (v *Volume) Lookup(c *Caller, dir format.Ino, name string) (Attr, error) { panic("stub") }
func (v *Volume) Forget(ino format.Ino, n uint64)                             { panic("stub") }
func (v *Volume) Getattr(c *Caller, ino format.Ino) (Attr, error)             { panic("stub") }
func (v *Volume) Setattr(c *Caller, ino format.Ino, s *SetAttr) (Attr, error) { panic("stub") }
func (v *Volume) Create(c *Caller, dir format.Ino, name string, mode uint32) (Attr, error) {
	panic("stub")
}
func (v *Volume) Mkdir(c *Caller, dir format.Ino, name string, mode uint32) (Attr, error) {
	panic("stub")
}
func (v *Volume) Mknod(c *Caller, dir format.Ino, name string, mode, rdev uint32) (Attr, error) {
	panic("stub")
}
func (v *Volume) Symlink(c *Caller, dir format.Ino, name, target string) (Attr, error) { panic("stub") }
func (v *Volume) Tmpfile(c *Caller, dir format.Ino, mode uint32) (Attr, error)         { panic("stub") }
func (v *Volume) Link(c *Caller, ino, dir format.Ino, name string) (Attr, error)       { panic("stub") }
func (v *Volume) Unlink(c *Caller, dir format.Ino, name string) error                  { panic("stub") }
func (v *Volume) Rmdir(c *Caller, dir format.Ino, name string) error                   { panic("stub") }
func (v *Volume) Rename(c *Caller, odir format.Ino, oname string, ndir format.Ino, nname string, flags uint32) error {
	panic("stub")
}
func (v *Volume) Readlink(c *Caller, ino format.Ino) (string, error) { panic("stub") }
func (v *Volume) ReadDir(c *Caller, dir format.Ino, pos uint64, fn func(e *DirEntry) bool) error {
	panic("stub")
}
func (v *Volume) ReadDirPlus(c *Caller, dir format.Ino, pos uint64, fn func(e *DirEntry, a *Attr) bool) error {
	panic("stub")
}
func (v *Volume) Read(c *Caller, ino format.Ino, off int64, buf []byte) (int, error) { panic("stub") }
func (v *Volume) Write(c *Caller, ino format.Ino, off int64, data []byte, flags uint32) (int, Attr, error) {
	panic("stub")
}
func (v *Volume) Fallocate(c *Caller, ino format.Ino, mode uint32, off, n int64) error { panic("stub") }
func (v *Volume) Seek(c *Caller, ino format.Ino, off int64, whence int) (int64, error) { panic("stub") }
func (v *Volume) Fsync(c *Caller, ino format.Ino) error                                { panic("stub") }
func (v *Volume) Statfs(c *Caller) (Statfs, error)                                     { panic("stub") }
func (v *Volume) Getxattr(c *Caller, ino format.Ino, name string, buf []byte) (int, error) {
	panic("stub")
}
func (v *Volume) Setxattr(c *Caller, ino format.Ino, name string, val []byte, flags uint32) error {
	panic("stub")
}
func (v *Volume) Listxattr(c *Caller, ino format.Ino, buf []byte) (int, error) { panic("stub") }
func (v *Volume) Removexattr(c *Caller, ino format.Ino, name string) error     { panic("stub") }
func (v *Volume) ListHidden(c *Caller, ino format.Ino, hash uint32, id uint64, buf []byte) (n int, nextHash uint32, nextID uint64, err error) {
	panic("stub")
}
func (v *Volume) WalkInodes(c *Caller, index int, first, last WalkEntry, max int) ([]WalkEntry, error) {
	panic("stub")
}
func (v *Volume) InoPath(c *Caller, ino, dir format.Ino, pos uint64, max int) (Path, error) {
	panic("stub")
}
func (v *Volume) ReferringEntries(c *Caller, ino, dir format.Ino, pos uint64, max int) ([]Referring, error) {
	panic("stub")
}
func (v *Volume) StatfsMore(c *Caller) (StatfsMore, error)    { panic("stub") }
func (v *Volume) AllocDetail(c *Caller) ([]AllocEntry, error) { panic("stub") }
func (v *Volume) Extents(c *Caller, ino format.Ino, iblock uint64, max int) ([]Extent, error) {
	panic("stub")
}
func (v *Volume) ScanOrphans(ctx context.Context) error { panic("stub") }
func (v *Volume) Metrics() Metrics                      { panic("stub") }

type Metrics struct{}
