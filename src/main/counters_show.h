/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All threads' counters as one table in the log, on SIGUSR1. Control thread.
 */
#pragma once

#include "taploom/counters.h"

/* A column: a thread's name and its counters. */
struct counter_column {
	char name[16];
	const struct counters *counters;
};

/* Writes the lines of what is not zero in sum, behind a line that names the columns. */
void counters_show(const struct counter_column *columns, unsigned int n);
