/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a start: options; the log; the fork into the background; what needs the first user's
 * rights (sockets, files); another user; the network; shards and ports; threads; then all is ready.
 */
#include "main.h"

#include "control.h"
#include "daemon.h"
#include "descriptors.h"
#include "forward.h"
#include "guest_side.h"
#include "keeper.h"
#include "log.h"
#include "namespace_mode.h"
#include "network.h"
#include "options.h"
#include "privileges.h"
#include "threads.h"

#include "taploom/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>

struct program {
	struct config *config;
	struct daemon daemon;
	struct keeper keeper;
	struct guest_side side;
	struct namespace_mode ns;
	struct runtime rt;
	struct network network;
	struct transport *transport;
	struct threads threads;
	struct control *control;
};

/* As many descriptors as the hard limit allows: each flow takes one. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* What the caller has left open, a lock or the end of a pipe, is not to be held as long as a daemon
 * lives. A command of ours gets it, and lives as long as we do. */
static void leave_inherited(const struct config *config)
{
	if (!config->own_namespace)
		close_all_but(&config->fd, 1);
}

static int make_runtime(struct runtime *rt, const struct config *config)
{
	struct steering *steering = &rt->tables[0];

	rt->config = config;
	rt->n_shards = threads_count(config);
	for (unsigned int i = 0; i < STEERING_BUCKETS; i++)
		steering->shard[i] = (uint8_t)(i % rt->n_shards);
	steering->in_use = true;
	rt->steering_rcu = steering;
	return getrandom(&rt->secret, sizeof(rt->secret), 0) == sizeof(rt->secret) ? 0 : -EIO;
}

static void log_sizes(const struct runtime *rt)
{
	const struct config *config = rt->config;

	log_info("%u shards, %u flows, %zu MiB of buffers at most", rt->n_shards, config->flows,
		 config->pool_bytes >> 20);
}

static bool in_namespace(const struct program *program)
{
	return program->config->mode == MODE_NAMESPACE;
}

/* Somebody must remain who may remove the socket, and what a failed start leaves. */
static int keep_removable(struct program *program)
{
	struct owned_file *const files[] = { &program->side.socket, &program->daemon.pid_path };
	uid_t uid;
	gid_t gid;
	int changes = privileges_user(program->config->runas, &uid, &gid);

	if (changes <= 0)
		return changes;
	return keeper_start(&program->keeper, files, sizeof(files) / sizeof(files[0]), uid, gid);
}

static bool makes_user_namespace(const struct config *config)
{
	return config->own_namespace && !config->netns_only;
}

static int become_user(struct program *program)
{
	uint64_t ns = PRIVILEGE(CAP_SYS_ADMIN) | PRIVILEGE(CAP_NET_ADMIN);
	uint64_t keep = PRIVILEGES_VM | (in_namespace(program) ? ns : 0);
	int error = keep_removable(program);

	if (makes_user_namespace(program->config))
		keep |= PRIVILEGE(CAP_DAC_OVERRIDE); /* /dev/net/tun may be root's alone */

	return error ? error : privileges_change_user(program->config->runas, keep);
}

/*
 * What is opened with the rights that the program was started with. But a user namespace of our own
 * is made by the user to come, who has all rights in it then: root of a container may have none
 * over that of another user.
 */
static int open_first(struct program *program)
{
	const struct config *config = program->config;
	bool own = makes_user_namespace(config);
	int error = guest_side_open(&program->side, config);

	if (!error && own)
		error = become_user(program);
	if (!error && in_namespace(program))
		error = namespace_open(&program->ns, &program->rt, &program->network);
	if (!error && !own)
		error = become_user(program);
	/* It enters the namespace, for which no other thread needs a right. */
	if (!error && in_namespace(program))
		error = namespace_start_thread(&program->ns);
	error = error ? error : privileges_limit(PRIVILEGES_VM);
	/* A command is root over us where we are in its user namespace: it must not get at our
	 * network by ptrace(2). */
	if (!error && !config->debug)
		prctl(PR_SET_DUMPABLE, 0);
	return error;
}

static int make_transport(struct program *program)
{
	if (in_namespace(program))
		return namespace_transport(&program->ns, program->side.pcap, &program->transport);
	return guest_side_transport(&program->side, &program->rt, &program->transport);
}

static int make_all(struct program *program)
{
	struct runtime *rt = &program->rt;
	int error;

	raise_limits(); /* not before: a command of ours keeps the limit of its caller */
	error = make_transport(program);
	role_is_control();
	error = error ? error : control_new(&program->control, rt, &program->network);
	error = error ? error : threads_make(rt, program->transport);
	if (error)
		return error;
	log_sizes(rt);
	network_log(&program->network);
	error = forward_all(rt);
	if (!error && in_namespace(program))
		error = namespace_hook(&program->ns, program->control);
	return error;
}

static int start(struct program *program)
{
	int error = make_runtime(&program->rt, program->config);

	error = error ? error : network_init(&program->network, &program->rt);
	error = error ? error : open_first(program);
	error = error ? error : make_all(program);
	error = error ? error : threads_start(&program->threads, &program->rt, program->transport);
	error = error ? error : daemon_ready(&program->daemon);
	if (error)
		return error;
	keeper_relieve(&program->keeper, &program->side.socket); /* the PID file stays */
	return in_namespace(program) ? namespace_ready(&program->ns) : 0;
}

static void end(struct program *program)
{
	role_is_control();
	shards_unlisten_all(&program->rt); /* the next to start must find the ports free */
	program->threads.rt = &program->rt;
	threads_stop(&program->threads);
	namespace_stop_thread(&program->ns); /* it wakes shards, and shards asked it for sockets */
	threads_free(&program->threads);
	if (program->control)
		control_free(program->control);
	if (program->transport)
		program->transport->ops->free(program->transport);
	if (program->rt.netconf_rcu)
		network_free(&program->network);
	namespace_close(&program->ns);
	guest_side_close(&program->side);
}

static int run(struct program *program)
{
	int status = 1;

	keeper_init(&program->keeper);
	if (daemon_start(&program->daemon, program->config))
		return 1;
	rcu_register_thread();
	if (start(program) == 0)
		status = control_run(program->control, program->transport);
	end(program);
	if (!status)
		status = program->ns.status;
	rcu_unregister_thread();
	daemon_end(&program->daemon);
	keeper_stop(&program->keeper);
	return status;
}

int taploom_main(int argc, char **argv)
{
	struct program *program = calloc(1, sizeof(*program));
	int status = 1;

	if (!program)
		return 1;
	program->config = calloc(1, sizeof(*program->config));
	if (program->config && options_parse(program->config, argc, argv, &status)) {
		int error;

		leave_inherited(program->config);
		error = log_open(program->config);

		if (error)
			log_error("Couldn't open the log file %s: %s", program->config->log_file,
				  strerror(-error));
		status = error ? 1 : run(program);
		log_close();
	}
	free(program->config);
	free(program);
	return status;
}
