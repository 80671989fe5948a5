/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Answers plain NTP requests in the network driver (XDP), as the server's sockets would answer them.
 *
 * Whatever is not plain is passed up to the sockets, untouched: other lengths than 48 bytes, other modes than 1 and 3,
 * interleaved requests, IP options, fragments, odd addresses and wrong checksums. So is everything while the state in
 * the map has run out or the clock was set. One reading of the clock is both the receive and the transmit stamp: the
 * first is not early, the second not late. An answer has its request's length. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "admission.h"

#define HEADER 48
#define ORIGIN 24
#define RECEIVE 32
#define TRANSMIT 40
#define UDP_LENGTH (sizeof(struct udphdr) + HEADER)
#define V4_LENGTH (sizeof(struct iphdr) + UDP_LENGTH)
#define V6_LENGTH (sizeof(struct ipv6hdr) + UDP_LENGTH)
#define PROTOCOL_UDP 17
#define PORTS 8
#define HOPS 64
#define SECOND 1000000000ULL
/* Seconds from 1900 to 1970. */
#define UNIX_EPOCH 2208988800ULL
/* A reference of no known time moves in steps of 2^4 s. */
#define REFERENCE_STEP (~0xfffffffffULL)
/* By how much two readings of one clock may differ, ns: more is a step, or a CPU that was taken away between them. */
#define STEP 20000

#define SYMMETRIC 1
#define INTERLEAVED 2

/* The ports that the server listens on, in network order; 0: none. */
const volatile __be16 ports[PORTS] = {};
/* 1: packets of this host carry a part of their checksum only, and so do the answers to them. */
const volatile __u8 generic = 0;

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

static __always_inline __u64 load64(const __u8 *at)
{
	__u64 word;

	__builtin_memcpy(&word, at, sizeof(word));
	return word;
}

