/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of socket diagnosis messages: requests out, dumps and destroy events in. Netlink is in
 * host byte order, but for addresses and ports.
 */
#include "port_scan.h"
#include "taploom/bytes.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

_Static_assert(DIAG_REQUEST_LEN == sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req_v2),
	       "a request is a header and the question");

void port_set_subtract(struct port_set *set, const struct port_set *other)
{
	for (size_t i = 0; i < sizeof(set->bits) / sizeof(set->bits[0]); i++)
		set->bits[i] &= ~other->bits[i];
}

int port_set_next_change(const struct port_set *before, const struct port_set *now,
			 unsigned int from)
{
	while (from < 65536) {
		uint64_t changed = (before->bits[from / 64] ^ now->bits[from / 64]) >> (from % 64);

		if (changed)
			return (int)from + __builtin_ctzll(changed);
		from = (from / 64 + 1) * 64;
	}
	return -1;
}

int port_set_next(const struct port_set *set, unsigned int from)
{
	static const struct port_set empty;

	return port_set_next_change(&empty, set, from);
}

void diag_request(uint8_t *request, uint32_t seq, uint8_t family, uint8_t proto)
{
	struct nlmsghdr header = {
		.nlmsg_len = DIAG_REQUEST_LEN,
		.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.nlmsg_seq = seq,
	};
	struct inet_diag_req_v2 question = {
		.sdiag_family = family,
		.sdiag_protocol = proto,
		/* an unconnected UDP socket is in the state that TCP calls CLOSE */
		.idiag_states = 1u << (proto == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE),
	};

	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), &question, sizeof(question));
}

/* The next message of a datagram and its payload; false at its end, or where a length is a lie. */
static bool next_message(struct bytes_in *in, struct nlmsghdr *header, struct bytes_in *payload)
{
	size_t padding;

	if (in_left(in) < sizeof(*header))
		return false;
	in_copy(in, header, sizeof(*header));
	if (header->nlmsg_len < sizeof(*header) ||
	    header->nlmsg_len - sizeof(*header) > in_left(in)) {
		in->overrun = true;
		return false;
	}
	*payload = in_sub(in, header->nlmsg_len - sizeof(*header));
	padding = NLMSG_ALIGN(header->nlmsg_len) - header->nlmsg_len;
	in_skip(in, padding < in_left(in) ? padding : in_left(in));
	return true;
}

static bool take_socket(struct bytes_in *payload, struct inet_diag_msg *socket)
{
	in_copy(payload, socket, sizeof(*socket));
	return in_ok(payload);
}

/* Why the kernel ended a dump: NLMSG_DONE and NLMSG_ERROR begin with a negative errno, or 0. */
static enum diag_result end_of(const struct nlmsghdr *header, struct bytes_in *payload)
{
	int32_t error = 0;

	if (in_left(payload) >= sizeof(error))
		in_copy(payload, &error, sizeof(error));
	if (error == -ENOENT || error == -EOPNOTSUPP || error == -EAFNOSUPPORT)
		return DIAG_ABSENT;
	if (error < 0 || header->nlmsg_type == NLMSG_ERROR)
		return DIAG_ERROR;
	return header->nlmsg_flags & NLM_F_DUMP_INTR ? DIAG_INTERRUPTED : DIAG_DONE;
}

static enum diag_result parse_one(const struct nlmsghdr *header, struct bytes_in *payload,
				  struct port_set *ports)
{
	struct inet_diag_msg socket;

	if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
		return end_of(header, payload);
	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || !take_socket(payload, &socket))
		return DIAG_ERROR;
	if (socket.id.idiag_sport)
		port_set_add(ports, ntohs(socket.id.idiag_sport));
	return DIAG_MORE;
}

enum diag_result diag_parse(const uint8_t *bytes, size_t len, uint32_t seq, struct port_set *ports)
{
	struct bytes_in in = in_of(bytes, len), payload;
	struct nlmsghdr header;

	while (next_message(&in, &header, &payload)) {
		enum diag_result result;

		if (header.nlmsg_seq != seq)
			continue;
		result = parse_one(&header, &payload, ports);
		if (result != DIAG_MORE)
			return result;
	}
	return in_ok(&in) && in_left(&in) == 0 ? DIAG_MORE : DIAG_ERROR;
}

bool diag_event_matters(const uint8_t *bytes, size_t len, const struct port_set *tcp,
			const struct port_set *udp)
{
	struct bytes_in in = in_of(bytes, len), payload;
	struct nlmsghdr header;

	while (next_message(&in, &header, &payload)) {
		struct inet_diag_msg socket;
		uint16_t port;

		if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || !take_socket(&payload, &socket))
			continue;
		port = ntohs(socket.id.idiag_sport);
		if (socket.id.idiag_dport == 0 &&
		    (port_set_has(tcp, port) || port_set_has(udp, port)))
			return true;
	}
	return false;
}
