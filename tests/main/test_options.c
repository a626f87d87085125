/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: what callers give, what comes of it, and what is said of mistakes.
 */
#include "options.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_ARGS 48

static struct config config;
static char said[16384]; /* on both standard streams */

/* Replaces descriptor fd by file, returns what it was. */
static int redirect(int fd, int file)
{
	int saved = dup(fd);

	assert_true(saved >= 0 && dup2(file, fd) == fd);
	return saved;
}

static void restore(int fd, int saved)
{
	assert_int_equal(dup2(saved, fd), fd);
	close(saved);
}

/* Parses a command line; what it prints is in said. Returns true to go on, else *status is set. */
static bool parse(char **argv, int *status)
{
	FILE *file = tmpfile();
	int out;
	int err;
	int argc = 0;
	bool go_on;
	ssize_t n;

	assert_non_null(file);
	while (argv[argc])
		argc++;
	fflush(stdout);
	out = redirect(STDOUT_FILENO, fileno(file));
	err = redirect(STDERR_FILENO, fileno(file));
	go_on = options_parse(&config, argc, argv, status);
	fflush(stdout);
	restore(STDOUT_FILENO, out);
	restore(STDERR_FILENO, err);
	n = pread(fileno(file), said, sizeof(said) - 1, 0);
	assert_true(n >= 0);
	said[n] = '\0';
	fclose(file);
	return go_on;
}

/* Splits a line at blanks; a command line for a test. '_' stands for a blank in an argument. */
static bool parse_line(const char *line, int *status)
{
	static char text[1024]; /* config points into it */
	char *argv[MAX_ARGS];
	char *rest = text;
	int argc = 0;

	assert_true(strlen(line) < sizeof(text));
	strcpy(text, line);
	while ((argv[argc] = strsep(&rest, " "))) {
		for (char *at = argv[argc]; *at; at++)
			if (*at == '_')
				*at = ' ';
		assert_true(++argc < MAX_ARGS);
	}
	return parse(argv, status);
}

static void accept_line(const char *line)
{
	int status;

	if (!parse_line(line, &status))
		fail_msg("refused: %s", said);
}

