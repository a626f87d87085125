/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include "counters_show.h"
#include "daemon.h"
#include "guest_addrs.h"
#include "inbox.h"

#include "taploom/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 16

struct control {
	struct runtime *rt;
	struct network *network;
	struct services *services;
	struct transport *transport;
	struct tx *tx;
	struct inbox inbox;
	struct counters counters;
	struct log_limit limit;
	struct guest_addrs addrs;
	int epoll_fd;
	int signal_fd;
	bool ending;
	const struct netns *command; /* shares our terminal; NULL: there is none */
	struct control_hook own[4];
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

enum drop control_post_frame(struct control *control, const struct frame *frame)
{
	return inbox_post_frame(&control->inbox, frame);
}

static bool is_seen(const struct netconf_version *v, const struct ip_addr *addr)
{
	return ip_eq(addr, &v->seen) || ip_eq(addr, &v->seen_local);
}

bool control_guest_address(struct control *control, const struct ip_addr *addr)
{
	enum ip_version version = ip_version_of(addr);
	const struct netconf_version *v = &netconf_get(control->rt)->v[version];
	uint32_t tick = guest_addrs_tick();

	if (ip_eq(addr, &v->addr))
		guest_addrs_heard(&control->addrs, version, tick);
	if (is_seen(v, addr))
		return true;
	return !guest_addrs_lately(&control->addrs, addr, tick) &&
	       inbox_post_address(&control->inbox, addr);
}

void control_guest_event(struct control *control, enum guest_event event)
{
	inbox_post_event(&control->inbox, event);
}

void control_wake_tx(struct control *control)
{
	inbox_post_tx(&control->inbox);
}

static void show_counters(struct control *control)
{
	struct counter_column columns[MAX_SHARDS + 2] = { 0 };
	unsigned int n = 0;

	if (control->transport->reader_counters) {
		snprintf(columns[n].name, sizeof(columns[n].name), "reader");
		columns[n++].counters = control->transport->reader_counters;
	}
	snprintf(columns[n].name, sizeof(columns[n].name), "control");
	columns[n++].counters = &control->counters;
	for (unsigned int i = 0; i < control->rt->n_shards; i++) {
		snprintf(columns[n].name, sizeof(columns[n].name), "shard%u", i);
		columns[n++].counters = shard_counters(control->rt->shards[i]);
	}
	counters_show(columns, n);
}

/* The terminal's SIGINT and SIGQUIT have reached the command too; a process means it when it sends
 * them to us. */
static bool is_commands(const struct control *control, const struct signalfd_siginfo *info)
{
	int signal_number = (int)info->ssi_signo;

	if (!control->command || (signal_number != SIGINT && signal_number != SIGQUIT))
		return false;
	if (info->ssi_code != SI_KERNEL)
		netns_command_signal(control->command, signal_number);
	return true;
}

static bool take_signals(struct control_hook *hook)
{
	struct control *control = hook->arg;
	struct signalfd_siginfo info;

	while (read(control->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			show_counters(control);
		else if (!is_commands(control, &info))
			control->ending = true;
	}
	return !control->ending;
}

/* In this order: a reader that sees the new count tells of its guest anew, and is heard. */
static void hear_addresses_anew(struct control *control) ON_CONTROL
{
	guest_addrs_forget(&control->addrs);
	atomic_fetch_add_explicit(&control->rt->addrs_forgotten, 1, memory_order_release);
}

static bool addresses_differ(const struct netconf *a, const struct netconf *b)
{
	return !ip_eq(&a->v[IP4].addr, &b->v[IP4].addr) || !ip_eq(&a->v[IP6].addr, &b->v[IP6].addr);
}

static void netconf_changed(void *arg, const struct netconf *before, const struct netconf *now)
{
	struct control *control = arg;

	role_is_control();
	if (addresses_differ(before, now)) /* it may go back to one that it is known to have used */
		hear_addresses_anew(control);
	services_netconf_changed(control->services, before, now, now_us());
}

static bool take_host_news(struct control_hook *hook)
{
	struct control *control = hook->arg;

	role_is_control();
	network_update(control->network, netconf_changed, control);
	return true;
}

static void forget_addresses(struct control *control) ON_CONTROL
{
	network_guest_address(control->network, NULL);
	hear_addresses_anew(control);
}

static void take_guest_event(struct control *control, enum guest_event event) ON_CONTROL
{
	const struct netconf *net = control->rt->netconf_rcu;
	const struct config *config = control->rt->config;
	/* There no other guest can come: the device of a namespace was deleted. A command decides
	 * for itself when it ends. */
	bool last = config->one_off || config->fd >= 0 ||
		    (config->mode == MODE_NAMESPACE && !config->own_namespace);

	if (event == GUEST_CONNECTED) {
		log_info("The guest is connected");
		services_netconf_changed(control->services, net, net, now_us());
		return;
	}
	log_info("The guest is gone");
	forget_addresses(control);
	if (last)
		control->ending = true;
}

/* What it used before may be what it goes on to use: readers tell of that as if it were new. */
static void note_address(struct control *control, const struct ip_addr *addr) ON_CONTROL
{
	const struct netconf_version *v = &control->rt->netconf_rcu->v[ip_version_of(addr)];

	if (guest_addrs_waits(&control->addrs, v, addr, guest_addrs_tick()) ||
	    network_guest_address(control->network, addr))
		atomic_fetch_add_explicit(&control->rt->addrs_forgotten, 1, memory_order_release);
}

/* A guest that has only announced itself so far is found for what comes to a forwarded port, too.
 */
static void learn_address(struct control *control) ON_CONTROL
{
	const struct netconf *net = control->rt->netconf_rcu;
	struct ip_addr addr;

	if (!services_shown_address(control->services, &addr) ||
	    is_seen(&net->v[ip_version_of(&addr)], &addr) ||
	    guest_addrs_lately(&control->addrs, &addr, guest_addrs_tick()))
		return;
	tx_flush(control->tx); /* it may hold a queue's lock, and a grace period is waited for */
	note_address(control, &addr);
}

static void take_frame(struct control *control, const struct frame *frame) ON_CONTROL
{
	services_frame(control->services, control->rt->netconf_rcu, frame, now_us());
	learn_address(control);
}

static bool take_inbox(struct control_hook *hook)
{
	struct control *control = hook->arg;
	struct inbox_frame slot;
	struct ip_addr addr;
	enum guest_event event;
	eventfd_t count;

	role_is_control();
	if (read(control->inbox.event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("The control thread's inbox: %m");
	while (inbox_take_event(&control->inbox, &event))
		take_guest_event(control, event);
	for (unsigned int i = 0; i < INBOX_ADDRS && inbox_take_address(&control->inbox, &addr); i++)
		note_address(control, &addr);
	for (unsigned int i = 0; i < INBOX_FRAMES && inbox_take_frame(&control->inbox, &slot); i++)
		take_frame(control, &slot.frame);
	inbox_take_tx(&control->inbox);
	return !control->ending;
}

void control_set_command(struct control *control, const struct netns *command)
{
	control->command = command;
}

int control_add_hook(struct control *control, struct control_hook *hook)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = hook };

	return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, hook->fd, &ev) ? -errno : 0;
}

static int open_signals(struct control *control)
{
	sigset_t set;

	daemon_signals(&set); /* blocked since daemon_start() */
	control->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return control->signal_fd < 0 ? -errno : 0;
}

static int add_own_hooks(struct control *control)
{
	const struct control_hook hooks[] = {
		{ control->signal_fd, take_signals, control },
		{ discovery_fd(control->network->discovery), take_host_news, control },
		{ control->network->inotify_fd, take_host_news, control },
		{ control->inbox.event_fd, take_inbox, control },
	};
	int error = 0;

	for (unsigned int i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && !error; i++) {
		control->own[i] = hooks[i];
		if (hooks[i].fd < 0)
			continue;
		error = control_add_hook(control, &control->own[i]);
	}
	return error;
}

int control_new(struct control **out, struct runtime *rt, struct network *network)
{
	struct control *control = calloc(1, sizeof(*control));
	int error;

	if (!control)
		return -ENOMEM;
	control->rt = rt;
	control->network = network;
	control->signal_fd = -1;
	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	error = control->epoll_fd < 0 ? -errno : inbox_init(&control->inbox);
	error = error ? error : open_signals(control);
	error = error ? error : add_own_hooks(control);
	if (error) {
		log_error("Couldn't set up the control thread: %s", strerror(-error));
		control_free(control);
		return error;
	}
	rt->control = control;
	*out = control;
	return 0;
}

void control_free(struct control *control)
{
	if (control->services)
		services_free(control->services);
	inbox_free(&control->inbox);
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	if (control->signal_fd >= 0)
		close(control->signal_fd);
	free(control);
}

/* Milliseconds until the services have something to do, -1: nothing. */
static int timeout_of(struct control *control) ON_CONTROL
{
	uint64_t now = now_us(),
		 next = services_tick(control->services, control->rt->netconf_rcu, now);

	if (next == UINT64_MAX)
		return -1;
	if (next <= now)
		return 0;
	next = (next - now + 999) / 1000;
	return next > 3600000 ? 3600000 : (int)next;
}

static void loop(struct control *control) ON_CONTROL
{
	struct epoll_event events[MAX_EVENTS];

	while (!control->ending) {
		int timeout = timeout_of(control), n;

		tx_flush(control->tx);
		rcu_thread_offline();
		n = epoll_wait(control->epoll_fd, events, MAX_EVENTS, timeout);
		rcu_thread_online();
		for (int i = 0; i < n; i++) {
			struct control_hook *hook = events[i].data.ptr;

			if (!hook->ready(hook))
				control->ending = true;
			/* What was answered may hold a queue's lock until it is flushed, and a hook
			 * may wait for shards. */
			tx_flush(control->tx);
		}
		rcu_quiescent_state();
	}
}

int control_run(struct control *control, struct transport *transport)
{
	struct runtime *rt = control->rt;

	role_is_control();
	control->transport = transport;
	control->tx = transport->ops->tx(transport, rt->n_shards);
	control->tx->counters = &control->counters;
	control->services = services_new(rt->config, control->tx, &control->counters, &rt->secret);
	if (!control->services) {
		log_error("Couldn't start the services: no memory");
		return 1;
	}
	loop(control);
	return 0;
}
