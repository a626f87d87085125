/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs scripts, each a rule of TCP: what the guest sends, what the host's socket does, and what the
 * guest must see and when, on the simulation's clock. See README.md beside this file for the
 * language.
 *
 *   script [--trace] FILE...     one line of result for each file; status 1 if any failed
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define WORDS	 40
#define SEEN_MAX 512

struct seen {
	struct segment s;
	uint64_t at_us;
};

struct script {
	struct world *w;
	const char *file;
	unsigned int line;
	char *word[WORDS + 1];
	unsigned int n, at;
	struct seen seen[SEEN_MAX];
	unsigned int n_seen, next_seen;
	int icmp_type, icmp_code;
	bool ts, ts_off;
	uint32_t last_ts; /* of ours, to be echoed */
	uint32_t marked_ts;
	uint32_t guest_ack;
	uint16_t window;
	bool started;
};

static struct script *the_script;

static void fail(struct script *sc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fail(struct script *sc, const char *fmt, ...)
{
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	world_fail(sc->w, "line %u: %s", sc->line, text);
}

static const char *next_word(struct script *sc)
{
	return sc->at < sc->n ? sc->word[sc->at++] : "";
}

static bool accept_word(struct script *sc, const char *word)
{
	if (sc->at >= sc->n || strcmp(sc->word[sc->at], word) != 0)
		return false;
	sc->at++;
	return true;
}

static uint32_t number(struct script *sc)
{
	const char *word = next_word(sc);
	char *end;
	unsigned long long v = strtoull(word, &end, 0);

	if (end == word || *end)
		fail(sc, "a number was expected, not '%s'", word);
	return (uint32_t)v;
}

/* A time in seconds, as microseconds. */
static uint64_t duration(struct script *sc)
{
	const char *word = next_word(sc);
	char *end;
	double v = strtod(word[0] == '+' ? word + 1 : word, &end);

	if (*end || end == word || v < 0)
		fail(sc, "a time in seconds was expected, not '%s'", word);
	return (uint64_t)(v * 1e6 + 0.5);
}

static void on_emit(struct world *w, const struct segment *s)
{
	struct script *sc = the_script;

	if (sc->n_seen == SEEN_MAX) {
		fail(sc, "too many segments were sent");
		return;
	}
	sc->seen[sc->n_seen++] = (struct seen){ *s, w->shard->now_us };
	if (s->has_ts)
		sc->last_ts = s->ts_val;
}

static void on_icmp(struct world *w, uint8_t type, uint8_t code)
{
	(void)w;
	the_script->icmp_type = type;
	the_script->icmp_code = code;
}

/* Runs what is due up to a time. */
static void run_to(struct world *w, uint64_t until_us)
{
	uint64_t next;

	while (!w->failed && (next = world_next(w)) <= until_us)
		world_turn(w, next);
	if (w->shard->now_us < until_us)
		w->shard->now_us = until_us;
}

static void settle(struct script *sc)
{
	run_to(sc->w, sc->w->shard->now_us);
}

static const struct {
	uint8_t flag;
	char letter;
} letters[] = { { TCP_SYN, 'S' }, { TCP_FIN, 'F' }, { TCP_RST, 'R' }, { TCP_PSH, 'P' },
		{ TCP_URG, 'U' }, { TCP_ECE, 'E' }, { TCP_CWR, 'C' }, { TCP_ACK, '.' } };

static uint8_t flags_of(struct script *sc, const char *text)
{
	uint8_t flags = 0;

	for (; *text; text++) {
		unsigned int i = 0;

		while (i < 8 && letters[i].letter != *text)
			i++;
		if (i == 8 && *text != '0')
			fail(sc, "'%c' is no flag", *text);
		else if (i < 8)
			flags |= letters[i].flag;
	}
	return flags;
}

static void read_sack(struct script *sc, struct segment *s, uint32_t base)
{
	const char *word = next_word(sc);
	unsigned int a, b;

	if (sscanf(word, "%u-%u", &a, &b) != 2 || s->n_sack == 4)
		fail(sc, "not a SACK block: '%s'", word);
	else
		s->sack[s->n_sack++] = (struct sack_block){ base + a, base + b };
}

/* guest FLAGS [seq N] [len N] [ack N] [win N] [mss N] [wscale N] [sackok] [ts V E|nots] [sack A-B]
 * [urg N] [junk] [more] */
static void do_guest(struct script *sc)
{
	struct world *w = sc->w;
	struct segment s = { .window = sc->window };
	uint32_t seq = 0;

	s.flags = flags_of(sc, next_word(sc));
	if (sc->ts && !(s.flags & TCP_RST)) {
		s.has_ts = true;
		s.ts_val = (uint32_t)(w->shard->now_us / 1000);
		s.ts_ecr = sc->last_ts;
	}
	s.ack = w->our_iss + sc->guest_ack;
	while (sc->at < sc->n && !w->failed) {
		if (accept_word(sc, "seq")) {
			seq = number(sc);
		} else if (accept_word(sc, "len")) {
			s.len = number(sc);
		} else if (accept_word(sc, "ack")) {
			uint32_t ack = number(sc);

			s.ack = w->our_iss + ack;
			sc->guest_ack = ack;
		} else if (accept_word(sc, "badack")) {
			s.ack = w->our_iss + number(sc);
		} else if (accept_word(sc, "win")) {
			s.window = sc->window = (uint16_t)number(sc);
		} else if (accept_word(sc, "mss")) {
			s.has_mss = true;
			s.mss = (uint16_t)number(sc);
		} else if (accept_word(sc, "wscale")) {
			s.has_wscale = true;
			s.wscale = (uint8_t)number(sc);
			w->wscale_offered_by_guest = true;
		} else if (accept_word(sc, "sackok")) {
			s.sack_ok = true;
		} else if (accept_word(sc, "nots")) {
			s.has_ts = false;
		} else if (accept_word(sc, "echo-marked")) {
			s.ts_ecr = sc->marked_ts;
		} else if (accept_word(sc, "ts")) {
			s.has_ts = true;
			s.ts_val = number(sc);
			s.ts_ecr = number(sc);
		} else if (accept_word(sc, "sack")) {
			read_sack(sc, &s, w->our_iss);
		} else if (accept_word(sc, "urg")) {
			s.urgent = (uint16_t)number(sc);
		} else if (accept_word(sc, "ce")) {
			s.tos = 3;
		} else if (accept_word(sc, "ect")) {
			s.tos = 2;
		} else if (accept_word(sc, "junk")) {
			s.junk = true;
		} else if (accept_word(sc, "more")) {
			s.more = true;
		} else {
			fail(sc, "unknown word '%s'", sc->word[sc->at]);
		}
	}
	s.seq = w->guest_iss + seq;
	s.off = seq - 1;
	if (!(s.flags & TCP_ACK))
		s.ack = 0;
	if (s.flags & TCP_SYN && s.has_ts)
		sc->ts = true;
	world_segment(w, &s);
	if (!s.more)
		settle(sc);
}

static void check_field(struct script *sc, const char *name, uint32_t is, uint32_t should)
{
	if (is != should)
		fail(sc, "%s is %u, not %u", name, is, should);
}

static void show_unexpected(struct script *sc, const struct segment *s, const char *what)
{
	char text[160];

	segment_text(s, sc->w->our_iss, sc->w->guest_iss, text, sizeof(text));
	fail(sc, "%s: %s", what, text);
}

/* The numbers after "see" and its flags are compared with the segment. */
static void compare(struct script *sc, const struct segment *s)
{
	struct world *w = sc->w;
	unsigned int n_sack = 0;

	while (sc->at < sc->n && !w->failed) {
		if (accept_word(sc, "seq")) {
			check_field(sc, "seq", s->seq - w->our_iss, number(sc));
		} else if (accept_word(sc, "len")) {
			check_field(sc, "len", s->len, number(sc));
		} else if (accept_word(sc, "ack")) {
			check_field(sc, "ack", s->ack - w->guest_iss, number(sc));
		} else if (accept_word(sc, "rawseq")) {
			check_field(sc, "seq", s->seq, number(sc));
		} else if (accept_word(sc, "win")) {
			check_field(sc, "window", s->window, number(sc));
		} else if (accept_word(sc, "win>")) {
			uint32_t least = number(sc);

			if (s->window <= least)
				fail(sc, "window is %u, not more than %u", s->window, least);
		} else if (accept_word(sc, "mss")) {
			check_field(sc, "MSS", s->has_mss ? s->mss : 0, number(sc));
		} else if (accept_word(sc, "wscale")) {
			check_field(sc, "has window scale", s->has_wscale, 1);
		} else if (accept_word(sc, "nowscale")) {
			check_field(sc, "has window scale", s->has_wscale, 0);
		} else if (accept_word(sc, "sackok")) {
			check_field(sc, "SACK permitted", s->sack_ok, 1);
		} else if (accept_word(sc, "nosackok")) {
			check_field(sc, "SACK permitted", s->sack_ok, 0);
		} else if (accept_word(sc, "ts")) {
			check_field(sc, "has timestamps", s->has_ts, 1);
		} else if (accept_word(sc, "ecr")) {
			check_field(sc, "timestamp echo", s->ts_ecr, number(sc));
		} else if (accept_word(sc, "nots")) {
			check_field(sc, "has timestamps", s->has_ts, 0);
		} else if (accept_word(sc, "urg")) {
			check_field(sc, "urgent pointer", s->urgent, number(sc));
		} else if (accept_word(sc, "ect")) {
			check_field(sc, "ECN bits", s->tos & 3, 2);
		} else if (accept_word(sc, "notect")) {
			check_field(sc, "ECN bits", s->tos & 3, 0);
		} else if (accept_word(sc, "nosack")) {
			check_field(sc, "SACK blocks", s->n_sack, 0);
		} else if (accept_word(sc, "sack")) {
			struct segment want = { 0 };

			read_sack(sc, &want, w->guest_iss);
			if (n_sack >= s->n_sack || s->sack[n_sack].start != want.sack[0].start ||
			    s->sack[n_sack].end != want.sack[0].end)
				show_unexpected(sc, s, "another SACK block was expected");
			n_sack++;
		} else {
			fail(sc, "unknown word '%s'", sc->word[sc->at]);
		}
	}
	if (n_sack && n_sack != s->n_sack)
		show_unexpected(sc, s, "there are more SACK blocks");
}

/* What may wait for data to go with it comes within this: the delay, and a tick of the wheel. */
#define ACK_SOON_US (TCP_ACK_DELAY_US + WHEEL_TICK_US)

/* Runs until something is sent, for at most so long. */
static void await_segment(struct script *sc, uint64_t most_us)
{
	struct world *w = sc->w;
	uint64_t until = w->shard->now_us + most_us;

	while (!w->failed && sc->next_seen == sc->n_seen && world_next(w) <= until)
		run_to(w, world_next(w));
}

/* see FLAGS [fields]: the next segment; PSH counts only if it is asked for. */
static void do_see(struct script *sc)
{
	const struct segment *s;
	uint8_t flags, is;
	const char *word;

	if (accept_word(sc, "none")) {
		if (sc->next_seen < sc->n_seen)
			show_unexpected(sc, &sc->seen[sc->next_seen].s, "nothing was expected");
		return;
	}
	word = next_word(sc);
	flags = flags_of(sc, word);
	await_segment(sc, ACK_SOON_US);
	if (sc->next_seen == sc->n_seen) {
		fail(sc, "'%s' was expected, and nothing was sent", word);
		return;
	}
	s = &sc->seen[sc->next_seen++].s;
	is = s->flags;
	if (!(flags & TCP_PSH))
		is &= (uint8_t)~TCP_PSH;
	if (is != flags) {
		show_unexpected(sc, s, "other flags were expected");
		return;
	}
	compare(sc, s);
}

/* within MIN MAX see ...: runs until something is sent. */
static void do_within(struct script *sc)
{
	struct world *w = sc->w;
	uint64_t from = w->shard->now_us, least = duration(sc), most = duration(sc);

	await_segment(sc, most);
	if (sc->next_seen == sc->n_seen)
		fail(sc, "nothing was sent in time");
	else if (sc->seen[sc->next_seen].at_us < from + least)
		show_unexpected(sc, &sc->seen[sc->next_seen].s, "this came too early");
	else if (accept_word(sc, "see"))
		do_see(sc);
}

/* quiet TIME: nothing may be sent. */
static void do_quiet(struct script *sc)
{
	run_to(sc->w, sc->w->shard->now_us + duration(sc));
	sc->at = sc->n;
	if (sc->next_seen < sc->n_seen)
		show_unexpected(sc, &sc->seen[sc->next_seen].s, "nothing was expected");
}

static void do_skip(struct script *sc)
{
	sc->next_seen = sc->n_seen;
}

/* stall TIME: for so long the machine has no time for the daemon. */
static void do_stall(struct script *sc)
{
	sc->w->shard->now_us += duration(sc);
	settle(sc);
}

/* mark-ts: the timestamp that was sent last can be echoed later. */
static void do_mark(struct script *sc)
{
	sc->marked_ts = sc->last_ts;
}

static const struct {
	const char *name;
	int error;
} errors[] = {
	{ "ECONNREFUSED", ECONNREFUSED },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "EHOSTUNREACH", EHOSTUNREACH },
	{ "ENETUNREACH", ENETUNREACH },
	{ "EACCES", EACCES },
	{ "ENOPROTOOPT", ENOPROTOOPT },
	{ "EPERM", EPERM },
	{ "EHOSTDOWN", EHOSTDOWN },
	{ "ECONNRESET", ECONNRESET },
	{ "EOPNOTSUPP", EOPNOTSUPP },
};

