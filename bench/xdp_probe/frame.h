/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* An NTP request over IPv4 in an Ethernet frame: where its fields are. */
#ifndef FRAME_H
#define FRAME_H

#include <linux/types.h>

#define FRAME 90
#define SOURCE_ADDRESS 26
#define TARGET_ADDRESS 30
#define SOURCE_PORT 34
#define TARGET_PORT 36
#define CHECKSUM 40
#define NTP 42

/* What the least responder is told. */
struct bare {
	__be16 port;
	__u8 valid;	/* 1: its answers are right for a client, with the request's transmit stamp as all four times */
};

/* What is asked: a frame in whole words without the lower bits of source port and address, and the sums of it. */
struct request {
	__u64 frame[FRAME / 8 + 1];
	__u32 ip_sum, udp_sum, first_address, first_port;
	__be16 port;
};

/* How a load goes, and what came of it. Times of CLOCK_MONOTONIC, ns; `seen` answers at `seen_at`. */
struct load {
	__u64 length_ns, interval_q16, window, begin, asked, answered, given_up, seen, seen_at;
	__u32 address_mask, port_mask;
};

#endif
