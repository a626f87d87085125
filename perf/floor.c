/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom-floor PORT TAP: the least that carrying TCP data into a namespace can cost. It accepts
 * one connection, receives, and writes what came to the tap as frames of up to 64 KiB with a
 * virtio-net header, one system call each; nothing else. The frames go to an address that nobody
 * has, so that the other side's TCP isn't in the sum. Prints its processor time per GB as JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD_MAX (65535 - (sizeof(struct iphdr) + sizeof(struct tcphdr)))
#define GSO_SIZE    1460

struct __attribute__((packed)) head {
	struct virtio_net_hdr vnet;
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "taploom-floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tap(const char *name, uint8_t *mac)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		die(name);
	if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		die("offloads");
	if (ioctl(probe, SIOCGIFHWADDR, &request))
		die(name);
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	close(probe);
	return fd;
}

static int accept_one(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, conn;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 1))
		die("listen");
	fputs("listening\n", stderr);
	conn = accept(fd, NULL, NULL);
	if (conn < 0)
		die("accept");
	close(fd);
	return conn;
}

/* Headers of a frame to 198.18.0.1, which the kernel looks at, finds no route for, and drops. */
static struct head make_head(const uint8_t *mac)
{
	struct head head = {
		.vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			  .hdr_len = sizeof(struct head) - sizeof(struct virtio_net_hdr),
			  .gso_size = GSO_SIZE,
			  .csum_start = sizeof(struct ethhdr) + sizeof(struct iphdr),
			  .csum_offset = offsetof(struct tcphdr, check) },
		.eth = { .h_source = { 2, 0, 0, 0, 0, 1 }, .h_proto = htons(ETH_P_IP) },
		.ip = { .version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = htonl(0xc6120002),
			.daddr = htonl(0xc6120001) },
		.tcp = { .source = htons(1), .dest = htons(2), .doff = 5, .ack = 1 },
	};

	memcpy(head.eth.h_dest, mac, ETH_ALEN);
	return head;
}

/* The sum is by hand as the frame's length changes. RFC 791 3.1 */
static void seal(struct head *head, size_t payload_len)
{
	uint16_t words[10];
	uint32_t sum = 0;

	head->ip.tot_len = htons((uint16_t)(sizeof(head->ip) + sizeof(head->tcp) + payload_len));
	head->ip.check = 0;
	memcpy(words, &head->ip, sizeof(words));
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	head->ip.check = (uint16_t) ~(sum + (sum >> 16));
	head->vnet.gso_type =
		payload_len > GSO_SIZE ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE;
	head->vnet.gso_size = payload_len > GSO_SIZE ? GSO_SIZE : 0;
}

static uint64_t carry(int conn, int tap_fd, struct head *head)
{
	static uint8_t buffer[sizeof(struct head) + PAYLOAD_MAX];
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = recv(conn, buffer + sizeof(*head), PAYLOAD_MAX, 0)) > 0) {
		seal(head, (size_t)n);
		memcpy(buffer, head, sizeof(*head));
		if (write(tap_fd, buffer, sizeof(*head) + (size_t)n) < 0)
			die("write to the tap");
		bytes += (uint64_t)n;
	}
	return bytes;
}

int main(int argc, char **argv)
{
	uint8_t mac[ETH_ALEN];
	struct rusage used;
	struct head head;
	uint64_t bytes;
	double cpu;
	int tap_fd;

	if (argc != 3) {
		fputs("Usage: taploom-floor PORT TAP\n", stderr);
		return 1;
	}
	tap_fd = open_tap(argv[2], mac);
	head = make_head(mac);
	bytes = carry(accept_one((uint16_t)atoi(argv[1])), tap_fd, &head);
	getrusage(RUSAGE_SELF, &used);
	cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	      (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	printf("{\"ok\": %s, \"received\": %llu, \"cpu_s\": %.4f, \"cpu_s_per_gb\": %.4f}\n",
	       bytes ? "true" : "false", (unsigned long long)bytes, cpu,
	       bytes ? cpu * 1e9 / (double)bytes : 0);
	return bytes ? 0 : 1;
}
