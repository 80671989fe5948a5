/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Which requests are answered in the driver: lists of prefixes, a rate for each client, a bandwidth for all.
 *
 * The rules are those of the server's sockets (`server/admission.rs`), with tables of the same form. A program asks
 * `admit` once it knows that it will answer a request, and tells `spend` how long the answer is. Rules that change
 * meanwhile have the request passed up. CPUs that ask for one client at the same moment may both be admitted. */
#ifndef FLATOUT_ADMISSION_H
#define FLATOUT_ADMISSION_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define WAYS 8
/* A kiss-o'-death for one client each 2 s; of one CPU each 20 ms, 50 at once. */
#define KISS_EACH 2000000000ULL
#define KISS_STEP 20000000ULL
#define KISS_BURST 1000000000ULL
/* Recent answers count half after 8 s; they are weighed in 256 steps of that. */
#define WEIGH_STEP 31250000ULL
#define RECENT 65536ULL
/* Bytes of one CPU's answers that are spent at once: all CPUs write the same word. */
#define SPEND 1024

/* 0: the server began without limits, and gets none while it runs. */
const volatile __u8 limited = 0;
/* Whoever knew it could choose addresses that drive others out; odd. */
const volatile __u64 factor = 1;
/* A client's hash, shifted so far, is its set. */
const volatile __u64 set_shift = 63;

enum verdict {
	ADMITTED,
	REFUSED,
	/* A kiss-o'-death instead of an answer. */
	KISSED,
	/* The sockets decide. */
	UNDECIDED,
};

enum class { ALLOWED, DENIED, FIRST };

struct rules {
	__u64 version;
	__u64 interval;		/* between two requests of a client at its rate, ns; 0: no limit */
	__u64 tolerance;	/* how much earlier they may come: the burst */
	__u64 leak;		/* one in so many above the rate is answered; 0: none */
	__u64 kiss;
	__u64 v4_mask;
	__u64 v6_mask;
	__u64 lists;		/* 0: there are none */
	/* Where the parts of the lists begin among the words. */
	__u64 index;
	__u64 v4;
	__u64 v6;
	__u64 v6_count;
};

/* The rules of an even version and of an odd one; a version of 0: there are none to go by. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct rules);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} rules_version SEC(".maps");

/* Ranges of addresses that do not overlap, of an even and of an odd version; see `Prefixes` of the server. For each
 * value of a v4 address's first 16 bits which ranges begin there; where the v4 ranges begin, with their classes; where
 * the v6 ranges begin: all high words, all low words, all classes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lists SEC(".maps");

struct client {
	__u64 due;		/* the next request at its rate, ns */
	__u64 seen;
	__u64 kiss_after;
	__u64 recent;		/* answers, the older the less; in parts of `RECENT` */
	__u32 weighed;		/* when, in steps */
	__u32 answered;
	__u32 refused;
	__u32 withheld;
};

struct set {
	__u64 keys[WAYS];
	struct client clients[WAYS];
};

/* In mapped memory its sets are at the beginning of cache lines. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct set);
} clients SEC(".maps");

/* The bandwidth as the server knew it at a time. */
struct budget {
	__u64 version;
	__u64 at;
	__s64 tokens;		/* bytes that may be spent */
	__u64 depth;		/* the most of them; 0: no limit */
	__u64 bytes_per_s;
	__u64 spent;		/* what had been spent here */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} budget_version SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} spent SEC(".maps");

