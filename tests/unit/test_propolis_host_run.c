/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine's zone while it runs, and what is heard and read of it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"
#include "tests/unit/hosting.h"
#include "tests/unit/unit.h"

#define ADDRESS "fd76:6d6d::5/64"

static void
start(struct hosting *h)
{
	hosting_start(h);
	hosting_prepare(h);
	free(hosting_calls(h));
}

static enum zone_state
state_of(struct hosting *h)
{
	enum zone_state state = ZONE_UNKNOWN;
	struct err err = ERR_INIT;

	hosting_ok(host_zone_find(&(struct host_turn){ 0 }, h->m->names.zone, &state, &err), &err);
	return state;
}

/* ---- boot ---- */

START_TEST(host__boot__exact_calls)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *script = NULL, *calls = NULL, *expected = NULL;

	start(&h);
	hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
	script = hosting_script(&h);
	calls = hosting_calls(&h);
	expected = xasprintf("zoneadm list -cp\n"
			     "zonecfg -z " HOSTING_ZONE " info attr\n"
			     "dladm show-vnic -p -o link,over,macaddress\n"
			     "zonecfg -z " HOSTING_ZONE " -f %s/zone.cfg\n"
			     "zoneadm -z " HOSTING_ZONE " boot\n",
	    h.machine_dir);
	ck_assert_str_eq(calls, expected);
	ck_assert_str_eq(
	    script, "select attr name=vmm-address\nset value=\"" ADDRESS "\"\nend\ncommit\n");
	ck_assert_int_eq(state_of(&h), ZONE_RUNNING);
	ck_assert(hosting_machine_dir_empty(&h));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__no_address__refused)
{
	static const char *const bad[] = { "", "none", "1.2.3.4\"", "fd76::5\nboot", "a b" };
	struct hosting h;
	CLEANUP_FREE char *script = NULL;

	start(&h);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(host_boot(h.m, bad[i], NULL, NULL), E_PARAMS);
	script = hosting_script(&h);
	ck_assert_ptr_null(script);
	ck_assert_int_eq(state_of(&h), ZONE_INSTALLED);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__links_are_gone__made_again)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;

	start(&h);
	hosting_change(&h, "[s['links'].pop('vm" HOSTING_ID "_' + x) for x in ('n0', 'c0')]");
	hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
	calls = hosting_calls(&h);
	ck_assert_ptr_nonnull(
	    strstr(calls, "dladm create-vnic -l igb0 -m " HOSTING_MAC " vm" HOSTING_ID "_n0\n"
			  "dladm create-vnic -l vmmstub0 vm" HOSTING_ID "_c0\n"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__a_link_is_somebody_elses__refused_and_untouched)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *after = NULL;

	start(&h);
	hosting_change(&h, "s['links']['vm" HOSTING_ID "_n0']['mac'] = '2:8:20:9:9:9'");
	before = hosting_state(&h);
	ck_assert_int_eq(host_boot(h.m, ADDRESS, NULL, &err), E_CONFLICT);
	ck_assert_ptr_nonnull(strstr(err.msg, "vm" HOSTING_ID "_n0"));
	after = hosting_state(&h);
	ck_assert_str_eq(before, after);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__the_zone_is_another__refused_and_untouched)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *after = NULL;

	start(&h);
	hosting_change(&h, "[r['props'].update(value='another') for r in "
			   "s['zones']['" HOSTING_ZONE "']['config']['resources'] "
			   "if r['props'].get('name') == 'vmm-machine']");
	before = hosting_state(&h);
	ck_assert_int_eq(host_boot(h.m, ADDRESS, NULL, &err), E_CONFLICT);
	after = hosting_state(&h);
	ck_assert_str_eq(before, after);
	hosting_change(&h, "s['zones']['" HOSTING_ZONE "']['state'] = 'ready'");
	ck_assert_int_eq(host_halt(h.m, NULL, &err), E_CONFLICT);
	ck_assert_int_eq(state_of(&h), ZONE_READY);
	hosting_change(&h, "s['zones'].clear()");
	ck_assert_int_eq(host_boot(h.m, ADDRESS, NULL, &err), E_NOT_FOUND);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__the_zone_is_up_already__halted_first)
{
	static const char *const states[] = { "ready", "running", "down" };
	struct hosting h;
	struct err err = ERR_INIT;

	start(&h);
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		CLEANUP_FREE char *calls = NULL;
		CLEANUP_FREE char *change =
		    xasprintf("s['zones']['" HOSTING_ZONE "']['state'] = '%s'", states[i]);

		hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
		hosting_change(&h, change);
		free(hosting_calls(&h));
		hosting_ok(host_boot(h.m, "fd76:6d6d::6/64", NULL, &err), &err);
		calls = hosting_calls(&h);
		ck_assert_ptr_nonnull(strstr(calls, "zoneadm -z " HOSTING_ZONE " halt\n"));
		ck_assert_int_eq(state_of(&h), ZONE_RUNNING);
	}
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__not_installed__names_the_state)
{
	struct hosting h;
	struct err err = ERR_INIT;

	start(&h);
	hosting_change(&h, "s['zones']['" HOSTING_ZONE "']['state'] = 'incomplete'");
	ck_assert_int_eq(host_boot(h.m, ADDRESS, NULL, &err), E_STATE);
	ck_assert_ptr_nonnull(strstr(err.msg, "'incomplete'"));
	hosting_stop(&h);
}
END_TEST

