/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Answers plain NTP requests in the network driver (XDP), as the server's sockets would answer them.
 *
 * Whatever is not plain is passed up to the sockets, untouched: other lengths than 48 bytes, other modes than 1 and 3,
 * interleaved requests, IP options, fragments, odd addresses and wrong checksums. So is everything while the state in
 * the map has run out or the clock was set. One reading of the clock is both the receive and the transmit stamp: the
 * first is not early, the second not late. An answer has its request's length. */
#include "admission.h"
#include "frame.h"
#include "lease.h"

#define HEADER 48
#define ORIGIN 24
#define RECEIVE 32
#define TRANSMIT 40
#define UDP_LENGTH (sizeof(struct udphdr) + HEADER)
#define V4_LENGTH (sizeof(struct iphdr) + UDP_LENGTH)
#define V6_LENGTH (sizeof(struct ipv6hdr) + UDP_LENGTH)
#define SECOND 1000000000ULL
/* Seconds from 1900 to 1970. */
#define UNIX_EPOCH 2208988800ULL
/* A reference of no known time moves in steps of 2^4 s. */
#define REFERENCE_STEP (~0xfffffffffULL)
/* By how much two readings of one clock may differ, ns: more is a step, or a CPU that was taken away between them. */
#define STEP 20000

#define SYMMETRIC 1
#define INTERLEAVED 2

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

static __always_inline int v4(struct ethhdr *ethernet, struct iphdr *ip, void *end, __be16 vlan)
{
	struct request request = { .udp = (void *)(ip + 1), .ntp = (void *)(ip + 1) + sizeof(struct udphdr) };
	struct state state;
	struct place from;
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
	why = ends_v4(ip, request.udp, vlan, is_for_device(ethernet, &state), &from);
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
	turn_v4(ip);
	return_frame(ethernet);
	count(ANSWERED, 1);
	count(SENT_BYTES, V4_LENGTH);
	spend(V4_LENGTH);
	return XDP_TX;
}

static __always_inline int v6(struct ethhdr *ethernet, struct ipv6hdr *ip, void *end, __be16 vlan)
{
	struct request request = { .udp = (void *)(ip + 1), .ntp = (void *)(ip + 1) + sizeof(struct udphdr) };
	struct state state;
	struct place from;
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
	why = ends_v6(ip, request.udp, vlan, is_for_device(ethernet, &state), &from);
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
	turn_v6(ip);
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
	__be16 vlan, type;
	void *ip;

	type = type_of(data, end, &ip, &vlan);
	if (type == bpf_htons(ETH_P_IP))
		return v4(data, ip, end, vlan);
	if (type == bpf_htons(ETH_P_IPV6))
		return v6(data, ip, end, vlan);
	return XDP_PASS;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
