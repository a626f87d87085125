/* SPDX-License-Identifier: Apache-2.0 */
#include "threads.h"

#include "taploom/log.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARDS_DEFAULT_MAX 8
#define CONTROL_CPU	   1 /* the place of the control thread in --cpus */

static unsigned int affinity_count(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned int)CPU_COUNT(&set);
}

/* "QUOTA PERIOD" or "max PERIOD" of one cpu.max file, in CPUs rounded up; UINT32_MAX: no limit. */
static unsigned int read_cpu_max(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long quota = 0, period = 0;
	unsigned int cpus = UINT32_MAX;

	if (!file)
		return UINT32_MAX;
	if (fscanf(file, "%lu %lu", &quota, &period) == 2 && period)
		cpus = (unsigned int)((quota + period - 1) / period);
	fclose(file);
	return cpus ? cpus : 1;
}

/* The least of the limits of our control group and all above it (cgroups(7), version 2). */
static unsigned int cgroup_count(void)
{
	char line[4096], path[8192];
	FILE *file = fopen("/proc/self/cgroup", "re");
	unsigned int least = UINT32_MAX;

	if (!file)
		return least;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::", 3))
			continue;
		line[strcspn(line, "\n")] = '\0';
		for (char *group = line + 3; *group;) {
			unsigned int cpus;
			char *slash = strrchr(group, '/');

			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
			cpus = read_cpu_max(path);
			least = cpus < least ? cpus : least;
			if (!slash)
				break;
			*slash = '\0';
		}
	}
	fclose(file);
	return least;
}

unsigned int threads_count(const struct config *config)
{
	unsigned int n = SHARDS_DEFAULT_MAX, cpus = affinity_count(), limit = cgroup_count();

	if (config->shards)
		return config->shards;
	n = cpus < n ? cpus : n;
	return limit < n ? limit : n;
}

int threads_make(struct runtime *rt, struct transport *transport)
{
	for (unsigned int i = 0; i < rt->n_shards; i++) {
		int error = shard_new(&rt->shards[i], rt, i, transport->ops->tx(transport, i));

		if (error) {
			log_error("Couldn't make shard %u: %s", i, strerror(-error));
			return error;
		}
	}
	return 0;
}

static void pin_to(pthread_t thread, int cpu, const char *name)
{
	cpu_set_t set;
	int error;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	error = pthread_setaffinity_np(thread, sizeof(set), &set);
	if (error)
		log_warning("The %s thread cannot be pinned to CPU %d: %s", name, cpu,
			    strerror(error));
}

/* This thread and call_rcu's, which stays beside it. */
static void name_control(const struct config *config)
{
	pthread_t reclaim = get_call_rcu_thread(get_default_call_rcu_data());
	int cpu = config->n_cpus ? config->cpus[CONTROL_CPU % config->n_cpus] : -1;

	pthread_setname_np(pthread_self(), "control");
	pthread_setname_np(reclaim, "reclaim");
	if (cpu < 0)
		return;
	pin_to(pthread_self(), cpu, "control");
	pin_to(reclaim, cpu, "reclaim");
}

int threads_start(struct threads *threads, struct runtime *rt, struct transport *transport)
{
	int error = 0;

	*threads = (struct threads){ .rt = rt, .transport = transport };
	for (unsigned int i = 0; i < rt->n_shards && !error; i++) {
		error = -pthread_create(&threads->shards[i], NULL, shard_main, rt->shards[i]);
		threads->n_started += !error;
	}
	if (!error)
		error = transport->ops->start(transport);
	threads->transport_started = !error;
	if (error)
		log_error("Couldn't start a thread: %s", strerror(-error));
	else
		name_control(rt->config);
	return error;
}

void threads_stop(struct threads *threads)
{
	struct runtime *rt = threads->rt;

	if (threads->transport_started)
		threads->transport->ops->stop(threads->transport);
	for (unsigned int i = 0; i < threads->n_started; i++)
		shard_stop(rt->shards[i]);
	for (unsigned int i = 0; i < threads->n_started; i++)
		pthread_join(threads->shards[i], NULL);
	/* A connection that waited for one that ends here may ask the namespace's thread for a
	 * socket yet. And before any memory goes: an entry may be in the table of another shard
	 * than the one in whose memory it is. */
	if (threads->n_started)
		shards_reset_flows(rt);
}

void threads_free(struct threads *threads)
{
	struct runtime *rt = threads->rt;

	/* Entries on their way back through call_rcu land in the shards' memory first. */
	rcu_barrier();
	for (unsigned int i = 0; i < rt->n_shards; i++) {
		if (rt->shards[i])
			shard_free(rt->shards[i]);
	}
	shards_free_listeners(rt);
}
