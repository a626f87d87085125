/* SPDX-License-Identifier: Apache-2.0 */
#include "counters_show.h"

#include "taploom/log.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const counter_names[] = {
#define X(id, name, text) [COUNT_##id] = name,
	COUNTERS(X)
#undef X
};

static const char *const drop_names[] = {
#define X(id, name, text) [DROP_##id] = "drop-" name,
	DROP_REASONS(X)
#undef X
};

/* A line of 1,000 characters holds the sum and about 60 threads. */
struct line {
	char text[1000];
	size_t len;
};

static void put(struct line *line, const char *value, int width)
{
	int n = snprintf(line->text + line->len, sizeof(line->text) - line->len, "%*s", width,
			 value);

	if (n > 0 && line->len + (size_t)n < sizeof(line->text))
		line->len += (size_t)n;
}

static void put_number(struct line *line, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put(line, text, line->len ? 14 : 0);
}

static void show_header(const struct counter_column *columns, unsigned int n)
{
	struct line line = { .len = 0 };

	put(&line, "counter", -22);
	put(&line, "total", 14);
	for (unsigned int i = 0; i < n; i++)
		put(&line, columns[i].name, 14);
	log_answer("counters:");
	log_answer("%s", line.text);
}

static void show_row(const char *name, const uint64_t *values, unsigned int n)
{
	struct line line = { .len = 0 };
	uint64_t total = 0;

	for (unsigned int i = 0; i < n; i++)
		total += values[i];
	if (!total)
		return;
	put(&line, name, -22);
	put_number(&line, total);
	for (unsigned int i = 0; i < n; i++)
		put_number(&line, values[i]);
	log_answer("%s", line.text);
}

#define MAX_COLUMNS 80

void counters_show(const struct counter_column *columns, unsigned int n)
{
	uint64_t values[MAX_COLUMNS] = { 0 };

	n = n < MAX_COLUMNS ? n : MAX_COLUMNS;
	show_header(columns, n);
	for (unsigned int c = 0; c < COUNTER_COUNT; c++) {
		for (unsigned int i = 0; i < n; i++)
			values[i] = counter_get(columns[i].counters, c);
		show_row(counter_names[c], values, n);
	}
	for (unsigned int d = 1; d < DROP_COUNT; d++) {
		for (unsigned int i = 0; i < n; i++)
			values[i] = atomic_load_explicit(&columns[i].counters->drop[d],
							 memory_order_relaxed);
		show_row(drop_names[d], values, n);
	}
}
