/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame parser: each row takes a well-formed frame, spoils some bytes of it, and says what
 * becomes of it.
 */
#include "packets.h"
#include "taploom/frame_fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define L4_4 34 /* offsets of what follows the IP header */
#define L4_6 54

static const struct hash_secret secret = { { 3, 4 } };

struct patch {
	uint8_t off, value;
};

#define TAKEN(what, as, ...)	.base = (what), .kind = (as), .patches = { __VA_ARGS__ }
#define REFUSED(what, why, ...) .base = (what), .drop = (why), .patches = { __VA_ARGS__ }

static const struct parse_case {
	const char *name;
	enum packet_id base;
	enum drop drop;
	int kind;		 /* if it is not dropped */
	struct patch patches[6]; /* up to the first with offset 0 */
	int resize;		 /* bytes added to the frame or taken away */
	bool bad_checksum;
} cases[] = {
	/* clang-format off: one row, one line where it fits */
	{ "a TCP segment over IPv4 is accepted", TAKEN(TCP4, FRAME_TCP) },
	{ "a UDP datagram over IPv4 is accepted", TAKEN(UDP4, FRAME_UDP) },
	{ "an ICMP echo request is accepted", TAKEN(ECHO4, FRAME_ECHO) },
	{ "an ICMP error is accepted", TAKEN(ERROR4, FRAME_ICMP_ERROR) },
	{ "DHCP is for control", TAKEN(DHCP4, FRAME_CONTROL) },
	{ "IGMP is for control", TAKEN(IGMP4, FRAME_CONTROL) },
	{ "ARP is for control", TAKEN(ARP, FRAME_CONTROL) },
	{ "a TCP segment over IPv6 is accepted", TAKEN(TCP6, FRAME_TCP) },
	{ "a UDP datagram over IPv6 is accepted", TAKEN(UDP6, FRAME_UDP) },
	{ "an ICMPv6 echo request is accepted", TAKEN(ECHO6, FRAME_ECHO) },
	{ "an ICMPv6 error is accepted", TAKEN(ERROR6, FRAME_ICMP_ERROR) },
	{ "DHCPv6 is for control", TAKEN(DHCP6, FRAME_CONTROL) },
	{ "a neighbour solicitation is for control", TAKEN(NS6, FRAME_CONTROL) },
	{ "an MLD report is for control", TAKEN(NS6, FRAME_CONTROL, { L4_6, 143 }) },
	{ "extension headers are skipped", TAKEN(HOPOPT6, FRAME_UDP) },
	{ "an IPv6 fragment is for reassembly", TAKEN(FRAG6, FRAME_FRAGMENT) },
	{ "padding behind the IP packet is accepted", TAKEN(UDP4, FRAME_UDP), .resize = 20 },
	{ "padding behind an IPv6 packet is accepted", TAKEN(UDP6, FRAME_UDP), .resize = 20 },
	{ "a group address as Ethernet source is refused", REFUSED(UDP4, DROP_ETH_ADDR, { 6, 3 }) },
	{ "a VLAN tag is refused", REFUSED(UDP4, DROP_ETHERTYPE, { 12, 0x81 }) },
	{ "IPv6 under the EtherType of IPv4 is refused",
	  REFUSED(UDP4, DROP_IP_VERSION, { 14, 0x65 }) },
	{ "IPv4 under the EtherType of IPv6 is refused",
	  REFUSED(UDP6, DROP_IP_VERSION, { 14, 0x45 }) },
	{ "an IPv4 header of 16 bytes is refused", REFUSED(UDP4, DROP_IP_LENGTH, { 14, 0x44 }) },
	{ "a total length below the header is refused", REFUSED(UDP4, DROP_IP_LENGTH, { 17, 19 }) },
	{ "a total length of 0 is refused", REFUSED(UDP4, DROP_IP_LENGTH, { 17, 0 }) },
	{ "a total length beyond the frame is refused", REFUSED(UDP4, DROP_IP_LENGTH, { 17, 37 }) },
	{ "a frame that ends before its total length is refused", REFUSED(UDP4, DROP_IP_LENGTH),
	  .resize = -1 },
	{ "a wrong IPv4 header checksum is refused", REFUSED(UDP4, DROP_IP_CHECKSUM, { 24, 1 }),
	  .bad_checksum = true },
	{ "IPv4 options are skipped", TAKEN(TCP4, FRAME_TCP, { 14, 0x46 }, { L4_4 + 16, 0x50 }) },
	{ "a loopback source is refused", REFUSED(UDP4, DROP_IP_SOURCE, { 26, 127 }) },
	{ "a multicast source is refused", REFUSED(UDP4, DROP_IP_SOURCE, { 26, 224 }) },
	{ "a broadcast source is refused",
	  REFUSED(UDP4, DROP_IP_SOURCE, { 26, 255 }, { 27, 255 }, { 28, 255 }, { 29, 255 }) },
	{ "a source of 0.0.0.0 is refused",
	  REFUSED(UDP4, DROP_IP_SOURCE, { 26, 0 }, { 28, 0 }, { 29, 0 }) },
	{ "DHCP from 0.0.0.0 is for control",
	  TAKEN(DHCP4, FRAME_CONTROL, { 26, 0 }, { 28, 0 }, { 29, 0 }) },
	{ "a loopback destination is refused", REFUSED(UDP4, DROP_IP_DEST, { 30, 127 }) },
	{ "a destination of 0.0.0.0 is refused",
	  REFUSED(UDP4, DROP_IP_DEST, { 30, 0 }, { 32, 0 }, { 33, 0 }) },
	{ "an unknown protocol is refused", REFUSED(UDP4, DROP_IP_PROTOCOL, { 23, 132 }) },
	{ "ICMPv6 over IPv4 is refused", REFUSED(ECHO4, DROP_IP_PROTOCOL, { 23, 58 }) },
	{ "a first fragment is for reassembly", TAKEN(UDP4, FRAME_FRAGMENT, { 20, 0x20 }) },
	{ "a last fragment is for reassembly", TAKEN(UDP4, FRAME_FRAGMENT, { 20, 0 }, { 21, 5 }) },
	{ "a fragment in the middle whose length is no multiple of 8 is refused",
	  REFUSED(UDP4, DROP_FRAGMENT, { 20, 0x20 }, { 17, 35 }) },
	{ "a fragment beyond the longest datagram is refused",
	  REFUSED(UDP4, DROP_FRAGMENT, { 20, 0x1f }, { 21, 0xff }) },
	{ "a fragment of nothing is refused",
	  REFUSED(UDP4, DROP_FRAGMENT, { 20, 0x20 }, { 17, 20 }) },
	{ "a fragment from 0.0.0.0 is for reassembly",
	  TAKEN(UDP4, FRAME_FRAGMENT, { 20, 0x20 }, { 26, 0 }, { 28, 0 }, { 29, 0 }) },
	{ "an IPv6 fragment from :: is refused",
	  REFUSED(FRAG6, DROP_IP_SOURCE, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 }, { 29, 0 },
		  { 37, 0 }) },
	{ "an IPv6 fragment whose length is no multiple of 8 is refused",
	  REFUSED(FRAG6, DROP_FRAGMENT, { 19, 23 }) },
	{ "an atomic fragment is a whole packet",
	  TAKEN(FRAG6, FRAME_UDP, { L4_6 + 3, 0 }, { L4_6 + 8 + 5, 16 }) },
	{ "neighbour discovery behind a fragment header is refused",
	  REFUSED(FRAG6, DROP_FRAGMENT, { L4_6, 58 }, { L4_6 + 3, 0 }, { L4_6 + 8, 135 }) },
	{ "an IPv6 payload length of 0 is refused", REFUSED(UDP6, DROP_IP_LENGTH, { 19, 0 }) },
	{ "an IPv6 payload length beyond the frame is refused",
	  REFUSED(UDP6, DROP_IP_LENGTH, { 19, 17 }) },
	{ "an IPv6 loopback source is refused",
	  REFUSED(UDP6, DROP_IP_SOURCE, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 }, { 37, 1 }) },
	{ "an IPv6 multicast source is refused", REFUSED(UDP6, DROP_IP_SOURCE, { 22, 0xff }) },
	{ "an unspecified IPv6 source is refused",
	  REFUSED(UDP6, DROP_IP_SOURCE, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 }, { 37, 0 }) },
	{ "a solicitation from the unspecified address is for control",
	  TAKEN(NS6, FRAME_CONTROL, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 }, { 37, 0 }) },
	{ "a mapped IPv4 source over IPv6 is refused",
	  REFUSED(UDP6, DROP_IP_SOURCE, { 22, 0 }, { 23, 0 }, { 24, 0 }, { 25, 0 }, { 32, 0xff },
		  { 33, 0xff }) },
	{ "an unknown next header is refused", REFUSED(UDP6, DROP_IP_PROTOCOL, { 20, 50 }) },
	{ "no next header is refused", REFUSED(UDP6, DROP_IP_PROTOCOL, { 20, 59 }) },
	{ "ICMP over IPv6 is refused", REFUSED(ECHO6, DROP_IP_PROTOCOL, { 20, 1 }) },
	{ "an extension header that overruns the packet is refused",
	  REFUSED(HOPOPT6, DROP_SHORT, { L4_6 + 1, 9 }) },
	{ "hop-by-hop options behind another header are refused",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 0, 0 }) },
	{ "an option that is not known and may be passed over is",
	  TAKEN(HOPOPT6, FRAME_UDP, { L4_6 + 2, 0x3e }) },
	{ "an option that is to be refused where it is not known is",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 2, 0x5e }) },
	{ "one that is to be refused and told of is refused",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 2, 0xbe }) },
	{ "one that is to be refused is found in destination options",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 8 + 2, 0xc9 }) },
	{ "one behind padding of one byte is found",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 2, 0 }, { L4_6 + 3, 0x5e }) },
	{ "an option that overruns its header is refused",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 3, 5 }) },
	{ "an option without a length is refused",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { L4_6 + 3, 3 }, { L4_6 + 7, 1 }) },
	{ "a routing header with segments left is refused",
	  REFUSED(HOPOPT6, DROP_IP_OPTION, { 20, 43 }, { L4_6 + 3, 4 }) },
	{ "a routing header without segments left is skipped",
	  TAKEN(HOPOPT6, FRAME_UDP, { 20, 43 }, { L4_6 + 3, 1 }, { L4_6 + 2, 2 },
		{ L4_6 + 3, 0 }) },
	{ "a TCP data offset of 16 bytes is refused",
	  REFUSED(TCP4, DROP_L4_LENGTH, { L4_4 + 12, 0x40 }) },
	{ "a TCP data offset beyond the packet is refused",
	  REFUSED(TCP4, DROP_L4_LENGTH, { L4_4 + 12, 0xf0 }) },
	{ "a TCP header that the IP packet cuts is refused",
	  REFUSED(TCP4, DROP_SHORT, { 17, 39 }) },
	{ "a UDP length below its header is refused",
	  REFUSED(UDP4, DROP_L4_LENGTH, { L4_4 + 5, 7 }) },
	{ "a UDP length beyond the packet is refused",
	  REFUSED(UDP4, DROP_L4_LENGTH, { L4_4 + 5, 17 }) },
	{ "a UDP header that the IP packet cuts is refused",
	  REFUSED(UDP4, DROP_SHORT, { 17, 27 }) },
	{ "a UDP length below the packet's is accepted", TAKEN(UDP4, FRAME_UDP, { L4_4 + 5, 10 }) },
	{ "UDP to port 547 over IPv4 is a flow",
	  TAKEN(UDP4, FRAME_UDP, { L4_4 + 2, 2 }, { L4_4 + 3, 35 }) },
	{ "UDP to port 67 over IPv6 is a flow", TAKEN(UDP6, FRAME_UDP, { L4_6 + 3, 67 }) },
	{ "an echo reply is refused", REFUSED(ECHO4, DROP_ICMP_TYPE, { L4_4 + 0, 0 }) },
	{ "an ICMP redirect is refused", REFUSED(ECHO4, DROP_ICMP_TYPE, { L4_4 + 0, 5 }) },
	{ "an ICMPv6 echo reply is refused", REFUSED(ECHO6, DROP_ICMP_TYPE, { L4_6 + 0, 129 }) },
	{ "an ICMP header that the IP packet cuts is refused",
	  REFUSED(ECHO4, DROP_SHORT, { 17, 27 }) },
	{ "an error about another error is refused",
	  REFUSED(ERROR4, DROP_ICMP_TYPE, { L4_4 + 8 + 9, 1 }, { L4_4 + 28, 3 }) },
	{ "an error about an echo reply is accepted",
	  TAKEN(ERROR4, FRAME_ICMP_ERROR, { L4_4 + 8 + 9, 1 }, { L4_4 + 29, 0 }) },
	{ "an error about an unknown protocol is refused",
	  REFUSED(ERROR4, DROP_ICMP_TYPE, { L4_4 + 8 + 9, 132 }) },
	{ "an error about a later fragment is refused",
	  REFUSED(ERROR4, DROP_ICMP_TYPE, { L4_4 + 8 + 7, 4 }) },
	{ "an error whose packet has no whole header is refused",
	  REFUSED(ERROR4, DROP_SHORT, { 17, 20 + 27 }) },
	{ "an error whose packet has no ports is refused",
	  REFUSED(ERROR4, DROP_SHORT, { 17, 20 + 31 }) },
	{ "an error whose packet has a lying header length is refused",
	  REFUSED(ERROR4, DROP_L4_LENGTH, { L4_4 + 8, 0x4f }) },
	{ "an ICMPv6 error whose packet is IPv4 is refused",
	  REFUSED(ERROR6, DROP_L4_LENGTH, { L4_6 + 8, 0x45 }) },
	{ "an error about a packet to no address is refused",
	  REFUSED(ERROR4, DROP_ICMP_TYPE, { L4_4 + 24, 0 }, { L4_4 + 26, 0 }, { L4_4 + 27, 0 }) },
	{ "an ICMPv6 error about an unknown header is refused",
	  REFUSED(ERROR6, DROP_ICMP_TYPE, { L4_6 + 8 + 6, 50 }) },
	/* clang-format on */
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

