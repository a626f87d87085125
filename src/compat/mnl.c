/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of libmnl's interface that taploom uses, for static builds where the distribution has no
 * libmnl.a (Debian has none). Declarations and their meaning are those of <libmnl/libmnl.h>;
 * message and attribute layout are in netlink(7) and <linux/netlink.h>.
 */
#include <libmnl/libmnl.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_HEADER sizeof(struct nlmsghdr)
#define ATTR_HEADER    sizeof(struct nlattr)

struct mnl_socket {
	int fd;
	struct sockaddr_nl self;
};

/* MNL_ALIGN() without the sign that -Wconversion minds. */
static size_t aligned(size_t len)
{
	return (len + MNL_ALIGNTO - 1) & ~(size_t)(MNL_ALIGNTO - 1);
}

/* Sockets */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	struct mnl_socket *sock = calloc(1, sizeof(*sock));

	if (!sock)
		return NULL;
	sock->fd = socket(AF_NETLINK, SOCK_RAW | flags, bus);
	if (sock->fd < 0) {
		free(sock);
		return NULL;
	}
	return sock;
}

int mnl_socket_bind(struct mnl_socket *sock, unsigned int groups, pid_t pid)
{
	socklen_t len = sizeof(sock->self);

	sock->self = (struct sockaddr_nl){ .nl_family = AF_NETLINK,
					   .nl_pid = (uint32_t)pid,
					   .nl_groups = groups };
	if (bind(sock->fd, (struct sockaddr *)&sock->self, len))
		return -1;
	return getsockname(sock->fd, (struct sockaddr *)&sock->self, &len);
}

int mnl_socket_close(struct mnl_socket *sock)
{
	int status = close(sock->fd);

	free(sock);
	return status;
}

int mnl_socket_get_fd(const struct mnl_socket *sock)
{
	return sock->fd;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *sock)
{
	return sock->self.nl_pid;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *sock, const void *request, size_t len)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	return sendto(sock->fd, request, len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *sock, void *buf, size_t size)
{
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct sockaddr_nl from = { 0 };
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1
	};
	ssize_t n = recvmsg(sock->fd, &msg, 0);

	if (n < 0)
		return -1;
	if (msg.msg_flags & MSG_TRUNC) {
		errno = ENOSPC;
		return -1;
	}
	return n;
}

int mnl_socket_setsockopt(const struct mnl_socket *sock, int type, void *buf, socklen_t len)
{
	return setsockopt(sock->fd, SOL_NETLINK, type, buf, len);
}

/* Messages: a header, then a family's own header, then attributes, each padded to 4 bytes. */

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
	struct nlmsghdr *msg = buf;

	memset(msg, 0, MESSAGE_HEADER);
	msg->nlmsg_len = MESSAGE_HEADER;
	return msg;
}

/* Where the next part of a message goes. */
static void *message_tail(struct nlmsghdr *msg)
{
	return (char *)msg + aligned(msg->nlmsg_len);
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *msg, size_t size)
{
	void *header = message_tail(msg);

	memset(header, 0, aligned(size));
	msg->nlmsg_len += (uint32_t)aligned(size);
	return header;
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *msg)
{
	return (char *)(uintptr_t)msg + MESSAGE_HEADER;
}

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *msg)
{
	return msg->nlmsg_len - MESSAGE_HEADER;
}

/* Attributes */

uint16_t mnl_attr_get_type(const struct nlattr *attr)
{
	return (uint16_t)(attr->nla_type & ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER));
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *attr)
{
	return (uint16_t)(attr->nla_len - ATTR_HEADER);
}

void *mnl_attr_get_payload(const struct nlattr *attr)
{
	return (char *)(uintptr_t)attr + ATTR_HEADER;
}

uint32_t mnl_attr_get_u32(const struct nlattr *attr)
{
	uint32_t value;

	memcpy(&value, mnl_attr_get_payload(attr), sizeof(value));
	return value;
}

void mnl_attr_put(struct nlmsghdr *msg, uint16_t type, size_t len, const void *data)
{
	struct nlattr *attr = message_tail(msg);
	char *payload = (char *)attr + ATTR_HEADER;

	attr->nla_type = type;
	attr->nla_len = (uint16_t)(ATTR_HEADER + len);
	memset(payload, 0, aligned(len));
	if (len > 0)
		memcpy(payload, data, len);
	msg->nlmsg_len = (uint32_t)(aligned(msg->nlmsg_len) + ATTR_HEADER + aligned(len));
}

