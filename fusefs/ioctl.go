// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/format"
	"scoutfs/volume"
)

// request is one ioctl. The kernel has copied the argument by the number's
// direction bits; embedded pointers, and arguments whose direction lies, go
// through the caller's memory.
type request struct {
	f      *FS
	caller volume.Caller
	mem    memory
	ino    format.Ino
	flags  uint32 // of open
	arg    uint64 // address of the argument
	in     []byte
	out    []byte
}

// ioctls are the numbers that are served, and how. The result is what
// ioctl(2) returns. Others get ENOTTY.
var ioctls = map[format.IoctlNr]func(*request) (int, error){
	format.IocWalkInodes:          (*request).walkInodes,
	format.IocInoPath:             (*request).inoPath,
	format.IocStatMore:            (*request).statMore,
	format.IocListxattrHidden:     (*request).listHidden,
	format.IocStatfsMore:          (*request).statfsMore,
	format.IocAllocDetail:         (*request).allocDetail,
	format.IocGetReferringEntries: (*request).referringEntries,
	format.IocGetAttrX:            (*request).getAttrX,
}

// Ioctl serves the archive interface. Source: spec interfaces 1.
func (f *FS) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	fn := ioctls[format.IoctlNr(in.Cmd)]
	if fn == nil {
		return fuse.Status(syscall.ENOTTY)
	}
	r := request{
		f: f, caller: f.caller(&in.InHeader, cancel), mem: memory{int(in.Pid)}, ino: Ino(in.NodeId),
		flags: uint32(in.Fh), arg: in.Arg, in: inbuf, out: outbuf,
	}
	n, err := fn(&r)
	if err != nil {
		return f.errno(err)
	}
	out.Result = int32(n)
	return fuse.OK
}

// load returns the argument as the kernel copied it.
func load[T format.Fixed](r *request) (v T, err error) {
	v, ok := format.Load[T](r.in)
	if !ok {
		return v, syscall.EFAULT
	}
	return v, nil
}

// store is the argument's new contents, which the kernel copies back.
func store[T format.Fixed](r *request, v *T) error {
	if copy(r.out, format.Bytes(v)) < format.Size[T]() {
		return syscall.EFAULT
	}
	return nil
}

func (r *request) walkInodes() (int, error) {
	a, err := load[format.IocWalkInodesArgs](r)
	if err != nil {
		return 0, err
	}
	if a.Index > volume.IndexDataSeq {
		return 0, syscall.EINVAL
	}
	const batch = 1024
	first := volume.WalkEntry{Major: a.First.Major, Ino: a.First.Ino}
	last := volume.WalkEntry{Major: a.Last.Major, Ino: a.Last.Ino}
	total := 0
	for want := int(min(a.NrEntries, 1<<31-1)); total < want; {
		es, err := r.f.vol.WalkInodes(&r.caller, int(a.Index), first, last, min(want-total, batch))
		if err == nil && len(es) > 0 {
			err = r.storeWalk(a.EntriesPtr+uint64(total)*24, es)
		}
		if err != nil && total == 0 {
			return 0, err
		}
		if err != nil || len(es) == 0 {
			break
		}
		total += len(es)
		first = es[len(es)-1]
		if first.Ino++; first.Ino == 0 {
			if first.Major++; first.Major == 0 {
				break
			}
		}
	}
	return total, nil
}

func (r *request) storeWalk(addr uint64, es []volume.WalkEntry) error {
	b := make([]byte, 0, len(es)*format.Size[format.IocWalkEntry]())
	for _, e := range es {
		b = append(b, format.Bytes(&format.IocWalkEntry{Major: e.Major, Ino: e.Ino})...)
	}
	return r.mem.write(addr, b)
}

func (r *request) inoPath() (int, error) {
	if !r.caller.Has(volume.CapDacReadSearch) {
		return 0, syscall.EPERM
	}
	a, err := load[format.IocInoPathArgs](r)
	if err != nil {
		return 0, err
	}
	head := format.Size[format.IocInoPathResult]()
	p, err := r.f.vol.InoPath(&r.caller, a.Ino, a.DirIno, a.DirPos, int(a.ResultBytes)-head-1)
	if err != nil {
		return 0, err
	}
	res := format.IocInoPathResult{DirIno: p.DirIno, DirPos: p.DirPos, PathBytes: uint16(len(p.Path) + 1)}
	b := append(append([]byte(nil), format.Bytes(&res)...), p.Path...)
	return 0, r.mem.write(a.ResultPtr, append(b, 0))
}

func (r *request) statMore() (int, error) {
	a, err := r.f.vol.Getattr(&r.caller, r.ino)
	if err != nil {
		return 0, err
	}
	return 0, store(r, &format.IocStatMoreResult{
		MetaSeq: a.MetaSeq, DataSeq: a.DataSeq, DataVersion: a.DataVersion,
		OnlineBlocks: a.OnlineBlocks, OfflineBlocks: a.OfflineBlocks, CrtimeSec: a.Crtime.Sec, CrtimeNsec: a.Crtime.Nsec,
	})
}

