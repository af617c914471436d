// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/quorum"
	"scoutfs/rpc"
	"scoutfs/txn"
	"scoutfs/volume"
)

// Options describe a mount to [Open]. Device and MountOptions are required.
type Options struct {
	Device string // path of the data device
	MountOptions

	// RegistryDir is where this host's mounts are registered.
	// Default: DefaultRegistryDir.
	RegistryDir string
	// RunDir is where the status tree is mounted; it is only named in messages.
	// Default: DefaultRunDir.
	RunDir string
	// OnStatus gets the status tree as soon as it works, before a server was
	// found. id is the name of the mount's directory. May be nil.
	OnStatus func(id string, root *Node)

	Kernel      volume.KernelCache // default: the kernel caches nothing
	CacheBudget int64              // bytes of cached metadata blocks; default: that of package block
	ItemBudget  int64              // bytes of cached items; default: that of package txn
	NoRing      bool               // no io_uring, for hosts that forbid it
	Log         *slog.Logger       // default: slog.Default()
}

// DefaultRunDir is where the status trees of all mounts of a host are.
const DefaultRunDir = "/run/scoutfs"

// unwindWait bounds how long a failed mount waits for its quorum member to
// record its end.
const unwindWait = 5 * time.Second

// Mount is one running instance of a volume.
type Mount struct {
	o          Options
	log        *slog.Logger
	live       liveOptions
	dev        *devices
	super      format.Super
	rid        format.Rid
	dataMajMin string
	registry   *Registry
	root       *Node
	runner     *serverRunner
	revoker    revoker
	cache      *block.Cache

	ctx    context.Context // ends with the mount
	cancel context.CancelFunc
	loops  sync.WaitGroup

	// What exists so far. Set once each, by Open; read by callbacks and the
	// status tree at any time.
	agent  atomic.Pointer[quorum.Agent]
	client atomic.Pointer[rpc.Client]
	locks  atomic.Pointer[lock.Client]
	engine atomic.Pointer[txn.Engine]
	vol    atomic.Pointer[volume.Volume]

	mu    sync.Mutex
	ended bool          // +checklocks:mu: Close or Abort has begun to take things down
	done  chan struct{} // closed when everything is down
}

// Open mounts a volume: it returns when the root directory can be used. That
// may take for ever while no quorum member runs; ctx ends the wait with EINTR.
// After an error nothing is left behind. What is wrong with the devices is a
// *DeviceError with a line for the user. Source: spec cluster 1.3.
func Open(ctx context.Context, o Options) (*Mount, error) {
	m, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := m.bringUp(ctx); err != nil {
		m.unwind()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("mount: %w: %w", syscall.EINTR, err)
		}
		return nil, err
	}
	return m, nil
}

