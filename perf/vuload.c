/* SPDX-License-Identifier: Apache-2.0 */
#include "vuload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/resource.h>

#define BATCH	   128u /* frames taken from a pair before anything is sent */
#define ARP_NS	   (50 * 1000 * 1000LL)
#define READY_NS   (10 * NS_PER_S)
#define BUFFER_MAX (1u << 16)

static const char usage[] =
	"Usage: taploom-vuload bulk|udp|trans|stopped -U SOCKET -c ADDRESS -p PORT [OPTION]...\n"
	"  -U SOCKET     of the vhost-user back-end\n"
	"  -c ADDRESS    IPv4 address that a taploom-load listens on\n"
	"  -a ADDRESS    the guest's; -g ADDRESS of its gateway\n" LOAD_TRAFFIC_USAGE
	"                flows are in turn those of the queue pairs; all but one go to the next "
	"port,\n"
	"                where nobody is to read (stopped)\n"
	"  -i USEC       how long to sleep when the rate is ahead, default 200\n"
	"  -q N          queue pairs, default 1\n"
	"  -Q N          entries of a ring, default 256\n"
	"  -b BYTES      size of a receive buffer, default 4096\n"
	"  -m MTU        of the guest, default 1500\n"
	"  -f LIST       features to leave out or, with +, to add: csum, tso, mrg, event, "
	"indirect,\n"
	"                packed, inorder, uso\n";

/* By the word of -f. */
static const struct feature {
	const char *name;
	uint64_t bits;
	bool by_default;
} features[] = {
	{ "csum", VU_FEATURE(VIRTIO_NET_F_CSUM) | VU_FEATURE(VIRTIO_NET_F_GUEST_CSUM), true },
	{ "tso",
	  VU_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VU_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |
		  VU_FEATURE(VIRTIO_NET_F_HOST_TSO6) | VU_FEATURE(VIRTIO_NET_F_GUEST_TSO6),
	  true },
	{ "mrg", VU_FEATURE(VIRTIO_NET_F_MRG_RXBUF), true },
	{ "event", VU_FEATURE(VIRTIO_RING_F_EVENT_IDX), true },
	{ "indirect", VU_FEATURE(VIRTIO_RING_F_INDIRECT_DESC), true },
	{ "packed", VU_FEATURE(VIRTIO_F_RING_PACKED), false },
	{ "inorder", VU_FEATURE(VIRTIO_F_IN_ORDER), false },
	{ "uso",
	  VU_FEATURE(VIRTIO_NET_F_GUEST_USO4) | VU_FEATURE(VIRTIO_NET_F_GUEST_USO6) |
		  VU_FEATURE(VIRTIO_NET_F_HOST_USO),
	  false },
};

static const struct kind {
	const char *name;
	const struct vl_app *app;
	size_t size; /* default of -S */
} kinds[] = {
	{ "udp", &vl_udp_app, 1400 },
	{ "bulk", &vl_bulk_app, 0 },
	{ "trans", &vl_trans_app, 1 },
	{ "stopped", &vl_stopped_app, 0 },
};

/* Options. */

static bool take_address(const char *text, uint32_t *addr)
{
	struct in_addr in;

	if (inet_pton(AF_INET, text, &in) != 1)
		return false;
	*addr = ntohl(in.s_addr);
	return true;
}

static bool take_feature(struct vl_options *options, const char *word)
{
	bool add = *word == '+';

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (strcmp(word + add, features[i].name) != 0)
			continue;
		if (add)
			options->features |= features[i].bits;
		else
			options->features &= ~features[i].bits;
		return true;
	}
	return false;
}

static bool take_features(struct vl_options *options, char *list)
{
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
		if (!take_feature(options, word))
			return false;
	return true;
}