func (r *request) statfsMore() (int, error) {
	s, err := r.f.vol.StatfsMore(&r.caller)
	if err != nil {
		return 0, err
	}
	return 0, store(r, &format.IocStatfsMoreResult{
		Fsid: s.Fsid, Rid: s.Rid, CommittedSeq: s.CommittedSeq,
		TotalMetaBlocks: s.TotalMetaBlocks, TotalDataBlocks: s.TotalDataBlocks, ReservedMetaBlocks: s.ReservedMetaBlocks,
	})
}

func (r *request) listHidden() (int, error) {
	a, err := load[format.IocListxattrHiddenArgs](r)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, min(a.BufBytes, 64<<10))
	n, hash, id, err := r.f.vol.ListHidden(&r.caller, r.ino, a.HashPos, a.IDPos, buf)
	if err != nil {
		return 0, err
	}
	if err := r.mem.write(a.BufPtr, buf[:n]); err != nil {
		return 0, err
	}
	a.HashPos, a.IDPos = hash, id
	return n, store(r, &a)
}

func (r *request) allocDetail() (int, error) {
	a, err := load[format.IocAllocDetailArgs](r)
	if err != nil {
		return 0, err
	}
	es, err := r.f.vol.AllocDetail(&r.caller)
	if err != nil {
		return 0, err
	}
	if uint64(len(es)) > a.EntriesNr {
		return 0, syscall.EOVERFLOW
	}
	var b []byte
	for _, e := range es {
		d := format.IocAllocDetailEntry{ID: e.ID, Blocks: e.Blocks}
		if e.Meta {
			d.Bits |= format.IocAllocMeta
		}
		if e.Avail {
			d.Bits |= format.IocAllocAvail
		}
		b = append(b, format.Bytes(&d)...)
	}
	return len(es), r.mem.write(a.EntriesPtr, b)
}

func (r *request) referringEntries() (int, error) {
	if !r.caller.Has(volume.CapDacReadSearch) {
		return 0, syscall.EPERM
	}
	a, err := load[format.IocGetReferringArgs](r)
	if err != nil {
		return 0, err
	}
	const batch = 256
	stored, dir, pos := 0, a.DirIno, a.DirPos
	var b []byte
	for {
		es, err := r.f.vol.ReferringEntries(&r.caller, a.Ino, dir, pos, batch)
		if err != nil {
			return 0, err
		}
		for _, e := range es {
			next := format.AppendReferringEntry(b, &format.ReferringEntry{
				DirIno: e.DirIno, DirPos: e.DirPos, Ino: e.Ino, Last: e.Last, DType: e.Type, Name: []byte(e.Name),
			})
			if uint64(len(next)) > a.EntriesBytes {
				if stored == 0 {
					return 0, syscall.EINVAL
				}
				return stored, r.mem.write(a.EntriesPtr, b)
			}
			b = next
			stored++
		}
		if len(es) == 0 || es[len(es)-1].Last {
			return stored, r.mem.write(a.EntriesPtr, b)
		}
		dir, pos = es[len(es)-1].DirIno, es[len(es)-1].DirPos+1
		if pos == 0 {
			dir++
		}
	}
}

// getAttrX copies back only up to the last field that was asked for, so that
// callers with a shorter struct are safe.
func (r *request) getAttrX() (int, error) {
	a, err := load[format.IocAttrX](r)
	if err != nil {
		return 0, err
	}
	if a.Mask == 0 {
		return 0, nil
	}
	if a.Mask&^format.IocAttrAll != 0 || a.Flags&^1 != 0 {
		return 0, syscall.EINVAL
	}
	if a.Mask&(format.IocAttrBits|format.IocAttrProjectID) != 0 && r.f.opts.FormatVersion < 2 {
		return 0, syscall.EOPNOTSUPP
	}
	in, err := r.f.vol.Getattr(&r.caller, r.ino)
	if err != nil {
		return 0, err
	}
	res := format.IocAttrX{
		Mask: a.Mask, Flags: a.Flags, MetaSeq: in.MetaSeq, DataSeq: in.DataSeq, DataVersion: in.DataVersion,
		OnlineBlocks: in.OnlineBlocks, OfflineBlocks: in.OfflineBlocks,
		CtimeSec: in.Ctime.Sec, CtimeNsec: in.Ctime.Nsec, CrtimeSec: in.Crtime.Sec, CrtimeNsec: in.Crtime.Nsec,
		Size: in.Size, ProjectID: in.Proj,
	}
	if in.Flags&format.InodeRetention != 0 {
		res.Bits = 1
	}
	// Ends of the fields of each mask bit.
	ends := [...]int{24, 32, 40, 48, 56, 68, 80, 88, 96, 104}
	end := 16
	for bit, e := range ends {
		if a.Mask>>bit&1 != 0 {
			end = max(end, e)
		}
	}
	return 0, r.mem.write(r.arg, format.Bytes(&res)[:end])
}
