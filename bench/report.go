// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// percentiles are those of fio's report.
var percentiles = []float64{1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}

// Report writes results as the output says.
func Report(w io.Writer, o Output, results []*Result) error {
	switch {
	case o.GoBench:
		return reportGoBench(w, results)
	case o.Format == "json":
		return reportJSON(w, results)
	}
	return reportNormal(w, results)
}

// reportGoBench writes lines that benchstat reads.
func reportGoBench(w io.Writer, results []*Result) error {
	m := ThisMachine()
	if _, err := fmt.Fprintf(w, "goos: linux\ngoarch: %s\npkg: scoutfs/bench\ncpu: %s\n", runtime.GOARCH, m.CPU); err != nil {
		return err
	}
	for _, r := range results {
		n := r.Ops()
		if n == 0 {
			continue
		}
		per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n) }
		name := strings.Map(func(c rune) rune {
			if c == ' ' {
				return '_'
			}
			return c
		}, r.Job.Name)
		if _, err := fmt.Fprintf(w, "Benchmark%s/engine=%s/op=%s/bs=%d/depth=%d/jobs=%d\t%8d\t%12.1f ns/op\t%8.3f cpu-us/op\t%8.1f p99-us\t%8.3f allocs/op",
			name, r.Job.Engine, r.Job.operation(), r.Job.BlockSize, r.Job.Depth, r.Job.NumJobs, n, per(r.Elapsed),
			per(r.User+r.System)/1e3, float64(r.worst(99).Nanoseconds())/1e3, float64(r.Allocs)/float64(n)); err != nil {
			return err
		}
		if b := r.Dirs[Read].Bytes + r.Dirs[Write].Bytes; b > 0 {
			if _, err := fmt.Fprintf(w, "\t%8.2f MB/s", float64(b)/1e6/r.Elapsed.Seconds()); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// operation is what the job does.
func (j *Job) operation() string {
	if j.Engine == "device" {
		return j.RW
	}
	return j.Op
}

// worst is the greater percentile of the two directions.
func (r *Result) worst(p float64) time.Duration {
	return max(r.Dirs[Read].Lat.Percentile(p), r.Dirs[Write].Lat.Percentile(p))
}

func reportNormal(w io.Writer, results []*Result) error {
	if _, err := fmt.Fprintln(w, ThisMachine()); err != nil {
		return err
	}
	for _, r := range results {
		if _, err := fmt.Fprintf(w, "\n%s: engine=%s op=%s bs=%d depth=%d numjobs=%d\n", r.Job.Name, r.Job.Engine, r.Job.operation(), r.Job.BlockSize, r.Job.Depth, r.Job.NumJobs); err != nil {
			return err
		}
		for d, s := range r.Dirs {
			if s.Ops == 0 {
				continue
			}
			rate := float64(s.Ops) / r.Elapsed.Seconds()
			bw := float64(s.Bytes) / r.Elapsed.Seconds() / 1e6
			if _, err := fmt.Fprintf(w, "  %s: IOPS=%.0f, BW=%.1f MB/s, %d operations in %v\n    lat: mean=%v, p50=%v, p99=%v, max=%v\n",
				[]string{"read", "write"}[d], rate, bw, s.Ops, r.Elapsed.Round(time.Millisecond),
				time.Duration(s.Lat.Mean()), s.Lat.Percentile(50), s.Lat.Percentile(99), time.Duration(s.Lat.max)); err != nil {
				return err
			}
		}
		n := float64(max(r.Ops(), 1))
		if _, err := fmt.Fprintf(w, "  cpu: usr=%.2f%%, sys=%.2f%%, %.3f us/operation, %.3f allocations/operation\n",
			percent(r.User, r.Elapsed), percent(r.System, r.Elapsed), float64((r.User+r.System).Nanoseconds())/1e3/n, float64(r.Allocs)/n); err != nil {
			return err
		}
		for k, v := range r.Extra {
			if _, err := fmt.Fprintf(w, "  %s: %g\n", k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func percent(part, of time.Duration) float64 {
	if of <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(of)
}

// The shapes of fio's JSON, as far as there are figures for it.
type (
	jsonReport struct {
		Version   string    `json:"scoutfs-bench version"`
		Timestamp int64     `json:"timestamp"`
		Time      string    `json:"time"`
		Machine   Machine   `json:"machine"`
		Jobs      []jsonJob `json:"jobs"`
	}
	jsonJob struct {
		Name    string             `json:"jobname"`
		Group   int                `json:"groupid"`
		Error   int                `json:"error"`
		Options map[string]string  `json:"job options"`
		Read    jsonDir            `json:"read"`
		Write   jsonDir            `json:"write"`
		Runtime int64              `json:"job_runtime"` // ms
		User    float64            `json:"usr_cpu"`
		System  float64            `json:"sys_cpu"`
		Allocs  float64            `json:"allocs_per_op"`
		Extra   map[string]float64 `json:"extra,omitempty"`
	}
	jsonDir struct {
		Bytes   uint64   `json:"io_bytes"`
		KBytes  uint64   `json:"io_kbytes"`
		BWBytes uint64   `json:"bw_bytes"`
		BW      uint64   `json:"bw"` // KiB/s
		IOPS    float64  `json:"iops"`
		Runtime int64    `json:"runtime"` // ms
		Total   uint64   `json:"total_ios"`
		Clat    *jsonLat `json:"clat_ns,omitempty"`
		Lat     jsonLat  `json:"lat_ns"`
	}
	jsonLat struct {
		Min        uint64           `json:"min"`
		Max        uint64           `json:"max"`
		Mean       float64          `json:"mean"`
		Stddev     float64          `json:"stddev"`
		N          uint64           `json:"N"`
		Percentile map[string]int64 `json:"percentile,omitempty"`
	}
)

func reportJSON(w io.Writer, results []*Result) error {
	now := time.Now()
	rep := jsonReport{Version: "1", Timestamp: now.Unix(), Time: now.Format(time.ANSIC), Machine: ThisMachine()}
	for _, r := range results {
		n := float64(max(r.Ops(), 1))
		rep.Jobs = append(rep.Jobs, jsonJob{
			Name: r.Job.Name, Options: r.Job.options(), Read: r.Dirs[Read].json(r.Elapsed), Write: r.Dirs[Write].json(r.Elapsed),
			Runtime: r.Elapsed.Milliseconds(), User: percent(r.User, r.Elapsed), System: percent(r.System, r.Elapsed),
			Allocs: float64(r.Allocs) / n, Extra: r.Extra,
		})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(&rep)
}

func (j *Job) options() map[string]string {
	m := map[string]string{"name": j.Name, "ioengine": j.Engine, "iodepth": strconv.Itoa(j.Depth), "bs": strconv.Itoa(j.BlockSize), "numjobs": strconv.Itoa(j.NumJobs)}
	if j.Engine == "device" {
		m["filename"], m["rw"] = j.Filename, j.RW
	} else {
		m["directory"], m["op"], m["nrfiles"] = j.Directory, j.Op, strconv.Itoa(j.Files)
	}
	return m
}

func (s *Stats) json(took time.Duration) jsonDir {
	if s.Ops == 0 {
		return jsonDir{}
	}
	sec := took.Seconds()
	d := jsonDir{
		Bytes: s.Bytes, KBytes: s.Bytes / 1024, BWBytes: uint64(float64(s.Bytes) / sec), BW: uint64(float64(s.Bytes) / 1024 / sec),
		IOPS: float64(s.Ops) / sec, Runtime: took.Milliseconds(), Total: s.Ops,
	}
	h := &s.Lat
	d.Lat = jsonLat{Min: h.min, Max: h.max, Mean: h.Mean(), Stddev: h.stddev(), N: h.n, Percentile: map[string]int64{}}
	for _, p := range percentiles {
		d.Lat.Percentile[strconv.FormatFloat(p, 'f', 6, 64)] = h.Percentile(p).Nanoseconds()
	}
	clat := d.Lat // an operation has no other latency here
	d.Clat = &clat
	return d
}
