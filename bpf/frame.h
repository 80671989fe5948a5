/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Frames of requests that are answered in the driver: where they may come from and go to, sums, the way back, counters.
 *
 * A program that includes this passes up what it does not answer, untouched, and counts why. */
#ifndef FLATOUT_FRAME_H
#define FLATOUT_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOL_UDP 17
#define PORTS 8
#define HOPS 64

/* The ports that the server listens on, in network order; 0: none. */
const volatile __be16 ports[PORTS] = {};
/* 1: packets of this host carry a part of their checksum only, and so do the answers to them. */
const volatile __u8 generic = 0;

/* Where requests are answered: 1. Other addresses that no client has, such as broadcast ones: 0. */
struct place {
	__u8 address[16];	/* IPv4 behind ::ffff: */
	__be16 port;
	__be16 vlan;		/* 0: without a tag */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct place);
	__type(value, __u8);
} places SEC(".maps");

/* The order is also in the loader. */
enum counter {
	ANSWERED,
	SENT_BYTES,
	NO_STATE,
	CLOCK_SET,
	ADDRESS,
	SOURCE,
	NOT_PLAIN,
	CHECKSUM,
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 which, __u64 by)
{
	__u64 *number = bpf_map_lookup_elem(&counters, &which);

	if (number)
		*number += by;
}

/* Passes a request up to the sockets, and counts why. */
static __always_inline int pass(__u32 why)
{
	count(why, 1);
	return XDP_PASS;
}

static __always_inline int is_ours(__be16 port)
{
	int ours = 0;

#pragma unroll
	for (int n = 0; n < PORTS; n++)
		ours |= port == ports[n];
	return ours && port;
}

/* Adds 16-bit words, in pairs, to a ones' complement sum. */
static __always_inline __u64 add(__u64 sum, const void *from, int length)
{
	const __u8 *at = from;

#pragma unroll
	for (int n = 0; n < length; n += 4) {
		__u32 pair;

		__builtin_memcpy(&pair, at + n, sizeof(pair));
		sum += pair;
	}
	return sum;
}

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum;
}

/* From where an answer would go round in circles, or to many. */
static __always_inline int is_odd_v4(__be32 source)
{
	__u32 address = bpf_ntohl(source);

	/* 0/8, 127/8, multicast, reserved and broadcast. */
	return !(address >> 24) || address >> 24 == 127 || address >> 28 >= 14;
}

static __always_inline int is_odd_v6(const struct in6_addr *source)
{
	const __be32 *words = source->s6_addr32;

	if (source->s6_addr[0] == 0xff)
		return 1;
	/* ::/96 and ::ffff:0:0/96. */
	return !words[0] && !words[1] && (!words[2] || words[2] == bpf_htonl(0xffff));
}

/* 0 if both ends are such as they are of a request; else the reason to pass it up. */
static __always_inline __u32 misplaced(struct place *to, struct place *from)
{
	__u8 *served = bpf_map_lookup_elem(&places, to);

	if (!served || !*served)
		return ADDRESS;
	return bpf_map_lookup_elem(&places, from) ? SOURCE : 0;
}

static __always_inline void return_frame(struct ethhdr *ethernet)
{
	__u8 client[ETH_ALEN];

	__builtin_memcpy(client, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, client, ETH_ALEN);
}

/* Fills in where an IPv4 request is from; 0, or why it is passed up. `for_device`: whether the frame is for this device. */
static __always_inline __u32 ends_v4(const struct iphdr *ip, const struct udphdr *udp, __be16 vlan, int for_device,
				     struct place *from)
{
	struct place to = { .vlan = vlan };

	if (is_odd_v4(ip->saddr) || !udp->source)
		return SOURCE;
	to.address[10] = to.address[11] = 0xff;
	to.port = udp->dest;
	*from = to;
	__builtin_memcpy(to.address + 12, &ip->daddr, 4);
	__builtin_memcpy(from->address + 12, &ip->saddr, 4);
	return for_device ? misplaced(&to, from) : ADDRESS;
}

static __always_inline __u32 ends_v6(const struct ipv6hdr *ip, const struct udphdr *udp, __be16 vlan, int for_device,
				     struct place *from)
{
	struct place to = { .vlan = vlan };

	if (is_odd_v6(&ip->saddr) || !udp->source)
		return SOURCE;
	to.port = udp->dest;
	*from = to;
	__builtin_memcpy(to.address, &ip->daddr, 16);
	__builtin_memcpy(from->address, &ip->saddr, 16);
	return for_device ? misplaced(&to, from) : ADDRESS;
}

/* The type of what is behind the Ethernet header and a VLAN's tag, and where that begins; 0: none that is looked at. */
static __always_inline __be16 type_of(struct ethhdr *ethernet, void *end, void **inside, __be16 *vlan)
{
	__be16 type, *tag;

	*inside = ethernet + 1;
	*vlan = 0;
	if (*inside > end)
		return 0;
	type = ethernet->h_proto;
	if (type != bpf_htons(ETH_P_8021Q))
		return type;
	tag = *inside;
	*inside += 4;
	if (*inside > end)
		return 0;
	*vlan = tag[0] & bpf_htons(0xfff);
	/* A tag with a priority only is none of a VLAN's. */
	return *vlan ? tag[1] : 0;
}

/* Makes a header that of an answer; its length and its checksum are the caller's. */
static __always_inline void turn_v4(struct iphdr *ip)
{
	__be32 client = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = client;
	ip->tos = 0;
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = HOPS;
	ip->check = 0;
	ip->check = ~folded(add(0, ip, sizeof(*ip)));
}

static __always_inline void turn_v6(struct ipv6hdr *ip)
{
	struct in6_addr client;

	__builtin_memcpy(&client, &ip->saddr, sizeof(client));
	__builtin_memcpy(&ip->saddr, &ip->daddr, sizeof(client));
	__builtin_memcpy(&ip->daddr, &client, sizeof(client));
	*(__be32 *)ip = bpf_htonl(6U << 28);
	ip->hop_limit = HOPS;
}

#endif
