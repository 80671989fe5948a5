/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Sends frames that a process has written: run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES.
 *
 * Each run takes the oldest frame of the queue into the page that the kernel gives it, notes when, and sends it
 * (XDP_TX); with nothing in the queue it gives the page back. One thread runs it, so nothing here needs to be atomic. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Frames that may wait, the room for their bytes, and runs in a batch; all are also in the loader. */
#define FRAMES 4096
#define BYTES (1 << 19)
#define BATCH 128
/* Readings of the clock in one rest: some us. */
#define READINGS 128
/* Nobody rests longer with softirqs held up, ns. */
#define LONGEST_REST 100000
#define SHORTEST 14
/* What fits in a page beside what the kernel keeps there; the longest frame is below. */
#define LONGEST 2048
/* In place of a time: the frame could not be made. */
#define NOT_SENT (~0ULL)

struct frame {
	__u64 left;	/* CLOCK_MONOTONIC, ns; 0: still waits */
	__u32 at;	/* of its first byte */
	__u32 length;
};

struct queue {
	__u64 queued;	/* frames written so far, by the process */
	__u64 wakes_at;	/* when the process looks again, CLOCK_MONOTONIC */
	__u64 unused[6];
	__u64 taken;	/* frames taken so far */
	__u64 runs;	/* of this call */
	__u64 unsent;	/* frames that the driver gets at the end of this batch */
	__u64 unused2[5];
	struct frame frames[FRAMES];
	__u8 bytes[BYTES + LONGEST];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct queue);
} queues SEC(".maps");

/* Waits for a frame, or until the process wakes: pages given back again and again would delay those that others give
 * back. */
static __always_inline void rest(struct queue *queue, __u64 taken)
{
	for (int n = 0; n < READINGS; n++) {
		if (*(volatile __u64 *)&queue->queued != taken)
			return;
		/* Wraps where that is over. */
		if (*(volatile __u64 *)&queue->wakes_at - bpf_ktime_get_ns() > LONGEST_REST)
			return;
	}
}

SEC("xdp")
int live(struct xdp_md *context)
{
	__u32 none = 0, length, at;
	struct queue *queue = bpf_map_lookup_elem(&queues, &none);
	__u64 taken, queued, place;
	struct frame *frame;
	int change;

	if (!queue)
		return XDP_DROP;
	taken = queue->taken;
	if (queue->runs % BATCH == 0)
		queue->unsent = 0;
	queue->runs += 1;
	if (!queue->unsent)
		rest(queue, taken);
	queued = *(volatile __u64 *)&queue->queued;
	if (queued == taken)
		return XDP_DROP;
	/* Nothing is read of the frame before `queued` was: its place depends on it, by a number that is always 0. */
	asm volatile("%0 &= 0" : "+r"(queued));
	place = (taken + queued) & (FRAMES - 1);
	frame = &queue->frames[place];
	length = frame->length;
	at = frame->at & (BYTES - 1);
	queue->taken = taken + 1;
	if (length < SHORTEST || length > LONGEST)
		goto not_sent;
	change = (int)length - (int)(context->data_end - context->data);
	if (change && bpf_xdp_adjust_tail(context, change))
		goto not_sent;
	if (bpf_xdp_store_bytes(context, 0, queue->bytes + at, length))
		goto not_sent;
	queue->unsent += 1;
	*(volatile __u64 *)&frame->left = bpf_ktime_get_ns();
	return XDP_TX;
not_sent:
	*(volatile __u64 *)&frame->left = NOT_SENT;
	return XDP_DROP;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
