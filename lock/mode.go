// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import "scoutfs/format"

// serves reports whether a user that wants a mode may use a lock that its
// mount holds in the mode have. Source: spec cluster 7.1.
func serves(have, want format.LockMode) bool {
	return have == want && want != format.LockNull || have == format.LockWrite && want == format.LockRead
}

// canRead reports whether items may be cached and read under the mode.
func canRead(m format.LockMode) bool { return m == format.LockRead || m == format.LockWrite }

// canWrite reports whether items may be dirtied under the mode.
func canWrite(m format.LockMode) bool { return m == format.LockWrite || m == format.LockWriteOnly }

// reduce is the mode that is left of have when the server asks for at most to,
// which is NULL or READ. It never raises a mode.
func reduce(have, to format.LockMode) format.LockMode {
	if to == format.LockRead && canRead(have) {
		return format.LockRead
	}
	return format.LockNull
}

// compatible reports whether a grant and a request of two mounts, or of one,
// can be granted together. Source: spec cluster 7.1.
func compatible(granted, requested format.LockMode, sameMount bool) bool {
	switch {
	case granted == requested && (granted == format.LockRead || granted == format.LockWriteOnly):
		return true
	case sameMount:
		return granted == format.LockRead && requested == format.LockWrite
	default:
		return granted == format.LockNull || requested == format.LockNull
	}
}

// target is what a grant is reduced to in favour of a request.
func target(granted, requested format.LockMode) format.LockMode {
	if granted == format.LockWrite && requested == format.LockRead {
		return format.LockRead
	}
	return format.LockNull
}
