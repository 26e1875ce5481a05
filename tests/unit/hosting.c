/* SPDX-License-Identifier: MPL-2.0 */
#include "tests/unit/hosting.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static const struct hv_nic one_nic = { .mac = HOSTING_MAC };

static char *
at(const struct hosting *h, const char *name)
{
	return fs_join(h->dir, name);
}

static void
put(const struct hosting *h, const char *name, const char *text, mode_t mode)
{
	CLEANUP_FREE char *path = at(h, name), *folder = fs_dirname(path);

	ck_assert_int_eq(fs_mkdirs(folder, 0755, NULL), 0);
	ck_assert_int_eq(fs_write(path, text, strlen(text), mode, NULL), 0);
}

static void
make_files(struct hosting *h)
{
	CLEANUP_FREE char *fake = NULL;
	int fd;

	snprintf(h->dir, sizeof(h->dir), "/tmp/test-host.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(h->dir));
	fake = at(h, "fake");
	h->zvol_dir = at(h, "fake/dev/zvol/rdsk");
	h->zone_dir = at(h, "zones");
	h->machine_dir = at(h, "machine");
	h->server = at(h, "opt/bin/propolis-server");
	h->image_path = at(h, "image.raw");
	ck_assert_int_eq(fs_mkdirs(h->zvol_dir, 0755, NULL), 0);
	ck_assert_int_eq(fs_mkdirs(h->zone_dir, 0755, NULL), 0);
	ck_assert_int_eq(fs_mkdirs(h->machine_dir, 0700, NULL), 0);
	put(h, "opt/bin/propolis-server", "#!/bin/sh\nexec sleep 600\n", 0755);
	put(h, "opt/blob/OVMF_CODE.fd", "rom", 0644);
	put(h, "image.raw", "the first sector", 0644);
	fd = open(h->image_path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, (3 << 20) + 512), 0);
	close(fd);
	setenv("VMM_FAKE_DIR", fake, 1);
}

void
hosting_start(struct hosting *h)
{
	const char *fakes = getenv("FAKE_BIN");
	CLEANUP_FREE char *path = NULL;

	*h = (struct hosting){ 0 };
	ck_assert_msg(fakes != NULL, "FAKE_BIN is not set");
	h->old_path = xstrdup(getenv("PATH"));
	path = xasprintf("%s:%s", fakes, h->old_path);
	setenv("PATH", path, 1);
	make_files(h);
	h->config = (struct hv_propolis_config){ .dataset = "rpool/vmm",
		.zvol_dir = h->zvol_dir,
		.zone_dir = h->zone_dir,
		.vnic_link = "igb0",
		.control_link = "vmmstub0",
		.control_network = "fd76:6d6d::/64",
		.port = 12400,
		.server = h->server };
	h->spec = (struct vm_spec){ .network = { .present = true, .type = NETWORK_VNIC } };
	h->machine = (struct hv_config){ .id = HOSTING_ID,
		.uuid = HOSTING_UUID,
		.name = "web",
		.dir = h->machine_dir,
		.run_dir = h->machine_dir,
		.nics = &one_nic,
		.spec = &h->spec };
	h->image = (struct hv_image){ h->image_path, "raw", (3 << 20) + 512, HOSTING_DIGEST };
	h->m = host_machine_copy(&h->config, &h->machine);
}

void
hosting_copy_again(struct hosting *h)
{
	struct host_imports *imports = h->m->imports;

	host_machine_destroy(h->m);
	h->m = host_machine_copy(&h->config, &h->machine);
	h->m->imports = imports;
}

void
hosting_stop(struct hosting *h)
{
	hosting_fault(h, NULL);
	host_halt(h->m, NULL, NULL);
	host_machine_destroy(h->m);
	setenv("PATH", h->old_path, 1);
	ck_assert_int_eq(fs_remove_tree(h->dir, NULL), 0);
	free(h->zvol_dir);
	free(h->zone_dir);
	free(h->machine_dir);
	free(h->server);
	free(h->image_path);
	free(h->old_path);
}

/* ---- the host ---- */

static json_object *
read_json(const struct hosting *h, const char *name)
{
	CLEANUP_FREE char *path = at(h, name), *text = NULL;

	if (fs_read(path, 1 << 24, &text, NULL, NULL) != 0)
		return NULL;
	return json_tokener_parse(text);
}

char *
hosting_state(const struct hosting *h)
{
	static const char *const parts[] = { "zones", "datasets", "links" };
	CLEANUP_JSON json_object *state = read_json(h, "fake/state.json");
	struct sbuf text = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		sbuf_addf(&text, "%s: %s\n", parts[i],
		    json_object_to_json_string_ext(
			json_object_object_get(state, parts[i]), JSON_C_TO_STRING_PRETTY));
	return sbuf_take(&text);
}

static void
run(const char *const *argv)
{
	struct process_output out = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(
	    process_run(argv, NULL, 0, 1 << 20, 60000, NULL, NULL, &out, &err) == 0, "%s", err.msg);
	process_output_done(&out);
}

void
hosting_change(const struct hosting *h, const char *statement)
{
	CLEANUP_FREE char *program = xasprintf("import sys\nsys.path.insert(0, '%s/..')\n"
					       "from illumos import World\n"
					       "with World() as s:\n    %s\n",
	    getenv("FAKE_BIN"), statement);

	run((const char *[]){ "python3", "-B", "-c", program, NULL });
}