/* Parses a copy that ends where the memory ends, so that a sanitizer sees a read behind it. */
static enum drop parse_exact(struct frame *frame, uint8_t **copy, const uint8_t *bytes, size_t len)
{
	*copy = malloc(len ? len : 1);
	memcpy(*copy, bytes, len);
	return frame_parse(frame, *copy, len, (struct frame_offload){ 0 }, &secret);
}

static void check_case(void **state)
{
	const struct parse_case *c = *state;
	struct packet p = packets[c->base];
	struct frame frame;
	enum drop drop;
	uint8_t *copy;

	packet_fix(&p);
	for (size_t i = 0; i < 6 && c->patches[i].off; i++)
		p.bytes[c->patches[i].off] = c->patches[i].value;
	if (!c->bad_checksum)
		packet_fix(&p);
	p.len = (size_t)((int)p.len + c->resize);
	drop = parse_exact(&frame, &copy, p.bytes, p.len);
	free(copy);
	assert_int_equal(drop, c->drop);
	if (!drop)
		assert_int_equal(frame.kind, c->kind);
}

static struct frame parsed(enum packet_id id)
{
	static struct packet p;
	struct frame frame;

	p = packets[id];
	packet_fix(&p);
	assert_int_equal(frame_parse(&frame, p.bytes, p.len, (struct frame_offload){ 0 }, &secret),
			 DROP_NONE);
	return frame;
}