static int
job_boot(struct hosting *h, struct job *job, struct err *err)
{
	return host_boot(h->m, ADDRESS, job, err);
}

START_TEST(host__boot__each_call_fails__the_zone_is_down)
{
	struct hosting h;
	struct err err = ERR_INIT;

	start(&h);
	for (unsigned nth = 1; nth <= 5; nth++) {
		CLEANUP_FREE char *rule =
		    xasprintf("[{\"tool\": \"*\", \"nth\": %u, \"effect\": \"after\", "
			      "\"stderr\": \"no, said the test\"}]",
			nth);

		hosting_fault(&h, rule);
		ck_assert_msg(host_boot(h.m, ADDRESS, NULL, &err) == E_FAILED, "call %u", nth);
		ck_assert_ptr_nonnull(strstr(err.msg, "no, said the test"));
		hosting_fault(&h, NULL);
		ck_assert_int_eq(state_of(&h), ZONE_INSTALLED);
	}
	hosting_stop(&h);
}
END_TEST

START_TEST(host__boot__cancelled__the_zone_is_down)
{
	struct hosting h;
	struct err err = ERR_INIT;

	start(&h);
	hosting_fault(&h, "[{\"tool\": \"zoneadm\", \"verb\": \"boot\", \"effect\": \"hang\"}]");
	ck_assert_int_eq(hosting_job_cancelled(&h, job_boot, &err), E_CANCELLED);
	hosting_fault(&h, NULL);
	ck_assert_int_eq(state_of(&h), ZONE_INSTALLED);
	hosting_stop(&h);
}
END_TEST

/* ---- halt ---- */

static int
job_halt(struct hosting *h, struct job *job, struct err *err)
{
	return host_halt(h->m, job, err);
}

START_TEST(host__halt__until_installed_and_again)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;

	start(&h);
	hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
	hosting_ok(host_halt(h.m, NULL, &err), &err);
	ck_assert_int_eq(state_of(&h), ZONE_INSTALLED);
	free(hosting_calls(&h));
	hosting_ok(host_halt(h.m, NULL, &err), &err);
	calls = hosting_calls(&h);
	ck_assert_str_eq(calls, "zoneadm list -cp\n");
	hosting_stop(&h);
}
END_TEST