static int error_of(struct script *sc)
{
	const char *word = next_word(sc);

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (!strcmp(errors[i].name, word))
			return errors[i].error;
	}
	fail(sc, "unknown error '%s'", word);
	return 0;
}

static void host_fails(struct script *sc)
{
	sc->w->sock.error = error_of(sc);
	sc->w->sock.reset = true;
	sock_raise(&sc->w->sock, EPOLLERR | EPOLLHUP);
}

static void host_accepts(struct script *sc)
{
	sc->w->host_opens = true;
	world_accept(sc->w);
}

static void host_connected(struct script *sc)
{
	sock_raise(&sc->w->sock, EPOLLOUT);
}

static void host_sends(struct script *sc)
{
	sc->w->sock.arrived += number(sc);
	sock_raise(&sc->w->sock, EPOLLIN);
}

static void host_sends_and_fails(struct script *sc)
{
	sc->w->sock.arrived += number(sc);
	host_fails(sc);
}

static void host_sends_urgent(struct script *sc)
{
	sc->w->sock.arrived += number(sc);
	sc->w->sock.urgent_at = sc->w->sock.arrived - 1;
	sock_raise(&sc->w->sock, EPOLLIN | EPOLLPRI);
}

static void host_reads(struct script *sc)
{
	struct sim_sock *sock = &sc->w->sock;

	sock->taken += number(sc);
	if (sock->taken > sock->written)
		fail(sc, "only %llu bytes were written", (unsigned long long)sock->written);
	if (sock->want_out) {
		sock->want_out = false;
		sock_raise(sock, EPOLLOUT);
	}
}

