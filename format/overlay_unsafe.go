// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64 || riscv64 || loong64 || ppc64le || mips64le

package format

import "unsafe"

// Fixed lists the types whose memory is their encoding.
type Fixed interface {
	Timespec | BlockHeader | BlockRef | BtreeRoot | BtreeBlock | AvlNode | BtreeItem | AllocList | AllocListBlock |
		AllocRoot | BloomBlock | Key | Inet | QuorumConfig | VolumeOptions | Super | QuorumEvent | QuorumBlock |
		MountedClient | SrchEntry | SrchFile | SrchParent | SrchBlock | SrchInput | SrchCompact | LogTrees | MergeStatus |
		MergeRange | MergeRequest | MergeComplete | MergeFreeing | Totl | QuotaRule | Extent | Inode | DirentHdr | XattrHdr |
		QuorumMsg | NetHeader | NetGreeting | NetInoRange | NetRoots | NetLock | NetLockRecover | NetOpenInoMapArgs |
		NetOpenInoMap | NetResize | NetStatfs | IocWalkEntry | IocWalkInodesArgs | IocInoPathArgs | IocInoPathResult |
		IocStatMoreResult | IocListxattrHiddenArgs | IocStatfsMoreResult | IocAllocDetailArgs | IocAllocDetailEntry |
		IocGetReferringArgs | IocReferringEntry | IocAttrX |
		IocReleaseArgs | IocStageArgs | IocDataWaitingArgs | IocDataWaitingEntry | IocSetattrMoreArgs |
		IocSearchXattrsArgs | IocDataWaitErrArgs | IocMoveBlocksArgs | IocReadXattrTotalsArgs | IocXattrTotal |
		IocGetAllocatedInosArgs | IocGetQuotaRulesArgs | IocReadXattrIndexArgs | IocXattrIndexEntry |
		IocPunchOfflineArgs | IocInjectTotlDeltaArgs
}

// Size is the encoded length of T in bytes.
func Size[T Fixed]() int {
	var v T
	return int(unsafe.Sizeof(v))
}

