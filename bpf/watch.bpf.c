/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Counts the packets of some ports in one network namespace.
 *
 * Two tracepoints see each packet once where it comes from a device and once where it goes to one. Sums alone leave the
 * kernel: per-CPU counters, per-CPU bins of 1/64 s, and a sample of the prefixes that packets come from. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "kernel.h"

#define PORTS_MAX 16
#define BINS 256
#define BIN_NS 15625000ULL
/* Bytes read from the network header on: IPv6, UDP and an NTP header up to its receive timestamp. */
#define HEADERS 88
#define EXTENSIONS_MAX 4
#define DEVICES_MAX 16384
#define IN 0
#define OUT 1
/* Of packets that come from a device: those to and those from a port. Loopback counts both there. */
#define COUNT_IN 1
#define COUNT_OUT_RECEIVED 2
/* Of packets that go to a device. */
#define COUNT_OUT 4
#define KIND_NTP 1
#define NTP_BYTES 48

struct watched {
	__u16 port;
	__u8 protocol;
	__u8 kind; /* KIND_…: which headers are looked at behind the port */
};

/* Set by the loader. */
const volatile struct watched watched[PORTS_MAX] = {};
const volatile __u32 watched_count = 0;
const volatile __u32 netns = 0;
const volatile __u64 tick_ns = 10000000;

struct counts {
	__u64 packets[2][2]; /* by direction and family (0: IPv4, 1: IPv6) */
	__u64 bytes[2][2];
	__u64 requests;  /* NTP, mode 3 in */
	__u64 simple;    /* of these: without a receive timestamp, as a client that keeps no state */
	__u64 version4;  /* of these: NTP version 4 */
	__u64 responses; /* NTP, mode 4 out */
};

struct bin {
	__u32 number;
	__u32 packets;
	__u64 bytes;
};

struct bins {
	__u64 until; /* in jiffies: `number` is that of the present bin before this */
	__u32 number;
	__u32 padding;
	struct bin at[BINS];
};

struct prefix {
	__u64 bits; /* IPv4: the address's first 24 bits; IPv6: its first 48 */
	__u32 port; /* index of the watched port */
	__u32 family;
};

struct weight {
	__u64 packets;
	__u64 bytes;
};

struct settings {
	__u32 gap;     /* one packet in so many is sampled for its prefix; a power of two */
	__u32 devices; /* what is counted at a device: the bits COUNT_… */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * PORTS_MAX);
	__type(key, __u32);
	__type(value, struct bins);
} bins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct prefix);
	__type(value, struct weight);
} talkers SEC(".maps");

/* Of a device, by its index: the bits in which it differs from `settings.devices`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEVICES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct packet {
	__u32 family;
	__u32 linear;	 /* bytes from the network header on that are in one piece */
	__u32 whole;	 /* all bytes from there on */
	__u32 transport; /* offset of the transport header from there */
	__u32 index;	 /* of the watched port */
	__u32 packets;
	__u64 bytes;
	__u8 protocol;
};

/* What is counted at this device; nothing in another namespace. */
static __always_inline __u32 counted_at(const struct net_device *dev, const struct settings *set)
{
	__u32 ifindex = dev->ifindex;
	__u32 *own;

	if (dev->nd_net.net->ns.inum != netns)
		return 0;
	own = bpf_map_lookup_elem(&devices, &ifindex);
	return set->devices ^ (own ? *own : 0);
}

/* The index of a watched port, or PORTS_MAX. */
static __always_inline __u32 find_port(__u8 protocol, __u16 port)
{
	for (__u32 i = 0; i < PORTS_MAX; i++) {
		if (i >= watched_count)
			break;
		if (watched[i].port == port && watched[i].protocol == protocol)
			return i;
	}
	return PORTS_MAX;
}

static __always_inline int is_transport(__u8 protocol)
{
	return protocol == 6 || protocol == 17;
}

/* Where the transport header is behind IPv6's extension headers, by offset from the network header; 0: nowhere. */
static __always_inline __u32 skip_extensions(const unsigned char *at, __u32 linear, __u8 *protocol)
{
	__u32 offset = 40;
	__u8 head[2];

	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		if (*protocol != 0 && *protocol != 43 && *protocol != 44 && *protocol != 60)
			break;
		if (offset + 8 > linear || bpf_probe_read_kernel(head, 2, at + offset))
			return 0;
		if (*protocol == 44) {
			__be16 fragment;

			if (bpf_probe_read_kernel(&fragment, 2, at + offset + 2) || (bpf_ntohs(fragment) & 0xfff8))
				return 0;
			offset += 8;
		} else {
			offset += 8 + 8 * (__u32)head[1];
		}
		*protocol = head[0];
	}
	return is_transport(*protocol) ? offset : 0;
}

