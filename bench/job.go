// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Job is what to measure. Make jobs with [ParseArgs]; the zero value is not
// useful. Names and meanings are fio's where fio has the option.
type Job struct {
	Name      string
	Engine    string // device, btree, commit, volume or path
	Filename  string // device: what to read and write; made if it is missing
	Directory string // path: where; btree, commit, volume: place for scratch files
	RW        string // device: read, write, randread, randwrite, randrw
	Op        string // other engines: one of their operations, see [Operations]
	BlockSize int    // bytes of one operation
	Depth     int    // operations under way at once
	Batch     int    // of them, submitted together by one caller; 0: chosen
	NumJobs   int    // workers, or groups of callers, at once
	Size      int64  // bytes to transfer and range of offsets; 0: all of Filename
	Runtime   time.Duration
	TimeBased bool // go on for all of Runtime
	MixRead   int  // percent of reads of randrw
	FixedBufs bool // buffers are registered with the ring
	NoRing    bool // pread and pwrite
	Files     int  // nrfiles: of path, volume and commit; items of btree
	DirFiles  int  // files of one directory
	Budget    int64
	Seed      uint64
	Each      bool // results of each of NumJobs instead of their sum
	Buffered  bool // path: through the kernel's page cache
}

func defaultJob() Job {
	return Job{
		Engine: "device", RW: "read", BlockSize: 4096, Depth: 1, NumJobs: 1, MixRead: 50, FixedBufs: true,
		Files: 10000, DirFiles: 10000, Seed: 1, Each: true,
	}
}

// Output is how results are printed.
type Output struct {
	Format  string // normal or json
	GoBench bool   // lines of Go benchmarks instead
}

// ParseArgs parses fio's command line: --option=value, --option value or
// --flag. --name begins a job; options of a job called global, or before the
// first name, are for all that follow.
func ParseArgs(args []string) (jobs []Job, out Output, err error) {
	out.Format = "normal"
	global := defaultJob()
	cur := &global
	for i := 0; i < len(args); i++ {
		key, val, has := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		if !strings.HasPrefix(args[i], "--") || key == "" {
			return nil, out, fmt.Errorf("bench: %q is not an option of the form --name=value", args[i])
		}
		key = strings.ReplaceAll(key, "-", "_")
		if !has && !flagOptions[key] && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			val, has = args[i], true
		}
		if !has {
			val = "1"
		}
		switch key {
		case "name":
			if val == "global" {
				cur = &global
				continue
			}
			jobs = append(jobs, global)
			cur = &jobs[len(jobs)-1]
			cur.Name = val
			continue
		case "output_format":
			out.Format = val
			continue
		case "gobench":
			out.GoBench = val != "0"
			continue
		}
		if err := cur.set(key, val); err != nil {
			return nil, out, err
		}
	}
	if len(jobs) == 0 {
		global.Name = global.Engine
		jobs = []Job{global}
	}
	for i := range jobs {
		if err := jobs[i].check(); err != nil {
			return nil, out, err
		}
	}
	if out.Format != "normal" && out.Format != "json" {
		err = fmt.Errorf("bench: output format %q: normal and json are known", out.Format)
	}
	return jobs, out, err
}

// flagOptions need no value.
var flagOptions = map[string]bool{
	"time_based": true, "group_reporting": true, "gobench": true, "noring": true, "thread": true, "norandommap": true,
}

func (j *Job) set(key, val string) (err error) {
	switch key {
	case "ioengine":
		j.Engine = val
	case "filename":
		j.Filename = val
	case "directory":
		j.Directory = val
	case "rw", "readwrite":
		j.RW = val
	case "op":
		j.Op = val
	case "bs", "blocksize":
		err = setSize(&j.BlockSize, val)
	case "iodepth":
		err = setNumber(&j.Depth, val, 1)
	case "iodepth_batch", "iodepth_batch_submit":
		err = setNumber(&j.Batch, val, 1)
	case "numjobs":
		err = setNumber(&j.NumJobs, val, 1)
	case "size":
		j.Size, err = parseSize(val)
	case "runtime":
		j.Runtime, err = parseTime(val)
	case "rwmixread":
		err = setNumber(&j.MixRead, val, 0)
	case "nrfiles":
		err = setNumber(&j.Files, val, 1)
	case "dirfiles":
		err = setNumber(&j.DirFiles, val, 1)
	case "budget":
		j.Budget, err = parseSize(val)
	case "randseed":
		j.Seed, err = strconv.ParseUint(val, 10, 64)
	case "time_based", "group_reporting", "fixedbufs", "noring":
		err = j.setFlag(key, val)
	case "direct":
		j.Buffered = val == "0"
	case "registerfiles":
		if val != "1" {
			err = errors.New("package block always registers files")
		}
	case "thread", "norandommap", "invalidate", "randrepeat": // so it is here
	default:
		return fmt.Errorf("bench: unknown option --%s", key)
	}
	if err != nil {
		return fmt.Errorf("bench: --%s=%s: %w", key, val, err)
	}
	return nil
}

