/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces, the tap device in them, their end, and the namespace thread: with namespaces that the
 * tests make. Skipped where that is not permitted.
 */
#include "main/netns.h"
#include "main/netns_plan.h"
#include "main/netns_watch.h"
#include "main/ns_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct netns_user same_user = { .change = false };

static struct config *config_new(void)
{
	struct config *config = test_calloc(1, sizeof(*config));

	config->mtu = 65520;
	return config;
}

/* Runs a shell command line in a new namespace to its end. */
static int run_command(const char *line)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)(uintptr_t)line, NULL };
	struct config *config = config_new();
	struct netns ns;
	struct pollfd pfd;
	int status = -1;

	config->command = argv;
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(netns_command_start(&ns), 0);
	pfd = (struct pollfd){ .fd = ns.command_fd, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, -1), 1);
	assert_true(netns_command_ended(&ns, &status));
	netns_close(&ns);
	test_free(config);
	return status;
}

static struct status_case {
	const char *name;
	const char *line;
	int status;
} status_cases[] = {
	{ "a command's exit status is passed on", "exit 7", 7 },
	{ "a command killed by signal 15 has status 143", "kill -TERM $$", 143 },
	{ "a command is root in its namespace", "test $(id -u) = 0", 0 },
};

static void test_status(void **state)
{
	const struct status_case *c = *state;

	assert_int_equal(run_command(c->line), c->status);
}

static void test_a_command_has_a_network_of_its_own(void **state)
{
	char own[64] = "", line[128];

	(void)state;
	assert_true(readlink("/proc/self/ns/net", own, sizeof(own) - 1) > 0);
	snprintf(line, sizeof(line), "test \"$(readlink /proc/self/ns/net)\" != '%s'", own);
	assert_int_equal(run_command(line), 0);
}

static void test_a_command_that_does_not_exist_has_status_127(void **state)
{
	char *argv[] = { (char *)"/nonexistent/command", NULL };
	struct config *config = config_new();
	struct netns ns;
	int raw;

	(void)state;
	config->command = argv;
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(netns_command_start(&ns), 0);
	assert_int_equal(waitpid(ns.command, &raw, 0), ns.command);
	assert_int_equal(WEXITSTATUS(raw), 127);
	netns_close(&ns);
	test_free(config);
}

static void test_a_command_that_never_starts_ends_when_the_namespace_is_closed(void **state)
{
	char *argv[] = { (char *)"true", NULL };
	struct config *config = config_new();
	struct netns ns;
	pid_t pid;
	int raw;

	(void)state;
	config->command = argv;
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	pid = ns.command;
	netns_close(&ns);
	assert_int_equal(waitpid(pid, &raw, 0), pid);
	assert_int_equal(WEXITSTATUS(raw), 1);
	test_free(config);
}

static void test_a_path_that_is_no_namespace_is_refused(void **state)
{
	struct config *config = config_new();
	struct netns ns;

	(void)state;
	snprintf(config->netns, sizeof(config->netns), "/dev/null");
	assert_int_equal(netns_open(&ns, config, &same_user), -EINVAL);
	test_free(config);
}

static void test_a_path_that_does_not_exist_is_refused(void **state)
{
	struct config *config = config_new();
	struct netns ns;

	(void)state;
	snprintf(config->netns, sizeof(config->netns), "/run/netns/nsmode-none");
	assert_int_equal(netns_open(&ns, config, &same_user), -ENOENT);
	test_free(config);
}

/* A namespace of a waiting process, and a plan for it. */
struct fixture {
	struct config *config;
	struct netns ns;
	struct netns_plan plan;
	struct netconf net;
	struct host_net host;
};

