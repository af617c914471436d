// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// Sweep cleans the registry now.
func (m *Mount) Sweep() { m.sweep() }

// Engine is the mount's transactions.
func (m *Mount) Engine() *txn.Engine { return m.engine.Load() }

// HandleSync is what a request of the server for a commit does.
func (m *Mount) HandleSync(reply func([]byte, error)) { m.handleSync(0, nil, reply) }

// InvalidateEarly lets a revocation arrive, and be answered, before there is a
// client.
func InvalidateEarly(reply func([]byte, error)) {
	var m Mount
	locks := lock.NewClient(lock.ClientOptions{Respond: m.respondLock})
	defer locks.Close()
	m.locks.Store(locks)
	var l format.NetLock
	m.handleInvalidate(1, format.Bytes(&l), reply)
	m.respondLock(1, l)
}
