/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The least program that answers NTP in the driver: addresses and ports change places, and the mode is a server's. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "frame.h"

const volatile struct bare bare = {};

SEC("xdp")
int answer(struct xdp_md *context)
{
	__u8 *frame = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u16 *ethernet = (void *)frame, *check = (void *)(frame + CHECKSUM), *ports = (void *)(frame + SOURCE_PORT);
	__u32 *addresses = (void *)(frame + SOURCE_ADDRESS), address;
	__u16 half;

	if (frame + FRAME > end)
		return XDP_PASS;
	if (ethernet[6] != bpf_htons(0x0800) || frame[14] != 0x45 || frame[23] != 17 || ports[1] != bare.port ||
	    (frame[NTP] & 7) != 3)
		return XDP_PASS;
#pragma unroll
	for (int n = 0; n < 3; n++) {
		half = ethernet[n];
		ethernet[n] = ethernet[n + 3];
		ethernet[n + 3] = half;
	}
	address = addresses[0];
	addresses[0] = addresses[1];
	addresses[1] = address;
	half = ports[0];
	ports[0] = ports[1];
	ports[1] = half;
	frame[NTP] += 1;
	/* The mode is one more in the sum; a sum of zero is written as ones. */
	if (*check)
		*check = *check == 1 ? 0xffff : *check - 1;
	if (bare.valid) {
		__u64 *times = (void *)(frame + NTP + 16);

		times[0] = times[1] = times[2] = times[3];
		frame[NTP + 1] = 1;
		*check = 0;
	}
	return XDP_TX;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