START_TEST(host__halt__stuck_in_shutting_down__the_state_is_named)
{
	static const char *const rules[] = {
		"[{\"tool\": \"zoneadm\", \"verb\": \"halt\", \"effect\": \"stuck\"}]",
		"[{\"tool\": \"zoneadm\", \"verb\": \"halt\", \"effect\": \"stuck\", \"hang\": "
		"true}]",
	};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		struct hosting h;
		struct err err = ERR_INIT;

		start(&h);
		hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
		hosting_fault(&h, rules[i]);
		ck_assert_int_eq(hosting_job(&h, job_halt, 3000, &err), E_TIMEOUT);
		ck_assert_ptr_nonnull(strstr(err.msg, "'shutting_down'"));
		ck_assert_ptr_nonnull(strstr(err.hint, "ps -fz " HOSTING_ZONE));
		hosting_fault(&h, NULL);
		hosting_ok(host_halt(h.m, NULL, &err), &err);
		ck_assert_int_eq(state_of(&h), ZONE_INSTALLED);
		hosting_stop(&h);
	}
}
END_TEST

START_TEST(host__halt__refused__told)
{
	struct hosting h;
	struct err err = ERR_INIT;

	start(&h);
	hosting_ok(host_boot(h.m, ADDRESS, NULL, &err), &err);
	hosting_fault(&h, "[{\"tool\": \"zoneadm\", \"verb\": \"halt\", \"stderr\": \"never\"}]");
	ck_assert_int_eq(host_halt(h.m, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "never"));
	ck_assert_ptr_nonnull(strstr(err.msg, HOSTING_ZONE));
	hosting_stop(&h);
}
END_TEST

/* ---- what tools print ---- */

START_TEST(host__split__escapes)
{
	static const struct {
		const char *line;
		size_t count;
		const char *fields[4];
	} rows[] = {
		{ "a:b:c", 3, { "a", "b", "c" } },
		{ "a\\:b:c\\\\d", 2, { "a:b", "c\\d" } },
		{ "", 1, { "" } },
		{ "::", 3, { "", "", "" } },
		{ "\\::x", 2, { ":", "x" } },
		{ "a\\x:\\", 2, { "a\\x", "\\" } },
		{ "vm0:igb0:2\\:8\\:20\\:1\\:2\\:3", 3, { "vm0", "igb0", "2:8:20:1:2:3" } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *line = xstrdup(rows[i].line);
		char *fields[4];

		ck_assert_uint_eq(host_split(line, fields, 4), rows[i].count);
		for (size_t j = 0; j < rows[i].count; j++)
			ck_assert_str_eq(fields[j], rows[i].fields[j]);
	}
}
END_TEST

START_TEST(host__zones__all_of_them_with_their_states)
{
	struct hosting h;
	struct err err = ERR_INIT;
	struct zone_row *rows = NULL;
	size_t count = 0;

	start(&h);
	hosting_change(&h,
	    "s['zones']['odd'] = {'state': 'mounted', 'id': None, 'pid': None, 'uuid': "
	    "'u', 'config': {'props': {'zonepath': '/a:b\\\\c', 'brand': 'x'}, "
	    "'resources': []}}");
	hosting_ok(host_zones(&h.config, &rows, &count, NULL, &err), &err);
	ck_assert_uint_eq(count, 3);
	ck_assert_str_eq(rows[0].zone, "global");
	ck_assert_int_eq(rows[0].state, ZONE_RUNNING);
	ck_assert_str_eq(rows[1].zone, HOSTING_ZONE);
	ck_assert_int_eq(rows[1].state, ZONE_INSTALLED);
	ck_assert_str_eq(rows[2].zone, "odd");
	ck_assert_int_eq(rows[2].state, ZONE_MOUNTED);
	free(rows);
	for (int i = 0; i < ZONE_STATES; i++)
		ck_assert_ptr_nonnull(zone_state_names[i]);
	ck_assert_ptr_null(zone_state_names[ZONE_STATES]);
	hosting_stop(&h);
}
END_TEST

static void
put(const struct hosting *h, const char *name, const char *text, mode_t mode)
{
	CLEANUP_FREE char *path = fs_join(h->dir, name), *folder = fs_dirname(path);

	ck_assert_int_eq(fs_mkdirs(folder, 0755, NULL), 0);
	ck_assert_int_eq(fs_write(path, text, strlen(text), mode, NULL), 0);
}

START_TEST(host__neighbour__by_the_guests_mac)
{
	static const struct {
		const char *table, *address; /* NULL: none */
	} rows[] = {
		{ "{\"52:54:00:01:02:03\": [\"192.0.2.10\"]}", "192.0.2.10" },
		{ "{\"52:54:00:01:02:03\": [\"fd00::7\", \"192.0.2.10\"]}", "192.0.2.10" },
		{ "{\"52:54:00:01:02:03\": [\"fe80::1\", \"fd00::7\"]}", "fd00::7" },
		{ "{\"52:54:00:01:02:03\": [\"fe80::1\"]}", NULL },
		{ "{\"52:54:00:01:02:30\": [\"192.0.2.10\"], \"52:54:00:01:02\": [\"192.0.2.11\"]}",
		    NULL },
		{ "{}", NULL },
	};
	struct hosting h;

	hosting_start(&h);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = ERR_INIT;
		char address[46] = "";
		int rc;

		put(&h, "fake/neighbours.json", rows[i].table, 0644);
		rc = host_neighbour(HOSTING_MAC, address, NULL, &err);
		ck_assert_msg(rc == (rows[i].address != NULL ? 0 : E_NOT_FOUND), "%s: %s",
		    rows[i].table, err.msg);
		ck_assert_str_eq(address, rows[i].address != NULL ? rows[i].address : "");
	}
	hosting_stop(&h);
}
END_TEST

