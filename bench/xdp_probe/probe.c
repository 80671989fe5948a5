/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The least responder in the driver, and a load that is made there. Needs root. Each ends with its input.
 *
 * probe answer INTERFACE PORT bare|valid
 * probe ask INTERFACE PORT SOURCE_MAC TARGET_MAC SOURCE_ADDRESS TARGET_ADDRESS
 *     then on its input `RATE SECONDS WINDOW ADDRESSES PORTS` for each load (RATE 0: as fast as it goes; WINDOW 0: not
 *     bounded, else requests on their way; powers of two), and on its output asked, answered and seconds.
 * Objects are beside the program. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "frame.h"


static void fail(const char *what)
{
	fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The one variable of a section before the object is loaded. */
static void *section(struct bpf_object *object, const char *name)
{
	struct bpf_map *map;
	size_t size;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), name))
			return (void *)bpf_map__initial_value(map, &size);
	fprintf(stderr, "probe: no section %s\n", name);
	exit(1);
}

/* The load's variable once the object is loaded. */
static struct load *shared(struct bpf_object *object)
{
	struct bpf_map *map;
	void *at = MAP_FAILED;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".bss"))
			at = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
	if (at == MAP_FAILED)
		fail("cannot map");
	return at;
}

static struct bpf_object *opened(const char *self, const char *name)
{
	char path[4096];
	const char *slash = strrchr(self, '/');
	struct bpf_object *object;

	snprintf(path, sizeof(path), "%.*s/%s", slash ? (int)(slash - self) : 1, slash ? self : ".", name);
	object = bpf_object__open_file(path, NULL);
	if (!object)
		fail(path);
	return object;
}

static void attached(struct bpf_object *object, const char *program, int interface)
{
	if (!bpf_program__attach_xdp(bpf_object__find_program_by_name(object, program), interface))
		fail("cannot attach");
	puts("ready");
	fflush(stdout);
}

static void answer(char **words, int interface)
{
	struct bpf_object *object = opened(words[0], "bare.bpf.o");

	*(struct bare *)section(object, ".rodata") =
		(struct bare){ .port = htons(atoi(words[3])), .valid = !strcmp(words[4], "valid") };
	if (bpf_object__load(object))
		fail("cannot load");
	attached(object, "answer", interface);
	while (getchar() != EOF)
		;
}

static __u32 sum(const __u8 *from, int length)
{
	__u32 sum = 0;

	for (int n = 0; n < length; n += 2)
		sum += from[n] << 8 | from[n + 1];
	return sum;
}

static void mac(const char *text, __u8 *to)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) != 6)
		fail(text);
}

/* A request; what the program puts into it is zero here. Sums stay far below 2^32. */
static void prepare(struct bpf_object *object, char **words)
{
	static __u64 aligned[FRAME / 8 + 1];
	__u8 *frame = (void *)aligned;
	__be16 port = htons(atoi(words[3]));
	struct request *request;

	mac(words[4], frame + 6);
	mac(words[5], frame);
	memcpy(frame + 12, (__u8[]){ 8, 0, 0x45, 0, 0, 76, 0, 0, 0x40, 0, 64, 17 }, 12);
	if (inet_pton(AF_INET, words[7], frame + TARGET_ADDRESS) != 1)
		fail(words[7]);
	memcpy(frame + TARGET_PORT, &port, 2);
	frame[39] = 56;
	frame[NTP] = 4 << 3 | 3;
	frame[NTP + 2] = 6;
	memset(frame + NTP + 40, 0xe5, 6);
	request = section(object, ".rodata");
	memcpy(request->frame, aligned, sizeof(aligned));
	request->port = port;
	request->ip_sum = sum(frame + 14, 20);
	/* The pseudo header has the protocol and the length once more. */
	request->udp_sum = sum(frame + TARGET_ADDRESS, FRAME - TARGET_ADDRESS) + 17 + 56;
	request->first_address = ntohl(inet_addr(words[6]));
	request->first_port = 20000;
}

static void ended(int signal)
{
	(void)signal;
}

/* One call until a signal ends it: before and after each call the kernel waits for all CPUs, some milliseconds. */
static void run(int program, int interface, double seconds)
{
	__u8 data[FRAME] = {};
	struct xdp_md context = { .data_end = FRAME, .ingress_ifindex = interface };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = data, .data_size_in = FRAME, .ctx_in = &context,
		    .ctx_size_in = sizeof(context), .repeat = 1 << 30, .batch_size = 64,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
	struct itimerval at_end = { .it_value = { seconds, (seconds - (long)seconds) * 1e6 + 50000 } };
	struct timespec rest = { .tv_nsec = 20000000 };

	setitimer(ITIMER_REAL, &at_end, NULL);
	if (bpf_prog_test_run_opts(program, &options) && errno != EINTR)
		fail("test run");
	nanosleep(&rest, NULL);
}

static void ask(char **words, int interface)
{
	struct bpf_object *object = opened(words[0], "ask.bpf.o");
	volatile struct load *load;
	double rate, seconds;
	__u64 window;
	unsigned addresses, ports;

	prepare(object, words);
	if (bpf_object__load(object))
		fail("cannot load");
	load = shared(object);
	attached(object, "count", interface);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = ended }, NULL);
	while (scanf("%lf %lf %llu %u %u", &rate, &seconds, &window, &addresses, &ports) == 5) {
		*load = (struct load){ .length_ns = seconds * 1e9, .window = window, .address_mask = addresses - 1,
				       .port_mask = ports - 1, .interval_q16 = rate > 0 ? 65536e9 / rate : 0 };
		run(bpf_program__fd(bpf_object__find_program_by_name(object, "ask")), interface, seconds);
		printf("%llu %llu %f\n", load->asked, load->answered, seconds);
		fflush(stdout);
	}
}

int main(int count, char **words)
{
	int interface = count > 2 ? if_nametoindex(words[2]) : 0;

	if (!interface || count < 5)
		fail("usage: probe answer|ask INTERFACE PORT ...");
	if (!strcmp(words[1], "answer"))
		answer(words, interface);
	else if (count == 8)
		ask(words, interface);
	return 0;
}