/* Lines that are refused, with status 1 and a line that contains the second text. */
static struct refusal {
	const char *name;
	const char *line;
	const char *expected;
} refusals[] = {
	{ "an unknown option is named as getopt does", "./pasta --bogus",
	  "./pasta: unrecognized option '--bogus'\n" },
	{ "a caller finds its unknown option quoted", "passt --map-guest-addrs x",
	  "unrecognized option '--map-guest-addr" },
	{ "an unknown letter is named", "passt -Z", "invalid option -- 'Z'" },
	{ "a missing argument is named", "passt --fqdn", "option '--fqdn' requires an argument" },
	{ "an argument too many is named", "passt --quiet=1",
	  "option '--quiet' doesn't allow an argument" },
	{ "a command is refused for a VM", "passt true", "'true'" },
	{ "both versions off is refused", "passt -4 -6", "--ipv4-only and --ipv6-only" },
	{ "a socket's path and a descriptor is refused", "passt -s /tmp/x -F 40",
	  "--fd and --socket" },
	{ "both modes are refused", "passt --vhost-user --namespace",
	  "--namespace and --vhost-user" },
	{ "vhost-user in a namespace is refused", "pasta --vhost-user true",
	  "--vhost-user is for virtual machines" },
	{ "an option of namespaces is refused for a VM", "passt --config-net",
	  "--config-net is for namespaces only" },
	{ "an option of VMs is refused for a namespace", "pasta -1 true",
	  "--one-off is for virtual machines" },
	{ "auto is refused for a VM", "passt -t auto", "--tcp-ports auto" },
	{ "a wrong port names option and part", "passt -u 22,x", "--udp-ports 22,x: 'x'" },
	{ "an MTU below 68 is refused", "passt -m 67",
	  "--mtu 67: is neither 0 nor a number from 68 to 65535" },
	{ "an MTU above 65535 is refused", "passt -m 65536", "--mtu 65536" },
	{ "a wrong address is named", "passt -a foo",
	  "--address foo: is not an IPv4 or IPv6 address" },
	{ "a loopback address is refused for the guest", "passt -a 127.0.0.1",
	  "--address 127.0.0.1" },
	{ "a prefix of 33 is refused for IPv4", "passt -a 192.0.2.1/33",
	  "prefix length from 1 to 32" },
	{ "a prefix of 129 is refused for IPv6", "passt -a 2001:db8::1/129",
	  "prefix length from 1 to 128" },
	{ "a mask with holes is refused", "passt -n 255.0.255.0", "--netmask 255.0.255.0" },
	{ "a prefix length given both ways is refused", "passt -a 192.0.2.1/24 -n 24",
	  "--netmask 24: contradicts" },
	{ "a prefix length given both ways, the mask first, is refused",
	  "passt -n 24 -a 192.0.2.1/24", "--address 192.0.2.1/24: contradicts" },
	{ "the broadcast address is refused for the guest", "passt -a 255.255.255.255",
	  "--address 255.255.255.255: is not the address of a host" },
	{ "an IPv6 address to bind to without IPv6 is refused", "passt -4 -t ::1/22",
	  "--tcp-ports has an IPv6 address, but IPv6 is left out" },
	{ "an IPv4 address to bind to without IPv4 is refused", "passt -u 0.0.0.0/22 -6",
	  "--udp-ports has an IPv4 address, but IPv4 is left out" },
	{ "an address in the namespace is refused", "pasta -T 192.0.2.1/22 true",
	  "--tcp-ns takes no address" },
	{ "an interface in the namespace is refused", "pasta -U %eth0/53 true",
	  "--udp-ns takes no address" },
	{ "an IPv6 address to bind to with too small an MTU is refused", "pasta -m 1000 -t ::/80",
	  "--tcp-ports has an IPv6 address, but IPv6 is left out" },
	{ "an MTU that leaves no version is refused", "pasta -6 -m 1000",
	  "--mtu 1000 is too small for IPv6" },
	{ "a loopback address is refused as gateway", "passt -g 127.0.0.1", "--gateway 127.0.0.1" },
	{ "a loopback address is refused as the host's", "passt --map-guest-addr ::1",
	  "--map-guest-addr ::1" },
	{ "a loopback address is refused as the host's loopback",
	  "passt --map-host-loopback 127.0.0.1", "--map-host-loopback 127.0.0.1" },
	{ "a loopback address is refused as the guest's resolver", "passt --dns-forward 127.0.0.53",
	  "--dns-forward 127.0.0.53" },
	{ "ports of a protocol that is off are refused", "passt --no-tcp -t 22",
	  "--no-tcp and --tcp-ports" },
	{ "all ports of a protocol that is off are refused", "passt -u all --no-udp",
	  "--no-udp and --udp-ports" },
	{ "the unspecified address is refused as gateway", "passt -g 0.0.0.0",
	  "--gateway 0.0.0.0" },
	{ "a group MAC address is refused", "passt -M 01:00:00:00:00:01", "--mac-addr" },
	{ "an interface's name of 16 bytes is refused", "passt -i abcdefghijklmnop",
	  "--interface" },
	{ "a wrong domain is named", "passt -S a_b..c", "'b..c'" },
	{ "an empty search list is refused", "passt -S _", "none means" },
	{ "a search list of blanks behind another is refused", "passt -S a -S _", "none means" },
	{ "a wrong host name is refused", "passt --hostname a_b", "--hostname" },
	{ "a CPU that may not be used is named", "passt --cpus 1023", "CPU 1023" },
	{ "a CPU beyond what the kernel can name is named", "passt --cpus 60000", "CPU 60000" },
	{ "a list of CPUs with a letter is refused", "passt --cpus 0,x", "--cpus 0,x" },
	{ "no shard is refused", "passt --shards 0", "from 1 to 64" },
	{ "inline is on or off", "passt --inline maybe", "neither on nor off" },
	{ "a pool too small is refused", "passt --pool 1K", "--pool 1K" },
	{ "a log file too small is refused", "passt --log-size 10",
	  "--log-size 10: is not a number from 4096" },
	{ "a descriptor that is not open is refused", "passt -F 1022",
	  "--fd 1022: is not an open descriptor" },
	{ "standard output is refused as the guest's socket", "passt -F 1", "--fd 1" },
	{ "an empty path is refused", "passt -s= -P ", "--pid : is empty" },
	{ "a helper for migration is not in this build", "passt --repair-path /tmp/x",
	  "not in this build" },
	{ "a name and a command is refused", "pasta --netns x true",
	  "/run/netns/x and the command 'true'" },
	{ "a name and a process is refused", "pasta --netns x 12", "the process '12'" },
	{ "a user namespace without a network namespace is refused",
	  "pasta --userns /proc/1/ns/user", "--userns needs" },
	{ "the namespace's resolvers both ways is refused", "pasta --dhcp-dns --no-dhcp-dns",
	  "--dhcp-dns and --no-dhcp-dns" },
};

