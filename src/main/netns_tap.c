/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tap device's queues. A child process enters the namespace, as an ordinary user could not come
 * back, opens the queues there, and passes them out with SCM_RIGHTS.
 */
#include "netns.h"
#include "netns_plan.h"
#include "taploom/log.h"
#include "taploom/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* What is asked for, best first: the kernel takes a set whole or not at all. */
static const unsigned int offload_sets[] = {
	TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
	TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
	TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
	TUN_F_CSUM,
	0,
};

static int queue_failed(int fd, const char *what)
{
	int error = -errno;

	log_error("Couldn't %s: %s", what, strerror(-error));
	close(fd);
	return error;
}

/* first: the device is made, and must not exist; else one more queue of it is opened. */
static int queue_open(const char *ifname, bool first)
{
	struct ifreq ifr = { 0 };
	int header_size = TUN_VNET_HDR_SIZE;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		int error = -errno;

		log_error("Couldn't open /dev/net/tun: %s", strerror(-error));
		return error;
	}
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", ifname);
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_VNET_HDR);
	if (first)
		ifr.ifr_flags = (short)(ifr.ifr_flags | (short)IFF_TUN_EXCL);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		int error = -errno;

		log_error("Couldn't make the tap device %s in the namespace: %s%s", ifname,
			  strerror(-error),
			  error == -EBUSY ? "; it exists, choose another name with --ns-ifname"
					  : "");
		close(fd);
		return error;
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0)
		return queue_failed(fd, "set the tap device's header size");
	return fd;
}

static unsigned int offloads_set(int fd)
{
	for (size_t i = 0; i < sizeof(offload_sets) / sizeof(offload_sets[0]); i++)
		if (ioctl(fd, TUNSETOFFLOAD, offload_sets[i]) == 0)
			return offload_sets[i];
	return 0;
}

int netns_tap_open(struct tap_device *tap, const struct netns_plan *plan)
{
	*tap = (struct tap_device){ 0 };
	memcpy(tap->ifname, plan->ifname, IFNAMSIZ);
	while (tap->n_queues < plan->n_queues) {
		int fd = queue_open(plan->ifname, tap->n_queues == 0);

		if (fd < 0) {
			netns_tap_close(tap);
			return fd;
		}
		tap->fds[tap->n_queues++] = fd;
	}
	tap->offloads = offloads_set(tap->fds[0]);
	tap->ifindex = if_nametoindex(tap->ifname);
	return 0;
}

void netns_tap_close(struct tap_device *tap)
{
	while (tap->n_queues > 0)
		close(tap->fds[--tap->n_queues]);
}

/* What the child says: how it went and, if well, the device, whose descriptors come beside. */
struct tap_message {
	int error;
	struct tap_device tap;
};

union fd_control {
	char room[CMSG_SPACE(sizeof(int) * MAX_QUEUES)];
	struct cmsghdr align;
};

static int message_send(int socket_fd, struct tap_message *message)
{
	struct iovec iov = { message, sizeof(*message) };
	union fd_control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t fds_len = sizeof(int) * message->tap.n_queues;

	if (message->error == 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(fds_len);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(fds_len);
		memcpy(CMSG_DATA(cmsg), message->tap.fds, fds_len);
	}
	return sendmsg(socket_fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int message_recv(int socket_fd, struct tap_device *tap)
{
	struct tap_message message;
	struct iovec iov = { &message, sizeof(message) };
	union fd_control control;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	struct cmsghdr *cmsg;
	ssize_t len;

	do
		len = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len != sizeof(message)) {
		log_error("The process that makes the tap device ended without a word");
		return -EPIPE;
	}
	if (message.error < 0)
		return message.error;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_len != CMSG_LEN(sizeof(int) * message.tap.n_queues))
		return -EPROTO;
	*tap = message.tap;
	memcpy(tap->fds, CMSG_DATA(cmsg), sizeof(int) * tap->n_queues);
	return 0;
}

/* The data plane has its device as always, but where nobody can see it. */
static int hide_device(void)
{
	int error = netns_lo_up();

	if (error == 0 && unshare(CLONE_NEWNET) < 0) {
		error = -errno;
		log_error("Couldn't make a network namespace: %s", strerror(-error));
	}
	return error;
}

_Noreturn static void child_main(const struct netns *ns, const struct netns_plan *plan,
				 int socket_fd)
{
	struct tap_message message = { .error = netns_enter(ns) };

	if (message.error == 0 && plan->hidden)
		message.error = hide_device();
	if (message.error == 0)
		message.error = netns_tap_open(&message.tap, plan);
	if (message.error == 0)
		message.error = netns_plan_apply(plan, message.tap.ifindex, &message.tap.mac);
	_exit(message_send(socket_fd, &message) < 0);
}

int netns_make_tap(const struct netns *ns, const struct netns_plan *plan, struct tap_device *tap)
{
	int pair[2];
	pid_t pid;
	int error;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		child_main(ns, plan, pair[1]);
	error = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (error == 0) {
		error = message_recv(pair[0], tap);
		waitpid(pid, NULL, 0);
	}
	close(pair[0]);
	return error;
}
