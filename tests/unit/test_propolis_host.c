/* SPDX-License-Identifier: MPL-2.0
 *
 * What a machine is on its host: made, taken back and removed, by the tools of an illumos that
 * keeps count. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"
#include "tests/unit/hosting.h"
#include "tests/unit/unit.h"

/* ---- names ---- */

START_TEST(host__names__any_id_gives_valid_ones)
{
	struct hosting h;

	hosting_start(&h);
	srandom(11);
	for (int i = 0; i < 500; i++) {
		char id[13];

		snprintf(id, sizeof(id), "%06lx%06lx", random() & 0xffffff, random() & 0xffffff);
		h.machine.id = id;
		hosting_copy_again(&h);
		ck_assert(host_link_valid(h.m->names.link));
		ck_assert(host_link_valid(h.m->names.control));
		ck_assert_uint_le(strlen(h.m->names.zone), 63);
		ck_assert_uint_lt(strlen(h.m->names.dataset), 256);
		ck_assert_int_eq(strspn(h.m->names.zone + 4, "0123456789abcdef"), 12);
		ck_assert_str_eq(h.m->names.zone + 4, id);
		ck_assert(str_ends(h.m->names.device, h.m->names.dataset));
	}
	hosting_stop(&h);
}
END_TEST

START_TEST(host__names__rule_of_links)
{
	static const char *const good[] = { "a0", "net0", "web_1", "A10", "x_y_z20",
		"abcdefghijklmnopqrstuvwxyzabcd0" };
	static const char *const bad[] = { "", "0", "net", "0net0", "net01", "net00", "_n0", "a-0",
		"a b0", "a.0", "\xc3\xa4_0", "abcdefghijklmnopqrstuvwxyzabcde0", "a0\n" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(host_link_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!host_link_valid(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(host__link_name_against_the_rule__refused_before_anything)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;
	char name[] = "abcdefghijklmnopqrstuvwxyzabcdefgh0", over[] = "net-0";

	hosting_start(&h);
	h.spec.network.name = name; /* its first letters would be a good one */
	hosting_copy_again(&h);
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_PARAMS);
	ck_assert_ptr_nonnull(strstr(err.msg, name));
	ck_assert_ptr_nonnull(strstr(err.hint, "ends with a number"));
	ck_assert_str_eq(err.object, "network.name");
	h.spec.network.name = NULL;
	h.spec.network.link = over;
	ck_assert_int_eq(host_check_names(&h.config, &h.spec, &err), E_PARAMS);
	ck_assert_str_eq(err.object, "network.link");
	h.spec.network.link = NULL;
	h.config.vnic_link = NULL;
	ck_assert_int_eq(host_check_names(&h.config, &h.spec, &err), E_PARAMS);
	h.spec.network.type = NETWORK_NONE;
	ck_assert_int_eq(host_check_names(&h.config, &h.spec, &err), 0);
	calls = hosting_calls(&h);
	ck_assert_str_eq(calls, "");
	hosting_copy_again(&h);
	hosting_stop(&h);
}
END_TEST

/* ---- made ---- */

static const char look_calls[] = "zoneadm list -cp\n"
				 "dladm show-vnic -p -o link,over,macaddress\n"
				 "zfs get -H -p -o value vmm:machine " HOSTING_CLONE "\n"
				 "zfs create -p rpool/vmm/images\n"
				 "zfs create -p rpool/vmm/machines\n"
				 "zfs get -H -p -o value vmm:digest " HOSTING_IMAGE "\n";

START_TEST(host__prepare__exact_calls)
{
	struct hosting h;
	CLEANUP_FREE char *calls = NULL, *expected = NULL;

	hosting_start(&h);
	h.spec.disk_bytes = 10 << 20;
	hosting_copy_again(&h);
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	expected = xasprintf(
	    "%s"
	    "zfs get -H -p -o value vmm:digest " HOSTING_IMAGE ".part\n"
	    "zfs get -H -p -o value available rpool/vmm\n"
	    "zfs create -p -V 4194304 -o vmm:digest=" HOSTING_DIGEST " " HOSTING_IMAGE ".part\n"
	    "dd if=%s of=%s/" HOSTING_IMAGE ".part bs=1048576 conv=sync\n"
	    "zfs snapshot " HOSTING_IMAGE ".part@image\n"
	    "zfs rename " HOSTING_IMAGE ".part " HOSTING_IMAGE "\n"
	    "zfs clone -o vmm:machine=" HOSTING_ID " " HOSTING_IMAGE "@image " HOSTING_CLONE "\n"
	    "zfs set volsize=10485760 " HOSTING_CLONE "\n"
	    "dladm create-vnic -l igb0 -m " HOSTING_MAC " vm" HOSTING_ID "_n0\n"
	    "dladm create-vnic -l vmmstub0 vm" HOSTING_ID "_c0\n"
	    "zonecfg -z " HOSTING_ZONE " -f %s/zone.cfg\n"
	    "zoneadm -z " HOSTING_ZONE " install\n",
	    look_calls, h.image_path, h.zvol_dir, h.machine_dir);
	ck_assert_str_eq(calls, expected);
	ck_assert(hosting_machine_dir_empty(&h));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__image_there__cloned_only)
{
	struct hosting h;
	CLEANUP_FREE char *calls = NULL, *expected = NULL, *state = NULL;
	char name[] = "web0", over[] = "igb1";

	hosting_start(&h);
	state = hosting_warm(&h);
	h.spec.network.name = name;
	h.spec.network.link = over;
	hosting_copy_again(&h);
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	expected = xasprintf("%s"
			     "zfs get -H -p -o value available rpool/vmm\n"
			     "zfs clone -o vmm:machine=" HOSTING_ID " " HOSTING_IMAGE
			     "@image " HOSTING_CLONE "\n"
			     "dladm create-vnic -l igb1 -m " HOSTING_MAC " web0\n"
			     "dladm create-vnic -l vmmstub0 vm" HOSTING_ID "_c0\n"
			     "zonecfg -z " HOSTING_ZONE " -f %s/zone.cfg\n"
			     "zoneadm -z " HOSTING_ZONE " install\n",
	    look_calls, h.machine_dir);
	ck_assert_str_eq(calls, expected);
	hosting_ok(host_unprepare(h.m, NULL, &(struct err)ERR_INIT), &(struct err)ERR_INIT);
	hosting_same(&h, state);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__zone_as_agreed)
{
	struct hosting h;
	CLEANUP_FREE char *script = NULL, *expected = NULL;

	hosting_start(&h);
	hosting_prepare(&h);
	script = hosting_script(&h);
	expected = xasprintf(
	    "create -b\nset brand=vmm\nset zonepath=\"%s/" HOSTING_ZONE "\"\n"
	    "set autoboot=false\nset ip-type=exclusive\n"
	    "add net\nset physical=vm" HOSTING_ID "_n0\nend\n"
	    "add net\nset physical=vm" HOSTING_ID "_c0\nend\n"
	    "add device\nset match=\"%s/" HOSTING_CLONE "\"\nend\n"
	    "add fs\nset dir=\"%s/opt\"\nset special=\"%s/opt\"\nset type=lofs\n"
	    "add options [ro,nodevices]\nend\n"
	    "add attr\nset name=vmm-machine\nset type=string\nset value=\"" HOSTING_UUID "\"\nend\n"
	    "add attr\nset name=vmm-address\nset type=string\nset value=\"none\"\nend\n"
	    "add attr\nset name=vmm-port\nset type=string\nset value=\"12400\"\nend\n"
	    "add attr\nset name=vmm-link\nset type=string\nset value=\"vm" HOSTING_ID "_c0\"\nend\n"
	    "add attr\nset name=vmm-server\nset type=string\nset value=\"%s\"\nend\n"
	    "add attr\nset name=vmm-bootrom\nset type=string\nset "
	    "value=\"%s/opt/blob/OVMF_CODE.fd\"\nend\n"
	    "add attr\nset name=vmm-vnc\nset type=string\nset value=\"5900\"\nend\n"
	    "verify\ncommit\n",
	    h.zone_dir, h.zvol_dir, h.dir, h.dir, h.server, h.dir);
	ck_assert_str_eq(script, expected);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__no_network__the_control_link_alone)
{
	struct hosting h;
	CLEANUP_FREE char *calls = NULL, *script = NULL;

	hosting_start(&h);
	h.spec.network.type = NETWORK_NONE;
	hosting_copy_again(&h);
	hosting_prepare(&h);
	script = hosting_script(&h);
	calls = hosting_calls(&h);
	ck_assert_ptr_null(strstr(script, "_n0"));
	ck_assert_ptr_null(strstr(calls, "_n0"));
	ck_assert_ptr_nonnull(strstr(script, "set physical=vm" HOSTING_ID "_c0"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__the_bytes_of_the_image)
{
	struct hosting h;
	CLEANUP_FREE char *device = NULL, *data = NULL;
	size_t len;

	hosting_start(&h);
	hosting_prepare(&h);
	ck_assert_int_eq(fs_read(h.m->names.device, 1 << 23, &data, &len, NULL), 0);
	ck_assert_uint_eq(len, 4 << 20);
	ck_assert_int_eq(memcmp(data, "the first sector", 16), 0);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__qcow2__made_raw_on_the_way)
{
	struct hosting h;
	struct process_output out = { 0 };
	struct err err = ERR_INIT;
	CLEANUP_FREE char *path = NULL, *data = NULL, *calls = NULL, *from = NULL;
	size_t len;

	hosting_start(&h);
	path = fs_join(h.dir, "image.qcow2");
	hosting_ok(process_run((const char *[]){ "qemu-img", "convert", "-f", "raw", "-O", "qcow2",
			   h.image_path, path, NULL },
	       NULL, 0, 65536, 60000, NULL, NULL, &out, &err),
	    &err);
	process_output_done(&out);
	h.image.path = path;
	h.image.format = "qcow2";
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	from = xasprintf("dd if=%s/image.raw ", h.machine_dir);
	ck_assert_ptr_nonnull(strstr(calls, from));
	ck_assert_int_eq(fs_read(h.m->names.device, 1 << 23, &data, &len, NULL), 0);
	ck_assert_uint_eq(len, 4 << 20);
	ck_assert_int_eq(memcmp(data, "the first sector", 16), 0);
	ck_assert(hosting_machine_dir_empty(&h));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__smaller_than_the_image__refused)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;

	hosting_start(&h);
	h.spec.disk_bytes = 3 << 20;
	hosting_copy_again(&h);
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_PARAMS);
	ck_assert_str_eq(err.object, "disk");
	calls = hosting_calls(&h);
	ck_assert_str_eq(calls, "");
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__no_room__told_before_anything_is_written)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;

	hosting_start(&h);
	hosting_change(&h, "s['pools']['rpool'] = 50 << 20");
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_NO_SPACE);
	ck_assert_ptr_nonnull(strstr(err.msg, "rpool/vmm"));
	ck_assert_ptr_nonnull(strstr(err.hint, "vmctl image prune"));
	calls = hosting_calls(&h);
	ck_assert_ptr_null(strstr(calls, "-V"));
	hosting_fault(&h, "[{\"tool\": \"zfs\", \"verb\": \"clone\", "
			  "\"stderr\": \"cannot create 'x': out of space\"}]");
	hosting_change(&h, "s['pools']['rpool'] = 1 << 40");
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_NO_SPACE);
	ck_assert_ptr_nonnull(strstr(err.msg, "out of space"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__no_rights__told_which)
{
	struct hosting h;
	struct err err = ERR_INIT;

	hosting_start(&h);
	hosting_fault(&h,
	    "[{\"tool\": \"dladm\", \"verb\": \"create-vnic\", "
	    "\"stderr\": \"dladm: vnic creation over igb0 failed: permission denied\"}]");
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_PERMISSION);
	ck_assert_ptr_nonnull(strstr(err.msg, "permission denied"));
	ck_assert_ptr_nonnull(strstr(err.hint, "rights profile"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__zone_dir_is_wrong__told_with_the_remedy)
{
	struct hosting h;
	struct err err = ERR_INIT;

	hosting_start(&h);
	ck_assert_int_eq(chmod(h.zone_dir, 0777), 0);
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_PERMISSION);
	ck_assert_ptr_nonnull(strstr(err.hint, "chmod go-w"));
	ck_assert_int_eq(rmdir(h.zone_dir), 0);
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.hint, "mkdir -p"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__host_lacks_a_part__hint_names_the_command)
{
	static const struct {
		const char *change, *hint;
	} rows[] = {
		{ "del s['links']['vmmstub0']", "dladm create-etherstub vmmstub0" },
		{ "del s['links']['igb0']", "dladm show-link" },
		{ "s['brands'].remove('vmm')", "/usr/lib/brand/vmm" },
		{ "s['pools'].clear() or s['datasets'].clear()", "zpool list" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hosting h;
		struct err err = ERR_INIT;

		hosting_start(&h);
		hosting_change(&h, rows[i].change);
		ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_FAILED);
		ck_assert_msg(
		    strstr(err.hint, rows[i].hint) != NULL, "%s: %s", rows[i].change, err.hint);
		hosting_stop(&h);
	}
}
END_TEST

/* ---- foreign ---- */

START_TEST(host__prepare__names_are_somebody_elses__refused_and_untouched)
{
	static const char config[] = "'config': {'props': {'zonepath': '/x', 'brand': 'ipkg'}, "
				     "'resources': []}, 'id': None, 'pid': None, 'uuid': 'u'";
	static const struct {
		const char *change, *object;
	} rows[] = {
		{ "s['zones']['" HOSTING_ZONE "'] = {'state': 'installed', %s}", "zone" },
		{ "s['links']['vm" HOSTING_ID "_n0'] = {'class': 'vnic', 'over': 'igb0', 'mac': "
		  "'2:8:20:9:9:9'}",
		    "VNIC" },
		{ "s['links']['vm" HOSTING_ID "_c0'] = {'class': 'vnic', 'over': 'igb1', 'mac': "
		  "'2:8:20:9:9:9'}",
		    "VNIC" },
		{ "s['datasets'].update({'rpool/vmm': {'type': 'filesystem', 'props': {}}, "
		  "'rpool/vmm/machines': {'type': 'filesystem', 'props': {}}, '" HOSTING_CLONE
		  "': {'type': 'filesystem', 'props': {}}})",
		    "dataset" },
		{ "s['datasets'].update({'rpool/vmm': {'type': 'filesystem', 'props': {}}, "
		  "'rpool/vmm/machines': {'type': 'filesystem', 'props': {}}, "
		  "'rpool/vmm/images': {'type': 'filesystem', 'props': {}}, '" HOSTING_IMAGE
		  "': {'type': 'filesystem', 'props': {}}})",
		    "dataset" },
		{ "s['datasets'].update({'rpool/vmm': {'type': 'filesystem', 'props': {}}, "
		  "'rpool/vmm/machines': {'type': 'filesystem', 'props': {}}, "
		  "'rpool/vmm/images': {'type': 'filesystem', 'props': {}}, '" HOSTING_IMAGE
		  ".part': {'type': 'filesystem', 'props': {}}})",
		    "dataset" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hosting h;
		struct err err = ERR_INIT;
		CLEANUP_FREE char *before = NULL, *change = NULL;
		const char *hole = strstr(rows[i].change, "%s");

		change = hole == NULL ? xstrdup(rows[i].change)
				      : xasprintf("%.*s%s%s", (int)(hole - rows[i].change),
					    rows[i].change, config, hole + 2);
		hosting_start(&h);
		hosting_change(&h, change);
		before = hosting_state(&h);
		ck_assert_msg(host_prepare(h.m, &h.image, NULL, &err) == E_CONFLICT, "%s: %s",
		    rows[i].change, err.msg);
		ck_assert_ptr_nonnull(strstr(err.msg, rows[i].object));
		hosting_same(&h, before);
		/* The machine that failed so can be destroyed. */
		hosting_ok(host_unprepare(h.m, NULL, &err), &err);
		if (i < 4)
			hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err);
		hosting_same(&h, before);
		hosting_stop(&h);
	}
}
END_TEST

START_TEST(host__prepare__again__refused_and_untouched)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *calls = NULL;

	hosting_start(&h);
	hosting_prepare(&h);
	before = hosting_state(&h);
	free(hosting_calls(&h));
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_EXISTS);
	hosting_same(&h, before);
	calls = hosting_calls(&h);
	ck_assert(!hosting_changes(calls));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__half_made_image_of_a_crash__made_anew)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL, *state = NULL;

	hosting_start(&h);
	hosting_ok(host_zfs_parents(&(struct host_turn){ 0 }, &h.config, &err), &err);
	hosting_change(&h, "s['datasets']['" HOSTING_IMAGE ".part'] = {'type': 'volume', 'props': "
			   "{'volsize': '1048576', 'vmm:digest': '" HOSTING_DIGEST "'}}; "
			   "s['datasets']['" HOSTING_IMAGE ".part@image'] = {'type': 'snapshot', "
			   "'props': {}}");
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	ck_assert_ptr_nonnull(strstr(calls, "zfs destroy -r " HOSTING_IMAGE ".part\n"));
	state = hosting_state(&h);
	ck_assert_ptr_null(strstr(state, ".part"));
	hosting_stop(&h);
}
END_TEST

