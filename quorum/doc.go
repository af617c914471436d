// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package quorum elects the one mount that runs the server.
//
// Every mount that was given a quorum slot runs an [Agent]. Agents exchange
// 32 byte datagrams to elect a leader of a [format.Term], and each records what
// it did in its slot's 4 KiB block on the metadata device, so that whoever is
// elected later finds the leaders that may still be writing and has them
// fenced. The votes only choose; exclusive access comes from the blocks and
// from fencing.
//
//	FOLLOWER --deadline passed--> CANDIDATE --votes--> LEADER --starts--> server
//	    ^                            |                    |
//	    '---- message of a greater term, or the server ended (RESIGNATION) ---'
//
// [Core] is the election without clock, socket, device or goroutine: messages,
// ticks and server states go in, an ordered list of actions comes out. [Agent]
// is the shell around it: one goroutine that alone reads the socket and writes
// the slot's block. Times given to the core count from the agent's start; slots
// are 0 to 14; durations are Go's.
//
// Lock order: Agent.mu is a leaf. It is never held during I/O.
//
// Source: spec cluster 2, format 10, interfaces 4.1.
package quorum
