/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's resolv.conf (resolv.conf(5)): its nameservers and its search list. A keyword starts
 * its line; what is not understood is passed over, as the C library does.
 */
#include "taploom/services.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_SIZE 32768 /* of which the rest is ignored */

/* A run of characters inside the text; not terminated. */
struct span {
	const char *at;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the next line off the text, without its newline. */
static struct span next_line(struct span *text)
{
	const char *newline = memchr(text->at, '\n', text->len);
	size_t len = newline ? (size_t)(newline - text->at) : text->len;
	size_t passed = newline ? len + 1 : len;
	struct span line = { text->at, len };

	text->at += passed;
	text->len -= passed;
	return line;
}

/* Cuts the next word off a line; of length 0 at its end, or where a comment begins. */
static struct span next_word(struct span *line)
{
	struct span word;

	while (line->len && is_blank(*line->at)) {
		line->at++;
		line->len--;
	}
	word = (struct span){ line->at, 0 };
	if (line->len && (*line->at == '#' || *line->at == ';'))
		return word;
	while (word.len < line->len && !is_blank(word.at[word.len]))
		word.len++;
	line->at += word.len;
	line->len -= word.len;
	return word;
}

/* Copies a word as a string; false if it is too long for that, or has a NUL in it. */
static bool copy_word(char *dst, size_t size, struct span word)
{
	if (word.len == 0 || word.len >= size || memchr(word.at, '\0', word.len))
		return false;
	memcpy(dst, word.at, word.len);
	dst[word.len] = '\0';
	return true;
}

/*
 * The scope of a link-local address is left off: the daemon has one interface per version. The
 * unspecified address means a resolver on this host.
 */
static bool parse_address(struct ip_addr *addr, struct span word)
{
	char text[INET6_ADDRSTRLEN + IFNAMSIZ + 1];
	struct in_addr v4;
	struct in6_addr v6;

	if (!copy_word(text, sizeof(text), word))
		return false;
	if (inet_pton(AF_INET, text, &v4) == 1) {
		if (v4.s_addr == htonl(INADDR_ANY))
			v4.s_addr = htonl(INADDR_LOOPBACK);
		*addr = ip4_addr_of(&v4);
		return true;
	}
	text[strcspn(text, "%")] = '\0';
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return false;
	*addr = ip6_addr_of(IN6_IS_ADDR_UNSPECIFIED(&v6) ? &in6addr_loopback : &v6);
	return true;
}

static void take_nameserver(struct resolv_conf *out, struct span line)
{
	unsigned int n_same = 0; /* of this version: neither may take the other's room */
	struct ip_addr addr;

	if (!parse_address(&addr, next_word(&line)) || ip_is_multicast(&addr))
		return;
	for (unsigned int i = 0; i < out->n_dns; i++) {
		if (ip_eq(&out->dns[i], &addr))
			return;
		n_same += ip_version_of(&out->dns[i]) == ip_version_of(&addr);
	}
	if (n_same < MAX_DNS)
		out->dns[out->n_dns++] = addr;
}

static void take_domains(struct resolv_conf *out, struct span line, unsigned int max)
{
	struct span word;

	memset(out->search, 0, sizeof(out->search));
	out->n_search = 0;
	while (out->n_search < max && (word = next_word(&line)).len > 0) {
		if (word.len == 1 && *word.at == '.')
			continue; /* the root: nothing is appended */
		if (copy_word(out->search[out->n_search].name, MAX_DOMAIN, word))
			out->n_search++;
	}
}

static void take_search(struct resolv_conf *out, struct span line)
{
	take_domains(out, line, MAX_SEARCH);
}

static void take_domain(struct resolv_conf *out, struct span line)
{
	take_domains(out, line, 1);
}

static const struct keyword {
	const char *name;
	void (*take)(struct resolv_conf *out, struct span line);
} keywords[] = {
	{ "nameserver", take_nameserver },
	{ "search", take_search }, /* of search and domain the last counts */
	{ "domain", take_domain },
};

static void take_line(struct resolv_conf *out, struct span line)
{
	struct span word;

	if (line.len == 0 || is_blank(*line.at))
		return;
	word = next_word(&line);
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (word.len == strlen(keywords[i].name) &&
		    memcmp(word.at, keywords[i].name, word.len) == 0)
			keywords[i].take(out, line);
}

void resolv_conf_parse(struct resolv_conf *out, const char *text, size_t len)
{
	struct span left = { text, len };

	memset(out, 0, sizeof(*out));
	while (left.len)
		take_line(out, next_line(&left));
}

/* Reads to the end of the file or of the buffer. Returns the bytes read or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int resolv_conf_read(struct resolv_conf *out, const char *path)
{
	char text[FILE_SIZE];
	ssize_t len;
	int fd;

	memset(out, 0, sizeof(*out));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	len = read_all(fd, text, sizeof(text));
	close(fd);
	if (len < 0)
		return (int)len;
	if (len == FILE_SIZE) /* the last line may have been cut: half an address is a wrong one */
		while (len > 0 && text[len - 1] != '\n')
			len--;
	resolv_conf_parse(out, text, (size_t)len);
	return 0;
}
