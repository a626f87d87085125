/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and capabilities. Each test asks a child, as what is given up does not come back; those
 * that need root are skipped without.
 */
#include "privileges.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What a child reports. */
struct report {
	int result;
	uid_t uid;
	gid_t gid;
	int n_groups;
	uint64_t caps;
};

static struct report change_user_in_child(const char *runas, bool in_userns)
{
	struct report report = { 0 };
	int status;
	int out[2];
	pid_t child;

	assert_int_equal(pipe(out), 0);
	child = fork();
	if (child == 0) {
		close(STDERR_FILENO);
		if (in_userns && unshare(CLONE_NEWUSER))
			_exit(2);
		report.result = privileges_change_user(runas, PRIVILEGES_VM);
		report.uid = geteuid();
		report.gid = getegid();
		report.n_groups = getgroups(0, NULL);
		report.caps = privileges_get();
		_exit(write(out[1], &report, sizeof(report)) == sizeof(report) ? 0 : 1);
	}
	close(out[1]);
	if (read(out[0], &report, sizeof(report)) != sizeof(report))
		report.result = -ECHILD;
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return report;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void root_becomes_nobody(void **state)
{
	struct report r;

	(void)state;
	need_root();
	r = change_user_in_child("", false);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.uid, 65534);
	assert_int_equal(r.n_groups, 0);
}

static void low_ports_stay_and_nothing_else(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(change_user_in_child("", false).caps & ~PRIVILEGES_VM, 0);
	assert_int_equal(change_user_in_child("", false).caps, privileges_get() & PRIVILEGES_VM);
}

static void runas_0_stays_root(void **state)
{
	struct report r;

	(void)state;
	need_root();
	r = change_user_in_child("0", false);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.uid, 0);
	assert_int_equal(r.caps, privileges_get());
}

static void numbers_are_taken_as_they_are(void **state)
{
	struct report r;

	(void)state;
	need_root();
	r = change_user_in_child("4242:77", false);
	assert_int_equal(r.uid, 4242);
	assert_int_equal(r.gid, 77);
}

static void names_are_looked_up(void **state)
{
	struct report r;

	(void)state;
	need_root();
	r = change_user_in_child("daemon:root", false);
	assert_int_equal(r.result, 0);
	assert_int_not_equal(r.uid, 0);
	assert_int_equal(r.gid, 0);
}

static void an_unknown_user_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(change_user_in_child("no-such-user", false).result, -ENOENT);
}

static void an_unknown_group_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(change_user_in_child("0:no-such-group", false).result, -ENOENT);
}

static void in_a_user_namespace_nothing_changes(void **state)
{
	struct report r = change_user_in_child("", true);

	(void)state;
	if (r.result == -ECHILD) /* user namespaces are forbidden here */
		skip();
	assert_int_equal(r.result, 0);
	assert_true(r.caps != 0);
}

static void limit_drops_all_but_what_is_kept(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		_exit(privileges_limit(PRIVILEGES_VM) == 0 &&
				      (privileges_get() & ~PRIVILEGES_VM) == 0
			      ? 0
			      : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(root_becomes_nobody),
		cmocka_unit_test(low_ports_stay_and_nothing_else),
		cmocka_unit_test(runas_0_stays_root),
		cmocka_unit_test(numbers_are_taken_as_they_are),
		cmocka_unit_test(names_are_looked_up),
		cmocka_unit_test(an_unknown_user_is_an_error),
		cmocka_unit_test(an_unknown_group_is_an_error),
		cmocka_unit_test(in_a_user_namespace_nothing_changes),
		cmocka_unit_test(limit_drops_all_but_what_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
