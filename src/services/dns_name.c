/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_name.h"

#include <strings.h>

#define LABEL_MAX    63
#define NAME_MAX_LEN 255
#define MAX_SUFFIXES 64
#define POINTER	     0xc000
#define POINTER_MAX  0x3fff

/* The suffixes written so far that a later name can point to. */
struct suffixes {
	struct {
		const char *text;
		uint16_t at;
	} seen[MAX_SUFFIXES];
	unsigned int n;
};

/* The length of the label at name, up to a dot or the end. */
static size_t label_len(const char *name)
{
	return strcspn(name, ".");
}

/* What follows a label: the next one, or the end; a final dot ends the name. */
static const char *after_label(const char *name, size_t len)
{
	return name[len] == '.' ? name + len + 1 : name + len;
}

static bool valid(const char *name)
{
	size_t sum = 1;

	if (!*name)
		return false;
	while (*name) {
		size_t len = label_len(name);

		sum += len + 1;
		if (len == 0 || len > LABEL_MAX || sum > NAME_MAX_LEN)
			return false;
		name = after_label(name, len);
	}
	return true;
}

static void put_label(struct bytes_out *out, const char *label, size_t len)
{
	out_u8(out, (uint8_t)len);
	out_copy(out, label, len);
}

/* Takes back what was written since at, if it did not fit. */
static bool keep_or_undo(struct bytes_out *out, const struct bytes_out *before)
{
	if (out_ok(out))
		return true;
	*out = *before;
	return false;
}

static bool put_labels(struct bytes_out *out, const char *name, bool end)
{
	struct bytes_out before = *out;

	if (!out_ok(out) || !valid(name))
		return false;
	while (*name) {
		size_t len = label_len(name);

		put_label(out, name, len);
		name = after_label(name, len);
	}
	if (end)
		out_u8(out, 0);
	return keep_or_undo(out, &before);
}

bool dns_name_put(struct bytes_out *out, const char *name)
{
	return put_labels(out, name, true);
}

bool dns_name_put_partial(struct bytes_out *out, const char *name)
{
	return put_labels(out, name, name[label_len(name)] == '.');
}

/* Names are compared without their final dot, and without case (RFC 4343). */
static bool same_suffix(const char *a, const char *b)
{
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);

	a_len -= a_len && a[a_len - 1] == '.';
	b_len -= b_len && b[b_len - 1] == '.';
	return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

static bool put_pointer(struct bytes_out *out, const struct suffixes *suffixes, const char *name)
{
	for (unsigned int i = 0; i < suffixes->n; i++) {
		if (same_suffix(suffixes->seen[i].text, name)) {
			out_u16(out, (uint16_t)(POINTER | suffixes->seen[i].at));
			return true;
		}
	}
	return false;
}

static void remember(struct suffixes *suffixes, const char *name, size_t at)
{
	if (suffixes->n == MAX_SUFFIXES || at > POINTER_MAX)
		return;
	suffixes->seen[suffixes->n].text = name;
	suffixes->seen[suffixes->n++].at = (uint16_t)at;
}

static void put_compressed(struct bytes_out *out, struct suffixes *suffixes, const char *name)
{
	struct bytes_out before = *out;
	unsigned int n_before = suffixes->n;

	while (*name && !put_pointer(out, suffixes, name)) {
		size_t len = label_len(name);

		remember(suffixes, name, out_len(out));
		put_label(out, name, len);
		name = after_label(name, len);
	}
	if (!*name)
		out_u8(out, 0);
	if (!keep_or_undo(out, &before))
		suffixes->n = n_before;
}

void dns_names_put_compressed(struct bytes_out *out, const struct domain *names, unsigned int n)
{
	struct suffixes suffixes = { .n = 0 };

	for (unsigned int i = 0; i < n; i++)
		if (valid(names[i].name))
			put_compressed(out, &suffixes, names[i].name);
}