static void run_refusal(void **state)
{
	const struct refusal *r = *state;
	int status = -1, pair[2];

	/* A guest's socket, for the row that names it. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(dup2(pair[0], 40), 40);
	assert_false(parse_line(r->line, &status));
	close(40);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(status, 1);
	if (!strstr(said, r->expected))
		fail_msg("said: %s", said);
}

static void defaults_of_a_vm(void **state)
{
	(void)state;
	accept_line("/usr/bin/passt");
	assert_string_equal(said, "");
	assert_string_equal(config.program, "passt");
	assert_int_equal(config.mode, MODE_STREAM);
	assert_int_equal(config.mtu, 65520);
	assert_int_equal(config.fd, -1);
	assert_int_equal(config.tcp_in.mode, PORTS_NONE);
	assert_int_equal(config.udp_out.mode, PORTS_NONE);
	assert_int_equal(config.flows, 131072);
	assert_int_equal(config.pool_bytes, 256 << 20);
	assert_int_equal(config.log_size, 1 << 20);
	assert_false(config.no_dhcp_dns);
}

static void defaults_of_a_namespace(void **state)
{
	(void)state;
	accept_line("pasta");
	assert_int_equal(config.mode, MODE_NAMESPACE);
	assert_int_equal(config.tcp_in.mode, PORTS_AUTO);
	assert_int_equal(config.udp_in.mode, PORTS_AUTO);
	assert_int_equal(config.tcp_out.mode, PORTS_AUTO);
	assert_int_equal(config.udp_out.mode, PORTS_AUTO);
	assert_true(config.no_dhcp_dns);
	assert_true(config.no_dhcp_search);
	assert_null(config.command);
}

/* "Backend program conventions": the socket and nothing else is said. */
static void a_back_end_is_known_by_its_name(void **state)
{
	(void)state;
	accept_line("/usr/bin/taploom-vhost-user --socket-path=/run/net.socket");
	assert_int_equal(config.mode, MODE_VHOST_USER);
	assert_true(config.foreground);
	assert_string_equal(config.socket_path, "/run/net.socket");
	accept_line("taploom --vhost-user");
	assert_false(config.foreground);
}

static void libvirt_is_understood(void **state)
{
	(void)state;
	accept_line(
		"passt --vhost-user --one-off --socket /run/vm.socket --pid /run/vm.pid --mtu 1500 "
		"--interface eth0 --log-file /tmp/log --hostname vm --fqdn vm.example.org "
		"--address 192.0.2.5 --netmask 24 --address 2001:db8::5 --netmask 64 "
		"--tcp-ports 192.0.2.1%eth0/~22,80-90:180-190 --udp-ports all");
	assert_int_equal(config.mode, MODE_VHOST_USER);
	assert_true(config.one_off);
	assert_string_equal(config.socket_path, "/run/vm.socket");
	assert_string_equal(config.pid_file, "/run/vm.pid");
	assert_int_equal(config.mtu, 1500);
	assert_string_equal(config.ifname, "eth0");
	assert_int_equal(config.prefix_len[IP4], 24);
	assert_int_equal(config.prefix_len[IP6], 64);
	assert_int_equal(config.tcp_in.n_maps, 1);
	assert_int_equal(config.udp_in.mode, PORTS_ALL);
	assert_string_equal(config.fqdn, "vm.example.org");
}

/* A prefix length is IPv4's, unless it cannot be. */
static void netmask_belongs_to_ipv4(void **state)
{
	(void)state;
	accept_line("pasta -a 192.0.2.5 -a 2001:db8::5 -n 24");
	assert_int_equal(config.prefix_len[IP4], 24);
	assert_int_equal(config.prefix_len[IP6], 0);
	accept_line("pasta -a 192.0.2.5 -a 2001:db8::5 -n 64");
	assert_int_equal(config.prefix_len[IP4], 0);
	assert_int_equal(config.prefix_len[IP6], 64);
	accept_line("pasta -a 2001:db8::5 -a 192.0.2.5 -n 64");
	assert_int_equal(config.prefix_len[IP6], 64);
	accept_line("pasta -a 192.0.2.5/24 -a 2001:db8::5 -n 32");
	assert_int_equal(config.prefix_len[IP6], 32);
	accept_line("pasta -a 2001:db8::5 -n 32");
	assert_int_equal(config.prefix_len[IP6], 32);
}

static void a_later_address_has_its_own_prefix_length(void **state)
{
	(void)state;
	accept_line("pasta -a 10.1.2.3/8 -a 192.168.1.5");
	assert_int_equal(config.prefix_len[IP4], 0);
	accept_line("pasta -a 10.1.2.3/8 -a 192.168.1.5/24");
	assert_int_equal(config.prefix_len[IP4], 24);
	accept_line("pasta -a 10.1.2.3 -n 8 -a 192.168.1.5");
	assert_int_equal(config.prefix_len[IP4], 8);
}

static void qemu_is_understood(void **state)
{
	int pair[2];
	char line[512];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	snprintf(line, sizeof(line),
		 "passt --quiet --outbound 192.0.2.9 --outbound-if4 eth0 --outbound-if6 eth1 "
		 "--no-dhcp-dns --no-dhcp-search --map-host-loopback 192.0.2.1 --map-guest-addr "
		 "2001:db8::7 --dns-forward 192.0.2.53 --dns-host 127.0.0.53 --freebind --search "
		 "a_b "
		 "--gateway fe80::1 --tcp-ports 22,80 --udp-ports 53 --pid /tmp/x.pid --fd %d",
		 pair[0]);
	accept_line(line);
	assert_int_equal(config.fd, pair[0]);
	assert_true(config.one_off);
	assert_int_equal(config.n_search, 2);
	assert_string_equal(config.search[1].name, "b");
	assert_string_equal(config.outbound_if[IP6], "eth1");
	assert_true(config.map_host_loopback_set[IP4]);
	assert_false(config.map_host_loopback_set[IP6]);
	assert_false(ip_is_unset(&config.gateway[IP6]));
	assert_true(config.quiet);
	close(pair[0]);
	close(pair[1]);
}

static void podman_is_understood(void **state)
{
	(void)state;
	accept_line(
		"pasta --config-net -t 0.0.0.0/8080-8080:80-80 -t ::/8080-8080:80-80 --dns-forward "
		"169.254.1.1 -u none -T none -U none --no-map-gw --quiet --netns /run/user/ns "
		"--map-guest-addr 169.254.1.2");
	assert_true(config.config_net);
	assert_int_equal(config.tcp_in.n_maps, 2);
	assert_int_equal(config.udp_out.mode, PORTS_NONE);
	assert_string_equal(config.netns, "/run/user/ns");
	assert_true(config.netns_only);
	assert_true(config.no_map_gw);
}

/* Both have been in use: Podman's control socket, and short for --config-net. */
static void minus_c_has_two_meanings(void **state)
{
	(void)state;
	accept_line("pasta --config-net -P /run/x/pid -c /run/x/no-such.sock --netns /run/user/ns");
	assert_string_equal(config.conf_path, "/run/x/no-such.sock");
	assert_non_null(strstr(said, "no effect in this build"));
	accept_line("pasta -c");
	assert_true(config.config_net);
	accept_line("pasta -c 4711");
	assert_true(config.config_net);
	assert_int_equal(config.netns_pid, 4711);
	accept_line("pasta -c -q -- true");
	assert_true(config.config_net && config.quiet && config.command);
	accept_line("passt -c ctl.sock -q");
	assert_string_equal(config.conf_path, "ctl.sock");
	assert_true(config.quiet);
	accept_line("pasta -c /bin/sh -c true");
	assert_true(config.config_net);
	assert_string_equal(config.command[0], "/bin/sh");
	assert_string_equal(config.conf_path, "");
}

static void rootlesskit_is_understood(void **state)
{
	(void)state;
	accept_line(
		"pasta --stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 "
		"--netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only "
		"--tcp-ports=auto --udp-ports=none --host-lo-to-ns-lo "
		"--userns=/proc/12/ns/user --netns=/proc/12/ns/net");
	assert_string_equal(said, "pasta: --stderr has no effect and may be left out\n");
	assert_true(config.family_off[IP6]);
	assert_true(config.host_lo_to_ns_lo);
	assert_string_equal(config.userns, "/proc/12/ns/user");
	assert_false(config.netns_only);
}

static void a_command_keeps_its_own_options(void **state)
{
	(void)state;
	accept_line("pasta -f --config-net -- sh -c -t --bogus");
	assert_non_null(config.command);
	assert_string_equal(config.command[0], "sh");
	assert_string_equal(config.command[3], "--bogus");
	assert_null(config.command[4]);
	assert_int_equal(config.tcp_in.mode, PORTS_AUTO);
}

static void a_protocol_that_is_off_follows_no_ports(void **state)
{
	(void)state;
	accept_line("pasta --no-tcp -T auto");
	assert_int_equal(config.tcp_in.mode, PORTS_NONE);
	assert_int_equal(config.tcp_in.n_maps, 0);
	assert_int_equal(config.tcp_out.n_maps, 0);
	assert_int_equal(config.udp_in.n_maps, 1);
}

static void a_number_alone_is_a_process(void **state)
{
	(void)state;
	accept_line("taploom --namespace 4711");
	assert_int_equal(config.netns_pid, 4711);
	assert_null(config.command);
}

static void a_number_with_arguments_is_a_command(void **state)
{
	(void)state;
	accept_line("pasta 4711 x");
	assert_int_equal(config.netns_pid, 0);
	assert_string_equal(config.command[0], "4711");
}

static void a_name_is_one_of_ip_netns(void **state)
{
	(void)state;
	accept_line("pasta --netns blue");
	assert_string_equal(config.netns, "/run/netns/blue");
}

static void an_mtu_below_1280_switches_a_namespaces_ipv6_off(void **state)
{
	(void)state;
	accept_line("pasta -m 1279");
	assert_true(config.family_off[IP6]);
	assert_non_null(strstr(said, "IPv6 is off"));
	accept_line("passt -m 68");
	assert_false(config.family_off[IP6]);
	assert_string_equal(said, "");
}

static void what_is_one_too_many_is_left_out(void **state)
{
	(void)state;
	accept_line("passt -D 192.0.2.1 -D 192.0.2.2 -D 192.0.2.3 -D 192.0.2.4 -D 2001:db8::1");
	assert_int_equal(config.n_dns, 4);
	assert_int_equal(ip_version_of(&config.dns[3]), IP6);
	assert_non_null(strstr(said, "--dns: 192.0.2.4 is left out"));
	accept_line("passt -S a_b_c_d_e_f_g_h");
	assert_int_equal(config.n_search, MAX_SEARCH);
	assert_non_null(strstr(said, "--search: g is left out"));
}

static void an_mtu_of_0_is_not_announced(void **state)
{
	(void)state;
	accept_line("passt -m 0");
	assert_int_equal(config.mtu, 0);
	assert_false(config.family_off[IP6]);
}

static void a_mask_with_dots_is_a_prefix_length(void **state)
{
	(void)state;
	accept_line("passt -a 2001:db8::5/64 -n 255.255.255.0");
	assert_int_equal(config.prefix_len[IP4], 24);
	assert_int_equal(config.prefix_len[IP6], 64);
}

static void none_is_no_nameserver_and_no_domain(void **state)
{
	(void)state;
	accept_line("passt -D none -S none --map-guest-addr none --map-host-loopback none");
	assert_true(config.dns_set);
	assert_int_equal(config.n_dns, 0);
	assert_true(config.search_set);
	assert_int_equal(config.n_search, 0);
	assert_true(config.map_host_loopback_set[IP6]);
	assert_true(ip_is_unset(&config.map_host_loopback[IP6]));
}

static void of_names_and_none_the_last_counts(void **state)
{
	(void)state;
	accept_line("passt -D 192.0.2.1 -D none -S a -S none");
	assert_int_equal(config.n_dns, 0);
	assert_int_equal(config.n_search, 0);
	accept_line("passt -D none -D 192.0.2.1 -S none -S a_b");
	assert_int_equal(config.n_dns, 1);
	assert_int_equal(config.n_search, 2);
}

/* QEMU always gives --quiet, and its user may add --debug. */
static void debug_goes_before_quiet(void **state)
{
	(void)state;
	accept_line("passt --quiet --debug");
	assert_true(config.debug);
	accept_line("passt --trace --quiet");
	assert_true(config.trace);
}

static void abbreviations_are_taken(void **state)
{
	(void)state;
	accept_line("passt --sock=/tmp/x --tcp-p 22 --one");
	assert_string_equal(config.socket_path, "/tmp/x");
	assert_int_equal(config.tcp_in.n_maps, 1);
	assert_true(config.one_off);
}

static void our_own_options_are_stored(void **state)
{
	(void)state;
	accept_line(
		"taploom --shards 4 --cpus 0 --inline off --busy-poll 50 --huge-pages --flows 1000 "
		"--pool 64M --no-peek-off --log-size 64K --trace");
	assert_int_equal(config.shards, 4);
	assert_int_equal(config.n_cpus, 1);
	assert_true(config.inline_off);
	assert_int_equal(config.busy_poll_us, 50);
	assert_true(config.huge_pages);
	assert_int_equal(config.flows, 1000);
	assert_int_equal(config.pool_bytes, 64 << 20);
	assert_true(config.no_peek_off);
	assert_int_equal(config.log_size, 65536);
	assert_true(config.debug);
}

static void options_without_effect_are_accepted(void **state)
{
	(void)state;
	accept_line("passt -e --stats 1 --chroot-fallback --migrate-exit --migrate-no-linger "
		    "--repair-path none");
	accept_line("pasta --no-copy-routes --no-copy-addrs --no-tcp -t none true");
}

/* Command lines that only print. */
static void expect_printed(const char *line, const char *begin)
{
	int status = -1;

	assert_false(parse_line(line, &status));
	assert_int_equal(status, 0);
	assert_memory_equal(said, begin, strlen(begin));
}

static void version_begins_with_the_name_called_by(void **state)
{
	(void)state;
	expect_printed("/usr/bin/pasta --host-lo-to-ns-lo --version",
		       "pasta " TAPLOOM_VERSION "\n");
	expect_printed("passt --version", "passt " TAPLOOM_VERSION "\n");
}

static void capabilities_are_json(void **state)
{
	(void)state;
	expect_printed("passt --vhost-user --print-capabilities", "{\n  \"type\": \"net\"\n}\n");
}

static void help_shows_every_option_but_hidden_ones(void **state)
{
	(void)state;
	expect_printed("passt --help", "Usage: passt ");
	for (unsigned int i = 0; i < n_option_rows; i++) {
		char text[80];

		snprintf(text, sizeof(text), "--%s%s", option_rows[i].name,
			 option_rows[i].argument ? " " : "\n");
		assert_int_equal(strstr(said, text) != NULL,
				 option_rows[i].section != SECTION_HIDDEN);
	}
}

static void names_and_letters_are_unique(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < n_option_rows; i++)
		for (unsigned int j = 0; j < i; j++) {
			assert_string_not_equal(option_rows[i].name, option_rows[j].name);
			assert_true(!option_rows[i].letter ||
				    option_rows[i].letter != option_rows[j].letter);
		}
}

