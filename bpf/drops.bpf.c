/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Counts the packets of one exchange that the kernel drops: by network namespace, reason, direction and device.
 *
 * The tracepoint kfree_skb fires for dropped packets only, so a healthy run pays nothing. The loader gives what to
 * count before the program starts. Fragments after the first have no ports and are not counted. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "kernel.h"

/* Reasons of subsystems have numbers above these; the kernel's own are fewer. */
#define CORE_REASONS 512
#define V6_HEADER 40

/* 4 or 6; 17 (UDP) or 6 (TCP). */
const volatile __u8 ip_version = 4;
const volatile __u8 ip_protocol = 17;
/* 1: drops for this reason are of no interest. */
const volatile __u8 ignored[CORE_REASONS] = {};

struct address {
	union {
		__u8 bytes[16]; /* IPv4 in the first four */
		__u64 words[2];
	};
};

/* The most frequent one of `addresses`, which spares the look-up. */
const volatile struct address first_address = {};

struct drop {
	__u32 netns; /* inode number of the network namespace; 0: not known */
	__u32 reason;
	__u32 ifindex; /* of the device, within its namespace */
	__u8 towards; /* 1: the port is the destination's, 0: the source's */
	__u8 known; /* 1: the address with that port is one of `addresses` */
	__u8 padding[2];
};

struct dropped {
	__u64 packets;
	char device[16]; /* set by the CPU that saw the first of them */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct drop);
	__type(value, struct dropped);
} drops SEC(".maps");

/* A bit for each port, in host order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u8);
} addresses SEC(".maps");

/* Drops for which `drops` had no room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} uncounted SEC(".maps");

struct packet {
	struct address source, destination;
	__u16 source_port, destination_port;
};

static __always_inline int is_ours(__u16 port)
{
	__u32 word = port / 64;
	__u64 *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && (*bits >> (port % 64) & 1);
}

static __always_inline int is_known(struct address *address)
{
	if (address->words[0] == first_address.words[0] && address->words[1] == first_address.words[1])
		return 1;
	return !!bpf_map_lookup_elem(&addresses, address);
}

/* Reads addresses and ports; 0 unless the packet has this run's IP version and protocol. */
static __always_inline int parse(struct sk_buff *skb, struct packet *packet)
{
	unsigned char *at = skb->head + skb->network_header;
	__u8 header[V6_HEADER + 4];
	__u8 *pair = header + V6_HEADER;
	__u32 length;

	/* An IPv4 packet may be shorter; what follows it is the buffer's own memory. */
	if (bpf_probe_read_kernel(header, sizeof(header), at))
		return 0;
	if (header[0] >> 4 != ip_version)
		return 0;
	if (ip_version == 4) {
		if (header[9] != ip_protocol || (header[6] & 0x1f) || header[7])
			return 0;
		__builtin_memcpy(packet->source.bytes, header + 12, 4);
		__builtin_memcpy(packet->destination.bytes, header + 16, 4);
		length = (header[0] & 15) * 4;
		if (length == 20)
			pair = header + 20;
		else if (bpf_probe_read_kernel(pair, 4, at + length))
			return 0;
	} else {
		if (header[6] != ip_protocol)
			return 0;
		__builtin_memcpy(packet->source.bytes, header + 8, 16);
		__builtin_memcpy(packet->destination.bytes, header + 24, 16);
	}
	packet->source_port = pair[0] << 8 | pair[1];
	packet->destination_port = pair[2] << 8 | pair[3];
	return 1;
}

/* Where the packet was: at its device, or, before it has one, at its socket. */
static __always_inline void locate(struct sk_buff *skb, struct drop *drop)
{
	struct net_device *device = skb->dev;
	struct sock *socket;

	if (device) {
		drop->netns = device->nd_net.net->ns.inum;
		drop->ifindex = device->ifindex;
		return;
	}
	socket = skb->sk;
	if (socket)
		drop->netns = socket->__sk_common.skc_net.net->ns.inum;
}

/* How many packets it is on the wire: one buffer may hold many of one size (GSO, GRO). */
static __always_inline __u64 packets(struct sk_buff *skb)
{
	struct skb_shared_info *info = (void *)(skb->head + skb->end);
	unsigned short segments = 0;

	bpf_core_read(&segments, sizeof(segments), &info->gso_segs);
	return segments ? segments : 1;
}

static __always_inline void add(struct drop *drop, struct sk_buff *skb)
{
	struct dropped begun = { .packets = packets(skb) }, *found;
	struct net_device *device;
	__u64 *missed;
	__u32 first = 0;

	found = bpf_map_lookup_elem(&drops, drop);
	if (!found) {
		device = skb->dev;
		if (device)
			bpf_probe_read_kernel_str(begun.device, sizeof(begun.device), device->name);
		if (!bpf_map_update_elem(&drops, drop, &begun, BPF_NOEXIST))
			return;
		/* Another CPU was faster, or there is no room. */
		found = bpf_map_lookup_elem(&drops, drop);
	}
	if (found) {
		found->packets += begun.packets;
		return;
	}
	missed = bpf_map_lookup_elem(&uncounted, &first);
	if (missed)
		*missed += begun.packets;
}

/* The arguments are skb, location and reason, the last one since Linux 5.17. */
SEC("tp_btf/kfree_skb")
int count_drop(__u64 *arguments)
{
	__u32 reason = arguments[2];
	struct sk_buff *skb;

	if (reason < CORE_REASONS && ignored[reason])
		return 0;
	skb = (struct sk_buff *)arguments[0];
	struct packet packet = {};

	if (!parse(skb, &packet))
		return 0;
	struct drop drop = { .reason = reason, .towards = is_ours(packet.destination_port) };

	if (!drop.towards && !is_ours(packet.source_port))
		return 0;
	drop.known = is_known(drop.towards ? &packet.destination : &packet.source);
	locate(skb, &drop);
	add(&drop, skb);
	return 0;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
