/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Answers plain DNS questions in the network driver (XDP) from a table, as the server's sockets would answer them.
 *
 * Whatever is not plain is passed up to the sockets, untouched: long names, several questions, other classes, opcodes
 * and versions of EDNS, names whose answer is not in the table, IP options, fragments, odd addresses, wrong checksums.
 * The question is answered as it was asked, upper case letters included. */
#include "admission.h"
#include "frame.h"
#include "lease.h"

#define HEADER 12
/* Questions with longer names, as in a packet, are for the sockets. */
#define NAME 64
/* A question with such a name and an EDNS record with options. */
#define REQUEST 192
#define OPT 11
#define TYPE_OPT 41
#define TYPE_ANY 255
#define META_FIRST 249
#define CLASS_IN 1
#define RESPONSE 0x80
#define OPCODE 0x78
#define AUTHORITATIVE 0x04
#define TRUNCATED 0x02
#define RECURSION 0x01
#define DNSSEC_OK 0x8000
/* The limit without EDNS. */
#define UDP_LEAST 512
/* The first byte of keys that no name begins with: any name. */
#define ANY_NAME 0xff
#define RECORDS 496
/* The length of records that the table has no room for. */
#define ELSEWHERE 0xffff

#define MAY_FRAGMENT bpf_htons(0x3fff)

struct question {
	__u8 name[NAME];	/* in lower case, zeroes behind it */
	__be16 type;
	__be16 none;
};

struct found {
	__be16 answers;
	__be16 authority;
	__u8 flags;		/* 1: authoritative */
	__u8 code;
	__u16 length;		/* of the records; ELSEWHERE: the sockets have them */
	__u32 sum;		/* of the records, in 16 bits */
	__u32 none;
	__u8 records[RECORDS];
};