static void every_truncation_is_refused(void **state)
{
	(void)state;
	for (int id = 0; id < PACKETS; id++) {
		struct packet p = packets[id];
		struct frame frame;
		uint8_t *copy;

		packet_fix(&p);
		for (size_t len = 0; len < (id == ARP ? 14 : p.len); len++) {
			assert_int_not_equal(parse_exact(&frame, &copy, p.bytes, len), DROP_NONE);
			free(copy);
		}
	}
}

static void a_tcp_segments_fields_are_found(void **state)
{
	struct frame f = parsed(TCP4);
	struct ip_addr guest = ip4_addr_of("\x0a\x00\x02\x0f"),
		       peer = ip4_addr_of("\xc0\x00\x02\x01");

	(void)state;
	assert_true(ip_eq(&f.key.guest, &guest));
	assert_true(ip_eq(&f.key.peer, &peer));
	assert_int_equal(f.key.guest_port, 12345);
	assert_int_equal(f.key.peer_port, 443);
	assert_int_equal(f.key.proto, FLOW_TCP);
	assert_int_equal(f.tos, 0x12);
	assert_int_equal(f.ttl, 64);
	assert_true(f.dont_fragment);
	assert_int_equal(f.l4_off, 34);
	assert_int_equal(f.payload_off, 34 + TCP_LEN);
	assert_int_equal(f.payload_len, DATA_LEN);
	assert_int_equal(f.n_payload, 1);
	assert_memory_equal(f.payload_one.iov_base, "payload!", DATA_LEN);
	assert_int_equal(f.hash, flow_steer_hash(&f.key, &secret));
}