static __always_inline __u32 ip_length(const unsigned char *at)
{
	return at[0] << 8 | at[1];
}

/* The number of the present bin. Reading the clock costs as much as all the rest, so it is read only where the bin may
 * have changed since: a tick of the kernel's is known to be so long. */
static __always_inline __u32 bin_number(struct bins *ring)
{
	__u64 ticks = bpf_jiffies64();

	if (ticks >= ring->until) {
		__u64 now = bpf_ktime_get_ns();
		__u64 number = now / BIN_NS;

		ring->number = number;
		ring->until = ticks + ((number + 1) * BIN_NS - now) / tick_ns;
	}
	return ring->number;
}

static __always_inline void count_bin(const struct packet *one, __u32 direction)
{
	__u32 key = 2 * one->index + direction;
	struct bins *ring = bpf_map_lookup_elem(&bins, &key);
	__u32 number;
	struct bin *bin;

	if (!ring)
		return;
	number = bin_number(ring);
	bin = &ring->at[number % BINS];
	if (bin->number != number) {
		bin->number = number;
		bin->packets = 0;
		bin->bytes = 0;
	}
	bin->packets += one->packets;
	bin->bytes += one->bytes;
}

static __always_inline void count_prefix(const struct packet *one, const unsigned char *ip, const struct settings *set)
{
	struct prefix key = { .port = one->index, .family = one->family };
	__u32 gap = set->gap;
	struct weight *found;

	if (gap > 1 && (bpf_get_prandom_u32() & (gap - 1)))
		return;
	if (gap < 1)
		gap = 1;
	if (one->family)
		for (int i = 8; i < 14; i++)
			key.bits = key.bits << 8 | ip[i];
	else
		key.bits = ip[12] << 16 | ip[13] << 8 | ip[14];
	found = bpf_map_lookup_elem(&talkers, &key);
	if (found) {
		__sync_fetch_and_add(&found->packets, gap * one->packets);
		__sync_fetch_and_add(&found->bytes, gap * one->bytes);
	} else {
		struct weight fresh = { gap * one->packets, gap * one->bytes };

		bpf_map_update_elem(&talkers, &key, &fresh, BPF_ANY);
	}
}

static __always_inline void count_ntp(const struct packet *one, __u32 direction, const unsigned char *ntp,
				      struct counts *sum)
{
	__u8 mode = ntp[0] & 7;

	if (direction == OUT) {
		if (mode == 4)
			sum->responses += one->packets;
		return;
	}
	if (mode != 3)
		return;
	sum->requests += one->packets;
	if (!(*(__u32 *)(ntp + 32) | *(__u32 *)(ntp + 36)))
		sum->simple += one->packets;
	if (((ntp[0] >> 3) & 7) == 4)
		sum->version4 += one->packets;
}

static __always_inline __u32 segments(const struct sk_buff *skb)
{
	struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	__u16 size = 0, count = 0;

	/* What is joined, or is to be split, has its payload in pages. */
	if (!skb->data_len)
		return 1;
	bpf_core_read(&size, sizeof(size), &shared->gso_size);
	if (!size)
		return 1;
	bpf_core_read(&count, sizeof(count), &shared->gso_segs);
	return count ? count : 1;
}