#define N_REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

int main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(defaults_of_a_vm),
		cmocka_unit_test(defaults_of_a_namespace),
		cmocka_unit_test(a_back_end_is_known_by_its_name),
		cmocka_unit_test(netmask_belongs_to_ipv4),
		cmocka_unit_test(a_later_address_has_its_own_prefix_length),
		cmocka_unit_test(libvirt_is_understood),
		cmocka_unit_test(qemu_is_understood),
		cmocka_unit_test(podman_is_understood),
		cmocka_unit_test(minus_c_has_two_meanings),
		cmocka_unit_test(rootlesskit_is_understood),
		cmocka_unit_test(a_command_keeps_its_own_options),
		cmocka_unit_test(a_protocol_that_is_off_follows_no_ports),
		cmocka_unit_test(a_number_alone_is_a_process),
		cmocka_unit_test(a_number_with_arguments_is_a_command),
		cmocka_unit_test(a_name_is_one_of_ip_netns),
		cmocka_unit_test(an_mtu_below_1280_switches_a_namespaces_ipv6_off),
		cmocka_unit_test(what_is_one_too_many_is_left_out),
		cmocka_unit_test(an_mtu_of_0_is_not_announced),
		cmocka_unit_test(a_mask_with_dots_is_a_prefix_length),
		cmocka_unit_test(none_is_no_nameserver_and_no_domain),
		cmocka_unit_test(of_names_and_none_the_last_counts),
		cmocka_unit_test(debug_goes_before_quiet),
		cmocka_unit_test(abbreviations_are_taken),
		cmocka_unit_test(our_own_options_are_stored),
		cmocka_unit_test(options_without_effect_are_accepted),
		cmocka_unit_test(version_begins_with_the_name_called_by),
		cmocka_unit_test(capabilities_are_json),
		cmocka_unit_test(help_shows_every_option_but_hidden_ones),
		cmocka_unit_test(names_and_letters_are_unique),
	};
	struct CMUnitTest tests[N_REFUSALS];

	for (size_t i = 0; i < N_REFUSALS; i++)
		tests[i] = (struct CMUnitTest){ .name = refusals[i].name,
						.test_func = run_refusal,
						.initial_state = &refusals[i] };
	return cmocka_run_group_tests(tests, NULL, NULL) +
	       cmocka_run_group_tests(others, NULL, NULL);
}