/* The server's answers; the number of entries is set when it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct question);
	__type(value, struct found);
} answers SEC(".maps");

/* Where a message is parsed: reading packets needs a check of its bounds for each byte. */
struct scratch {
	struct question question;
	__u64 name;		/* the name's length: here the verifier does not follow each of its values */
	__u8 request[REQUEST + 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* The state as this packet sees it, as the stack is small. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} held SEC(".maps");

struct message {
	struct xdp_md *context;
	__u32 ip_at;		/* from the frame's beginning */
	__u32 udp_at;
	__u32 length;		/* of the request */
	__u32 end;		/* of its question */
	__u64 addresses;	/* sum of addresses and protocol */
	__u64 header;		/* sum of the UDP header */
	__be16 given;		/* the request's UDP checksum */
	__be16 bytes;		/* the UDP length */
	__u16 limit;		/* of the answer */
	__be16 edns_flags;
	__u8 edns;
	__u8 is_v4;
	__u8 partial;		/* the request's checksum is that of the addresses */
};

static __always_inline __u16 number(const struct scratch *scratch, __u64 at)
{
	/* The compiler may know this; the verifier has to see it. */
	asm volatile("" : "+r"(at));
	if (at > REQUEST)
		return 0;
	return scratch->request[at] << 8 | scratch->request[at + 1];
}

/* Reads the name into the key; without a length behind it: it is too long or has a pointer. */
static __always_inline void read_name(struct scratch *scratch)
{
	__u32 left = 0;

#pragma clang loop unroll(disable)
	for (__u32 n = 0; n < NAME; n++) {
		__u8 byte = scratch->request[HEADER + n];

		if (!left) {
			if (!byte) {
				scratch->name = n + 1;
				return;
			}
			if (byte > 63)
				return;
			left = byte;
		} else {
			left--;
			if (byte >= 'A' && byte <= 'Z')
				byte |= 0x20;
		}
		scratch->question.name[n] = byte;
	}
}

/* Parses the request in the scratch; whether its question is one that may be in the table. */
static __always_inline int is_plain(struct message *message, struct scratch *scratch, __u64 udp_size)
{
	const __u8 *request = scratch->request;
	__u32 additional = number(scratch, 10), at;
	__u16 type, size;

	/* One question, no records but EDNS's. */
	if ((request[2] & (RESPONSE | OPCODE)) || number(scratch, 4) != 1 || number(scratch, 6) || number(scratch, 8) ||
	    additional > 1)
		return 0;
	read_name(scratch);
	at = *(volatile __u64 *)&scratch->name;
	if (!at || at > NAME)
		return 0;
	at += HEADER;
	type = number(scratch, at);
	scratch->question.type = bpf_htons(type);
	if (number(scratch, at + 2) != CLASS_IN || (type >= META_FIRST && type <= TYPE_ANY))
		return 0;
	message->end = at + 4;
	message->limit = UDP_LEAST;
	message->edns = additional;
	if (!additional)
		return message->length == message->end;
	at = message->end;
	/* Its root's name, type, version 0, and a length that ends with the message. */
	if (message->length < at + OPT || (number(scratch, at) >> 8) || number(scratch, at + 1) != TYPE_OPT ||
	    (number(scratch, at + 6) >> 8) || message->length != at + OPT + number(scratch, at + 9))
		return 0;
	size = number(scratch, at + 3);
	if (size > udp_size)
		size = udp_size;
	if (size > UDP_LEAST)
		message->limit = size;
	message->edns_flags = bpf_htons(number(scratch, at + 7) & DNSSEC_OK);
	return 1;
}

static __always_inline struct found *look_up(struct scratch *scratch, int zones)
{
	__be16 type = scratch->question.type;
	struct found *found;

	if (!zones) {
		__builtin_memset(scratch->question.name, 0, NAME);
		scratch->question.name[0] = ANY_NAME;
	}
	found = bpf_map_lookup_elem(&answers, &scratch->question);
	if (found)
		return found;
	scratch->question.type = 0;
	found = bpf_map_lookup_elem(&answers, &scratch->question);
	scratch->question.type = type;
	return found;
}

static __always_inline __u16 swapped(__u16 sum, __u32 at)
{
	return at & 1 ? sum << 8 | sum >> 8 : sum;
}

/* The sum of the first bytes of the scratch's message; what is behind them is zero. */
static __always_inline __u64 sum_of(struct scratch *scratch, __u32 length)
{
	__u64 words = (length + 3) & ~3U;

	asm volatile("" : "+r"(words));
	if (words > REQUEST)
		return 0;
	return (__u32)bpf_csum_diff(0, 0, (__be32 *)scratch->request, words, 0);
}

struct edns {
	__u8 root;
	__be16 type;
	__be16 size;
	__u8 code;
	__u8 version;
	__be16 flags;
	__be16 length;
} __attribute__((packed));

static __always_inline void turn_udp(const struct message *message, struct udphdr *udp, __u32 bytes, __u64 sum)
{
	__be16 port = udp->source, checksum;

	udp->source = udp->dest;
	udp->dest = port;
	udp->len = bpf_htons(bytes);
	sum += message->addresses + udp->len;
	if (generic && message->partial) {
		/* The kernel adds the rest when it sends the answer. */
		udp->check = folded(message->addresses + udp->len);
		return;
	}
	udp->check = 0;
	checksum = ~folded(add(sum, udp, sizeof(*udp)));
	udp->check = checksum ? checksum : 0xffff;
}

/* Turns the request's headers into the answer's, whose payload has this length and sum; 0: they are not there. */
static __always_inline int turn(const struct message *message, __u32 length, __u64 sum)
{
	void *data = (void *)(long)message->context->data, *end = (void *)(long)message->context->data_end;
	__u32 bytes = sizeof(struct udphdr) + length;
	void *ip = data + (message->ip_at == 18 ? 18 : 14);

	if (message->is_v4) {
		struct iphdr *v4 = ip;
		struct udphdr *udp = (void *)(v4 + 1);

		if ((void *)(udp + 1) > end)
			return 0;
		turn_udp(message, udp, bytes, sum);
		v4->tot_len = bpf_htons(sizeof(*v4) + bytes);
		turn_v4(v4);
	} else {
		struct ipv6hdr *v6 = ip;
		struct udphdr *udp = (void *)(v6 + 1);

		if ((void *)(udp + 1) > end)
			return 0;
		turn_udp(message, udp, bytes, sum);
		v6->payload_len = bpf_htons(bytes);
		turn_v6(v6);
	}
	return_frame(data);
	return 1;
}

/* Writes the answer over the request. */
static __always_inline int answer(struct message *message, struct scratch *scratch, struct found *found, __u64 udp_size)
{
	__u32 opt = message->edns ? OPT : 0, end = message->end, records = found->length, at = message->udp_at + 8, length;
	__u8 head[HEADER], cut = 0;
	struct edns edns = { .type = bpf_htons(TYPE_OPT), .size = bpf_htons(udp_size), .flags = message->edns_flags };
	__u8 flags = RESPONSE | (scratch->request[2] & RECURSION) | (found->flags & 1 ? AUTHORITATIVE : 0);
	__u64 sum, behind;
	int grown;

	if (records > RECORDS)
		return pass(NOT_PLAIN);
	if (end + records + opt > message->limit) {
		cut = TRUNCATED;
		records = 0;
	}
	length = end + records + opt;
	grown = at + length - bpf_xdp_get_buff_len(message->context);
	if (grown && bpf_xdp_adjust_tail(message->context, grown))
		return pass(NOT_PLAIN);
	/* The header; what it was is still in the scratch. */
	__builtin_memset(head, 0, sizeof(head));
	head[0] = scratch->request[0];
	head[1] = scratch->request[1];
	head[2] = flags | cut;
	head[3] = found->code;
	head[5] = 1;
	if (!cut) {
		__builtin_memcpy(head + 6, &found->answers, 2);
		__builtin_memcpy(head + 8, &found->authority, 2);
	}
	head[11] = message->edns;
	__builtin_memcpy(scratch->request, head, sizeof(head));
	/* Behind the question nothing of the request is summed. */
	behind = end;
	asm volatile("" : "+r"(behind));
	if (behind <= REQUEST)
		__builtin_memset(scratch->request + behind, 0, 4);
	sum = sum_of(scratch, end);
	if (bpf_xdp_store_bytes(message->context, at, head, sizeof(head)))
		return XDP_DROP;
	if (records) {
		__s64 bytes = records;

		sum += swapped(found->sum, end);
		/* The verifier forgets that they are some. */
		asm volatile("" : "+r"(bytes));
		if (bytes <= 0 || bytes > RECORDS ||
		    bpf_xdp_store_bytes(message->context, at + end, found->records, bytes))
			return XDP_DROP;
	}
	if (opt) {
		sum += swapped(folded(add(0, &edns, 8) + (__u64)((__u8 *)&edns)[8] + ((__u64)((__u8 *)&edns)[9] << 8) +
				      ((__u8 *)&edns)[10]), end + records);
		if (bpf_xdp_store_bytes(message->context, at + end + records, &edns, sizeof(edns)))
			return XDP_DROP;
	}
	if (!turn(message, length, sum))
		return XDP_DROP;
	length += message->is_v4 ? sizeof(struct iphdr) + 8 : sizeof(struct ipv6hdr) + 8;
	count(ANSWERED, 1);
	count(SENT_BYTES, length);
	spend(length);
	return XDP_TX;
}

/* What becomes of a datagram to one of our ports whose headers are right. Once for both families: its stack is small. */
static __noinline int serve(struct message *message, const struct state *state, const struct place *from)
{
	__u32 first = 0, length = message->length;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &first);
	__be16 given = message->given, bytes = message->bytes;
	__u64 sum = message->addresses + bytes + message->header, udp_size = state->flags & 0xffff;
	struct found *found;

