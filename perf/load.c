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
#include <unistd.h>

static const char usage[] =
	"Usage: taploom-load bulk|udp|trans|hold (-l | -c ADDRESS) -p PORT [OPTION]...\n"
	"  -l            listen\n"
	"  -c ADDRESS    connect, to an IPv4 or IPv6 address\n" LOAD_TRAFFIC_USAGE
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

static bool take_option(struct load_options *options, int letter, const char *value)
{
	switch (letter) {
	case 'l':
		return options->listen = true;
	case 'c':
		return take_address(value, &options->addr);
	case 'G':
		return options->gro = true;
	case 'b':
		options->bins_path = value;
		return true;
	default:
		return load_traffic_take(&options->traffic, letter, value);
	}
}

static bool take_options(int argc, char **argv, struct load_options *options)
{
	int letter;

	while ((letter = getopt(argc, argv, "lc:b:G" LOAD_TRAFFIC_LETTERS)) != -1)
		if (!take_option(options, letter, optarg))
			return false;
	options->addr.sin6_port = htons(options->traffic.port);
	return optind == argc && load_traffic_ok(&options->traffic) &&
	       (options->listen || options->addr.sin6_family);
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
		struct load_options options = {
			.traffic = { LOAD_TRAFFIC_DEFAULTS, .size = kinds[i].size },
		};

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
