/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include <arpa/inet.h>
#include <ctype.h>

/* Takes the digits at *text, leaves it behind them. */
static bool take_digits(const char **text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (!isdigit((unsigned char)**text))
		return false;
	for (; isdigit((unsigned char)**text); (*text)++) {
		unsigned int digit = (unsigned int)(**text - '0');

		if (digit > max || value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return true;
}

bool value_number(const char *text, uint64_t max, uint64_t *out)
{
	return take_digits(&text, max, out) && *text == '\0';
}

bool value_size(const char *text, uint64_t max, uint64_t *out)
{
	unsigned int shift = 0;

	if (!take_digits(&text, max, out))
		return false;
	switch (*text) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	}
	if (text[shift ? 1 : 0] != '\0' || *out > max >> shift)
		return false;
	*out <<= shift;
	return true;
}

bool value_addr(const char *text, struct ip_addr *out)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = ip4_addr_of(&v4);
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return false;
	*out = ip6_addr_of(&v6);
	return true;
}

static int hex_value(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool value_mac(const char *text, struct eth_addr *out)
{
	static const struct eth_addr none;
	struct eth_addr mac;

	for (unsigned int i = 0; i < ETH_ADDR_LEN; i++) {
		int high = hex_value(text[0]);
		int low = high < 0 ? -1 : hex_value(text[1]);

		if (low < 0 || text[2] != (i == ETH_ADDR_LEN - 1 ? '\0' : ':'))
			return false;
		mac.b[i] = (uint8_t)(high << 4 | low);
		text += 3;
	}
	if ((mac.b[0] & 1) || eth_eq(&mac, &none))
		return false;
	*out = mac;
	return true;
}

bool value_ifname(const char *text, char out[IFNAMSIZ])
{
	size_t len = strlen(text);

	if (len == 0 || len >= IFNAMSIZ || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)text[i]) || text[i] == '/' || text[i] == ':')
			return false;
	memcpy(out, text, len + 1);
	return true;
}

bool value_domain(const char *text, size_t len)
{
	size_t label = 0;

	if (len > 0 && text[len - 1] == '.')
		len--;
	if (len == 0 || len > 253)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '_')
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0;
}

bool value_list(const char *text, int *out, unsigned int max_n, unsigned int *n)
{
	uint64_t first;
	uint64_t last;

	for (*n = 0;; text++) {
		if (!take_digits(&text, 65535, &first))
			return false;
		last = first;
		if (*text == '-') {
			text++;
			if (!take_digits(&text, 65535, &last) || last < first)
				return false;
		}
		if (last - first >= max_n - *n)
			return false;
		while (first <= last)
			out[(*n)++] = (int)first++;
		if (*text == '\0')
			return true;
		if (*text != ',')
			return false;
	}
}

bool value_mask(const char *text, uint8_t *prefix_len)
{
	struct in_addr wire;
	uint32_t mask;

	if (!strchr(text, '.') || inet_pton(AF_INET, text, &wire) != 1)
		return false;
	mask = ntohl(wire.s_addr);
	if (mask == 0 || (~mask & (~mask + 1)) != 0)
		return false;
	*prefix_len = (uint8_t)__builtin_popcount(mask);
	return true;
}