static void an_ipv6_headers_fields_are_found(void **state)
{
	struct frame f = parsed(TCP6);

	(void)state;
	assert_int_equal(f.version, IP6);
	assert_int_equal(f.tos, 0x12);
	assert_int_equal(f.ttl, 63);
	assert_int_equal(f.l4_off, 54);
	assert_int_equal(f.key.guest.b[15], 0x15);
	assert_int_equal(f.key.peer.b[5], 1);
}

static void a_udp_key_has_no_peer(void **state)
{
	struct frame f = parsed(UDP4);
	struct ip_addr dst = frame_dst(&f), want = ip4_addr_of("\xc0\x00\x02\x01");

	(void)state;
	assert_true(ip_is_unset(&f.key.peer));
	assert_int_equal(f.key.peer_port, 0);
	assert_int_equal(f.key.guest_port, 12345);
	assert_true(ip_eq(&dst, &want));
	assert_int_equal(frame_src_port(&f), 12345);
	assert_int_equal(frame_dst_port(&f), 53);
}

static void an_echo_key_has_the_identifier(void **state)
{
	struct frame f = parsed(ECHO6);

	(void)state;
	assert_int_equal(f.key.guest_port, 0x7766);
	assert_int_equal(f.key.proto, FLOW_ECHO);
	assert_true(ip_is_unset(&f.key.peer));
	assert_int_equal(f.payload_len, DATA_LEN);
}

