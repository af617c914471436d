// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/format"
)

// newImages makes a small volume in two files.
func newImages(t *testing.T) (meta, data string) {
	t.Helper()
	dir := t.TempDir()
	meta, data = filepath.Join(dir, "meta"), filepath.Join(dir, "data")
	for _, path := range []string{meta, data} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 256<<20); err != nil {
			t.Fatal(err)
		}
	}
	if r := scoutfs("mkfs", "-A", "-Q", "0,127.0.0.1,12345", meta, data); r.code != 0 {
		t.Fatalf("mkfs: %+v", r)
	}
	return meta, data
}

func TestCheckCommand(t *testing.T) {
	meta, data := newImages(t)
	const sums = ", 1 inodes, 7 of 4096 metadata blocks used, 64 of 65536 data blocks used\n"
	scoutfs("check", meta, data).check(t, 0, meta+": clean, 3 known oddities"+sums, "")
	scoutfs("check", "-q", meta, data).check(t, 0, "", "")
	if r := scoutfs("check", "-v", meta, data); r.code != 0 || strings.Count(r.out, "\noddity: rule 13: ") != 2 {
		t.Errorf("-v: %+v", r)
	}
	f, err := os.OpenFile(meta, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 18<<12+50); err != nil {
		t.Fatal(err)
	}
	scoutfs("check", meta, data).check(t, 0, meta+": clean, 3 known oddities"+sums, "") // slot 1 is not configured
	if _, err := f.WriteAt([]byte{1}, 17<<12+50); err != nil {
		t.Fatal(err)
	}
	if r := scoutfs("check", meta, data); r.code != check.ExitWarnings || !strings.HasPrefix(r.out, "warning: rule 5: quorum slot 0: block 17: crc") ||
		!strings.HasSuffix(r.out, ": 0 errors, 1 warning, 0 leaks, 3 known oddities"+sums) {
		t.Errorf("warning: %+v", r)
	}
	if _, err := f.WriteAt([]byte{1}, 2<<16+50); err != nil {
		t.Fatal(err)
	}
	r := scoutfs("check", "--json", meta, data)
	var got check.Report
	var plain struct {
		Findings []struct{ Severity string }
		Counts   check.Counts
	}
	if err := json.Unmarshal([]byte(r.out), &plain); err != nil || r.code != check.ExitErrors || plain.Counts.Errors != 1 || plain.Findings[0].Severity != "error" {
		t.Errorf("%+v, %v, %+v", r, err, got.Counts)
	}
}

func TestCheckCommandFailures(t *testing.T) {
	meta, data := newImages(t)
	const try = "Try `check --help' or `check --usage' for more information.\n"
	scoutfs("check", meta).check(t, check.ExitUsage, "", "check: accepts 2 arg(s), received 1\n"+try)
	scoutfs("check", "--frob", meta, data).check(t, check.ExitUsage, "", "check: unrecognized option '--frob'\n"+try)
	scoutfs("check", meta, meta).check(t, check.ExitFailure, "", "'"+meta+"' and '"+meta+"' are the same device: invalid argument\n"+
		"scoutfs: check failed: Invalid argument (22)\n")
	dev, err := block.Open(data, block.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.LockRid(format.Rid(7)); err != nil {
		t.Fatal(err)
	}
	scoutfs("check", meta, data).check(t, check.ExitFailure, "", "'"+data+"' is in use: unmount the volume first: device or resource busy\n"+
		"scoutfs: check failed: Device or resource busy (16)\n")
}
