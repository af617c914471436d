// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scoutfs/bench"
)

func TestParseArgs(t *testing.T) {
	jobs, out, err := bench.ParseArgs(strings.Fields(
		"--bs=64k --name=global --iodepth=8 --name=a --filename=/x --rw=randread --size=1g --runtime=2 --time_based --name b --filename /y --bs 1MiB --group_reporting --output-format=json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 2 || out.Format != "json" {
		t.Fatalf("%d jobs, output %+v", len(jobs), out)
	}
	a, b := jobs[0], jobs[1]
	if a.Name != "a" || a.BlockSize != 64<<10 || a.Depth != 8 || a.Size != 1<<30 || a.Runtime != 2*time.Second || !a.TimeBased || !a.Each {
		t.Errorf("job a: %+v", a)
	}
	if b.Name != "b" || b.Filename != "/y" || b.BlockSize != 1<<20 || b.TimeBased || b.Each {
		t.Errorf("job b: %+v", b)
	}
}

func TestParseArgsRefuses(t *testing.T) {
	for _, args := range []string{
		"x", "--nonsense=1", "--bs=4q", "--bs=512 --filename=/x", "--ioengine=libaio --filename=/x", "--rw=trim --filename=/x",
		"--rw=read", "--iodepth=0", "--time_based --filename=/x", "--ioengine=path --op=fly --directory=/x", "--ioengine=volume",
		"--direct=0 --filename=/x", "--registerfiles=0", "--output-format=terse --filename=/x", "--bs=9999999t", "--rwmixread=101 --filename=/x",
	} {
		if _, _, err := bench.ParseArgs(strings.Fields(args)); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// Every engine and operation runs and counts what it did.
func TestEngines(t *testing.T) {
	dir := t.TempDir()
	for engine, ops := range bench.Operations {
		for _, op := range ops {
			if engine == "path" && (op != "create" && op != "stat" && op != "unlink") {
				continue // these drop the kernel's caches
			}
			t.Run(engine+"/"+op, func(t *testing.T) {
				args := "--name=j --ioengine=" + engine + " --nrfiles=200 --dirfiles=100 --size=256k --budget=16m --directory=" + dir
				if engine == "device" {
					args += " --iodepth=8 --numjobs=2 --rw=" + op + " --filename=" + filepath.Join(dir, "device")
				} else {
					args += " --op=" + op
				}
				jobs, _, err := bench.ParseArgs(strings.Fields(args))
				if err != nil {
					t.Fatal(err)
				}
				results, err := bench.Run(context.Background(), &jobs[0])
				if err != nil {
					t.Fatal(err)
				}
				if n := jobs[0].NumJobs; len(results) != n {
					t.Fatalf("%d results of %d jobs", len(results), n)
				}
				for _, r := range results {
					if r.Ops() == 0 || r.Elapsed <= 0 {
						t.Errorf("result %d operations in %v", r.Ops(), r.Elapsed)
					}
				}
				checkReports(t, results)
			})
		}
	}
}

func checkReports(t *testing.T, results []*bench.Result) {
	t.Helper()
	var b bytes.Buffer
	if err := bench.Report(&b, bench.Output{Format: "json"}, results); err != nil {
		t.Fatal(err)
	}
	var rep struct {
		Machine struct{ CPU string }
		Jobs    []struct {
			Read, Write struct {
				Total uint64 `json:"total_ios"`
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Jobs) != len(results) || rep.Jobs[0].Read.Total+rep.Jobs[0].Write.Total != results[0].Ops() {
		t.Errorf("JSON report %s", b.Bytes())
	}
	for _, o := range []bench.Output{{Format: "normal"}, {GoBench: true}} {
		b.Reset()
		if err := bench.Report(&b, o, results); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "j") {
			t.Errorf("report %q", b.String())
		}
	}
}

func TestHistogram(t *testing.T) {
	var h bench.Histogram
	for i := range 100000 {
		h.Add(time.Duration(i), 1)
	}
	for _, p := range []float64{1, 50, 99, 99.9} {
		want := p / 100 * 100000
		if got := float64(h.Percentile(p)); got < want*0.97 || got > want*1.03 {
			t.Errorf("percentile %v is %v, want about %v", p, got, want)
		}
	}
	if m := h.Mean(); m < 49999 || m > 50000 {
		t.Errorf("mean %v", m)
	}
	h.Add(1<<62, 1)
	if got := h.Percentile(100); got < 1<<61 {
		t.Errorf("largest %v", got)
	}
}