func (o Options) withDefaults() Options {
	if o.RegistryDir == "" {
		o.RegistryDir = DefaultRegistryDir
	}
	if o.RunDir == "" {
		o.RunDir = DefaultRunDir
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// prepare takes what needs no other node: devices, rid, registry, status tree.
func prepare(o Options) (m *Mount, err error) {
	m = &Mount{o: o.withDefaults(), done: make(chan struct{})}
	m.live.store(o.MountOptions)
	m.dev, err = openDevices(o.MetadevPath, o.Device, block.OpenOptions{NoRing: o.NoRing, Log: m.o.Log})
	if err != nil {
		return nil, err
	}
	if err := m.register(); err != nil {
		return nil, errors.Join(err, m.dev.close())
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.log = m.o.Log.With("mount", m.ID())
	m.cache = block.NewCache(m.dev.meta, block.CacheOptions{Fsid: m.super.Hdr.Fsid, Budget: o.CacheBudget, Log: m.log})
	m.revoker = revoker{engine: &m.engine, vol: &m.vol}
	m.runner = newServerRunner(m)
	m.root = m.statusRoot()
	return m, nil
}

// register picks the rid, takes the locks and enters the host's registry.
func (m *Mount) register() error {
	var err error
	m.super = m.dev.super
	if slot := m.o.QuorumSlot; slot != NoSlot {
		if err := quorum.Validate(&m.super.Quorum, slot); err != nil {
			return refuse(err, "%s: %v", m.dev.metaFile.Name(), err)
		}
		if err := m.dev.lockSlot(slot, m.o.Log); err != nil {
			return err
		}
	}
	if m.rid, err = m.dev.newRid(); err != nil {
		return err
	}
	if m.dataMajMin, err = majMin(m.dev.dataFile.Name()); err != nil {
		return err
	}
	if m.registry, err = OpenRegistry(m.o.RegistryDir, m.super.Hdr.Fsid); err != nil {
		return err
	}
	return m.registry.Add(m.rid)
}

// majMin is the number of a block device, or of the device that a plain file
// lies on.
func majMin(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", fmt.Errorf("mount: stat %s: %w", path, err)
	}
	dev := st.Rdev
	if st.Mode&syscall.S_IFMT != syscall.S_IFBLK {
		dev = st.Dev
	}
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), nil
}

// bringUp starts what talks to others, and waits for a server.
func (m *Mount) bringUp(ctx context.Context) error {
	if m.o.OnStatus != nil {
		m.o.OnStatus(m.ID(), m.root)
	}
	if m.o.QuorumSlot != NoSlot {
		if err := m.startQuorum(ctx); err != nil {
			return err
		}
	}
	m.startClient()
	err := m.openVolume(ctx)
	if damage := m.runner.damage.Load(); err != nil && damage != nil {
		return fmt.Errorf("mount: this member was elected but the volume is damaged (run scoutfs check): %w", *damage)
	}
	return err
}

// openVolume waits for a server and opens the volume. It gives up when this
// mount's own server meets damage: a new election would meet it again.
func (m *Mount) openVolume(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.runner.giveUp.Store(&cancel)
	defer m.runner.giveUp.Store(nil)
	if m.runner.damage.Load() != nil { // met before we could be told
		cancel()
	}
	engine, err := txn.Open(ctx, txn.Options{
		Cache: m.cache, Data: m.dev.data, Service: service{m.client.Load()}, Rid: m.rid, ItemBudget: m.o.ItemBudget, Log: m.log,
	})
	if err != nil {
		return fmt.Errorf("mount: open the first transaction: %w", err)
	}
	m.engine.Store(engine)
	vol, err := volume.Open(ctx, volume.Options{
		Engine: engine, Locks: m.locks.Load(), Service: service{m.client.Load()}, Cache: m.cache, Data: m.dev.data,
		Super: m.super, Rid: m.rid, Tunables: &m.live.tunables, NoACL: !m.o.ACL, Kernel: m.o.Kernel,
		ServerClients: m.runner.clients, Log: m.log,
	})
	if err != nil {
		return fmt.Errorf("mount: read the root directory: %w", err)
	}
	m.vol.Store(vol)
	return nil
}

func (m *Mount) startQuorum(ctx context.Context) error {
	agent, err := quorum.Start(ctx, quorum.Options{
		Dev: m.dev.meta, Super: &m.super, Slot: m.o.QuorumSlot, Rid: m.rid, HeartbeatTimeout: m.live.heartbeatTimeout,
		Server: m.runner, Dead: m.provenDead, Log: m.log,
	})
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		addr, _ := quorum.SlotAddr(&m.super.Quorum, m.o.QuorumSlot)
		return refuse(err, "address %s of quorum slot %d cannot be used on this host: %v", addr, m.o.QuorumSlot, errors.Unwrap(err))
	}
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	m.agent.Store(agent)
	m.loops.Go(func() { m.sweepLoop(m.ctx) })
	return nil
}

// provenDead reports that a mount of this host cannot write any more.
func (m *Mount) provenDead(rid format.Rid) bool {
	return rid != m.rid && m.registry.ProvenDead(rid, m.dev.metaFile, m.dev.dataFile)
}

// ID is the name of the mount's directory in the status trees.
func (m *Mount) ID() string { return StatusID(m.super.Hdr.Fsid, m.rid) }

// Rid is the identity of this mount instance.
func (m *Mount) Rid() format.Rid { return m.rid }

// Super is the super block as it was read at mount.
func (m *Mount) Super() format.Super { return m.super }

// Volume is the mounted volume.
func (m *Mount) Volume() *volume.Volume { return m.vol.Load() }

// Status is the root of the status tree, with the directories sysfs and
// debugfs.
func (m *Mount) Status() *Node { return m.root }

// Done is closed when the mount is down, after Close or Abort.
func (m *Mount) Done() <-chan struct{} { return m.done }

// begin makes the caller the one who takes the mount down. The others wait for
// Done.
func (m *Mount) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := !m.ended
	m.ended = true
	return first
}

// Close ends the mount cleanly: the last commit, the farewell, and the records
// of the quorum member. It blocks until the server has answered; a quorum member
// may have to wait until all others are gone. If ctx ends first, or a step
// fails, the rest is as after Abort and the error says so. What was committed is
// safe in any case. Source: spec cluster 1.4.
func (m *Mount) Close(ctx context.Context) error {
	if !m.begin() {
		<-m.done
		return nil
	}
	err := m.leave(ctx)
	if err != nil {
		m.log.Error("unmount was not clean", "err", err)
		return errors.Join(err, m.tearDown(forced))
	}
	return m.tearDown(clean)
}