static void host_closes(struct script *sc)
{
	sc->w->sock.eof = true;
	sock_raise(&sc->w->sock, EPOLLIN | EPOLLRDHUP);
}

static void host_acks_fin(struct script *sc)
{
	sc->w->sock.fin_acked = true;
	sock_raise(&sc->w->sock, EPOLLOUT);
}

static void host_meets_ce(struct script *sc)
{
	sc->w->sock.delivered_ce += number(sc);
}

static const struct host_rule {
	const char *name;
	void (*run)(struct script *sc);
} host_rules[] = {
	{ "accepts", host_accepts },	 { "connected", host_connected },
	{ "fails", host_fails },	 { "sends", host_sends },
	{ "urgent", host_sends_urgent }, { "reads", host_reads },
	{ "closes", host_closes },	 { "acks-fin", host_acks_fin },
	{ "meets-ce", host_meets_ce },	 { "sends-and-fails", host_sends_and_fails },
};

static void do_host(struct script *sc)
{
	const char *word = next_word(sc);

	for (size_t i = 0; i < sizeof(host_rules) / sizeof(host_rules[0]); i++) {
		if (!strcmp(host_rules[i].name, word)) {
			host_rules[i].run(sc);
			settle(sc);
			return;
		}
	}
	fail(sc, "the host can't do '%s'", word);
}