/* What a CPU counts: the order is also in the loader. */
struct cpu {
	__u64 denied;
	__u64 rate_limited;
	__u64 over_budget;
	__u64 kissed;
	__u64 forgotten;
	__u64 kisses_until;	/* when its bucket of kiss-o'-death packets is full again */
	__u64 unspent;		/* bytes of answers */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

/* An address is of no class where there is no word. */
static __always_inline __u64 list_word(__u32 at)
{
	__u64 *word = bpf_map_lookup_elem(&lists, &at);

	return word ? *word : DENIED;
}

static __always_inline int class_of_v4(const struct rules *rules, __u32 address)
{
	__u64 bounds = list_word(rules->index + (address >> 16));
	__u32 low = bounds >> 32, high = bounds, first = rules->v4;

	/* At most 2^16 ranges begin there. */
#pragma clang loop unroll(disable)
	for (int n = 0; n < 17 && low < high; n++) {
		__u32 middle = low + (high - low) / 2;

		if (list_word(first + middle) >> 8 <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return list_word(first + low - 1) & 0xff;
}

static __always_inline int class_of_v6(const struct rules *rules, __u64 upper, __u64 lower)
{
	__u32 first = rules->v6, count = rules->v6_count, low = 0, high = count;

#pragma clang loop unroll(disable)
	for (int n = 0; n < 32 && low < high; n++) {
		__u32 middle = low + (high - low) / 2;
		__u64 begin = list_word(first + middle);

		if (begin < upper || (begin == upper && list_word(first + count + middle) <= lower))
			low = middle + 1;
		else
			high = middle;
	}
	return list_word(first + 2 * count + low - 1);
}

/* The client with this key, which is not 0; an unknown one takes the place of the one that was silent longest. */
static __always_inline struct client *find_client(__u64 key, __u64 now, struct cpu *cpu)
{
	__u64 hash = (key ^ key >> 32) * factor, oldest = ~0ULL;
	__u32 at, way = WAYS;
	struct set *set;

	at = ((hash ^ hash >> 29) * 0x9e3779b97f4a7c15ULL) >> set_shift;
	set = bpf_map_lookup_elem(&clients, &at);
	if (!set)
		return 0;
#pragma unroll
	for (int n = 0; n < WAYS; n++)
		if (set->keys[n] == key)
			way = n;
	if (way < WAYS)
		return &set->clients[way];
#pragma unroll
	for (int n = 0; n < WAYS; n++) {
		__u64 seen = set->keys[n] ? set->clients[n].seen | 1 : 0;

		if (seen < oldest) {
			oldest = seen;
			way = n;
		}
	}
	if (way >= WAYS)
		return 0;
	cpu->forgotten += !!set->keys[way];
	__builtin_memset(&set->clients[way], 0, sizeof(struct client));
	set->clients[way].seen = now;
	set->keys[way] = key;
	return &set->clients[way];
}

/* Takes a token; 0: there is none. */
static __always_inline int may_ask(struct client *client, const struct rules *rules, __u64 now)
{
	__u64 until = now + rules->tolerance, interval = rules->interval, due = client->due;

	/* Further ahead than this rate can put it: it is of a lower rate, which holds no more. */
	if (due > until + interval)
		due = until + interval;
	if (due > until) {
		client->due = due;
		return 0;
	}
	client->due = (due > now ? due : now) + interval;
	return 1;
}

/* Brings up to date how many answers it had lately. */
static __always_inline void weigh(struct client *client, __u64 now)
{
	__u32 step = now / WEIGH_STEP, passed = step - client->weighed, halves = passed >> 8, rest = passed & 255;

	client->weighed = step;
	if (!client->recent || !passed)
		return;
	/* 2^-x for x from 0 to 1, within half a percent. */
	client->recent = client->recent * (65536 - 168 * rest + rest * rest * 5 / 32) >> 16;
	client->recent = halves < 64 ? client->recent >> halves : 0;
}

static __always_inline int read_budget(struct budget *budget)
{
	__u32 first = 0, slot;
	__u64 *version = bpf_map_lookup_elem(&budget_version, &first), seen;
	struct budget *told;

	if (!version)
		return 0;
	seen = *(volatile __u64 *)version;
	slot = seen & 1;
	told = bpf_map_lookup_elem(&budgets, &slot);
	if (!told)
		return 0;
	*budget = *told;
	asm volatile("" ::: "memory");
	return seen && budget->version == seen && *(volatile __u64 *)version == seen;
}

/* Whether a client that had so many recent answers gets another one. */
static __always_inline int affords(const struct budget *budget, __u64 recent, __u64 now)
{
	__u64 passed_us = now > budget->at ? (now - budget->at) / 1000 : 0, level;
	__s64 tokens = budget->tokens;
	__u32 first = 0;
	__u64 *all = bpf_map_lookup_elem(&spent, &first);

	if (!all)
		return 0;
	tokens += passed_us * budget->bytes_per_s / 1000000;
	if (tokens > (__s64)budget->depth)
		tokens = budget->depth;
	tokens -= *(volatile __u64 *)all - budget->spent;
	if (tokens <= 0)
		return 0;
	/* In sixteenths of the bucket: from half on all are admitted, below the threshold halves with each. */
	level = (__u64)tokens * 16 / budget->depth;
	return level >= 8 || recent < RECENT << level;
}

/* A kiss-o'-death where it is allowed, to this client and to all of this CPU. */
static __always_inline int refuse(const struct rules *rules, struct client *client, struct cpu *cpu, __u64 now)
{
	if (!rules->kiss || now < client->kiss_after || cpu->kisses_until > now + KISS_BURST - KISS_STEP) {
		cpu->rate_limited++;
		return REFUSED;
	}
	client->kiss_after = now + KISS_EACH;
	cpu->kisses_until = (cpu->kisses_until > now ? cpu->kisses_until : now) + KISS_STEP;
	cpu->kissed++;
	return KISSED;
}

static __always_inline int consider(const struct rules *rules, const __u8 *address, __u64 now, struct cpu *cpu)
{
	const __be32 *words = (const __be32 *)address;
	__u32 v4 = bpf_ntohl(words[3]);
	__u64 upper = (__u64)bpf_ntohl(words[0]) << 32 | bpf_ntohl(words[1]);
	int is_v4 = !upper && words[2] == bpf_htonl(0xffff), class = ALLOWED;
	struct budget budget;
	struct client *client;
	__u64 key;

	if (rules->lists)
		class = is_v4 ? class_of_v4(rules, v4)
			      : class_of_v6(rules, upper, (__u64)bpf_ntohl(words[2]) << 32 | v4);
	if (class == DENIED) {
		cpu->denied++;
		return REFUSED;
	}
	if (class == FIRST)
		return ADMITTED;
	if (!read_budget(&budget))
		return UNDECIDED;
	if (!rules->interval && !budget.depth)
		return ADMITTED;
	key = is_v4 ? 0xffffffffULL << 32 | (v4 & rules->v4_mask) : upper & rules->v6_mask;
	client = find_client(key ? key : 1, now, cpu);
	if (!client)
		return UNDECIDED;
	client->seen = now;
	if (rules->interval && !may_ask(client, rules, now) &&
	    (!rules->leak || bpf_get_prandom_u32() % rules->leak)) {
		client->refused++;
		return refuse(rules, client, cpu, now);
	}
	if (budget.depth) {
		weigh(client, now);
		if (!affords(&budget, client->recent, now)) {
			client->withheld++;
			cpu->over_budget++;
			return REFUSED;
		}
		client->recent += RECENT;
	}
	client->answered++;
	return ADMITTED;
}

/* By the rules that hold; its own function, as all of it would not fit into another's stack. */
static __noinline int admit_limited(const __u8 *address, __u64 now)
{
	__u32 first = 0, slot;
	__u64 *version, seen;
	struct rules *told;
	struct cpu *cpu;
	int verdict;

	version = bpf_map_lookup_elem(&rules_version, &first);
	cpu = bpf_map_lookup_elem(&cpus, &first);
	if (!version || !cpu)
		return UNDECIDED;
	seen = *(volatile __u64 *)version;
	slot = seen & 1;
	told = bpf_map_lookup_elem(&rules, &slot);
	if (!told || !seen || told->version != seen)
		return UNDECIDED;
	verdict = consider(told, address, now, cpu);
	/* These rules and their lists are written anew only once others hold. */
	asm volatile("" ::: "memory");
	return *(volatile __u64 *)version == seen ? verdict : UNDECIDED;
}

/* What happens to a request from `address` (IPv4 behind ::ffff:, at a multiple of 4 bytes) at `now` (CLOCK_MONOTONIC,
 * ns) that would be answered. Without limits not even a call is made. */
static __always_inline int admit(const __u8 *address, __u64 now)
{
	return limited ? admit_limited(address, now) : ADMITTED;
}

/* An answer of so many bytes leaves, IP header included. */
static __always_inline void spend(__u64 bytes)
{
	__u32 first = 0;
	struct cpu *cpu;
	__u64 *all;

	if (!limited)
		return;
	cpu = bpf_map_lookup_elem(&cpus, &first);
	all = bpf_map_lookup_elem(&spent, &first);
	if (!cpu || !all)
		return;
	cpu->unspent += bytes;
	if (cpu->unspent >= SPEND) {
		__sync_fetch_and_add(all, cpu->unspent);
		cpu->unspent = 0;
	}
}

#endif