/* ---- taken back ---- */

static int
job_prepare(struct hosting *h, struct job *job, struct err *err)
{
	return host_prepare(h->m, &h->image, job, err);
}

START_TEST(host__prepare__cancelled__everything_taken_back)
{
	static const char *const verbs[] = { "rename", "create-vnic", "install" };
	struct hosting h;
	CLEANUP_FREE char *before = NULL;

	hosting_start(&h);
	before = hosting_warm(&h);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		CLEANUP_FREE char *rule =
		    xasprintf("[{\"tool\": \"*\", \"verb\": \"%s\", \"nth\": 1, "
			      "\"effect\": \"hang\"}]",
			verbs[i]);
		struct err err = ERR_INIT;

		if (i == 0)
			hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err);
		hosting_fault(&h, rule);
		ck_assert_int_eq(hosting_job_cancelled(&h, job_prepare, &err), E_CANCELLED);
		free(hosting_calls(&h));
		hosting_fault(&h, NULL);
		if (i == 0) {
			CLEANUP_FREE char *state = hosting_state(&h);

			ck_assert_ptr_null(strstr(state, HOSTING_HEX));
			free(hosting_warm(&h)); /* the image again */
		}
		hosting_same(&h, before);
		ck_assert(hosting_machine_dir_empty(&h));
	}
	hosting_stop(&h);
}
END_TEST

