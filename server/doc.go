// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package server is what the elected leader runs: it alone writes the super
// block and the trees that belong to no mount, grants locks, opens and commits
// the transactions of mounts, takes back what mounts leave behind, and asks
// for fencing.
//
// Units: metadata blocks are 64 KiB, data blocks 4 KiB; sequence numbers are
// the volume's one counter.
//
//	Start: fence earlier leaders -> read super -> raise the sequence number
//	   -> wait for known mounts (recovery, 30 s, then fence) -> serve
//
//	handler: enter a commit -> change trees under Server.mu -> leave, wait
//	commit:  refill and drain the other pair of lists -> write blocks -> flush
//	   -> write super -> flush -> publish -> answer everyone -> swap the pairs
//
// A commit that fails gives its error to all who waited; what they changed
// stays in memory and goes out with the next commit, so an error means that
// the outcome is not known, and every request can be repeated. A handler that
// cannot leave the trees consistent stops the server, which drops what was
// not written: the next server starts from the last super.
//
// Nothing in memory outlives a server.
//
// Lock order:
//
//	lockService.mu
//	  openMap.mu
//	    recovery.mu
//	      FenceTable.mu
//	Server.volopt (held over a commit)
//	  committer.mu
//	Server.mu (may be held over reads of metadata blocks, and by a commit over
//	  its writes)
//	brokenLinks.mu
//	doubts.mu
//	Local.mu
//
// Server.mu and the first group are never held together, except that a
// handler may ask the recovery whether a mount is pending.
package server