func (j *Job) setFlag(key, val string) error {
	on, err := strconv.ParseBool(val)
	switch key {
	case "time_based":
		j.TimeBased = on
	case "group_reporting":
		j.Each = !on
	case "fixedbufs":
		j.FixedBufs = on
	case "noring":
		j.NoRing = on
	}
	return err
}

func (j *Job) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("bench: job %s: %s", j.Name, fmt.Sprintf(format, args...))
	}
	ops, known := Operations[j.Engine]
	switch {
	case !known:
		return bad("engine %q: there are device, btree, commit, volume and path", j.Engine)
	case j.TimeBased && j.Runtime == 0:
		return bad("time_based needs runtime")
	case j.Engine == "device" && j.Filename == "":
		return bad("filename is missing")
	case j.Engine != "device" && j.Directory == "":
		return bad("directory is missing")
	case j.BlockSize <= 0 || j.Engine == "device" && j.BlockSize%4096 != 0:
		return bad("block size %d is not a multiple of 4096", j.BlockSize)
	case j.Engine == "device" && j.Buffered:
		return bad("package block always uses O_DIRECT")
	case j.MixRead > 100:
		return bad("rwmixread is a percentage")
	}
	name := &j.Op
	if j.Engine == "device" {
		name = &j.RW
	} else if *name == "" {
		*name = ops[0]
	}
	for _, op := range ops {
		if op == *name {
			return nil
		}
	}
	return bad("operation %q: engine %s has %s", *name, j.Engine, strings.Join(ops, ", "))
}

// Operations are the names of what each engine does: values of --rw for device,
// of --op for the others. The first is the default.
var Operations = map[string][]string{
	"device": {"read", "write", "randread", "randwrite", "randrw"},
	"btree":  {"insert", "put", "lookup", "next", "walk"},
	"commit": {"commit"},
	"volume": {"create", "lookup", "getattr", "lookupgetattr", "readdirplus", "read", "write", "randread", "randwrite", "unlink", "walk"},
	"path":   {"create", "stat", "lookup", "readdir", "read", "write", "randread", "randwrite", "unlink"},
}

func setNumber(to *int, val string, least int) error {
	n, err := strconv.Atoi(val)
	if err == nil && n < least {
		err = fmt.Errorf("less than %d", least)
	}
	*to = n
	return err
}

func setSize(to *int, val string) error {
	n, err := parseSize(val)
	if err == nil && n > math.MaxInt32 {
		err = strconv.ErrRange
	}
	*to = int(n)
	return err
}

// parseSize reads a number of bytes with fio's suffixes, powers of 1024.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), "kmgtib")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a size")
	}
	shift, ok := map[string]int{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s)[len(digits):], "ib"), "b")]
	if !ok || n > math.MaxInt64>>shift {
		return 0, errors.New("not a size")
	}
	return n << shift, nil
}

// parseTime reads a duration: seconds, or with a unit.
func parseTime(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 {
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errors.New("not a time")
	}
	return d, nil
}

// nextBlock is where the next block of a data file is read or written. at is
// how far a sequential pass has come; random operations draw from rng instead.
// io.EOF ends a job that makes one pass only.
func (j *Job) nextBlock(at *int64, rng *rand.Rand) (off int64, err error) {
	bs := int64(j.BlockSize)
	off = *at
	if *at += bs; *at > j.Size {
		if !j.TimeBased {
			return 0, io.EOF
		}
		off, *at = 0, bs
	}
	if j.Op == "randread" || j.Op == "randwrite" {
		off = rng.Int64N(j.Size/bs) * bs
	}
	return off, nil
}
