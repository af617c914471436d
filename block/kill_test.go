// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/block/blocktest"
)

const (
	helperEnv = "SCOUTFS_TEST_OPENER"
	helperRid = 0xabcdef
)

// TestMain is also the program of the process that TestKilledOpener kills.
func TestMain(m *testing.M) {
	if path := os.Getenv(helperEnv); path != "" {
		err := holdLock(path)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// holdLock locks the device and writes to it until it is killed.
func holdLock(path string) error {
	f, err := block.Open(path, block.OpenOptions{})
	if err != nil {
		return err
	}
	if err := f.LockRid(helperRid); err != nil {
		return err
	}
	ops := make([]block.Op, 64)
	for i := range ops {
		ops[i] = block.Op{Write: true, Off: int64(i) << 16, Buf: block.AlignedBuf(1 << 16)}
	}
	for round := 0; ; round++ {
		if err := f.Do(ops); err != nil {
			return err
		}
		if round == 3 {
			fmt.Println("writing")
		}
	}
}

func TestKilledOpener(t *testing.T) {
	path := plainFile(t, blocktest.MinSize)
	f := open(t, path, block.OpenOptions{})
	defer f.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Errorf("helper said %q: %v", line, err)
	}
	if held, err := f.TestRid(helperRid); err != nil || !held {
		t.Errorf("while it lives: held %t, %v", held, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // "killed"
	for range 1000 {
		held, err := f.TestRid(helperRid)
		if err != nil {
			t.Fatal(err)
		}
		if !held {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the lock of a killed process lasts")
}