static void an_errors_key_is_that_of_the_flow_it_is_about(void **state)
{
	struct frame error = parsed(ERROR6), segment = parsed(TCP6);

	(void)state;
	assert_true(flow_key_eq(&error.key, &segment.key));
	assert_int_equal(error.hash, segment.hash);
	assert_int_equal(error.payload_off, 54 + 8);
	error = parsed(ERROR4);
	assert_int_equal(error.key.proto, FLOW_UDP);
	assert_int_equal(error.key.guest_port, 12345);
	assert_true(ip_is_unset(&error.key.peer));
}

static void a_fragments_key_has_addresses_alone(void **state)
{
	struct frame f = parsed(FRAG6);

	(void)state;
	assert_int_equal(f.key.proto, FLOW_FRAGMENT);
	assert_int_equal(f.key.guest_port, 0);
	assert_int_equal(f.key.peer.b[15], 1);
	assert_int_equal(f.l4_proto, IPPROTO_UDP);
	assert_int_equal(f.payload_off, 54 + 8);
	assert_int_equal(f.payload_len, 8 + DATA_LEN);
}

static void padding_is_not_payload(void **state)
{
	struct packet p = packets[UDP4];
	struct frame f;

	(void)state;
	packet_fix(&p);
	assert_int_equal(frame_parse(&f, p.bytes, p.len + 18, (struct frame_offload){ 0 }, &secret),
			 DROP_NONE);
	assert_int_equal(f.len, p.len);
	assert_int_equal(f.linear_len, p.len);
	assert_int_equal(f.payload_len, DATA_LEN);
}

static void bytes_behind_a_datagrams_length_are_not_payload(void **state)
{
	struct packet p = packets[UDP4];
	struct frame f;

	(void)state;
	p.bytes[L4_4 + 5] = 8 + 3;
	packet_fix(&p);
	assert_int_equal(frame_parse(&f, p.bytes, p.len, (struct frame_offload){ 0 }, &secret),
			 DROP_NONE);
	assert_int_equal(f.payload_len, 3);
}

static void a_datagram_of_nothing_has_no_pieces(void **state)
{
	struct packet p = packets[UDP4];
	struct frame f;

	(void)state;
	p.bytes[L4_4 + 5] = 8;
	packet_fix(&p);
	assert_int_equal(frame_parse(&f, p.bytes, p.len, (struct frame_offload){ 0 }, &secret),
			 DROP_NONE);
	assert_int_equal(f.payload_len, 0);
	assert_int_equal(f.n_payload, 0);
}

