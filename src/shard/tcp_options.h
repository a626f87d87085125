/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP options and the fixed header as a struct and back (RFC 9293 3.1 and 3.2, RFC 7323, RFC 2018).
 * Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_HEADER_LEN	20
#define TCP_SACK_BLOCKS 4
#define TCP_OPTIONS_MAX 40

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

struct sack_block {
	uint32_t start;
	uint32_t end; /* the first sequence number behind the block */
};

struct tcp_options {
	bool has_mss;
	bool has_wscale;
	bool sack_permitted;
	bool has_ts;
	uint16_t mss;
	uint8_t wscale; /* as sent; values above 14 mean 14 (RFC 7323 2.3) */
	uint32_t ts_val;
	uint32_t ts_ecr;
	uint8_t n_sack;
	struct sack_block sack[TCP_SACK_BLOCKS];
};

struct tcp_header {
	uint16_t src_port;
	uint16_t dst_port;
	uint32_t seq;
	uint32_t ack;
	uint8_t flags;	 /* enum tcp_flag */
	uint16_t window; /* not scaled */
	uint16_t urgent;
	struct tcp_options options;
};

/*
 * Reads options of len bytes. Unknown ones are skipped; at one whose length is a lie reading ends
 * and false is returned, with what came before it in *options.
 */
bool tcp_options_decode(const uint8_t *bytes, size_t len, struct tcp_options *options);

/* Reads header and options; hdr_len is the data offset in bytes, already checked. */
void tcp_header_decode(const uint8_t *bytes, size_t hdr_len, struct tcp_header *header);

/* Bytes that header and options take on the wire, a multiple of four. */
size_t tcp_header_len(const struct tcp_options *options);

/* Writes header and options with a checksum of 0; room is for tcp_header_len() bytes. Returns that.
 */
size_t tcp_header_encode(uint8_t *bytes, const struct tcp_header *header);