/* Counts a packet to (IN) or from (OUT) a watched port. `l4`: where the transport header is in `ip`. */
static __always_inline void count_way(const struct sk_buff *skb, struct packet *one, __u32 direction,
				      const unsigned char *ip, const unsigned char *l4, const struct settings *set)
{
	const unsigned char *port = l4 + (direction == IN ? 2 : 0);
	__u32 family = one->family & 1;
	struct counts *sum;
	__u32 key;

	one->index = find_port(one->protocol, port[0] << 8 | port[1]);
	if (one->index >= PORTS_MAX)
		return;
	/* A copy: what the kernel gets the address of lives in memory from then on. */
	key = one->index;
	sum = bpf_map_lookup_elem(&counts, &key);
	if (!sum)
		return;
	one->packets = segments(skb);
	if (one->packets > 1)
		/* Each segment has the headers; for TCP those without options. */
		one->bytes = one->whole + (one->packets - 1) * (one->transport + (one->protocol == 6 ? 20 : 8));
	else
		/* Without what fills up a short Ethernet frame. */
		one->bytes = family ? 40 + ip_length(ip + 4) : ip_length(ip + 2);
	sum->packets[direction][family] += one->packets;
	sum->bytes[direction][family] += one->bytes;
	if (watched[one->index].kind == KIND_NTP && one->linear >= one->transport + 8 + NTP_BYTES)
		count_ntp(one, direction, l4 + 8, sum);
	count_bin(one, direction);
	if (direction == IN)
		count_prefix(one, ip, set);
}

static __always_inline void count_ways(const struct sk_buff *skb, struct packet *one, __u32 ways,
				       const unsigned char *ip, const unsigned char *l4, const struct settings *set)
{
	if (ways & COUNT_IN)
		count_way(skb, one, IN, ip, l4, set);
	if (ways & (COUNT_OUT | COUNT_OUT_RECEIVED))
		count_way(skb, one, OUT, ip, l4, set);
}

static __always_inline void count_packet(const struct sk_buff *skb, struct packet *one, __u32 ways,
					 const unsigned char *at, const struct settings *set)
{
	unsigned char ip[HEADERS];

	if (bpf_probe_read_kernel(ip, HEADERS, at))
		return;
	if ((ip[0] >> 4) == 4) {
		one->transport = 4 * (ip[0] & 15);
		one->protocol = ip[9];
		/* Only the first fragment has ports. */
		if (one->transport < 20 || one->linear < 20 || (ip[6] & 0x1f) || ip[7] || !is_transport(one->protocol))
			return;
	} else if ((ip[0] >> 4) == 6) {
		one->family = 1;
		one->protocol = ip[6];
		one->transport = is_transport(ip[6]) ? 40 : skip_extensions(at, one->linear, &one->protocol);
		if (!one->transport)
			return;
	} else {
		return;
	}
	if (one->linear < one->transport + 8)
		return;
	if (one->transport == 20) {
		count_ways(skb, one, ways, ip, ip + 20, set);
		return;
	}
	/* Behind IPv4 options or IPv6 extension headers; the addresses, which come before, stay. */
	if (one->transport != 40 && bpf_probe_read_kernel(ip + 40, HEADERS - 40, at + one->transport))
		return;
	count_ways(skb, one, ways, ip, ip + 40, set);
}

static __always_inline const struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(watch_in, struct sk_buff *skb)
{
	const struct settings *set = get_settings();
	const unsigned char *at = skb->data;
	struct packet one = {};
	__u32 tag = 0, ways;

	if (!set)
		return 0;
	ways = counted_at(skb->dev, set) & (COUNT_IN | COUNT_OUT_RECEIVED);
	if (!ways)
		return 0;
	switch (skb->protocol) {
	case bpf_htons(0x0800):
	case bpf_htons(0x86dd):
		break;
	case bpf_htons(0x8100):
		/* A VLAN's tag that the device has left in the packet. */
		tag = 4;
		break;
	case bpf_htons(0x88a8):
		tag = 8;
		break;
	default:
		return 0;
	}
	one.linear = skb->len - skb->data_len;
	if (one.linear < tag + 20)
		return 0;
	one.linear -= tag;
	one.whole = skb->len - tag;
	count_packet(skb, &one, ways, at + tag, set);
	return 0;
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(watch_out, struct sk_buff *skb, struct net_device *dev)
{
	const struct settings *set = get_settings();
	struct packet one = {};
	const unsigned char *at;
	__u64 before;

	if (!set || !(counted_at(dev, set) & COUNT_OUT))
		return 0;
	if (skb->protocol != bpf_htons(0x0800) && skb->protocol != bpf_htons(0x86dd) &&
	    skb->protocol != bpf_htons(0x8100) && skb->protocol != bpf_htons(0x88a8))
		return 0;
	at = skb->head + skb->network_header;
	before = at - skb->data;
	one.linear = skb->len - skb->data_len;
	if (before > one.linear || one.linear - before < 20)
		return 0;
	one.linear -= before;
	one.whole = skb->len - before;
	count_packet(skb, &one, COUNT_OUT, at, set);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
