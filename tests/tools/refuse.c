/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program as on an older kernel: calls that it would not know are refused to the program, by
 * a seccomp filter, and so to what it starts; linked statically or not.
 *
 *   refuse offload=BITS | udp-segment | udp-gro ... -- PROGRAM ARGUMENT...
 *
 * offload: TUNSETOFFLOAD with any of these bits (TUN_F_*) is EINVAL. The others: that option of a
 * UDP socket is ENOPROTOOPT.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UDP_SEGMENT_OPTION 103
#define UDP_GRO_OPTION	   104
#define RULE_MAX	   8
#define RULES_MAX	   8

static struct sock_filter code[RULE_MAX * RULES_MAX + 1];
static unsigned short n_code;

static void put(uint16_t op, uint32_t k, uint8_t if_true, uint8_t if_false)
{
	code[n_code++] = (struct sock_filter){ op, if_true, if_false, k };
}

/* The low half of an argument of the call: all that are looked at are ints. */
static uint32_t offset_of(unsigned int argument)
{
	return (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument +
			  (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0));
}

/* Refuses a call by its number and its arguments 1 and 2; the test of the latter is EQ or SET. */
static void refuse(long nr, uint32_t first, uint16_t test, uint32_t second, int error)
{
	put(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	put(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 5);
	put(BPF_LD | BPF_W | BPF_ABS, offset_of(1), 0, 0);
	put(BPF_JMP | BPF_JEQ | BPF_K, first, 0, 3);
	put(BPF_LD | BPF_W | BPF_ABS, offset_of(2), 0, 0);
	put((uint16_t)(BPF_JMP | BPF_K | test), second, 0, 1);
	put(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error, 0, 0);
}

static void take_rule(const char *rule)
{
	if (strncmp(rule, "offload=", 8) == 0) {
		refuse(SYS_ioctl, (uint32_t)TUNSETOFFLOAD, BPF_JSET,
		       (uint32_t)strtoul(rule + 8, NULL, 0), EINVAL);
	} else if (strcmp(rule, "udp-segment") == 0) {
		refuse(SYS_setsockopt, IPPROTO_UDP, BPF_JEQ, UDP_SEGMENT_OPTION, ENOPROTOOPT);
	} else if (strcmp(rule, "udp-gro") == 0) {
		refuse(SYS_setsockopt, IPPROTO_UDP, BPF_JEQ, UDP_GRO_OPTION, ENOPROTOOPT);
	} else {
		fprintf(stderr, "refuse: what is %s?\n", rule);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sock_fprog program = { .filter = code };
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--") != 0 && i <= RULES_MAX; i++)
		take_rule(argv[i]);
	if (i + 1 >= argc || strcmp(argv[i], "--") != 0) {
		fprintf(stderr, "usage: refuse RULE... -- PROGRAM ARGUMENT...\n");
		return 2;
	}
	put(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	program.len = n_code;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("refuse: the filter");
		return 2;
	}
	execv(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 2;
}