	if (!scratch || length > REQUEST || length < HEADER + 5)
		return pass(NOT_PLAIN);
	__builtin_memset(scratch, 0, sizeof(*scratch));
	if (bpf_xdp_load_bytes(message->context, message->udp_at + sizeof(struct udphdr), scratch->request, length))
		return pass(NOT_PLAIN);
	message->partial = given == folded(message->addresses + bytes);
	if (!given) {
		/* Over IPv6 there must be one. */
		if (!message->is_v4)
			return pass(CHECKSUM);
	} else if (!message->partial && folded(sum + sum_of(scratch, length)) != 0xffff) {
		return pass(CHECKSUM);
	}
	if (!is_plain(message, scratch, udp_size))
		return pass(NOT_PLAIN);
	found = look_up(scratch, state->flags >> 16 & 1);
	if (!found || found->length == ELSEWHERE)
		return pass(NOT_PLAIN);
	switch (admit(from->address, bpf_ktime_get_ns())) {
	case ADMITTED:
		return answer(message, scratch, found, udp_size);
	case UNDECIDED:
		return pass(NO_STATE);
	}
	return XDP_DROP;
}

/* The state, if it holds; else 0. */
static __always_inline struct state *told(void)
{
	__u32 first = 0;
	struct state *state = bpf_map_lookup_elem(&held, &first);
	__u64 now = bpf_ktime_get_ns();

	return state && read_state(state) && now >= state->told && now < state->valid_until ? state : 0;
}