// Load decodes the start of b into a copy. ok is false if b is too short.
// b needs no alignment.
func Load[T Fixed](b []byte) (v T, ok bool) {
	if len(b) < int(unsafe.Sizeof(v)) {
		return v, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v, true
}

// Bytes is the encoding of *v. It shares v's memory.
func Bytes[T Fixed](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// Overlay returns b's start as a T that shares b's memory. It panics if b is
// too short. b must be 8-byte aligned. Only block, btree, alloc and srch may
// use it, on blocks that were verified.
func Overlay[T Fixed](b []byte) *T {
	var v T
	_ = b[:unsafe.Sizeof(v)]
	return (*T)(unsafe.Pointer(unsafe.SliceData(b)))
}

// OverlaySlice returns b's start as n consecutive T that share b's memory,
// with the rules of [Overlay].
func OverlaySlice[T Fixed](b []byte, n int) []T {
	var v T
	_ = b[:n*int(unsafe.Sizeof(v))]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// stringBytes is s without a copy, for reading only.
func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// Compile-time proof of the sizes that the format gives.
const (
	_ = -(unsafe.Sizeof(Timespec{}) ^ 16)
	_ = -(unsafe.Sizeof(BlockHeader{}) ^ 32)
	_ = -(unsafe.Sizeof(BlockRef{}) ^ 16)
	_ = -(unsafe.Sizeof(BtreeRoot{}) ^ 24)
	_ = -(unsafe.Sizeof(BtreeBlock{}) ^ BtreeHdrSize)
	_ = -(unsafe.Sizeof(AvlNode{}) ^ 8)
	_ = -(unsafe.Sizeof(BtreeItem{}) ^ BtreeItemSize)
	_ = -(unsafe.Sizeof(AllocList{}) ^ 32)
	_ = -(unsafe.Sizeof(AllocListBlock{}) ^ LargeSize)
	_ = -(unsafe.Sizeof(AllocRoot{}) ^ 40)
	_ = -(unsafe.Sizeof(BloomBlock{}) ^ LargeSize)
	_ = -(unsafe.Sizeof(Key{}) ^ 32)
	_ = -(unsafe.Sizeof(Inet{}) ^ 32)
	_ = -(unsafe.Sizeof(QuorumConfig{}) ^ 488)
	_ = -(unsafe.Sizeof(VolumeOptions{}) ^ 520)
	_ = -(unsafe.Sizeof(Super{}) ^ 1488)
	_ = -(unsafe.Sizeof(QuorumEvent{}) ^ 40)
	_ = -(unsafe.Sizeof(QuorumBlock{}) ^ 280)
	_ = -(unsafe.Sizeof(MountedClient{}) ^ 40)
	_ = -(unsafe.Sizeof(SrchEntry{}) ^ 24)
	_ = -(unsafe.Sizeof(SrchFile{}) ^ 88)
	_ = -(unsafe.Sizeof(SrchParent{}) ^ (LargeSize))
	_ = -(unsafe.Sizeof(SrchBlock{}) ^ SrchHdrSize)
	_ = -(unsafe.Sizeof(SrchInput{}) ^ 104)
	_ = -(unsafe.Sizeof(SrchCompact{}) ^ 584)
	_ = -(unsafe.Sizeof(LogTrees{}) ^ 472)
	_ = -(unsafe.Sizeof(MergeStatus{}) ^ 56)
	_ = -(unsafe.Sizeof(MergeRange{}) ^ 64)
	_ = -(unsafe.Sizeof(MergeRequest{}) ^ 208)
	_ = -(unsafe.Sizeof(MergeComplete{}) ^ 208)
	_ = -(unsafe.Sizeof(MergeFreeing{}) ^ 64)
	_ = -(unsafe.Sizeof(Totl{}) ^ 16)
	_ = -(unsafe.Sizeof(QuotaRule{}) ^ 48)
	_ = -(unsafe.Sizeof(Extent{}) ^ 16)
	_ = -(unsafe.Sizeof(Inode{}) ^ InodeSizeV2)
	_ = -(unsafe.Sizeof(DirentHdr{}) ^ DirentHdrSize)
	_ = -(unsafe.Sizeof(XattrHdr{}) ^ XattrHdrSize)
	_ = -(unsafe.Sizeof(QuorumMsg{}) ^ 32)
	_ = -(unsafe.Sizeof(NetHeader{}) ^ 32)
	_ = -(unsafe.Sizeof(NetGreeting{}) ^ 40)
	_ = -(unsafe.Sizeof(NetInoRange{}) ^ 16)
	_ = -(unsafe.Sizeof(NetRoots{}) ^ 72)
	_ = -(unsafe.Sizeof(NetLock{}) ^ 48)
	_ = -(unsafe.Sizeof(NetLockRecover{}) ^ 8)
	_ = -(unsafe.Sizeof(NetOpenInoMapArgs{}) ^ 16)
	_ = -(unsafe.Sizeof(NetOpenInoMap{}) ^ 144)
	_ = -(unsafe.Sizeof(NetResize{}) ^ 16)
	_ = -(unsafe.Sizeof(NetStatfs{}) ^ 56)
	_ = -(unsafe.Sizeof(IocWalkEntry{}) ^ 24)
	_ = -(unsafe.Sizeof(IocWalkInodesArgs{}) ^ 72)
	_ = -(unsafe.Sizeof(IocInoPathArgs{}) ^ 40)
	_ = -(unsafe.Sizeof(IocInoPathResult{}) ^ 24)
	_ = -(unsafe.Sizeof(IocStatMoreResult{}) ^ 56)
	_ = -(unsafe.Sizeof(IocListxattrHiddenArgs{}) ^ 24)
	_ = -(unsafe.Sizeof(IocStatfsMoreResult{}) ^ 48)
	_ = -(unsafe.Sizeof(IocAllocDetailArgs{}) ^ 16)
	_ = -(unsafe.Sizeof(IocAllocDetailEntry{}) ^ 24)
	_ = -(unsafe.Sizeof(IocGetReferringArgs{}) ^ 40)
	_ = -(unsafe.Sizeof(IocReferringEntry{}) ^ 32)
	_ = -(unsafe.Sizeof(IocAttrX{}) ^ 104)
	_ = -(unsafe.Sizeof(IocReleaseArgs{}) ^ 24)
	_ = -(unsafe.Sizeof(IocStageArgs{}) ^ 32)
	_ = -(unsafe.Sizeof(IocDataWaitingArgs{}) ^ 40)
	_ = -(unsafe.Sizeof(IocDataWaitingEntry{}) ^ 24)
	_ = -(unsafe.Sizeof(IocSetattrMoreArgs{}) ^ 48)
	_ = -(unsafe.Sizeof(IocSearchXattrsArgs{}) ^ 56)
	_ = -(unsafe.Sizeof(IocDataWaitErrArgs{}) ^ 48)
	_ = -(unsafe.Sizeof(IocMoveBlocksArgs{}) ^ 48)
	_ = -(unsafe.Sizeof(IocReadXattrTotalsArgs{}) ^ 40)
	_ = -(unsafe.Sizeof(IocXattrTotal{}) ^ 40)
	_ = -(unsafe.Sizeof(IocGetAllocatedInosArgs{}) ^ 24)
	_ = -(unsafe.Sizeof(IocGetQuotaRulesArgs{}) ^ 32)
	_ = -(unsafe.Sizeof(IocReadXattrIndexArgs{}) ^ 72)
	_ = -(unsafe.Sizeof(IocXattrIndexEntry{}) ^ 24)
	_ = -(unsafe.Sizeof(IocPunchOfflineArgs{}) ^ 32)
	_ = -(unsafe.Sizeof(IocInjectTotlDeltaArgs{}) ^ 40)
)