START_TEST(host__prepare__taking_back_fails__told_and_removed_later)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL;

	hosting_start(&h);
	before = hosting_warm(&h);
	hosting_fault(&h, "[{\"tool\": \"zoneadm\", \"verb\": \"install\", \"stderr\": \"first\"},"
			  "{\"tool\": \"zfs\", \"verb\": \"destroy\", \"stderr\": \"second\"}]");
	ck_assert_int_eq(host_prepare(h.m, &h.image, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "first"));
	ck_assert_ptr_nonnull(strstr(err.hint, "second"));
	hosting_fault(&h, NULL);
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	hosting_same(&h, before);
	hosting_stop(&h);
}
END_TEST

/* ---- several at once ---- */

struct one {
	struct hosting *h;
	struct host_machine *m;
	char id[13];
	struct err err;
	int rc, *left;
	struct loop *loop;
};

static void
one_run(struct job *job, void *data)
{
	struct one *one = data;

	one->rc = host_prepare(one->m, &one->h->image, job, &one->err);
}

static void
one_done(void *data)
{
	struct one *one = data;

	if (--*one->left == 0)
		loop_stop(one->loop);
}

START_TEST(host__prepare__several_of_one_image__made_once)
{
	enum { COUNT = 3 };
	struct hosting h;
	struct one ones[COUNT];
	char *dirs[COUNT];
	struct loop *loop = loop_create();
	struct worker_pool *pool = worker_pool_create(loop, COUNT, COUNT);
	struct host_imports *imports = host_imports_create();
	CLEANUP_FREE char *calls = NULL;
	char *first;
	int left = COUNT;

	hosting_start(&h);
	h.spec.network.type = NETWORK_NONE;
	for (int i = 0; i < COUNT; i++) {
		ones[i] = (struct one){ .h = &h, .left = &left, .loop = loop };
		snprintf(ones[i].id, sizeof(ones[i].id), "00000000000%d", i);
		h.machine.id = ones[i].id;
		dirs[i] = fs_join(h.dir, ones[i].id);
		ck_assert_int_eq(fs_mkdirs(dirs[i], 0700, NULL), 0);
		h.machine.dir = dirs[i];
		ones[i].m = host_machine_copy(&h.config, &h.machine);
		ones[i].m->imports = imports;
		ck_assert_int_eq(
		    worker_submit(pool, "one", one_run, one_done, &ones[i], 0, NULL, NULL), 0);
	}
	loop_run(loop);
	calls = hosting_calls(&h);
	first = strstr(calls, " -V ");
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, " -V "));
	for (int i = 0; i < COUNT; i++) {
		hosting_ok(ones[i].rc, &ones[i].err);
		host_machine_destroy(ones[i].m);
		free(dirs[i]);
	}
	worker_pool_destroy(pool);
	host_imports_destroy(imports);
	loop_destroy(loop);
	h.machine.id = HOSTING_ID;
	hosting_stop(&h);
}
END_TEST