void
hosting_fault(const struct hosting *h, const char *rules)
{
	CLEANUP_FREE char *path = at(h, "fake/faults.json");

	if (rules == NULL)
		unlink(path);
	else
		ck_assert_int_eq(fs_write(path, rules, strlen(rules), 0644, NULL), 0);
}

static void
read_calls(const struct hosting *h, void (*see)(void *arg, json_object *call), void *arg)
{
	CLEANUP_FREE char *path = at(h, "fake/calls.jsonl"), *text = NULL;
	char *line, *end;

	if (fs_read(path, 1 << 24, &text, NULL, NULL) != 0)
		return;
	for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		CLEANUP_JSON json_object *call = NULL;

		*end = '\0';
		call = json_tokener_parse(line);
		see(arg, call);
	}
}

static void
add_line(void *arg, json_object *call)
{
	struct sbuf *text = arg;
	json_object *argv = json_object_object_get(call, "argv");

	if (str_eq(json_string(call, "tool"), "pfexec"))
		return;
	sbuf_adds(text, json_string(call, "tool"));
	for (size_t i = 0; i < json_object_array_length(argv); i++)
		sbuf_addf(text, " %s", json_object_get_string(json_object_array_get_idx(argv, i)));
	sbuf_addc(text, '\n');
}

char *
hosting_calls(const struct hosting *h)
{
	CLEANUP_FREE char *path = at(h, "fake/calls.jsonl");
	struct sbuf text = { 0 };

	read_calls(h, add_line, &text);
	unlink(path);
	return sbuf_take(&text);
}

static void
keep_script(void *arg, json_object *call)
{
	char **script = arg;
	const char *text = json_string(call, "stdin");

	if (text == NULL)
		return;
	free(*script);
	*script = xstrdup(text);
}

char *
hosting_script(const struct hosting *h)
{
	char *script = NULL;

	read_calls(h, keep_script, &script);
	return script;
}

bool
hosting_machine_dir_empty(const struct hosting *h)
{
	DIR *dir = opendir(h->machine_dir);
	size_t count = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count == 2;
}

/* ---- jobs ---- */

struct hosting_work {
	struct hosting *h;
	hosting_fn *fn;
	struct loop *loop;
	struct timer *timer;
	struct job *job;
	struct err *err;
	int rc;
};

static void
work_run(struct job *job, void *data)
{
	struct hosting_work *work = data;

	work->rc = work->fn(work->h, job, work->err);
}

static void
work_done(void *data)
{
	struct hosting_work *work = data;

	work->job = NULL;
	loop_stop(work->loop);
}

static void
see_hanging(void *arg, json_object *call)
{
	if (json_object_object_get(call, "status") == NULL &&
	    !str_eq(json_string(call, "tool"), "pfexec"))
		*(bool *)arg = true;
}

bool
hosting_hangs(const struct hosting *h)
{
	bool hanging = false;

	read_calls(h, see_hanging, &hanging);
	return hanging;
}

static void
cancel_when_it_hangs(void *arg)
{
	struct hosting_work *work = arg;

	if (hosting_hangs(work->h) && work->job != NULL)
		job_cancel(work->job);
	else
		timer_arm(work->timer, 10);
}

static int
work(struct hosting *h, hosting_fn *fn, uint64_t deadline_ms, bool cancelled, struct err *err)
{
	struct hosting_work work = { .h = h, .fn = fn, .loop = loop_create(), .err = err };
	struct worker_pool *pool = worker_pool_create(work.loop, 1, 1);

	work.timer = timer_create_on(work.loop, cancel_when_it_hangs, &work);
	ck_assert_int_eq(
	    worker_submit(pool, "test", work_run, work_done, &work, deadline_ms, &work.job, NULL),
	    0);
	if (cancelled)
		timer_arm(work.timer, 10);
	loop_run(work.loop);
	timer_destroy(work.timer);
	worker_pool_destroy(pool);
	loop_destroy(work.loop);
	return work.rc;
}

int
hosting_job(struct hosting *h, hosting_fn *fn, uint64_t deadline_ms, struct err *err)
{
	return work(h, fn, deadline_ms, false, err);
}

int
hosting_job_cancelled(struct hosting *h, hosting_fn *fn, struct err *err)
{
	return work(h, fn, 0, true, err);
}

void
hosting_ok(int rc, const struct err *err)
{
	ck_assert_msg(rc == 0, "%s: %s (%s)", err_name(err->code), err->msg, err->hint);
}

void
hosting_prepare(struct hosting *h)
{
	struct err err = ERR_INIT;

	hosting_ok(host_prepare(h->m, &h->image, NULL, &err), &err);
}

void
hosting_same(const struct hosting *h, const char *before)
{
	CLEANUP_FREE char *now = hosting_state(h);

	ck_assert_str_eq(now, before);
}

char *
hosting_warm(struct hosting *h)
{
	struct err err = ERR_INIT;

	hosting_prepare(h);
	hosting_ok(host_unprepare(h->m, NULL, &err), &err);
	free(hosting_calls(h));
	return hosting_state(h);
}

bool
hosting_changes(const char *calls)
{
	static const char *const verbs[] = { "zfs create", "zfs clone", "zfs set", "zfs destroy",
		"zfs rename", "zfs snapshot", "dladm create", "dladm delete", "-f ", "install",
		"boot", "halt", "dd " };

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strstr(calls, verbs[i]) != NULL)
			return true;
	}
	return false;
}