/* sock written N|open|shutdown|sending|closed|aborted|keepalive|rcvbuf N|urgent N|pending N */
static void do_sock(struct script *sc)
{
	const struct sim_sock *s = &sc->w->sock;

	if (accept_word(sc, "written"))
		check_field(sc, "bytes written", (uint32_t)s->written, number(sc));
	else if (accept_word(sc, "pending"))
		check_field(sc, "bytes pending", (uint32_t)(s->arrived - s->consumed), number(sc));
	else if (accept_word(sc, "urgent"))
		check_field(sc, "the urgent byte's end", (uint32_t)s->urgent_sent, number(sc));
	else if (accept_word(sc, "open"))
		check_field(sc, "open", s->open, 1);
	else if (accept_word(sc, "shutdown"))
		check_field(sc, "shut down", s->shut, 1);
	else if (accept_word(sc, "sending"))
		check_field(sc, "shut down", s->shut, 0);
	else if (accept_word(sc, "closed"))
		check_field(sc, "closed", s->closed, 1);
	else if (accept_word(sc, "aborted"))
		check_field(sc, "aborted", s->aborted, 1);
	else if (accept_word(sc, "keepalive"))
		check_field(sc, "keep-alive", s->keepalive, number(sc));
	else if (accept_word(sc, "rcvbuf"))
		check_field(sc, "receive buffer", s->rcvbuf, number(sc));
	else
		fail(sc, "unknown state '%s'", next_word(sc));
}

