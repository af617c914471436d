// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"errors"
	"syscall"

	"scoutfs/format"
)

// ErrClose as the error of a reply closes the connection instead of answering.
// The client connects again and repeats the request. Source: spec cluster 4.5.
var ErrClose = errors.New("rpc: close the connection")

// wireErrs is the table of spec cluster 4.3.
var wireErrs = [format.NetErrNr]syscall.Errno{
	format.NetENOENT:  syscall.ENOENT,
	format.NetENOMEM:  syscall.ENOMEM,
	format.NetEIO:     syscall.EIO,
	format.NetENOSPC:  syscall.ENOSPC,
	format.NetEINVAL:  syscall.EINVAL,
	format.NetENOLINK: syscall.ENOLINK,
}

// ToWire maps an error to its code on the wire. Errors that are not in the
// table become NetEINVAL.
func ToWire(err error) format.NetErr {
	code, _ := toWire(err)
	return code
}

func toWire(err error) (code format.NetErr, known bool) {
	if err == nil {
		return format.NetOK, true
	}
	for code := format.NetENOENT; code < format.NetErrNr; code++ {
		if errors.Is(err, wireErrs[code]) {
			return code, true
		}
	}
	return format.NetEINVAL, false
}

// FromWire maps a code to nil or a syscall.Errno; unknown codes are EINVAL.
func FromWire(code format.NetErr) error {
	switch {
	case code == format.NetOK:
		return nil
	case code < format.NetErrNr:
		return wireErrs[code]
	default:
		return syscall.EINVAL
	}
}