/* Two of one image: the first hangs in its import, the second comes then. */
struct pair {
	struct hosting h;
	struct loop *loop;
	struct worker_pool *pool;
	struct timer *look;
	struct job *first_job;
	struct one first, second;
	int left;
};

static void
second_done(void *data)
{
	struct pair *pair = data;

	job_cancel(pair->first_job); /* which still hangs */
}

static void
second_run(struct job *job, void *data)
{
	struct pair *pair = data;

	pair->second.rc = host_prepare(pair->second.m, &pair->h.image, job, &pair->second.err);
}

static void
start_second(void *data)
{
	struct pair *pair = data;

	if (!hosting_hangs(&pair->h))
		timer_arm(pair->look, 20);
	else
		ck_assert_int_eq(worker_submit(pair->pool, "second", second_run, second_done, pair,
				     3000, NULL, NULL),
		    0);
}

START_TEST(host__prepare__waits_for_an_import__no_longer_than_its_job)
{
	struct pair p = { .left = 1 };
	struct host_imports *imports = host_imports_create();
	CLEANUP_FREE char *calls = NULL, *state = NULL;
	char *first;

	hosting_start(&p.h);
	p.loop = loop_create();
	p.pool = worker_pool_create(p.loop, 2, 2);
	p.look = timer_create_on(p.loop, start_second, &p);
	p.h.m->imports = imports;
	p.first = (struct one){ .h = &p.h, .m = p.h.m, .left = &p.left, .loop = p.loop };
	p.h.machine.id = "000000000001";
	p.second.m = host_machine_copy(&p.h.config, &p.h.machine);
	p.second.m->imports = imports;
	hosting_fault(&p.h, "[{\"tool\": \"zfs\", \"verb\": \"snapshot\", \"effect\": \"hang\"}]");
	ck_assert_int_eq(
	    worker_submit(p.pool, "first", one_run, one_done, &p.first, 0, &p.first_job, NULL), 0);
	timer_arm(p.look, 20);
	loop_run(p.loop);
	ck_assert_int_eq(p.first.rc, E_CANCELLED);
	ck_assert_int_eq(p.second.rc, E_TIMEOUT);
	calls = hosting_calls(&p.h);
	first = strstr(calls, " -V ");
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, " -V "));
	state = hosting_state(&p.h);
	ck_assert_ptr_null(strstr(state, HOSTING_HEX));
	timer_destroy(p.look);
	worker_pool_destroy(p.pool);
	loop_destroy(p.loop);
	host_machine_destroy(p.second.m);
	host_imports_destroy(imports);
	p.h.machine.id = HOSTING_ID;
	hosting_stop(&p.h);
}
END_TEST

