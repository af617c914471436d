// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// DeviceError says in one line why the devices cannot be mounted. It unwraps to
// the errno of the mount.
type DeviceError struct {
	Reason string
	Err    error
}

// Error is the reason alone: a whole line that names the device.
func (e *DeviceError) Error() string { return e.Reason }

// Unwrap returns what errors.Is compares.
func (e *DeviceError) Unwrap() error { return e.Err }

func refuse(err error, f string, args ...any) error {
	return &DeviceError{Reason: fmt.Sprintf(f, args...), Err: err}
}

// devices are the two open devices of a mount.
type devices struct {
	metaFile, dataFile *block.File
	meta, data         *gate
	super              format.Super // of the metadata device
}

// lockWait is how long a lock of a mount that was just killed may linger: the
// kernel drops it only when the last of its I/O has ended.
const lockWait = 3 * time.Second

// openDevices opens both devices and checks their super blocks.
func openDevices(metaPath, dataPath string, o block.OpenOptions) (d *devices, err error) {
	if err := differentDevices(metaPath, dataPath); err != nil {
		return nil, err
	}
	d = &devices{}
	defer func() {
		if err != nil {
			_ = d.close() // the first error says why
		}
	}()
	if d.metaFile, err = openDevice("metadata", metaPath, o); err != nil {
		return d, err
	}
	if d.dataFile, err = openDevice("data", dataPath, o); err != nil {
		return d, err
	}
	d.meta, d.data = &gate{Device: d.metaFile}, &gate{Device: d.dataFile}
	d.super, err = checkSupers(d.metaFile, d.dataFile)
	return d, err
}

func (d *devices) close() error {
	var errs []error
	for _, f := range []*block.File{d.dataFile, d.metaFile} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// differentDevices refuses two names of one device or file.
func differentDevices(meta, data string) error {
	a, err := os.Stat(meta)
	if err != nil {
		return missing("metadata", meta, err)
	}
	b, err := os.Stat(data)
	if err != nil {
		return missing("data", data, err)
	}
	same := os.SameFile(a, b)
	if a.Mode()&b.Mode()&fs.ModeDevice != 0 {
		sa, oka := a.Sys().(*syscall.Stat_t)
		sb, okb := b.Sys().(*syscall.Stat_t)
		same = same || oka && okb && sa.Rdev == sb.Rdev
	}
	if same {
		return refuse(syscall.EINVAL, "metadata device %s and data device %s are the same device", meta, data)
	}
	return nil
}

func missing(what, path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(err, "%s device %s does not exist", what, path)
	}
	return refuse(err, "%s device %s: %v", what, path, errors.Unwrap(err))
}

func openDevice(what, path string, o block.OpenOptions) (*block.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() && st.Mode()&fs.ModeDevice == 0 || err == nil && st.Mode()&fs.ModeCharDevice != 0 {
		return nil, refuse(syscall.ENOTBLK, "%s device %s is neither a block device nor a plain file", what, path)
	}
	f, err := block.Open(path, o)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return nil, refuse(err, "%s device %s is read-only or may not be opened for writing: %v", what, path, err)
	}
	return nil, refuse(err, "%s device %s cannot be opened: %v", what, path, err)
}

// checkSupers reads both super blocks and says what does not fit.
// Source: spec cluster 1.3 step 2.
func checkSupers(meta, data block.Device) (format.Super, error) {
	m, err := readSuper("metadata", meta)
	if err != nil {
		return m, err
	}
	d, err := readSuper("data", data)
	if err != nil {
		return m, err
	}
	switch {
	case !m.IsMeta() && d.IsMeta():
		return m, refuse(syscall.EINVAL, "devices are swapped: %s is the data device and %s the metadata device of a volume", meta.Name(), data.Name())
	case !m.IsMeta():
		return m, refuse(syscall.EINVAL, "%s is the data device of a volume, not a metadata device", meta.Name())
	case d.IsMeta():
		return m, refuse(syscall.EINVAL, "%s is the metadata device of a volume, not a data device", data.Name())
	case m.UUID != d.UUID || m.Hdr.Fsid != d.Hdr.Fsid:
		return m, refuse(syscall.EINVAL, "metadata device %s (fsid %016x) and data device %s (fsid %016x) belong to different volumes",
			meta.Name(), m.Hdr.Fsid, data.Name(), d.Hdr.Fsid)
	case m.FmtVers != d.FmtVers:
		return m, refuse(syscall.EINVAL, "metadata device %s has format version %d, data device %s has %d", meta.Name(), m.FmtVers, data.Name(), d.FmtVers)
	}
	if err := longEnough("metadata", meta, m.TotalMetaBlocks, format.LargeShift); err != nil {
		return m, err
	}
	return m, longEnough("data", data, m.TotalDataBlocks, format.SmallShift)
}