static __always_inline void locate(struct message *message, const struct udphdr *udp, __u32 at)
{
	message->udp_at = at;
	message->given = udp->check;
	message->bytes = udp->len;
	message->length = bpf_ntohs(udp->len) - sizeof(*udp);
	message->header = add(0, udp, sizeof(*udp));
}

static __always_inline int v4(struct message *message, struct ethhdr *ethernet, struct iphdr *ip, void *end, __be16 vlan)
{
	struct udphdr *udp = (void *)(ip + 1);
	struct state *state;
	struct place from;
	__u32 why;

	if ((void *)(udp + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != PROTOCOL_UDP ||
	    !is_ours(udp->dest))
		return XDP_PASS;
	if ((ip->frag_off & MAY_FRAGMENT) || bpf_ntohs(ip->tot_len) != sizeof(*ip) + bpf_ntohs(udp->len))
		return pass(NOT_PLAIN);
	state = told();
	if (!state)
		return pass(NO_STATE);
	why = ends_v4(ip, udp, vlan, is_for_device(ethernet, state), &from);
	if (why)
		return pass(why);
	if (folded(add(0, ip, sizeof(*ip))) != 0xffff)
		return pass(CHECKSUM);
	message->is_v4 = 1;
	locate(message, udp, message->ip_at + sizeof(*ip));
	message->addresses = add(0, &ip->saddr, 8) + bpf_htons(PROTOCOL_UDP);
	return serve(message, state, &from);
}

static __always_inline int v6(struct message *message, struct ethhdr *ethernet, struct ipv6hdr *ip, void *end,
			      __be16 vlan)
{
	struct udphdr *udp = (void *)(ip + 1);
	struct state *state;
	struct place from;
	__u32 why;

	if ((void *)(udp + 1) > end || ip->version != 6 || ip->nexthdr != PROTOCOL_UDP || !is_ours(udp->dest))
		return XDP_PASS;
	if (ip->payload_len != udp->len)
		return pass(NOT_PLAIN);
	state = told();
	if (!state)
		return pass(NO_STATE);
	why = ends_v6(ip, udp, vlan, is_for_device(ethernet, state), &from);
	if (why)
		return pass(why);
	locate(message, udp, message->ip_at + sizeof(*ip));
	message->addresses = add(0, &ip->saddr, 32) + bpf_htons(PROTOCOL_UDP);
	return serve(message, state, &from);
}

SEC("xdp.frags")
int answer_dns(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct message message = { .context = context };
	__be16 vlan, type;
	void *ip;

	type = type_of(data, end, &ip, &vlan);
	message.ip_at = ip - data;
	if (type == bpf_htons(ETH_P_IP))
		return v4(&message, data, ip, end, vlan);
	if (type == bpf_htons(ETH_P_IPV6))
		return v6(&message, data, ip, end, vlan);
	return XDP_PASS;
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
