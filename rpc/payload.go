// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"scoutfs/format"
)

// Decode loads a payload that must have exactly the size of T: EINVAL if not,
// which is what servers answer to a request of the wrong length.
func Decode[T format.Fixed](b []byte) (T, error) {
	v, ok := format.Load[T](b)
	if !ok || len(b) != format.Size[T]() {
		return v, fmt.Errorf("rpc: payload of %d bytes instead of %d: %w", len(b), format.Size[T](), syscall.EINVAL)
	}
	return v, nil
}

// EncodeU64 makes the payload of a single value.
func EncodeU64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// DecodeU64 is the inverse of EncodeU64: EINVAL unless b has 8 bytes.
func DecodeU64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("rpc: payload of %d bytes instead of 8: %w", len(b), syscall.EINVAL)
	}
	return binary.LittleEndian.Uint64(b), nil
}

// EncodeLocks makes the payload of a LOCK_RECOVER response, of at most
// format.NetLockRecoverMax locks.
func EncodeLocks(locks []format.NetLock) []byte {
	locks = locks[:min(len(locks), format.NetLockRecoverMax)]
	h := format.NetLockRecover{Nr: uint16(len(locks))}
	b := append([]byte(nil), format.Bytes(&h)...)
	for i := range locks {
		b = append(b, format.Bytes(&locks[i])...)
	}
	return b
}

// DecodeLocks is the inverse of EncodeLocks: EINVAL if the length does not
// match the number.
func DecodeLocks(b []byte) ([]format.NetLock, error) {
	h, ok := format.Load[format.NetLockRecover](b)
	size := format.Size[format.NetLock]()
	if !ok || h.Nr > format.NetLockRecoverMax || len(b) != format.Size[format.NetLockRecover]()+int(h.Nr)*size {
		return nil, fmt.Errorf("rpc: LOCK_RECOVER of %d bytes: %w", len(b), syscall.EINVAL)
	}
	b = b[format.Size[format.NetLockRecover]():]
	locks := make([]format.NetLock, h.Nr)
	for i := range locks {
		locks[i], _ = format.Load[format.NetLock](b[i*size:])
	}
	return locks, nil
}