static const struct {
	const char *name;
	bool is_drop;
	unsigned int id;
} counters[] = {
	{ "retrans", false, COUNT_TCP_RETRANS },
	{ "rto", false, COUNT_TCP_RTO },
	{ "tlp", false, COUNT_TCP_TLP },
	{ "spurious", false, COUNT_TCP_SPURIOUS },
	{ "challenge", false, COUNT_TCP_CHALLENGE },
	{ "resets", false, COUNT_TCP_RESETS },
	{ "dup-rx", false, COUNT_TCP_DUP_RX },
	{ "out-of-order", false, COUNT_TCP_OUT_OF_ORDER },
	{ "queued", false, COUNT_TCP_QUEUED },
	{ "drop-in-window", true, DROP_TCP_IN_WINDOW },
	{ "drop-paws", true, DROP_TCP_PAWS },
	{ "drop-sequence", true, DROP_TCP_SEQUENCE },
	{ "drop-flags", true, DROP_TCP_FLAGS },
	{ "drop-no-flow", true, DROP_NO_FLOW },
	{ "drop-unsacked", true, DROP_TCP_UNSACKED },
};

static void do_count(struct script *sc)
{
	const char *word = next_word(sc);

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		uint64_t v;

		if (strcmp(counters[i].name, word) != 0)
			continue;
		v = counters[i].is_drop ? world_drops(sc->w, (enum drop)counters[i].id)
					: world_count(sc->w, (enum counter)counters[i].id);
		check_field(sc, word, (uint32_t)v, number(sc));
		return;
	}
	fail(sc, "no counter '%s'", word);
}

static void do_flow(struct script *sc)
{
	if (accept_word(sc, "gone"))
		check_field(sc, "flow there", sc->w->flow != NULL, 0);
	else if (accept_word(sc, "there"))
		check_field(sc, "flow there", sc->w->flow != NULL, 1);
}

static void do_icmp(struct script *sc)
{
	check_field(sc, "ICMP type", (uint32_t)sc->icmp_type, number(sc));
	check_field(sc, "ICMP code", (uint32_t)sc->icmp_code, number(sc));
}

static void do_guest_side(struct script *sc)
{
	if (accept_word(sc, "full")) {
		sim_tx_block(sc->w, NEVER);
	} else if (accept_word(sc, "room")) {
		sc->w->tx.unblock_us = sc->w->shard->now_us;
		settle(sc);
	}
}

static void start(struct script *sc);

/* open [options of the SYN]: a handshake begun by the guest, with no words left to be seen. */
static void do_open(struct script *sc)
{
	char *words[WORDS];
	unsigned int n = sc->n - sc->at;

	memcpy(words, sc->word + sc->at, n * sizeof(words[0]));
	sc->word[0] = (char *)"S";
	memcpy(sc->word + 1, words, n * sizeof(words[0]));
	sc->n = n + 1;
	sc->at = 0;
	do_guest(sc);
	host_connected(sc);
	settle(sc);
	if (sc->next_seen == sc->n_seen) {
		fail(sc, "no SYN-ACK came");
		return;
	}
	sc->word[0] = (char *)".";
	sc->word[1] = (char *)"seq";
	sc->word[2] = (char *)"1";
	sc->word[3] = (char *)"ack";
	sc->word[4] = (char *)"1";
	sc->n = 5;
	sc->at = 0;
	do_guest(sc);
	do_skip(sc);
}