static int set_up(void **state)
{
	static char *argv[] = { (char *)"true", NULL };
	struct fixture *f = test_calloc(1, sizeof(*f));
	static const uint8_t addr[] = { 192, 0, 2, 10 }, router[] = { 192, 0, 2, 1 };
	static const uint8_t addr6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 2 };
	static const uint8_t router6[16] = { 0xfe, 0x80, [15] = 1 };

	f->config = config_new();
	f->config->command = argv;
	f->config->config_net = true;
	snprintf(f->config->ns_ifname, IFNAMSIZ, "test0");
	f->net.v[IP4] = (struct netconf_version){ .on = true,
						  .addr = ip4_addr_of(addr),
						  .prefix_len = 24,
						  .gateway = ip4_addr_of(router) };
	f->net.v[IP6] = (struct netconf_version){ .on = true,
						  .addr = ip6_addr_of(addr6),
						  .prefix_len = 64,
						  .gateway = ip6_addr_of(router6) };
	assert_int_equal(netns_open(&f->ns, f->config, &same_user), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	pid_t pid = f->ns.command;

	netns_close(&f->ns);
	waitpid(pid, NULL, 0);
	test_free(f->config);
	test_free(f);
	return 0;
}

/* Runs a shell command line inside the fixture's namespace; its status. */
static int inside(struct fixture *f, const char *line)
{
	pid_t pid = fork();
	int raw;

	if (pid == 0) {
		if (netns_enter(&f->ns) < 0)
			_exit(99);
		_exit(WEXITSTATUS(system(line)));
	}
	waitpid(pid, &raw, 0);
	return WEXITSTATUS(raw);
}

static void make(struct fixture *f, unsigned int n_queues, struct tap_device *tap)
{
	assert_int_equal(netns_plan_make(&f->plan, f->config, &f->net, &f->host, n_queues), 0);
	assert_int_equal(netns_make_tap(&f->ns, &f->plan, tap), 0);
}

static struct line_case {
	const char *name;
	const char *line;
} line_cases[] = {
	{ "lo is up", "ip link show lo | grep -q ,UP" },
	{ "the device is up with the MTU", "ip link show test0 | grep -q 'UP.*mtu 65520'" },
	{ "the IPv4 address is there", "ip addr show test0 | grep -q 'inet 192.0.2.10/24'" },
	{ "the IPv6 address can be used at once",
	  "ip addr show test0 | grep 'inet6 2001:db8::2/64' | grep -vq tentative" },
	{ "the link-local address can be used at once",
	  "ip addr show test0 | grep 'inet6 fe80::' | grep -vq tentative" },
	{ "the IPv4 default route is there",
	  "ip route | grep -q 'default via 192.0.2.1 dev test0'" },
	{ "the IPv6 default route is there",
	  "ip -6 route | grep -q 'default via fe80::1 dev test0'" },
};

static void test_configured(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;

	make(f, 2, &tap);
	for (size_t i = 0; i < sizeof(line_cases) / sizeof(line_cases[0]); i++) {
		if (inside(f, line_cases[i].line) != 0)
			fail_msg("%s", line_cases[i].name);
	}
	netns_tap_close(&tap);
}

/* Processes that leave the kernel's workers little time, until they are ended. */
static void begin_load(pid_t *pids, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (volatile unsigned int spin = 0;; spin++)
				;
		}
	}
}

static void end_load(const pid_t *pids, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
}

/* A closed port of the namespace itself refuses at once; elsewhere a SYN would wait for an answer.
 */
static bool refuses(const struct ip_addr *addr)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons(1) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;
	socklen_t len = sizeof(error);

	memcpy(&sa.sin6_addr, addr->b, 16);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == EINPROGRESS)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	else
		error = errno;
	close(fd);
	return error == ECONNREFUSED;
}

/* In the namespace: gives it one address after the other. How many were not its own at once. */
static int add_addresses(const struct fixture *f)
{
	struct netns_plan plan = f->plan;
	struct eth_addr mac;
	int missed = 0;

	plan.n_routes = 0;
	plan.n_addrs = 1;
	plan.addrs[0] = (struct plan_addr){ .addr = f->net.v[IP6].addr, .prefix_len = 64 };
	for (uint8_t last = 100; last < 200; last++) {
		plan.addrs[0].addr.b[15] = last;
		missed += netns_plan_apply(&plan, if_nametoindex("test0"), &mac) < 0 ||
			  !refuses(&plan.addrs[0].addr);
	}
	return missed;
}