func longEnough(what string, dev block.Device, blocks uint64, shift uint) error {
	if have := uint64(dev.Size()) >> shift; blocks > have {
		return refuse(syscall.EINVAL, "%s device %s has %d blocks of %d KiB, its super block says %d: it was truncated or is not the whole device",
			what, dev.Name(), have, 1<<shift>>10, blocks)
	}
	return nil
}

// superReads bounds re-reads of a super block that another opener is just
// writing.
const superReads = 5

// readSuper reads and checks the super block of one device.
func readSuper(what string, dev block.Device) (s format.Super, err error) {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	off := int64(format.SuperBlkno) << format.SmallShift
	if dev.Size() < off+format.SmallSize {
		return s, refuse(syscall.EINVAL, "%s device %s is too small to be a ScoutFS device", what, dev.Name())
	}
	for try := range superReads {
		if try > 0 {
			time.Sleep(2 * time.Millisecond)
		}
		if err = block.ReadAt(dev, buf, off); err != nil {
			return s, refuse(err, "%s device %s: read super block: %v", what, dev.Name(), err)
		}
		if s, err = verifySuper(what, dev.Name(), buf); err == nil {
			break
		}
	}
	return s, err
}

// verifySuper checks the bytes of a super block, the common mistakes first.
func verifySuper(what, name string, buf []byte) (format.Super, error) {
	s, _ := format.Load[format.Super](buf)
	switch {
	case s.Hdr.Magic != format.MagicSuper:
		return s, refuse(syscall.EINVAL, "%s device %s is not a ScoutFS device", what, name)
	case s.Hdr.CRC == format.Checksum(buf) && (s.FmtVers < format.MinVersion || s.FmtVers > format.MaxVersion):
		return s, refuse(syscall.EINVAL, "%s device %s has format version %d, this program knows %d to %d",
			what, name, s.FmtVers, format.MinVersion, format.MaxVersion)
	}
	p, err := format.VerifySuper(buf, name)
	if err == nil && p.IsMeta() {
		err = p.VerifyRoots(name)
	}
	if corrupt := new(format.CorruptError); errors.As(err, &corrupt) {
		return s, refuse(err, "super block of %s device %s is corrupt: %s", what, name, strings.TrimPrefix(corrupt.Reason, "super: "))
	}
	return s, err
}

// newRid picks the identity of this mount instance and locks it on both devices.
func (d *devices) newRid() (format.Rid, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("mount: pick rid: %w", err)
		}
		rid := format.Rid(binary.LittleEndian.Uint64(b[:]))
		if rid == 0 || rid == ^format.Rid(0) {
			continue
		}
		for _, f := range []*block.File{d.metaFile, d.dataFile} {
			if err := lockSoon(func() error { return f.LockRid(rid) }); err != nil {
				return 0, refuse(err, "%s is in use by a program that needs it alone: %v", f.Name(), err)
			}
		}
		return rid, nil
	}
}

// lockSlot takes the slot, which a living mount of this host may hold.
func (d *devices) lockSlot(slot int, log *slog.Logger) error {
	err := lockSoon(func() error { return d.metaFile.LockSlot(slot) })
	if errors.Is(err, block.ErrBusy) {
		return refuse(err, "quorum slot %d of %s is in use by a living mount on this host", slot, d.metaFile.Name())
	}
	if err != nil {
		return refuse(err, "quorum slot %d of %s cannot be locked: %v", slot, d.metaFile.Name(), err)
	}
	log.Debug("locked quorum slot", "slot", slot)
	return nil
}

// lockSoon waits a moment for a lock: its holder may be dying.
func lockSoon(lock func() error) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := lock()
		if err == nil || !errors.Is(err, block.ErrBusy) || time.Since(began) > lockWait {
			return err
		}
	}
}