/* One option. Numbers go where the table says; the rest is by letter. */
static bool take_option(struct vl_options *options, int letter, char *value)
{
	struct {
		char letter;
		unsigned int *to;
	} numbers[] = {
		{ 'i', &options->tick_us },   { 'q', &options->pairs },
		{ 'Q', &options->ring_size }, { 'b', &options->buffer_size },
		{ 'm', &options->mtu },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (letter == numbers[i].letter) {
			*numbers[i].to = (unsigned int)atoi(value);
			return true;
		}
	switch (letter) {
	case 'U':
		options->socket = value;
		return true;
	case 'c':
		return take_address(value, &options->peer);
	case 'a':
		return take_address(value, &options->addr);
	case 'g':
		return take_address(value, &options->gateway);
	case 'f':
		return take_features(options, value);
	default:
		return load_traffic_take(&options->traffic, letter, value);
	}
}

static bool in_range(unsigned int n, unsigned int least, unsigned int most)
{
	return n >= least && n <= most;
}

static bool options_ok(const struct vl_options *options)
{
	bool merged = options->features & VU_FEATURE(VIRTIO_NET_F_MRG_RXBUF);
	unsigned int least = merged ? 128 : options->mtu + 64;

	if (!merged && options->features & VU_FEATURE(VIRTIO_NET_F_GUEST_TSO4))
		least = BUFFER_MAX; /* a frame of 64 KiB takes one buffer */
	return options->socket && options->peer && options->addr && options->gateway &&
	       load_traffic_ok(&options->traffic) && in_range(options->pairs, 1, VFE_PAIRS) &&
	       in_range(options->ring_size, 4, DRV_NUM_MAX) &&
	       !(options->ring_size & (options->ring_size - 1)) &&
	       in_range(options->buffer_size, least, 2 * BUFFER_MAX) &&
	       in_range(options->mtu, 576, 65535);
}

static bool take_options(int argc, char **argv, struct vl_options *options)
{
	int letter;

	options->features = VU_FEATURE(VIRTIO_F_VERSION_1) | VU_FEATURE(VIRTIO_NET_F_MQ);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		options->features |= features[i].by_default ? features[i].bits : 0;
	while ((letter = getopt(argc, argv, "U:c:a:g:i:q:Q:b:m:f:" LOAD_TRAFFIC_LETTERS)) != -1)
		if (!take_option(options, letter, optarg))
			return false;
	return optind == argc && options_ok(options);
}

/* The loop. */

static void take_frame(struct vl *vl, struct vl_frame *frame, int64_t now)
{
	if (vl_parse(vl, frame) && vl->gateway_known)
		vl->app->frame(vl, frame, now);
}

static void ask_gateway(struct vl *vl)
{
	uint8_t *slot = vl_tx_begin(vl, 0);

	if (!slot)
		return;
	vl_build_arp(vl, slot);
	vl_tx_commit(vl, 0, VL_ETH + 28, NULL, 0);
	vl_kick(vl);
}

static void find_gateway(struct vl *vl)
{
	int64_t begin = load_now_ns(), asked = 0;

	while (!vl->gateway_known) {
		int64_t now = load_now_ns();

		if (now - begin > READY_NS) {
			errno = ETIMEDOUT;
			load_die("the gateway does not answer");
		}
		if (now - asked > ARP_NS) {
			ask_gateway(vl);
			asked = now;
		}
		vl_rx(vl, BATCH, take_frame, now);
		vl_rest(vl, now + ARP_NS);
	}
}

static void run(struct vl *vl)
{
	const struct vl_app *app = vl->app;
	int64_t now = load_now_ns();

	app->start(vl);
	while (!app->over(vl, now)) {
		unsigned int n = vl_rx(vl, BATCH, take_frame, now);
		int64_t next = app->run(vl, now);

		vl_kick(vl);
		now = load_now_ns();
		if (n || next <= now)
			continue;
		vl_rest(vl, next);
		now = load_now_ns();
	}
}

static void report_pairs(const struct vl *vl)
{
	printf(", \"pairs\": [");
	for (unsigned int i = 0; i < vl->options->pairs; i++) {
		const struct vl_pair *pair = &vl->pairs[i];

		printf("%s{\"tx_frames\": %llu, \"tx_bytes\": %llu, \"rx_frames\": %llu, "
		       "\"rx_bytes\": %llu, \"kicks\": %llu, \"calls\": %llu}",
		       i ? ", " : "", (unsigned long long)pair->tx_frames,
		       (unsigned long long)pair->tx_bytes, (unsigned long long)pair->rx_frames,
		       (unsigned long long)pair->rx_bytes, (unsigned long long)pair->kicks,
		       (unsigned long long)pair->calls);
	}
	printf("]");
}

static bool report_errors(const struct vl *vl)
{
	const struct vl_errors *e = &vl->errors;

	printf(", \"errors\": {\"header\": %llu, \"offload\": %llu, \"checksum\": %llu, "
	       "\"payload\": %llu, \"order\": %llu, \"stray\": %llu, \"reset\": %llu}",
	       (unsigned long long)e->header, (unsigned long long)e->offload,
	       (unsigned long long)e->checksum, (unsigned long long)e->payload,
	       (unsigned long long)e->order, (unsigned long long)e->stray,
	       (unsigned long long)e->reset);
	/* What is overtaken, lost or reset may be the network's doing; the rest never. */
	return !e->header && !e->offload && !e->checksum && !e->payload;
}

static int report(struct vl *vl)
{
	struct rusage used;
	bool ok;

	getrusage(RUSAGE_SELF, &used);
	printf("{");
	ok = vl->app->report(vl);
	printf(", \"seconds\": %.3f", vl->options->traffic.seconds);
	report_pairs(vl);
	ok = report_errors(vl) && ok;
	printf(", \"cpu_s\": %.3f, \"ok\": %s}\n",
	       (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
	       ok ? "true" : "false");
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct vl vl;
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct vl_options options = {
			.traffic = { LOAD_TRAFFIC_DEFAULTS, .size = kinds[i].size },
			.pairs = 1,
			.ring_size = 256,
			.buffer_size = 4096,
			.mtu = 1500,
			.tick_us = 200,
		};

		if (strcmp(name, kinds[i].name) != 0)
			continue;
		if (!take_options(argc - 1, argv + 1, &options))
			break;
		vl.options = &options;
		vl.app = kinds[i].app;
		vl_dev_open(&vl);
		find_gateway(&vl);
		run(&vl);
		return report(&vl);
	}
	fputs(usage, stderr);
	return 1;
}
