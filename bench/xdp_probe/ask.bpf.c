/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Asks in the driver: `ask` writes a request into each frame of BPF_PROG_TEST_RUN, `count` counts what comes back.
 *
 * Nothing is matched: frames of an answer's length are counted and dropped. A request is due at its place in the schedule; a frame that comes before the time is not sent. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "frame.h"

const volatile struct request request = {};
struct load load;

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return ~sum;
}

/* Whether too many requests are on their way. What does not come within a millisecond is given up. */
static __always_inline int is_full(__u64 now)
{
	if (load.seen != load.answered) {
		load.seen = load.answered;
		load.seen_at = now;
	}
	if (now - load.seen_at > 1000000) {
		load.given_up = load.asked - load.answered;
		load.seen_at = now;
	}
	return load.asked - load.answered - load.given_up >= load.window;
}

SEC("xdp")
int ask(struct xdp_md *context)
{
	__u8 *frame = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u64 now = bpf_ktime_get_ns(), number = load.asked, *words = (void *)frame;
	__u32 flow = number, address, source, low;
	__u16 check;

	if (!load.begin)
		load.begin = load.seen_at = now;
	if (frame + FRAME > end || now >= load.begin + load.length_ns)
		return XDP_DROP;
	if (load.interval_q16 && now < load.begin + (number * load.interval_q16 >> 16))
		return XDP_DROP;
	if (load.window && is_full(now))
		return XDP_DROP;
	load.asked = number + 1;
#pragma unroll
	for (int n = 0; n < FRAME / 8; n++)
		words[n] = request.frame[n];
	*(__u16 *)(frame + FRAME - 2) = bpf_htons(flow & 0xffff);
	address = request.first_address + (flow & load.address_mask);
	source = request.first_port + (flow & load.port_mask);
	*(__u32 *)(frame + SOURCE_ADDRESS) = bpf_htonl(address);
	*(__u16 *)(frame + SOURCE_PORT) = bpf_htons(source);
	low = (address >> 16) + (address & 0xffff);
	*(__u16 *)(frame + 24) = bpf_htons(folded(request.ip_sum + low));
	check = folded(request.udp_sum + low + source + (flow & 0xffff));
	*(__u16 *)(frame + CHECKSUM) = check ? bpf_htons(check) : 0xffff;
	return XDP_TX;
}

/* Reading a frame would cost this CPU more than all else: an answer is known by its length. */
SEC("xdp")
int count(struct xdp_md *context)
{
	if (!request.port || context->data_end - context->data != FRAME)
		return XDP_PASS;
	/* Only one CPU runs this. */
	load.answered += 1;
	return XDP_DROP;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