/* ---- removed ---- */

START_TEST(host__unprepare__exact_calls_and_nothing_left)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *calls = NULL, *again = NULL;

	hosting_start(&h);
	before = hosting_warm(&h);
	hosting_prepare(&h);
	free(hosting_calls(&h));
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	calls = hosting_calls(&h);
	ck_assert_str_eq(calls, "zoneadm list -cp\n"
				"zonecfg -z " HOSTING_ZONE " info attr\n"
				"zoneadm -z " HOSTING_ZONE " uninstall -F\n"
				"zonecfg -z " HOSTING_ZONE " delete -F\n"
				"dladm show-vnic -p -o link,over,macaddress\n"
				"dladm delete-vnic vm" HOSTING_ID "_c0\n"
				"dladm show-vnic -p -o link,over,macaddress\n"
				"dladm delete-vnic vm" HOSTING_ID "_n0\n"
				"zfs get -H -p -o value vmm:machine " HOSTING_CLONE "\n"
				"zfs destroy -r " HOSTING_CLONE "\n");
	hosting_same(&h, before);
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	again = hosting_calls(&h);
	ck_assert(!hosting_changes(again));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__unprepare__the_zone_can_not_be_halted__keeps_links_and_disk)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *calls = NULL;

	hosting_start(&h);
	hosting_prepare(&h);
	hosting_ok(host_boot(h.m, "fd76:6d6d::5/64", NULL, &err), &err);
	free(hosting_calls(&h));
	hosting_fault(&h, "[{\"tool\": \"zoneadm\", \"verb\": \"halt\", \"stderr\": \"never\"}]");
	ck_assert_int_eq(host_unprepare(h.m, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "never"));
	calls = hosting_calls(&h);
	ck_assert_ptr_null(strstr(calls, "destroy"));
	ck_assert_ptr_null(strstr(calls, "delete"));
	hosting_stop(&h);
}
END_TEST

