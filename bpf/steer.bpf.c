/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Steers UDP datagrams to AF_XDP sockets, each to the socket of the queue that it came by.
 *
 * What is not for these addresses and ports goes up to the kernel's sockets, untouched; so do VLAN tags, fragments, IP
 * options, extension headers, and packets that do not lie in one piece or are longer than a socket's frame. What is
 * steered has eight bytes of metadata in front: CLOCK_MONOTONIC, ns. Nothing is dropped here. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOL_UDP 17
#define QUEUES 256

/* Local ports: how many from which on. */
const volatile __u32 first_port = 0;
const volatile __u32 ports = 0;
/* The longest Ethernet frame that a socket takes, bytes. */
const volatile __u32 longest = 0;
/* 1: any local address; otherwise those in the map. */
const volatile __u8 any_address = 0;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* IPv4 behind ::ffff:. */
struct address {
	__u8 octets[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct address);
	__type(value, __u8);
} addresses SEC(".maps");

/* The order is also in the loader. */
enum counter {
	REDIRECTED,
	PASSED,		/* not for these addresses and ports */
	NOT_PLAIN,	/* for them, and not in one piece or too long */
	NO_SOCKET,	/* for them, on a queue without a socket */
	UNSTAMPED,	/* redirected without metadata: the driver has no room for it */
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *number = bpf_map_lookup_elem(&counters, &which);

	if (number)
		*number += 1;
}

static __always_inline int is_ours(__be16 port, const struct address *address)
{
	/* Below the first one it wraps round. */
	if ((__u32)bpf_ntohs(port) - first_port >= ports)
		return 0;
	return any_address || bpf_map_lookup_elem(&addresses, address) != 0;
}

/* Bytes of the IP packet if it is for these addresses and ports; otherwise 0. */
static __always_inline __u32 v4(const struct iphdr *ip, const void *end)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	struct address address = { .octets = { [10] = 0xff, [11] = 0xff } };

	if ((const void *)(udp + 1) > end)
		return 0;
	if (ip->version != 4 || ip->ihl != 5 || ip->protocol != PROTOCOL_UDP || (ip->frag_off & bpf_htons(0x3fff)))
		return 0;
	__builtin_memcpy(address.octets + 12, &ip->daddr, 4);
	return is_ours(udp->dest, &address) ? bpf_ntohs(ip->tot_len) : 0;
}

static __always_inline __u32 v6(const struct ipv6hdr *ip, const void *end)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	struct address address;

	if ((const void *)(udp + 1) > end)
		return 0;
	if (ip->version != 6 || ip->nexthdr != PROTOCOL_UDP)
		return 0;
	__builtin_memcpy(address.octets, &ip->daddr, 16);
	return is_ours(udp->dest, &address) ? sizeof(*ip) + bpf_ntohs(ip->payload_len) : 0;
}

/* Puts the time in front of the frame. */
static __always_inline void stamp(struct xdp_md *context, __u64 now)
{
	__u64 *metadata;

	if (bpf_xdp_adjust_meta(context, -(int)sizeof(now))) {
		count(UNSTAMPED);
		return;
	}
	metadata = (void *)(long)context->data_meta;
	if ((void *)(metadata + 1) <= (void *)(long)context->data)
		*metadata = now;
}

SEC("xdp.frags")
int steer(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	void *ip = ethernet + 1;
	__u32 queue = context->rx_queue_index, length = 0;

	if (ip > end)
		return XDP_PASS;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		length = v4(ip, end);
	else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		length = v6(ip, end);
	if (!length) {
		count(PASSED);
		return XDP_PASS;
	}
	if (ip + length > end || (__u32)(end - data) > longest) {
		count(NOT_PLAIN);
		return XDP_PASS;
	}
	/* Asked for before: with metadata it should not go up. */
	if (!bpf_map_lookup_elem(&sockets, &queue)) {
		count(NO_SOCKET);
		return XDP_PASS;
	}
	stamp(context, bpf_ktime_get_ns());
	count(REDIRECTED);
	return bpf_redirect_map(&sockets, queue, XDP_PASS);
}

/* The kernel lends its helpers to programs under the GPL. */
char programs_licence[] SEC("license") = "Dual MIT/GPL";