/* Cuts a frame into linear bytes and pieces of n bytes, and compares with the whole. */
static void compare_scattered(const struct packet *p, size_t linear, size_t n)
{
	struct frame whole, cut;
	struct iovec iov[PACKET_MAX], scratch[PACKET_MAX + 1];
	unsigned int n_iov = 0;
	uint8_t gathered[PACKET_MAX];
	size_t len = 0;

	assert_int_equal(
		frame_parse(&whole, p->bytes, p->len, (struct frame_offload){ 0 }, &secret),
		DROP_NONE);
	for (size_t at = linear; at < p->len; at += n)
		iov[n_iov++] = (struct iovec){ (uint8_t *)p->bytes + at,
					       p->len - at < n ? p->len - at : n };
	assert_int_equal(frame_parse_iov(&cut, p->bytes, linear, iov, n_iov, scratch,
					 (struct frame_offload){ 0 }, &secret),
			 DROP_NONE);
	assert_int_equal(cut.kind, whole.kind);
	assert_int_equal(cut.len, whole.len);
	assert_int_equal(cut.hash, whole.hash);
	assert_true(cut.n_payload <= n_iov + 1);
	for (unsigned int i = 0; i < cut.n_payload; i++) {
		memcpy(gathered + len, cut.payload[i].iov_base, cut.payload[i].iov_len);
		len += cut.payload[i].iov_len;
	}
	assert_int_equal(len, whole.payload_len);
	assert_memory_equal(gathered, p->bytes + whole.payload_off, len);
}

static void a_scattered_payload_is_the_same(void **state)
{
	static const enum packet_id ids[] = { TCP4, UDP4, ECHO4, TCP6, UDP6, ECHO6, HOPOPT6 };

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct packet p = packets[ids[i]];

		packet_fix(&p);
		for (size_t linear = p.len - DATA_LEN; linear <= p.len; linear++) {
			compare_scattered(&p, linear, 1);
			compare_scattered(&p, linear, 3);
			compare_scattered(&p, linear, PACKET_MAX);
		}
		p.len += 18; /* padding */
		compare_scattered(&p, p.len - DATA_LEN - 18, 5);
	}
}

static void a_scattered_header_is_refused(void **state)
{
	struct packet p = packets[TCP4];
	struct iovec iov = { p.bytes + 40, p.len - 40 }, scratch[2];
	struct frame frame;

	(void)state;
	packet_fix(&p);
	assert_int_equal(frame_parse_iov(&frame, p.bytes, 40, &iov, 1, scratch,
					 (struct frame_offload){ 0 }, &secret),
			 DROP_SHORT);
}

static void a_scattered_control_frame_is_refused(void **state)
{
	struct packet p = packets[DHCP4];
	struct iovec iov = { p.bytes + 44, p.len - 44 }, scratch[2];
	struct frame frame;

	(void)state;
	packet_fix(&p);
	assert_int_equal(frame_parse_iov(&frame, p.bytes, 44, &iov, 1, scratch,
					 (struct frame_offload){ 0 }, &secret),
			 DROP_SHORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(a_tcp_segments_fields_are_found),
		cmocka_unit_test(an_ipv6_headers_fields_are_found),
		cmocka_unit_test(a_udp_key_has_no_peer),
		cmocka_unit_test(an_echo_key_has_the_identifier),
		cmocka_unit_test(an_errors_key_is_that_of_the_flow_it_is_about),
		cmocka_unit_test(a_fragments_key_has_addresses_alone),
		cmocka_unit_test(padding_is_not_payload),
		cmocka_unit_test(bytes_behind_a_datagrams_length_are_not_payload),
		cmocka_unit_test(a_datagram_of_nothing_has_no_pieces),
		cmocka_unit_test(a_scattered_payload_is_the_same),
		cmocka_unit_test(a_scattered_header_is_refused),
		cmocka_unit_test(a_scattered_control_frame_is_refused),
	};
	struct CMUnitTest rows[N_CASES];
	int failed;

	for (size_t i = 0; i < N_CASES; i++)
		rows[i] = (struct CMUnitTest){ cases[i].name, check_case, NULL, NULL,
					       (void *)&cases[i] };
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed + cmocka_run_group_tests_name("frames", rows, NULL, NULL);
}
