/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"Usage: taploom-load bulk|udp|trans|hold (-l | -c ADDRESS) -p PORT [OPTION]...\n"
	"  -l            listen\n"
	"  -c ADDRESS    connect, to an IPv4 or IPv6 address\n"
	"  -p PORT       port\n"
	"  -s, -r        send, receive (bulk and udp); both for full duplex (bulk)\n"
	"  -n N          flows, default 1\n"
	"  -t SECONDS    time measured, default 5\n"
	"  -o SECONDS    time left out before it, default 0.5\n"
	"  -R RATE       limit of the sender: bytes (bulk) or datagrams (udp) a second\n"
	"  -S BYTES      datagram's payload (udp, default 1400), request (trans, default 1)\n"
	"  -A BYTES      response (trans, default 1)\n"
	"  -x            a new connection for each request (trans)\n"
	"  -V            compare every byte received (bulk), not some of each piece\n"
	"  -G            receive datagrams as the kernel joins them (udp)\n"
	"  -b FILE       write the bytes received in each 10 ms (bulk)\n";

static const struct load_kind {
	const char *name;
	int (*run)(const struct load_options *options);
	size_t size; /* default of -S */
} kinds[] = {
	{ "bulk", load_bulk, 0 },
	{ "udp", load_udp, 1400 },
	{ "trans", load_trans, 1 },
	{ "hold", load_hold, 0 },
};

int64_t load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

_Noreturn void load_die(const char *what)
{
	fprintf(stderr, "taploom-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

int load_listen(const struct load_options *options)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = options->addr.sin6_port };
	int one = 1, zero = 0;

	if (fd < 0)
		load_die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 4096))
		load_die("listen");
	fputs("listening\n", stderr);
	return fd;
}

int load_connect(const struct load_options *options)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, zero = 0;

	if (fd < 0)
		load_die("socket");
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&options->addr, sizeof(options->addr)) &&
	    errno != EINPROGRESS)
		load_die("connect");
	return fd;
}

void load_watch(int epoll_fd, int fd, uint32_t events, uint32_t number)
{
	struct epoll_event event = { .events = events, .data.u32 = number };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) && errno != EEXIST)
		load_die("epoll_ctl");
}

/* An IPv4 address becomes its mapped form: one family serves both. */
static bool take_address(const char *text, struct sockaddr_in6 *addr)
{
	char mapped[INET6_ADDRSTRLEN + 8];

	snprintf(mapped, sizeof(mapped), "%s%s", strchr(text, ':') ? "" : "::ffff:", text);
	addr->sin6_family = AF_INET6;
	return inet_pton(AF_INET6, mapped, &addr->sin6_addr) == 1;
}

static bool take_options(int argc, char **argv, struct load_options *options)
{
	int letter;

	while ((letter = getopt(argc, argv, "lc:p:srn:t:o:R:S:A:xb:VG")) != -1) {
		switch (letter) {
		case 'l':
			options->listen = true;
			break;
		case 'c':
			if (!take_address(optarg, &options->addr))
				return false;
			break;
		case 'p':
			options->addr.sin6_port = htons((uint16_t)atoi(optarg));
			break;
		case 's':
			options->send = true;
			break;
		case 'r':
			options->recv = true;
			break;
		case 'n':
			options->n_flows = (unsigned int)atoi(optarg);
			break;
		case 't':
			options->seconds = atof(optarg);
			break;
		case 'o':
			options->omit = atof(optarg);
			break;
		case 'R':
			options->rate = atof(optarg);
			break;
		case 'S':
			options->size = (size_t)atol(optarg);
			break;
		case 'A':
			options->response_size = (size_t)atol(optarg);
			break;
		case 'x':
			options->reconnect = true;
			break;
		case 'V':
			options->verify = true;
			break;
		case 'G':
			options->gro = true;
			break;
		case 'b':
			options->bins_path = optarg;
			break;
		default:
			return false;
		}
	}
	return (options->listen || options->addr.sin6_family) && options->addr.sin6_port &&
	       options->n_flows && options->n_flows <= LOAD_FLOWS_MAX && optind == argc;
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct load_options options = { .n_flows = 1,
						.seconds = 5,
						.omit = 0.5,
						.size = kinds[i].size,
						.response_size = 1 };

		if (strcmp(name, kinds[i].name) != 0)
			continue;
		if (!take_options(argc - 1, argv + 1, &options))
			break;
		signal(SIGPIPE, SIG_IGN);
		raise_descriptors();
		return kinds[i].run(&options);
	}
	fputs(usage, stderr);
	return 1;
}
