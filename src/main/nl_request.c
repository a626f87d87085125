/* SPDX-License-Identifier: Apache-2.0 */
#include "nl_request.h"

#include <errno.h>

#define ANSWER_SIZE 32768 /* what the kernel's dumps fill at most */

int nl_open(struct nl *nl)
{
	*nl = (struct nl){ .socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC) };
	if (!nl->socket)
		return -errno;
	return mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
}

void nl_close(struct nl *nl)
{
	if (nl->socket)
		mnl_socket_close(nl->socket);
	nl->socket = NULL;
}

struct nlmsghdr *nl_request(void *room, uint16_t type, unsigned int flags, void **header,
			    size_t header_len)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(room);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	*header = mnl_nlmsg_put_extra_header(msg, header_len);
	return msg;
}

static int nl_answers(struct nl *nl, mnl_cb_t each, void *arg)
{
	_Alignas(NLMSG_ALIGNTO) char room[ANSWER_SIZE];
	unsigned int port = mnl_socket_get_portid(nl->socket);

	for (;;) {
		ssize_t len = mnl_socket_recvfrom(nl->socket, room, ANSWER_SIZE);
		int more;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		more = mnl_cb_run(room, (size_t)len, nl->seq, port, each, arg);
		if (more < 0)
			return -errno;
		if (more == MNL_CB_STOP)
			return 0;
	}
}

static int nl_send(struct nl *nl, struct nlmsghdr *msg)
{
	msg->nlmsg_seq = ++nl->seq;
	return mnl_socket_sendto(nl->socket, msg, msg->nlmsg_len) < 0 ? -errno : 0;
}

int nl_talk(struct nl *nl, struct nlmsghdr *msg)
{
	int error;

	msg->nlmsg_flags |= NLM_F_ACK;
	error = nl_send(nl, msg);
	return error < 0 ? error : nl_answers(nl, NULL, NULL);
}

int nl_dump(struct nl *nl, struct nlmsghdr *msg, mnl_cb_t each, void *arg)
{
	int error = nl_send(nl, msg);

	return error < 0 ? error : nl_answers(nl, each, arg);
}
