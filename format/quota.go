// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import "cmp"

// Fields of [QuotaRule]. Source: spec filesystem 5.10.
const (
	QuotaLiteral = 0 // NameSource: the component is NameVal
	QuotaProj    = 1 // it is the project id
	QuotaUID     = 2
	QuotaGID     = 3

	QuotaSelect = 1 // NameFlags: the rule applies only where the attribute is NameVal

	QuotaOpInode = 0 // Op: creation of an inode
	QuotaOpData  = 1 // writing data

	QuotaCount = 1 // RuleFlags: compare the total's count instead of its sum
)

// Clean returns r with zero padding, for rules that came from a user.
func (r *QuotaRule) Clean() QuotaRule {
	return QuotaRule{NameVal: r.NameVal, Limit: r.Limit, Prio: r.Prio, Op: r.Op, RuleFlags: r.RuleFlags,
		NameSource: r.NameSource, NameFlags: r.NameFlags}
}

// Hash is the second field of the rule's key. Padding counts as zero.
func (r *QuotaRule) Hash() uint64 {
	c := r.Clean()
	return Hash64(Bytes(&c))
}

// KeyQuota is the item of a rule with the hash; nr distinguishes rules that
// have the same.
func KeyQuota(hash, nr uint64) Key {
	return Key{Zone: ZoneQuota, Type: TypeQuota, Second: hash, Third: nr}
}

// Valid reports whether the rule is one that may be stored.
func (r *QuotaRule) Valid() bool {
	if r.Op > QuotaOpData || r.RuleFlags&^QuotaCount != 0 {
		return false
	}
	for i, f := range r.NameFlags {
		if f&^QuotaSelect != 0 {
			return false
		}
		if f&QuotaSelect == 0 {
			continue
		}
		if r.NameSource[i] == QuotaLiteral || r.NameSource[i] > QuotaGID {
			return false
		}
		for j := range i {
			if r.NameFlags[j]&QuotaSelect != 0 && r.NameSource[j] == r.NameSource[i] && r.NameVal[j] != r.NameVal[i] {
				return false
			}
		}
	}
	return true
}

// Compare orders rules; of those that match the greatest applies.
func (r *QuotaRule) Compare(o *QuotaRule) int {
	if c := cmp.Compare(r.Prio, o.Prio); c != 0 {
		return c
	}
	for i := range r.NameVal {
		if c := cmp.Or(cmp.Compare(r.NameVal[i], o.NameVal[i]), cmp.Compare(r.NameSource[i], o.NameSource[i]),
			cmp.Compare(r.NameFlags[i], o.NameFlags[i])); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(r.Op, o.Op), cmp.Compare(r.Limit, o.Limit), cmp.Compare(r.RuleFlags, o.RuleFlags))
}