// leave does what needs the server.
func (m *Mount) leave(ctx context.Context) error {
	stop := context.AfterFunc(ctx, m.shutOff) // waits that know no context end too
	defer stop()
	if err := m.vol.Load().Close(ctx); err != nil {
		return fmt.Errorf("mount: close volume: %w", err)
	}
	m.locks.Load().Shutdown()
	if err := m.engine.Load().Close(ctx); err != nil {
		return fmt.Errorf("mount: last commit: %w", err)
	}
	if err := m.client.Load().Farewell(ctx, m.gone); err != nil {
		return fmt.Errorf("mount: farewell: %w", err)
	}
	if !stop() {
		return fmt.Errorf("mount: %w", ctx.Err())
	}
	return nil
}

// gone reports that the committed volume does not know this mount any more.
func (m *Mount) gone() bool {
	in, err := inMountedClients(m.cache, m.dev.meta, m.rid)
	return err == nil && !in
}

// Abort ends the mount as a forced unmount: nothing leaves this process any
// more, every waiter gets an error, and what was not committed is lost. It
// returns in bounded time. The volume's server fences this mount; on this host
// it has proof as soon as Abort has returned. Source: spec cluster 1.5.
func (m *Mount) Abort() {
	m.shutOff()
	if !m.begin() {
		<-m.done
		return
	}
	if err := m.tearDown(forced); err != nil {
		m.log.Warn("forced unmount", "err", err)
	}
}

// shutOff stops everything from leaving the mount. It does not wait.
func (m *Mount) shutOff() {
	m.dev.meta.shut.Store(true)
	m.dev.data.shut.Store(true)
	if c := m.client.Load(); c != nil {
		c.Abort()
	}
	if e := m.engine.Load(); e != nil {
		e.Abort()
	}
	if v := m.vol.Load(); v != nil {
		v.Abort()
	}
	m.cancel()
}

// ending says how a mount is taken down.
type ending uint8

const (
	clean  ending = iota // everyone knows
	forced               // nothing may leave any more
)

// tearDown joins everything and gives the devices back. The registry keeps a
// mount that was forced, so that it can be proven dead.
func (m *Mount) tearDown(how ending) error {
	defer close(m.done)
	var errs []error
	if how == forced {
		m.shutOff()
		errs = append(errs, m.dropVolume())
	}
	if l := m.locks.Load(); l != nil {
		l.Close()
	}
	if c := m.client.Load(); c != nil {
		c.Close()
	}
	errs = append(errs, m.endQuorum(how))
	m.cancel()
	m.loops.Wait()
	errs = append(errs, m.dev.close())
	if how == clean {
		errs = append(errs, m.registry.Remove(m.rid))
	}
	return errors.Join(errs...)
}

// dropVolume ends the volume and the transactions of a forced unmount. Their
// errors are expected.
func (m *Mount) dropVolume() error {
	ctx, cancel := context.WithTimeout(context.Background(), unwindWait)
	defer cancel()
	if l := m.locks.Load(); l != nil {
		l.Shutdown()
	}
	if v := m.vol.Load(); v != nil {
		if err := v.Close(ctx); err != nil {
			m.log.Debug("volume dropped", "err", err)
		}
	}
	if e := m.engine.Load(); e != nil {
		if err := e.Close(ctx); err != nil {
			m.log.Debug("transaction dropped", "err", err)
		}
	}
	return nil
}

func (m *Mount) endQuorum(how ending) error {
	a := m.agent.Load()
	if a == nil {
		return nil
	}
	if how == forced {
		a.Abort()
		return nil
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("mount: end of the quorum member: %w", err)
	}
	return nil
}

// unwind ends a mount that Open could not finish. Its pending requests are
// given up as in a forced unmount, but a quorum member still records its end if
// it can: no other member has to fence it then. Source: spec cluster 1.3.
func (m *Mount) unwind() {
	m.begin()
	greeted := false
	if c := m.client.Load(); c != nil {
		greeted = c.Term() != 0
		c.Abort()
	}
	if e := m.engine.Load(); e != nil {
		e.Abort()
	}
	recorded := true
	if a := m.agent.Load(); a != nil {
		timer := time.AfterFunc(unwindWait, a.Abort)
		recorded = a.Close() == nil
		timer.Stop()
	}
	how := forced
	if recorded && !greeted {
		how = clean // nobody knows this mount
	}
	if err := m.tearDown(how); err != nil {
		m.log.Debug("mount taken back", "err", err)
	}
}