static void test_an_address_of_a_busy_host_is_the_namespaces_own_at_once(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;
	pid_t load[8], pid;
	int raw;

	make(f, 1, &tap);
	begin_load(load, 8);
	pid = fork();
	if (pid == 0)
		_exit(netns_enter(&f->ns) < 0 ? 99 : add_addresses(f));
	waitpid(pid, &raw, 0);
	end_load(load, 8);
	assert_int_equal(raw, 0);
	netns_tap_close(&tap);
}

static void test_as_many_queues_as_asked_for_come_out(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;

	make(f, 4, &tap);
	assert_int_equal(tap.n_queues, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_true(fcntl(tap.fds[i], F_GETFL) & O_NONBLOCK);
	netns_tap_close(&tap);
}

static void test_the_devices_ethernet_address_is_as_given_and_told(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;

	f->config->ns_mac_set = true;
	f->config->ns_mac = (struct eth_addr){ { 2, 1, 2, 3, 4, 5 } };
	make(f, 1, &tap);
	assert_true(eth_eq(&tap.mac, &f->config->ns_mac));
	assert_int_equal(inside(f, "ip link show test0 | grep -q 02:01:02:03:04:05"), 0);
	netns_tap_close(&tap);
}

static void test_without_config_net_the_device_stays_down_and_lo_is_up(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;

	f->config->config_net = false;
	make(f, 1, &tap);
	assert_int_equal(inside(f, "ip link show lo | grep -q ,UP"), 0);
	assert_int_equal(inside(f, "ip link show test0 | grep -q ,UP"), 1);
	netns_tap_close(&tap);
}

static void test_a_name_that_is_taken_is_refused(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap, second;

	make(f, 1, &tap);
	assert_int_equal(netns_make_tap(&f->ns, &f->plan, &second), -EBUSY);
	netns_tap_close(&tap);
}

/* Addresses and routes of a device in the host's place: the test's own namespace. */
static void test_the_hosts_addresses_and_routes_are_copied(void **state)
{
	struct fixture *f = *state;
	struct tap_device tap;

	assert_int_equal(system("ip link add nsmode0 type veth peer name nsmode1 &&"
				" ip link set nsmode1 up && ip link set nsmode0 up &&"
				" ip addr add 198.51.100.5/24 dev nsmode0 &&"
				" ip addr add 203.0.113.1/32 dev nsmode0 &&"
				" ip addr add 2001:db8:1::5/64 dev nsmode0 nodad &&"
				" ip route add 10.0.0.0/8 via 198.51.100.9 metric 7 &&"
				" ip route add default via 198.51.100.1 dev nsmode0 &&"
				" ip -6 route add default via 2001:db8:1::1 dev nsmode0"),
			 0);
	f->host.v[IP4].ifindex = f->host.v[IP6].ifindex = if_nametoindex("nsmode0");
	make(f, 1, &tap);
	assert_int_equal(inside(f, "ip addr show test0 | grep -q 'inet 198.51.100.5/24' &&"
				   " ip addr show test0 | grep -q 'inet 203.0.113.1/32' &&"
				   " ip addr show test0 | grep -q 'inet6 2001:db8:1::5/64' &&"
				   " ip route | grep -q '10.0.0.0/8 via 198.51.100.9.*metric 7' &&"
				   " ip route | grep -q 'default via 198.51.100.1 dev test0' &&"
				   " ip -6 route | grep -q 'default via 2001:db8:1::1 dev test0'"),
			 0);
	netns_tap_close(&tap);
	assert_int_equal(system("ip link del nsmode0"), 0);
}

static void test_a_process_that_ends_ends_its_namespace(void **state)
{
	struct config *config = config_new();
	struct netns_watch *watch;
	struct netns ns;
	pid_t pid = fork();
	struct pollfd pfd = { .events = POLLIN };

	(void)state;
	role_is_control();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	config->netns_pid = pid;
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(netns_watch_new(&watch, &ns, config), 0);
	assert_false(netns_watch_gone(watch));
	kill(pid, SIGKILL);
	pfd.fd = netns_watch_fd(watch);
	assert_int_equal(poll(&pfd, 1, -1), 1);
	assert_true(netns_watch_gone(watch));
	waitpid(pid, NULL, 0);
	netns_watch_free(watch);
	netns_close(&ns);
	test_free(config);
}

static void watch_path_until_gone(int (*end)(const char *path))
{
	struct config *config = config_new();
	struct netns_watch *watch;
	struct netns ns;
	struct pollfd pfd = { .events = POLLIN };
	char dir[] = "/tmp/nsmode-watch-XXXXXX";

	role_is_control();
	assert_non_null(mkdtemp(dir));
	snprintf(config->netns, sizeof(config->netns), "%s/net", dir);
	close(open(config->netns, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(mount("/proc/self/ns/net", config->netns, NULL, MS_BIND, NULL), 0);
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(netns_watch_new(&watch, &ns, config), 0);
	assert_false(netns_watch_gone(watch));
	assert_int_equal(end(config->netns), 0);
	pfd.fd = netns_watch_fd(watch);
	assert_int_equal(poll(&pfd, 1, -1), 1);
	assert_true(netns_watch_gone(watch));
	netns_watch_free(watch);
	netns_close(&ns);
	unlink(config->netns);
	rmdir(dir);
	test_free(config);
}

static int end_unmount(const char *path)
{
	return umount2(path, MNT_DETACH);
}

static int end_unlink(const char *path)
{
	int error = umount2(path, MNT_DETACH);

	return error ? error : unlink(path);
}

/* While it was opened, before anybody watched. */
static void test_a_path_that_went_too_early_is_refused(void **state)
{
	struct config *config = config_new();
	struct netns_watch *watch;
	struct netns ns;

	(void)state;
	role_is_control();
	snprintf(config->netns, sizeof(config->netns), "/tmp/nsmode-early-%d", (int)getpid());
	close(open(config->netns, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(mount("/proc/self/ns/net", config->netns, NULL, MS_BIND, NULL), 0);
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(end_unlink(config->netns), 0);
	assert_int_equal(netns_watch_new(&watch, &ns, config), -ENOENT);
	assert_null(watch);
	netns_close(&ns);
	test_free(config);
}

static void test_a_path_that_is_unmounted_ends_the_namespace(void **state)
{
	(void)state;
	watch_path_until_gone(end_unmount);
}

static void test_a_path_that_is_unlinked_ends_the_namespace(void **state)
{
	(void)state;
	watch_path_until_gone(end_unlink);
}

static void test_with_no_netns_quit_nothing_is_watched(void **state)
{
	struct config *config = config_new();
	struct netns_watch *watch;
	struct netns ns;

	(void)state;
	config->no_netns_quit = true;
	snprintf(config->netns, sizeof(config->netns), "/proc/self/ns/net");
	assert_int_equal(netns_open(&ns, config, &same_user), 0);
	assert_int_equal(netns_watch_new(&watch, &ns, config), 0);
	assert_null(watch);
	netns_close(&ns);
	test_free(config);
}

static uint64_t namespace_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len), 0);
	return cookie;
}

static void test_the_threads_sockets_are_in_the_namespace(void **state)
{
	struct fixture *f = *state;
	struct ns_thread *thread;
	int own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int taken, made;

	role_is_shard();
	assert_int_equal(ns_thread_start(&thread, &f->ns, 1, -1, NULL, NULL), 0);
	taken = ns_thread_take(thread, 0, NS_TCP6);
	made = ns_thread_socket(thread, AF_INET, SOCK_DGRAM, 0);
	assert_true(taken >= 0 && made >= 0);
	assert_true(namespace_of(taken) != namespace_of(own));
	assert_true(namespace_of(taken) == namespace_of(made));
	close(taken);
	close(made);
	close(own);
	ns_thread_stop(thread);
}

static void note_refill(void *arg, unsigned int shard)
{
	(void)shard;
	atomic_store((_Atomic bool *)arg, true);
}

static void test_an_empty_pool_is_refilled_and_says_so(void **state)
{
	struct fixture *f = *state;
	struct ns_thread *thread;
	_Atomic bool refilled = false;
	int n = 0;

	role_is_shard();
	assert_int_equal(ns_thread_start(&thread, &f->ns, 1, -1, note_refill, &refilled), 0);
	while (n < 500) {
		int fd = ns_thread_take(thread, 0, NS_TCP4);

		if (fd >= 0) {
			close(fd);
			n++;
			continue;
		}
		assert_int_equal(fd, -EAGAIN);
		while (!atomic_exchange(&refilled, false))
			sched_yield();
	}
	ns_thread_stop(thread);
}

#define ORDINARY_USER 65534

/* All that the main thread does at start, as the user that the process is. 0, or the step that
 * failed. */
static int start_as_is(struct netns_user user)
{
	char *argv[] = { (char *)"true", NULL };
	struct fixture f = { .config = config_new() };
	struct ns_thread *thread;
	struct tap_device tap;

	f.config->command = argv;
	f.config->config_net = true;
	if (netns_open(&f.ns, f.config, &user) < 0)
		return 1;
	if (netns_plan_make(&f.plan, f.config, &f.net, &f.host, 2) < 0 ||
	    netns_make_tap(&f.ns, &f.plan, &tap) < 0)
		return 2;
	if (geteuid() != 0 && netns_join_user(&f.ns) < 0)
		return 3;
	if (ns_thread_start(&thread, &f.ns, 1, -1, NULL, NULL) < 0)
		return 4;
	ns_thread_stop(thread);
	netns_tap_close(&tap);
	netns_close(&f.ns);
	test_free(f.config);
	return 0;
}

static int start_in_child(uid_t uid, struct netns_user user)
{
	pid_t pid = fork();
	int raw;

	if (pid == 0) {
		if (uid != 0 && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
				 setresuid(uid, uid, uid) < 0))
			_exit(90);
		prctl(PR_SET_DUMPABLE, 1);
		_exit(start_as_is(user));
	}
	waitpid(pid, &raw, 0);
	return WEXITSTATUS(raw);
}

static void test_an_ordinary_user_can_start_a_command(void **state)
{
	(void)state;
	assert_int_equal(start_in_child(ORDINARY_USER, same_user), 0);
}

static void test_root_can_start_a_command_as_another_user(void **state)
{
	struct netns_user nobody = { .change = true, .uid = ORDINARY_USER, .gid = ORDINARY_USER };

	(void)state;
	assert_int_equal(start_in_child(0, nobody), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define STATUS(i)                                                                                  \
	{                                                                                          \
		status_cases[i].name, test_status, NULL, NULL, &status_cases[i]                    \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STATUS(0),
		STATUS(1),
		STATUS(2),
		cmocka_unit_test(test_a_command_has_a_network_of_its_own),
		cmocka_unit_test(test_a_command_that_does_not_exist_has_status_127),
		cmocka_unit_test(
			test_a_command_that_never_starts_ends_when_the_namespace_is_closed),
		cmocka_unit_test(test_a_path_that_is_no_namespace_is_refused),
		cmocka_unit_test(test_a_path_that_does_not_exist_is_refused),
		TEST(test_configured),
		TEST(test_an_address_of_a_busy_host_is_the_namespaces_own_at_once),
		TEST(test_as_many_queues_as_asked_for_come_out),
		TEST(test_the_devices_ethernet_address_is_as_given_and_told),
		TEST(test_without_config_net_the_device_stays_down_and_lo_is_up),
		TEST(test_a_name_that_is_taken_is_refused),
		TEST(test_the_hosts_addresses_and_routes_are_copied),
		cmocka_unit_test(test_a_process_that_ends_ends_its_namespace),
		cmocka_unit_test(test_a_path_that_went_too_early_is_refused),
		cmocka_unit_test(test_a_path_that_is_unmounted_ends_the_namespace),
		cmocka_unit_test(test_a_path_that_is_unlinked_ends_the_namespace),
		cmocka_unit_test(test_with_no_netns_quit_nothing_is_watched),
		cmocka_unit_test(test_an_ordinary_user_can_start_a_command),
		cmocka_unit_test(test_root_can_start_a_command_as_another_user),
		TEST(test_the_threads_sockets_are_in_the_namespace),
		TEST(test_an_empty_pool_is_refilled_and_says_so),
	};

	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		puts("skipped: namespaces cannot be made here");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