START_TEST(host__drop_image__in_use__stays)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *state = NULL;

	hosting_start(&h);
	hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err); /* no such thing */
	hosting_prepare(&h);
	before = hosting_state(&h);
	ck_assert_int_eq(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), E_BUSY);
	hosting_same(&h, before);
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err);
	state = hosting_state(&h);
	ck_assert_ptr_null(strstr(state, HOSTING_HEX));
	ck_assert_int_eq(host_drop_image(&h.config, "sha256:../../x", NULL, &err), E_IMAGE);
	hosting_stop(&h);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("propolis_host");

	UNIT_CASE(s, host__names__any_id_gives_valid_ones);
	UNIT_CASE(s, host__names__rule_of_links);
	UNIT_CASE(s, host__link_name_against_the_rule__refused_before_anything);
	UNIT_CASE(s, host__prepare__exact_calls);
	UNIT_CASE(s, host__prepare__image_there__cloned_only);
	UNIT_CASE(s, host__prepare__zone_as_agreed);
	UNIT_CASE(s, host__prepare__no_network__the_control_link_alone);
	UNIT_CASE(s, host__prepare__the_bytes_of_the_image);
	UNIT_CASE(s, host__prepare__qcow2__made_raw_on_the_way);
	UNIT_CASE(s, host__prepare__smaller_than_the_image__refused);
	UNIT_CASE(s, host__prepare__no_room__told_before_anything_is_written);
	UNIT_CASE(s, host__prepare__no_rights__told_which);
	UNIT_CASE(s, host__prepare__zone_dir_is_wrong__told_with_the_remedy);
	UNIT_CASE(s, host__prepare__host_lacks_a_part__hint_names_the_command);
	UNIT_CASE(s, host__prepare__names_are_somebody_elses__refused_and_untouched);
	UNIT_CASE(s, host__prepare__again__refused_and_untouched);
	UNIT_CASE(s, host__prepare__half_made_image_of_a_crash__made_anew);
	UNIT_CASE(s, host__prepare__cancelled__everything_taken_back);
	UNIT_CASE(s, host__prepare__taking_back_fails__told_and_removed_later);
	UNIT_CASE(s, host__prepare__several_of_one_image__made_once);
	UNIT_CASE(s, host__prepare__waits_for_an_import__no_longer_than_its_job);
	UNIT_CASE(s, host__unprepare__exact_calls_and_nothing_left);
	UNIT_CASE(s, host__unprepare__the_zone_can_not_be_halted__keeps_links_and_disk);
	UNIT_CASE(s, host__drop_image__in_use__stays);
	return unit_main(s);
}