START_TEST(host__neighbour__a_tool_fails__the_other_is_asked)
{
	struct hosting h;
	struct err err = ERR_INIT;
	char address[46] = "";

	hosting_start(&h);
	put(&h, "fake/neighbours.json", "{\"52:54:00:01:02:03\": [\"fd00::7\"]}", 0644);
	hosting_fault(&h, "[{\"tool\": \"arp\", \"stderr\": \"no arp\"}]");
	hosting_ok(host_neighbour(HOSTING_MAC, address, NULL, &err), &err);
	ck_assert_str_eq(address, "fd00::7");
	put(&h, "fake/neighbours.json", "{}", 0644);
	ck_assert_int_eq(host_neighbour(HOSTING_MAC, address, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "no arp"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__mac__one_or_two_digits)
{
	ck_assert(host_mac_equal("2:8:20:1:2:ff", "02:08:20:01:02:FF"));
	ck_assert(!host_mac_equal("2:8:20:1:2:3", "2:8:20:1:2:4"));
	ck_assert(!host_mac_equal("2:8:20:1:2", "2:8:20:1:2"));
	ck_assert(!host_mac_equal("2:8:20:1:2:3:4", "2:8:20:1:2:3:4"));
	ck_assert(!host_mac_equal("2:8:20:1:2:", "2:8:20:1:2:"));
	ck_assert(!host_mac_equal("002:8:20:1:2:3", "2:8:20:1:2:3"));
	ck_assert(!host_mac_equal("-2:8:20:1:2:3", "-2:8:20:1:2:3"));
	ck_assert(!host_mac_equal("--", "--"));
}
END_TEST

START_TEST(host__zone_log__kept_for_who_can_not_look_into_the_zone)
{
	static const char kept[] = "zones/" HOSTING_ZONE ".log";
	static const char own[] = "zones/" HOSTING_ZONE "/root/var/log/vmm.log";
	CLEANUP_FREE char *path = NULL, *inside = NULL, *words = NULL;
	struct hosting h;

	start(&h);
	path = fs_join(h.dir, kept);
	inside = fs_join(h.dir, own);
	put(&h, kept, "ipmgmtd did not start\n", 0640);
	words = host_zone_log(h.m);
	ck_assert_str_eq(words, "ipmgmtd did not start\n");
	put(&h, own, "the zone's own\n", 0644);
	free(words);
	words = host_zone_log(h.m);
	ck_assert_str_eq(words, "the zone's own\n");
	ck_assert_int_eq(unlink(inside), 0);
	unlink(path);
	ck_assert_int_eq(symlink(h.server, path), 0);
	ck_assert_ptr_null(host_zone_log(h.m));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__zone_log__its_end_and_no_links)
{
	static const char log[] = "zones/" HOSTING_ZONE "/root/var/log/vmm.log";
	struct hosting h;
	struct sbuf text = { 0 };
	CLEANUP_FREE char *path = NULL, *words = NULL, *folder = NULL, *away = NULL;

	start(&h);
	path = fs_join(h.dir, log);
	folder = fs_dirname(path);
	away = fs_join(h.dir, "away");
	ck_assert_ptr_null(host_zone_log(h.m));
	put(&h, log, "", 0644);
	ck_assert_ptr_null(host_zone_log(h.m));
	put(&h, log, "one\ntwo \x1b[1m\n", 0644);
	words = host_zone_log(h.m);
	ck_assert_str_eq(words, "one\ntwo \\x1b[1m\n");
	for (int i = 0; i < 1000; i++)
		sbuf_addf(&text, "line %d\n", i);
	put(&h, log, text.data, 0644);
	sbuf_done(&text);
	free(words);
	words = host_zone_log(h.m);
	ck_assert_uint_le(strlen(words), 2048);
	ck_assert(str_starts(words, "line "));
	ck_assert(str_ends(words, "line 999\n"));
	unlink(path);
	ck_assert_int_eq(symlink(h.server, path), 0);
	ck_assert_ptr_null(host_zone_log(h.m));
	unlink(path);
	put(&h, log, "again\n", 0644);
	ck_assert_int_eq(rename(folder, away), 0);
	ck_assert_int_eq(symlink(away, folder), 0);
	ck_assert_ptr_null(host_zone_log(h.m));
	hosting_stop(&h);
}
END_TEST

/* ---- the host ---- */

START_TEST(host__available__what_is_missing_is_named)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *rom = NULL, *path = xstrdup(getenv("PATH"));

	hosting_start(&h);
	hosting_ok(host_available(&h.config, &err), &err);
	rom = fs_join(h.dir, "opt/blob/OVMF_CODE.fd");
	h.config.bootrom = "/nowhere/rom";
	ck_assert_int_eq(host_available(&h.config, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "/nowhere/rom"));
	h.config.bootrom = rom;
	hosting_ok(host_available(&h.config, &err), &err);
	h.config.server = "/nowhere/propolis-server";
	ck_assert_int_eq(host_available(&h.config, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "/nowhere/propolis-server"));
	ck_assert_ptr_nonnull(strstr(err.hint, "propolis_server"));
	h.config.server = h.server;
	setenv("PATH", path, 1);
	ck_assert_int_eq(host_available(&h.config, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "'zonecfg'"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__available__settings_that_can_not_be)
{
	struct hosting h;
	struct err err = ERR_INIT;

	hosting_start(&h);
	for (int i = 0; i < 7; i++) {
		struct hv_propolis_config config = h.config;
		static const char *const words[] = { "zfs_dataset", "zfs_dataset", "zone_dir",
			"zone_dir", "propolis_server", "control_link", "vnic_link" };

		if (i < 2)
			config.dataset = i == 0 ? "rpool//vmm" : "rpool/vmm@x";
		else if (i < 4)
			config.zone_dir = i == 2 ? "zones" : "/zones\"\nadd";
		else if (i == 4)
			config.server = "propolis-server";
		else if (i == 5)
			config.control_link = "stub";
		else
			config.vnic_link = "igb 0";
		ck_assert_int_eq(host_available(&config, &err), E_UNSUPPORTED);
		ck_assert_msg(strstr(err.msg, words[i]) != NULL, "%s", err.msg);
	}
	hosting_stop(&h);
}
END_TEST

/* Tools that tell how they were run, in a folder that everybody may write to. */
START_TEST(host__tools__plain_locale_and_pfexec_for_who_is_not_root)
{
	struct hosting h;
	struct err err = ERR_INIT;
	struct zone_row *rows = NULL;
	CLEANUP_FREE char *bin = NULL, *path = NULL, *log = NULL, *words = NULL, *script = NULL;
	size_t count = 0;
	bool root = geteuid() == 0;

	hosting_start(&h);
	bin = fs_join(h.dir, "bin");
	log = fs_join(h.dir, "log");
	ck_assert_int_eq(chmod(h.dir, 0755), 0);
	put(&h, "log", "", 0666);
	ck_assert_int_eq(chmod(log, 0666), 0);
	script = xasprintf("#!/bin/sh\necho \"pfexec $*\" >> %s\nexec \"$@\"\n", log);
	put(&h, "bin/pfexec", script, 0755);
	put(&h, "bin/zoneadm",
	    "#!/bin/sh\necho \"-:$LC_ALL$LANG$LC_MESSAGES:running:/:u:b:excl\"\n", 0755);
	path = xasprintf("%s:%s", bin, h.old_path);
	setenv("PATH", path, 1);
	setenv("LANG", "de_DE.UTF-8", 1);
	setenv("LC_MESSAGES", "de_DE.UTF-8", 1);
	if (root) {
		hosting_ok(host_zones(&h.config, &rows, &count, NULL, &err), &err);
		free(TAKE(rows));
		ck_assert_int_eq(fs_read(log, 4096, &words, NULL, NULL), 0);
		ck_assert_str_eq(words, "");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	hosting_ok(host_zones(&h.config, &rows, &count, NULL, &err), &err);
	if (root)
		ck_assert_int_eq(seteuid(0), 0);
	unsetenv("LANG");
	unsetenv("LC_MESSAGES");
	free(words);
	ck_assert_int_eq(fs_read(log, 4096, &words, NULL, NULL), 0);
	free(script);
	script = xasprintf("pfexec %s/zoneadm list -cp\n", bin);
	ck_assert_str_eq(words, script);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(rows[0].zone, "C");
	free(rows);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__tools__a_hanging_one__ended_with_the_job)
{
	struct hosting h;
	struct err err = ERR_INIT;
	uint64_t before;

	start(&h);
	hosting_fault(&h, "[{\"tool\": \"zoneadm\", \"verb\": \"list\", \"effect\": \"hang\"}]");
	before = clock_ms();
	ck_assert_int_eq(hosting_job(&h, job_boot, 1500, &err), E_TIMEOUT);
	ck_assert_uint_lt(clock_ms() - before, 15000);
	hosting_stop(&h);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("propolis_host_run");

	UNIT_CASE(s, host__boot__exact_calls);
	UNIT_CASE(s, host__boot__no_address__refused);
	UNIT_CASE(s, host__boot__links_are_gone__made_again);
	UNIT_CASE(s, host__boot__a_link_is_somebody_elses__refused_and_untouched);
	UNIT_CASE(s, host__boot__the_zone_is_another__refused_and_untouched);
	UNIT_CASE(s, host__boot__the_zone_is_up_already__halted_first);
	UNIT_CASE(s, host__boot__not_installed__names_the_state);
	UNIT_CASE(s, host__boot__each_call_fails__the_zone_is_down);
	UNIT_CASE(s, host__boot__cancelled__the_zone_is_down);
	UNIT_CASE(s, host__halt__until_installed_and_again);
	UNIT_CASE(s, host__halt__stuck_in_shutting_down__the_state_is_named);
	UNIT_CASE(s, host__halt__refused__told);
	UNIT_CASE(s, host__split__escapes);
	UNIT_CASE(s, host__zones__all_of_them_with_their_states);
	UNIT_CASE(s, host__neighbour__by_the_guests_mac);
	UNIT_CASE(s, host__neighbour__a_tool_fails__the_other_is_asked);
	UNIT_CASE(s, host__mac__one_or_two_digits);
	UNIT_CASE(s, host__zone_log__its_end_and_no_links);
	UNIT_CASE(s, host__zone_log__kept_for_who_can_not_look_into_the_zone);
	UNIT_CASE(s, host__available__what_is_missing_is_named);
	UNIT_CASE(s, host__available__settings_that_can_not_be);
	UNIT_CASE(s, host__tools__plain_locale_and_pfexec_for_who_is_not_root);
	UNIT_CASE(s, host__tools__a_hanging_one__ended_with_the_job);
	return unit_main(s);
}