void mnl_attr_put_u8(struct nlmsghdr *msg, uint16_t type, uint8_t value)
{
	mnl_attr_put(msg, type, sizeof(value), &value);
}

void mnl_attr_put_u32(struct nlmsghdr *msg, uint16_t type, uint32_t value)
{
	mnl_attr_put(msg, type, sizeof(value), &value);
}

struct nlattr *mnl_attr_nest_start(struct nlmsghdr *msg, uint16_t type)
{
	struct nlattr *nest = message_tail(msg);

	mnl_attr_put(msg, type | NLA_F_NESTED, 0, NULL);
	return nest;
}

void mnl_attr_nest_end(struct nlmsghdr *msg, struct nlattr *nest)
{
	nest->nla_len = (uint16_t)((char *)message_tail(msg) - (char *)nest);
}

int mnl_attr_parse_payload(const void *payload, size_t len, mnl_attr_cb_t take, void *data)
{
	const char *at = payload;
	int result = MNL_CB_OK;

	while (len >= ATTR_HEADER && result > MNL_CB_STOP) {
		const struct nlattr *attr = (const void *)at;

		if (attr->nla_len < ATTR_HEADER || attr->nla_len > len)
			break;
		result = take(attr, data);
		at += aligned(attr->nla_len);
		len -= aligned(attr->nla_len) < len ? aligned(attr->nla_len) : len;
	}
	return result;
}

int mnl_attr_parse(const struct nlmsghdr *msg, unsigned int offset, mnl_attr_cb_t take, void *data)
{
	size_t len = mnl_nlmsg_get_payload_len(msg);
	size_t skipped = aligned(offset);

	if (skipped > len)
		return MNL_CB_OK;
	return mnl_attr_parse_payload((char *)mnl_nlmsg_get_payload(msg) + skipped, len - skipped,
				      take, data);
}

/* Answers */

/* The kernel's verdict on a request: 0 ends it well, else its error is for errno. */
static int take_verdict(const struct nlmsghdr *msg)
{
	int32_t error = 0;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(struct nlmsgerr)) {
		errno = EBADMSG;
		return MNL_CB_ERROR;
	}
	memcpy(&error, mnl_nlmsg_get_payload(msg), sizeof(error));
	if (error == 0)
		return MNL_CB_STOP;
	errno = error < 0 ? -error : error;
	return MNL_CB_ERROR;
}

/* Whether a message belongs to the request; 0 in either stands for any. */
static bool is_answer(const struct nlmsghdr *msg, unsigned int seq, unsigned int portid)
{
	errno = EPROTO;
	if (msg->nlmsg_seq && seq && msg->nlmsg_seq != seq)
		return false;
	errno = ESRCH;
	return !msg->nlmsg_pid || !portid || msg->nlmsg_pid == portid;
}

static int take_message(const struct nlmsghdr *msg, mnl_cb_t take, void *data)
{
	if (msg->nlmsg_flags & NLM_F_DUMP_INTR) {
		errno = EINTR;
		return MNL_CB_ERROR;
	}
	if (msg->nlmsg_type >= NLMSG_MIN_TYPE)
		return take ? take(msg, data) : MNL_CB_OK;
	if (msg->nlmsg_type == NLMSG_ERROR)
		return take_verdict(msg);
	return msg->nlmsg_type == NLMSG_DONE ? MNL_CB_STOP : MNL_CB_OK;
}

int mnl_cb_run(const void *buf, size_t len, unsigned int seq, unsigned int portid, mnl_cb_t take,
	       void *data)
{
	const char *at = buf;
	int result = MNL_CB_OK;

	while (len >= MESSAGE_HEADER && result > MNL_CB_STOP) {
		const struct nlmsghdr *msg = (const void *)at;
		size_t step;

		if (msg->nlmsg_len < MESSAGE_HEADER || msg->nlmsg_len > len)
			break;
		if (!is_answer(msg, seq, portid))
			return MNL_CB_ERROR;
		result = take_message(msg, take, data);
		step = aligned(msg->nlmsg_len);
		at += step;
		len -= step < len ? step : len;
	}
	return result;
}