static void do_option(struct script *sc)
{
	struct world *w = sc->w;
	struct sim_sock *s = &w->sock;

	if (accept_word(sc, "mtu"))
		w->config.mtu = number(sc);
	else if (accept_word(sc, "gso"))
		w->tx.gso = true;
	else if (accept_word(sc, "no-peek-off"))
		world_peek_off(w, false);
	else if (accept_word(sc, "sndbuf"))
		s->sndbuf = number(sc);
	else if (accept_word(sc, "room"))
		s->room_percent = number(sc);
	else if (accept_word(sc, "pool"))
		w->shard->pool.n_chunks = number(sc) / POOL_CHUNK;
	else if (accept_word(sc, "guest-iss"))
		w->guest_iss = number(sc);
	else if (accept_word(sc, "iss"))
		world_aim_iss(w, number(sc));
	else if (!accept_word(sc, "ipv6"))
		fail(sc, "unknown option '%s'", next_word(sc));
	sc->next_seen = sc->n_seen = 0;
}

static const struct command {
	const char *name;
	void (*run)(struct script *sc);
} commands[] = {
	{ "guest", do_guest },	 { "see", do_see },	 { "within", do_within },
	{ "quiet", do_quiet },	 { "host", do_host },	 { "sock", do_sock },
	{ "count", do_count },	 { "flow", do_flow },	 { "icmp", do_icmp },
	{ "tx", do_guest_side }, { "open", do_open },	 { "option", do_option },
	{ "skip", do_skip },	 { "mark-ts", do_mark }, { "stall", do_stall },
};

static void start(struct script *sc)
{
	struct world *w = sc->w;

	world_reset(w, 1, 5000ull * 1000000, 4u << 20);
	w->no_guest = true;
	w->on_emit = on_emit;
	w->on_icmp = on_icmp;
	w->config.mtu = 1500;
	w->host_opens = false;
	w->guest_iss = 1000000;
	w->sock.scripted = true;
	w->sock.room_percent = 100;
	sc->n_seen = sc->next_seen = 0;
	sc->icmp_type = sc->icmp_code = -1;
	sc->ts = false;
	w->our_iss = 0;
	sc->window = 65535;
	sc->guest_ack = 0;
}

static void run_line(struct script *sc, char *line)
{
	char *save = NULL, *comment = strchr(line, '#');

	if (comment)
		*comment = 0;
	sc->n = sc->at = 0;
	for (char *word = strtok_r(line, " \t\n", &save); word && sc->n < WORDS;
	     word = strtok_r(NULL, " \t\n", &save))
		sc->word[sc->n++] = word;
	if (!sc->n)
		return;
	if (sc->word[0][0] == '+')
		run_to(sc->w, sc->w->shard->now_us + duration(sc));
	const char *name = next_word(sc);

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(commands[i].name, name)) {
			commands[i].run(sc);
			return;
		}
	}
	if (*name)
		fail(sc, "unknown command '%s'", name);
}

/* IPv6 decides the addresses, so it must be known before the world is made. */
static bool wants_v6(FILE *f)
{
	char line[400];
	bool v6 = false;

	while (fgets(line, sizeof(line), f))
		v6 = v6 || strstr(line, "option ipv6") == line;
	rewind(f);
	return v6;
}

static bool run_file(struct script *sc, const char *path)
{
	FILE *f = fopen(path, "r");
	char line[400];

	if (!f) {
		printf("FAILED %s: cannot be read\n", path);
		return false;
	}
	sc->file = path;
	sc->line = 0;
	sc->w->v6 = wants_v6(f);
	start(sc);
	while (!sc->w->failed && fgets(line, sizeof(line), f)) {
		sc->line++;
		world_note(sc->w, "%s:%u: %.*s", path, sc->line, (int)strcspn(line, "\n"), line);
		run_line(sc, line);
	}
	fclose(f);
	if (sc->w->failed)
		printf("FAILED %s: %s\n", path, sc->w->failure);
	else
		printf("ok     %s\n", path);
	return !sc->w->failed;
}

int main(int argc, char **argv)
{
	static struct script sc;
	unsigned int failures = 0, n = 0;

	sc.w = world_new();
	the_script = &sc;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--trace")) {
			sc.w->trace = true;
			continue;
		}
		n++;
		failures += !run_file(&sc, argv[i]);
	}
	printf("%u scripts, %u failed\n", n, failures);
	world_free(sc.w);
	return failures ? 1 : 0;
}
