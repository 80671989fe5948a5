/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* What a server has told its program in the driver, for as long as it holds. */
#ifndef FLATOUT_LEASE_H
#define FLATOUT_LEASE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

/* What the server says of the clock. Times are of CLOCK_MONOTONIC, ns. */
struct state {
	__u64 version;
	__u64 valid_until;
	__u64 told;
	__s64 unix_offset;	/* the time to give minus the clock, when it was told */
	__s64 change;		/* of `unix_offset`, 2^-32 ns a ns */
	__s64 tai_offset;	/* CLOCK_TAI minus the clock: another one since then is a step */
	__u64 device;		/* the device's address, six bytes */
	__u8 says[24];		/* the answer's first bytes, without version, mode and poll */
	__u64 flags;
};

/* The state of an even version and of an odd one: one is told while the other is read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} versions SEC(".maps");

/* Reads the state; 0 where there is none, or it changed meanwhile. */
static __always_inline int read_state(struct state *state)
{
	__u32 first = 0, slot;
	__u64 *version = bpf_map_lookup_elem(&versions, &first), seen;
	struct state *told;

	if (!version)
		return 0;
	seen = *(volatile __u64 *)version;
	slot = seen & 1;
	told = bpf_map_lookup_elem(&states, &slot);
	if (!told)
		return 0;
	*state = *told;
	/* The other slot is written before the version changes, and this one only after it. */
	asm volatile("" ::: "memory");
	return seen && state->version == seen && *(volatile __u64 *)version == seen;
}

static __always_inline int is_for_device(const struct ethhdr *ethernet, const struct state *state)
{
	__u64 device = 0;

	__builtin_memcpy(&device, ethernet->h_dest, ETH_ALEN);
	return device == state->device && !(ethernet->h_source[0] & 1);
}

#endif
