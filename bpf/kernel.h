/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The few fields of kernel structures that the programs read.
 *
 * Only their names count: when a program is loaded, each access is moved to where the running kernel has the field
 * (CO-RE), and a kernel without it refuses the program. */
#ifndef FLATOUT_KERNEL_H
#define FLATOUT_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
};

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	unsigned int data_len;
	__be16 protocol;
	__u16 network_header;
	unsigned int end; /* from `head`, on 64-bit machines */
	unsigned char *head;
	unsigned char *data;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
};

#pragma clang attribute pop

#endif