static __always_inline void store64(__u8 *at, __u64 word)
{
	__builtin_memcpy(at, &word, sizeof(word));
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

/* Unix time in ns as an NTP stamp. */
static __always_inline __u64 stamp(__u64 ns)
{
	return ((ns / SECOND + UNIX_EPOCH) << 32) + ((ns % SECOND) << 32) / SECOND;
}

struct request {
	__u8 *ntp;
	struct udphdr *udp;
	__u64 addresses;	/* sum of addresses, protocol and length */
	__u8 answer_mode;
};

/* Whether these 48 bytes are a request of a kind that is answered here. */
static __always_inline int is_plain(struct request *request, const struct state *state)
{
	const __u8 *ntp = request->ntp;
	__u8 version = ntp[0] >> 3 & 7, mode = ntp[0] & 7;

	if (version < 1 || version > 4)
		return 0;
	if (mode == 1) {
		request->answer_mode = 2;
		return state->flags & SYMMETRIC;
	}
	if (mode != 3)
		return 0;
	request->answer_mode = 4;
	/* It may refer to an answer before: the sockets know when that left. */
	if ((state->flags & INTERLEAVED) && version == 4 && (ntp[ORIGIN + 7] & 1))
		return load64(ntp + RECEIVE) == load64(ntp + TRANSMIT);
	return 1;
}

/* Turns the 48 bytes into the answer: the rules are those of the server's `write` (responder.rs). */
static __always_inline void answer(struct request *request, const struct state *state, __u64 unix_ns)
{
	__u8 *ntp = request->ntp;
	__u8 first = (ntp[0] & 0x38) | request->answer_mode, poll = ntp[2];
	__u64 origin = load64(ntp + TRANSMIT), sent = bpf_be64_to_cpu(origin), reference;
	__u64 receive = stamp(unix_ns), transmit;
	int interleaved = state->flags & INTERLEAVED;

	if (interleaved)
		receive |= 1;
	if (receive == sent)
		receive += 2;
	transmit = receive + 1;
	if (transmit == sent)
		transmit += 2;
	reference = bpf_be64_to_cpu(load64(state->says + 16));
	if (!reference)
		reference = receive & REFERENCE_STEP;
	else if ((__s64)(receive - reference) < 0)
		reference = receive;
	store64(ntp, load64(state->says));
	ntp[0] |= first;
	ntp[2] = poll;
	store64(ntp + 8, load64(state->says + 8));
	store64(ntp + 16, bpf_cpu_to_be64(reference));
	store64(ntp + ORIGIN, origin);
	store64(ntp + RECEIVE, bpf_cpu_to_be64(receive));
	store64(ntp + TRANSMIT, bpf_cpu_to_be64(transmit));
}

/* Turns the answer into a kiss-o'-death that asks for fewer requests: the rules are those of `kiss` (responder.rs). */
static __always_inline void kiss(__u8 *ntp)
{
	__u64 origin = load64(ntp + ORIGIN);

	ntp[0] |= 0xc0;
	ntp[1] = 0;
	__builtin_memset(ntp + 4, 0, 20);
	__builtin_memcpy(ntp + 12, "RATE", 4);
	store64(ntp + RECEIVE, origin);
	store64(ntp + TRANSMIT, origin);
}

/* Turns the request into what its client gets, if it gets something here; else what becomes of it. */
static __always_inline int decide(struct request *request, const struct state *state, const struct place *from,
				  __u64 unix_ns)
{
	int verdict = admit(from->address, unix_ns - state->unix_offset);

	if (verdict == REFUSED)
		return XDP_DROP;
	if (verdict == UNDECIDED)
		return pass(NO_STATE);
	answer(request, state, unix_ns);
	if (verdict == KISSED)
		kiss(request->ntp);
	return XDP_TX;
}

static __always_inline __u64 udp_sum(const struct request *request)
{
	__u64 sum = add(request->addresses, request->udp, sizeof(struct udphdr));

	return add(sum, request->ntp, HEADER);
}

enum checksum { WRONG, WHOLE, PARTIAL };

/* What the UDP checksum is. On virtual devices packets of this host carry the sum of the addresses only. */
static __always_inline int checked(const struct request *request, int may_be_none)
{
	__u16 given = request->udp->check;

	if (!given)
		return may_be_none ? WHOLE : WRONG;
	if (folded(udp_sum(request)) == 0xffff)
		return WHOLE;
	return given == folded(request->addresses) ? PARTIAL : WRONG;
}

static __always_inline void seal(struct request *request, int checksum)
{
	struct udphdr *udp = request->udp;
	__be16 port = udp->source;
	__u16 sum;

	udp->source = udp->dest;
	udp->dest = port;
	/* The kernel adds the rest when it sends the answer; the sum of the addresses is the same. */
	if (generic && checksum == PARTIAL)
		return;
	udp->check = 0;
	sum = ~folded(udp_sum(request));
	udp->check = sum ? sum : 0xffff;
}

static __always_inline void return_frame(struct ethhdr *ethernet)
{
	__u8 client[ETH_ALEN];

	__builtin_memcpy(client, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, client, ETH_ALEN);
}

static __always_inline int is_for_device(const struct ethhdr *ethernet, const struct state *state)
{
	__u64 device = 0;

	__builtin_memcpy(&device, ethernet->h_dest, ETH_ALEN);
	return device == state->device && !(ethernet->h_source[0] & 1);
}

/* The state to answer from, and when; otherwise the reason to pass the request up. ANSWERED is 0. */
static __always_inline __u32 ready(struct state *state, __u64 *unix_ns)
{
	__u64 now = bpf_ktime_get_ns(), since;
	__s64 tai_offset = bpf_ktime_get_tai_ns() - now, at;

	if (!read_state(state) || now >= state->valid_until || now < state->told)
		return NO_STATE;
	/* The clock may have been set before the server learns of it. */
	if (tai_offset - state->tai_offset > STEP || state->tai_offset - tai_offset > STEP)
		return CLOCK_SET;
	since = now - state->told;
	at = (__s64)now + state->unix_offset + ((state->change * (__s64)since) >> 32);
	if (at < 0)
		return NO_STATE;
	*unix_ns = at;
	return ANSWERED;
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

static __always_inline int v4(struct ethhdr *ethernet, struct iphdr *ip, void *end, __be16 vlan)
{
	struct request request = { .udp = (void *)(ip + 1), .ntp = (void *)(ip + 1) + sizeof(struct udphdr) };
	struct place to = { .vlan = vlan }, from = { .vlan = vlan };
	struct state state;
	__be32 client;
	__u64 unix_ns;
	__u32 why;
	int checksum, done;

	if ((void *)ip + V4_LENGTH > end)
		return XDP_PASS;
	if (ip->version != 4 || ip->ihl != 5 || ip->protocol != PROTOCOL_UDP || !is_ours(request.udp->dest))
		return XDP_PASS;
	if (ip->tot_len != bpf_htons(V4_LENGTH) || (ip->frag_off & bpf_htons(0x3fff)) ||
	    request.udp->len != bpf_htons(UDP_LENGTH))
		return pass(NOT_PLAIN);
	why = ready(&state, &unix_ns);
	if (why)
		return pass(why);
	if (!is_plain(&request, &state))
		return pass(NOT_PLAIN);
	if (is_odd_v4(ip->saddr) || !request.udp->source)
		return pass(SOURCE);
	to.address[10] = to.address[11] = from.address[10] = from.address[11] = 0xff;
	__builtin_memcpy(to.address + 12, &ip->daddr, 4);
	__builtin_memcpy(from.address + 12, &ip->saddr, 4);
	to.port = from.port = request.udp->dest;
	why = is_for_device(ethernet, &state) ? misplaced(&to, &from) : ADDRESS;
	if (why)
		return pass(why);
	request.addresses = add(0, &ip->saddr, 8) + bpf_htons(PROTOCOL_UDP) + bpf_htons(UDP_LENGTH);
	checksum = folded(add(0, ip, sizeof(*ip))) == 0xffff ? checked(&request, 1) : WRONG;
	if (checksum == WRONG)
		return pass(CHECKSUM);
	done = decide(&request, &state, &from, unix_ns);
	if (done != XDP_TX)
		return done;
	seal(&request, checksum);
	client = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = client;
	ip->tos = 0;
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = HOPS;
	ip->check = 0;
	ip->check = ~folded(add(0, ip, sizeof(*ip)));
	return_frame(ethernet);
	count(ANSWERED, 1);
	count(SENT_BYTES, V4_LENGTH);
	spend(V4_LENGTH);
	return XDP_TX;
}

static __always_inline int v6(struct ethhdr *ethernet, struct ipv6hdr *ip, void *end, __be16 vlan)
{
	struct request request = { .udp = (void *)(ip + 1), .ntp = (void *)(ip + 1) + sizeof(struct udphdr) };
	struct place to = { .vlan = vlan }, from = { .vlan = vlan };
	struct in6_addr client;
	struct state state;
	__u64 unix_ns;
	__u32 why;
	int checksum, done;

	if ((void *)ip + V6_LENGTH > end)
		return XDP_PASS;
	if (ip->version != 6 || ip->nexthdr != PROTOCOL_UDP || !is_ours(request.udp->dest))
		return XDP_PASS;
	if (ip->payload_len != bpf_htons(UDP_LENGTH) || request.udp->len != bpf_htons(UDP_LENGTH))
		return pass(NOT_PLAIN);
	why = ready(&state, &unix_ns);
	if (why)
		return pass(why);
	if (!is_plain(&request, &state))
		return pass(NOT_PLAIN);
	if (is_odd_v6(&ip->saddr) || !request.udp->source)
		return pass(SOURCE);
	__builtin_memcpy(to.address, &ip->daddr, 16);
	__builtin_memcpy(from.address, &ip->saddr, 16);
	to.port = from.port = request.udp->dest;
	why = is_for_device(ethernet, &state) ? misplaced(&to, &from) : ADDRESS;
	if (why)
		return pass(why);
	request.addresses = add(0, &ip->saddr, 32) + bpf_htons(PROTOCOL_UDP) + bpf_htons(UDP_LENGTH);
	checksum = checked(&request, 0);
	if (checksum == WRONG)
		return pass(CHECKSUM);
	done = decide(&request, &state, &from, unix_ns);
	if (done != XDP_TX)
		return done;
	seal(&request, checksum);
	__builtin_memcpy(&client, &ip->saddr, sizeof(client));
	__builtin_memcpy(&ip->saddr, &ip->daddr, sizeof(client));
	__builtin_memcpy(&ip->daddr, &client, sizeof(client));
	*(__be32 *)ip = bpf_htonl(6U << 28);
	ip->hop_limit = HOPS;
	return_frame(ethernet);
	count(ANSWERED, 1);
	count(SENT_BYTES, V6_LENGTH);
	spend(V6_LENGTH);
	return XDP_TX;
}

SEC("xdp.frags")
int answer_ntp(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	void *ip = ethernet + 1;
	__be16 type, vlan = 0;

	if (ip > end)
		return XDP_PASS;
	type = ethernet->h_proto;
	if (type == bpf_htons(ETH_P_8021Q)) {
		__be16 *tag = ip;

		ip += 4;
		if (ip > end)
			return XDP_PASS;
		vlan = tag[0] & bpf_htons(0xfff);
		type = tag[1];
		/* A tag with a priority only. */
		if (!vlan)
			return XDP_PASS;
	}
	if (type == bpf_htons(ETH_P_IP))
		return v4(ethernet, ip, end, vlan);
	if (type == bpf_htons(ETH_P_IPV6))
		return v6(ethernet, ip, end, vlan);
	return XDP_PASS;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
