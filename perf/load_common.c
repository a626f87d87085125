/* SPDX-License-Identifier: Apache-2.0 */
#include "load_common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool load_traffic_take(struct load_traffic *traffic, int letter, const char *value)
{
	switch (letter) {
	case 'p':
		traffic->port = (uint16_t)atoi(value);
		return true;
	case 's':
		return traffic->send = true;
	case 'r':
		return traffic->recv = true;
	case 'n':
		traffic->n_flows = (unsigned int)atoi(value);
		return true;
	case 't':
		traffic->seconds = atof(value);
		return true;
	case 'o':
		traffic->omit = atof(value);
		return true;
	case 'R':
		traffic->rate = atof(value);
		return true;
	case 'S':
		traffic->size = (size_t)atol(value);
		return true;
	case 'A':
		traffic->response_size = (size_t)atol(value);
		return true;
	case 'x':
		return traffic->reconnect = true;
	case 'V':
		return traffic->verify = true;
	default:
		return false;
	}
}

bool load_traffic_ok(const struct load_traffic *traffic)
{
	return traffic->port && traffic->n_flows && traffic->n_flows <= LOAD_FLOWS_MAX;
}

int64_t load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

_Noreturn void load_die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}
