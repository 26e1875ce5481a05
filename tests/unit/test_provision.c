/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/provision/provision.h"

#include <json-c/json.h>

#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

struct fixture {
	struct sshd sshd;
	struct ssh *ssh;
	struct vm_spec spec;
	char *log_path;
	bool pending[16];
	struct sbuf seen; /* what the events told */
	struct err err;
	int rc;
	const char *user;
};

static void
setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	sshd_start(&f->sshd);
	f->ssh = sshd_login(&f->sshd);
	f->log_path = fs_join(f->sshd.dir, "provision.log");
	f->user = f->sshd.user;
}

static void
teardown(struct fixture *f)
{
	ssh_close(f->ssh);
	sshd_stop(&f->sshd);
	vm_spec_release(&f->spec);
	sbuf_done(&f->seen);
	free(f->log_path);
}

static void
on_start(void *arg, size_t index)
{
	sbuf_addf(&((struct fixture *)arg)->seen, "[%zu ", index);
}

static void
on_output(void *arg, size_t index, enum ssh_stream stream, const void *data, size_t len)
{
	struct fixture *f = arg;

	sbuf_adds(&f->seen, stream == SSH_STDOUT ? "o:" : "e:");
	sbuf_add(&f->seen, data, len);
}

static void
on_end(void *arg, size_t index, uint64_t took_ms, const struct err *err)
{
	sbuf_addf(&((struct fixture *)arg)->seen, "%s%zu]", err != NULL ? err_name(err->code) : "",
	    index);
}

static void
run_body(struct job *job, void *data)
{
	struct fixture *f = data;
	struct provision_run run = { .spec = &f->spec,
		.pending = f->pending,
		.user = f->user,
		.log_path = f->log_path,
		.events = { on_start, on_output, on_end, f } };

	f->rc = provision_run(f->ssh, &run, job, &f->err);
}

/* steps: JSON in which each @ is the test's home folder. */
static void
decode(struct fixture *f, const char *steps)
{
	struct field_options options = { .kebab = true };
	struct sbuf text = { 0 };
	json_object *json;

	sbuf_adds(&text, "{\"name\":\"web\",\"provision\":");
	for (const char *p = steps; *p != '\0'; p++)
		if (*p == '@')
			sbuf_adds(&text, f->sshd.home);
		else
			sbuf_addc(&text, *p);
	sbuf_adds(&text, "}");
	json = json_tokener_parse(text.data);
	ck_assert_msg(json != NULL, "%s", text.data);
	vm_spec_release(&f->spec);
	ck_assert_uint_eq(fields_decode(vm_spec_fields, json, "vm", &options, &f->spec), 0);
	json_object_put(json);
	sbuf_done(&text);
	for (size_t i = 0; i < f->spec.provision.count; i++)
		f->pending[i] = true;
}

static int
run(struct fixture *f, const char *steps)
{
	decode(f, steps);
	sbuf_done(&f->seen);
	f->err = (struct err)ERR_INIT;
	run_body(NULL, f);
	return f->rc;
}

static char *
slurp(const char *path)
{
	char *text = NULL;

	ck_assert_int_eq(fs_read(path, 64 << 20, &text, NULL, NULL), 0);
	return text;
}

static char *
home_file(const struct fixture *f, const char *name)
{
	CLEANUP_FREE char *path = fs_join(f->sshd.home, name);

	return slurp(path);
}

/* Stands for sudo: notes its words, and runs the command. */
static void
give_sudo(const struct fixture *f)
{
	sshd_file(f->sshd.bin, "sudo",
	    "#!/bin/sh\necho \"$*\" >>$T/sudo.log\n"
	    "while :; do case $1 in -n|-H) shift;; -u) shift 2;; --) shift; break;; *) break;; "
	    "esac; done\n"
	    "exec env -u A \"$@\"\n",
	    0755);
}

/* Readable as soon as a step writes to it. */
static int
make_fifo(const struct fixture *f)
{
	CLEANUP_FREE char *path = fs_join(f->sshd.home, "fifo");
	int fd;

	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Each script notes its own path first. */
static void
expect_script_gone(const struct fixture *f)
{
	CLEANUP_FREE char *path = home_file(f, "path"), *noted = fs_join(f->sshd.home, "path");

	path[strcspn(path, "\n")] = '\0';
	ck_assert(str_starts(path, "/tmp/vmm-"));
	ck_assert_uint_eq(strlen(path), strlen("/tmp/vmm-") + 32);
	ck_assert(!fs_exists(path));
	ck_assert_int_eq(unlink(noted), 0);
}

START_TEST(provision__steps__in_order_until_one_fails)
{
	struct fixture f;

	setup(&f);
	ck_assert_msg(run(&f, "[{\"shell\":\"echo one\"},{\"shell\":\"echo two >&2\"}]") == 0, "%s",
	    f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:one\n0][1 e:two\n1]");
	ck_assert_int_eq(
	    run(&f,
		"[{\"shell\":\"cat; echo a; echo b >&2; exit 3\"},{\"shell\":\"touch @/never\"}]"),
	    E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "machine 'web': step 1 (shell 'cat; echo a; echo b "
						">&2; exit 3'): ended with status 3"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "\n    a"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "\n    b"));
	ck_assert_ptr_nonnull(strstr(f.seen.data, "provision_failed0]"));
	ck_assert_ptr_null(strstr(f.seen.data, "[1"));
	ck_assert_int_eq(
	    run(&f, "[{\"shell\":\"true\"},{\"shell\":\"kill -KILL $$\"}]"), E_PROVISION);
	ck_assert_ptr_nonnull(
	    strstr(f.err.msg, "step 2 (shell 'kill -KILL $$'): was ended by signal KILL"));
	decode(&f, "[{\"shell\":\"exit 1\"},{\"shell\":\"echo only\"}]");
	f.pending[0] = false;
	sbuf_done(&f.seen);
	run_body(NULL, &f);
	ck_assert_int_eq(f.rc, 0);
	ck_assert_str_eq(f.seen.data, "[1 o:only\n1]");
	teardown(&f);
}
END_TEST

START_TEST(provision__g63_error__quotes_only_the_end)
{
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(
	    run(&f, "[{\"shell\":\"seq 100000; printf '\\\\033[31mred'; exit 1\"}]"), E_PROVISION);
	ck_assert_uint_lt(strlen(f.err.msg), 1500);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "\n    99992\n"));
	ck_assert_ptr_null(strstr(f.err.msg, "\n    99991\n"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "\n    \\x1b[31mred"));
	teardown(&f);
}
END_TEST

START_TEST(provision__r20_script__runs_by_its_first_line_and_is_gone_after)
{
	CLEANUP_FREE char *first = NULL;
	struct fixture f;
	int fifo;

	setup(&f);
	sshd_file(f.sshd.home, "s",
	    "#!/usr/bin/env -S sh -eu\nstat -c %a \"$0\" >$T/mode\necho \"$0\" >$T/path\necho "
	    "\"$A\"\ncat\n",
	    0600);
	ck_assert_msg(run(&f, "[{\"shell\":{\"script\":\"@/s\",\"env\":{\"A\":\"it's\"}}}]") == 0,
	    "%s", f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:it's\n0]");
	first = home_file(&f, "mode");
	ck_assert_str_eq(first, "700\n");
	expect_script_gone(&f);
	/* Also after a failure and a signal. */
	sshd_file(f.sshd.home, "s", "#!/bin/sh\necho \"$0\" >$T/path\nexit 7\n", 0600);
	ck_assert_int_eq(run(&f, "[{\"shell\":{\"script\":\"@/s\"}}]"), E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "ended with status 7"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "(script '"));
	expect_script_gone(&f);
	sshd_file(f.sshd.home, "s", "#!/bin/sh\necho \"$0\" >$T/path\nkill -SEGV $$\n", 0600);
	ck_assert_int_eq(run(&f, "[{\"shell\":{\"script\":\"@/s\"}}]"), E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "signal SEGV"));
	expect_script_gone(&f);
	/* It tells that it runs, and is stopped then. */
	sshd_file(
	    f.sshd.home, "s", "#!/bin/sh\necho \"$0\" >$T/path\necho >$T/fifo\nsleep 1000\n", 0600);
	fifo = make_fifo(&f);
	decode(&f, "[{\"shell\":{\"script\":\"@/s\"}}]");
	sshd_as_job(run_body, &f, 0, fifo);
	close(fifo);
	ck_assert_int_eq(f.rc, E_CANCELLED);
	expect_script_gone(&f);
	teardown(&f);
}
END_TEST

START_TEST(provision__script__without_interpreter_is_explained)
{
	struct fixture f;

	setup(&f);
	sshd_file(f.sshd.home, "s", "#!/no/such/interpreter\n", 0600);
	ck_assert_int_eq(run(&f, "[{\"shell\":{\"script\":\"@/s\"}}]"), E_PROVISION);
	/* No first line at all: a shell runs it. */
	sshd_file(f.sshd.home, "s", "echo plain\n", 0600);
	ck_assert_msg(run(&f, "[{\"shell\":{\"script\":\"@/s\"}}]") == 0, "%s", f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:plain\n0]");
	teardown(&f);
}
END_TEST

START_TEST(provision__as__goes_through_sudo_with_its_environment)
{
	CLEANUP_FREE char *calls = NULL;
	struct fixture f;

	setup(&f);
	give_sudo(&f);
	f.user = "vm";
	ck_assert_msg(run(&f, "[{\"shell\":{\"inline\":\"printf %s "
			      "\\\"$A\\\"\",\"env\":{\"A\":\"q'\\\"$x\"},\"as\":\"root\"}}]") == 0,
	    "%s", f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:q'\"$x0]");
	calls = home_file(&f, "sudo.log");
	ck_assert(str_starts(calls, "-n -u root -- true\n-n -H -u root -- /bin/"));
	/* A script belongs to who runs it, since nobody else may read it. */
	sshd_file(
	    f.sshd.home, "s", "#!/bin/sh\necho \"$0\" >$T/path\nstat -c '%U %a' \"$0\"\n", 0600);
	ck_assert_msg(
	    run(&f, "[{\"shell\":{\"script\":\"@/s\",\"as\":\"nobody\"}}]") == 0, "%s", f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:nobody 700\n0]");
	expect_script_gone(&f);
	/* Who logs in anyway needs no sudo. */
	sshd_file(f.sshd.bin, "sudo", "#!/bin/sh\nexit 1\n", 0755);
	ck_assert_msg(
	    run(&f, "[{\"shell\":{\"inline\":\"true\",\"as\":\"vm\"}}]") == 0, "%s", f.err.msg);
	teardown(&f);
}
END_TEST

START_TEST(provision__long_text__runs_also_as_another)
{
	enum { WORD = 200000 };
	CLEANUP_FREE char *word = xmalloc(WORD + 1), *steps = NULL;
	struct fixture f;

	memset(word, 'w', WORD);
	word[WORD] = '\0';
	steps = xasprintf("[{\"shell\":\"w=%s; echo ${#w}\"},"
			  "{\"shell\":{\"inline\":\"w=%s; echo ${#w}\",\"as\":\"root\"}}]",
	    word, word);
	setup(&f);
	give_sudo(&f);
	f.user = "vm";
	ck_assert_msg(run(&f, steps) == 0, "%s", f.err.msg);
	ck_assert_str_eq(f.seen.data, "[0 o:200000\n0][1 o:200000\n1]");
	teardown(&f);
}
END_TEST

START_TEST(provision__sudo_missing_or_refused__is_told)
{
	static const char as_root[] = "[{\"shell\":{\"inline\":\"true\",\"as\":\"root\"}}]";
	struct fixture f;

	setup(&f);
	f.user = "vm";
	sshd_file(f.sshd.bin, "sudo",
	    "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n", 0755);
	ck_assert_int_eq(run(&f, as_root), E_PROVISION);
	ck_assert_ptr_nonnull(
	    strstr(f.err.msg, "step 1 (shell 'true'): 'vm' may not become 'root'"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "a password is required"));
	sshd_file(f.sshd.bin, "sudo", "#!/bin/sh\nexit 127\n", 0755);
	ck_assert_int_eq(run(&f, as_root), E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "the guest does not have"));
	teardown(&f);
}
END_TEST

START_TEST(provision__g62_file__bytes_mode_and_owner)
{
	CLEANUP_FREE char *path = NULL, *text = NULL;
	struct fixture f;
	struct stat st;

	setup(&f);
	give_sudo(&f);
	f.user = "vm";
	sshd_file(f.sshd.home, "src", "conf\n", 0600);
	ck_assert_msg(
	    run(&f, "[{\"file\":{\"source\":\"@/src\",\"destination\":\"@/a b\"}},"
		    "{\"file\":{\"source\":\"@/src\",\"destination\":\"@/o\",\"mode\":\"0640\","
		    "\"owner\":\"nobody:daemon\"}}]") == 0,
	    "%s", f.err.msg);
	path = fs_join(f.sshd.home, "a b");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0644);
	text = home_file(&f, "o");
	ck_assert_str_eq(text, "conf\n");
	free(TAKE(path));
	path = fs_join(f.sshd.home, "o");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0640);
	if (getuid() == 0) {
		ck_assert_uint_eq(st.st_uid, getpwnam("nobody")->pw_uid);
		ck_assert_uint_eq(st.st_gid, getpwnam("daemon")->pw_gid);
	}
	ck_assert_int_eq(
	    run(&f, "[{\"file\":{\"source\":\"@/src\",\"destination\":\"@\"}}]"), E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "machine 'web': step 1 (file '"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "it is a folder"));
	ck_assert_int_eq(run(&f, "[{\"file\":{\"source\":\"@/src\",\"destination\":\"@/x\","
				 "\"owner\":\"no-such-user\"}}]"),
	    E_PROVISION);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "no-such-user"));
	teardown(&f);
}
END_TEST

START_TEST(provision__cancelled_or_late__names_the_step)
{
	struct fixture f;
	int fifo;

	setup(&f);
	ck_assert_int_eq(run(&f, "[{\"shell\":\"true\"},"
				 "{\"shell\":{\"inline\":\"sleep 1000\",\"timeout\":\"700ms\"}}]"),
	    E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(
	    f.err.msg, "machine 'web': step 2 (shell 'sleep 1000') did not end within 0.7 s"));
	decode(&f, "[{\"shell\":\"sleep 1000\"}]");
	sshd_as_job(run_body, &f, 700, -1);
	ck_assert_int_eq(f.rc, E_TIMEOUT);
	ck_assert_ptr_nonnull(
	    strstr(f.err.msg, "the deadline passed in step 1 (shell 'sleep 1000')"));
	/* The step itself asks for the cancel. */
	fifo = make_fifo(&f);
	decode(&f, "[{\"shell\":\"echo >@/fifo; exec sleep 1000\"}]");
	sshd_as_job(run_body, &f, 0, fifo);
	ck_assert_int_eq(f.rc, E_CANCELLED);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "step 1 (shell 'echo >"));
	ck_assert_ptr_nonnull(strstr(f.err.msg, "was cancelled"));
	close(fifo);
	teardown(&f);
}
END_TEST

START_TEST(provision__g68_log__live_with_times_and_private)
{
	CLEANUP_FREE char *steps = NULL, *log = NULL;
	struct fixture f;
	struct stat st;
	unsigned lines = 0;

	setup(&f);
	/* The step ends only when its own words are in the log. */
	steps =
	    xasprintf("[{\"shell\":{\"inline\":\"echo early; printf 'a\\\\033b\\\\r\\\\n' >&2; "
		      "until grep -q 'stdout early' %s; do sleep 0.02; done; printf unfinished\","
		      "\"env\":{\"TOKEN\":\"hunter2\"}}},{\"shell\":\"exit 9\"}]",
		f.log_path);
	ck_assert_int_eq(run(&f, steps), E_PROVISION);
	log = slurp(f.log_path);
	ck_assert_int_eq(stat(f.log_path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_ptr_nonnull(strstr(log, " ------ step 1: shell 'echo early; "));
	ck_assert_ptr_nonnull(strstr(log, "Z stdout early\n"));
	ck_assert_ptr_nonnull(strstr(log, "Z stderr a\\x1bb\n"));
	ck_assert_ptr_nonnull(strstr(log, "Z stdout unfinished\n"));
	ck_assert_ptr_nonnull(strstr(log, " ------ step 1: done after "));
	ck_assert_ptr_nonnull(strstr(log, "ended with status 9"));
	ck_assert_ptr_null(strstr(log, "hunter2"));
	for (char *p = log; *p != '\0'; p = strchr(p, '\n') + 1, lines++)
		ck_assert_msg(p[4] == '-' && p[10] == 'T' && p[23] == 'Z', "%s", p);
	ck_assert_uint_ge(lines, 7);
	teardown(&f);
}
END_TEST

START_TEST(provision__log__huge_output_is_capped_and_long_lines_cut)
{
	struct fixture f;
	struct stat st;
	CLEANUP_FREE char *log = NULL;

	setup(&f);
	ck_assert_msg(
	    run(&f, "[{\"shell\":\"head -c 41943040 /dev/zero | tr '\\\\0' x; echo; echo end\"},"
		    "{\"shell\":\"echo second\"}]") == 0,
	    "%s", f.err.msg);
	ck_assert_int_eq(stat(f.log_path, &st), 0);
	ck_assert_int_lt(st.st_size, 20 << 20);
	log = slurp(f.log_path);
	ck_assert_ptr_nonnull(strstr(log, "is not kept here"));
	ck_assert_ptr_nonnull(strstr(log, "Z stdout second\n"));
	teardown(&f);
}
END_TEST

START_TEST(provision__label__is_short_and_printable)
{
	static const struct {
		const char *step, *label;
	} rows[] = {
		{ "{\"shell\":\"uname -a\"}", "shell 'uname -a'" },
		{ "{\"shell\":\"\\n  a\\nb\\n\"}", "shell 'a…'" },
		{ "{\"shell\":\"a\\n\"}", "shell 'a'" },
		{ "{\"shell\":{\"script\":\"setup.sh\"}}", "script 'setup.sh'" },
		{ "{\"file\":{\"source\":\"s\",\"destination\":\"/etc/app.conf\"}}",
		    "file '/etc/app.conf'" },
		{ "{\"shell\":"
		  "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
		    "shell '012345678901234567890123456789012345678901234567890123456789…'" },
	};
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *label = NULL, *steps = xasprintf("[%s]", rows[i].step);

		decode(&f, steps);
		label = provision_step_label(vm_spec_step(&f.spec, 0));
		ck_assert_str_eq(label, rows[i].label);
	}
	teardown(&f);
}
END_TEST

/* The key of the one step; sha256 of its file set. */
static char *
key_of(
    struct fixture *f, const char *step, const char *sha256, size_t index, const char *generation)
{
	CLEANUP_FREE char *steps = xasprintf("[%s]", step);
	struct provision_step *s;

	decode(f, steps);
	s = (struct provision_step *)f->spec.provision.items;
	free(s->shell.script.sha256);
	free(s->file.source.sha256);
	s->shell.script.sha256 = xstrdup(sha256);
	s->file.source.sha256 = xstrdup(sha256);
	return provision_step_key(s, index, generation);
}

START_TEST(provision__g63_step_key__changes_with_what_matters_only)
{
	static const char base[] = "{\"shell\":{\"script\":\"s\",\"env\":{\"A\":\"b\"}}}";
	static const char *const other[] = {
		"{\"shell\":{\"script\":\"s\",\"env\":{\"A\":\"c\"}}}",
		"{\"shell\":{\"script\":\"s\",\"env\":{\"Ab\":\"\"}}}",
		"{\"shell\":{\"script\":\"s\",\"env\":{\"A\":\"b\"},\"as\":\"root\"}}",
		"{\"shell\":\"s\"}",
		"{\"file\":{\"source\":\"s\",\"destination\":\"/d\"}}",
		"{\"file\":{\"source\":\"s\",\"destination\":\"/d\",\"mode\":\"0600\"}}",
		"{\"file\":{\"source\":\"s\",\"destination\":\"/d\",\"owner\":\"root\"}}",
	};
	CLEANUP_FREE char *first = NULL, *same = NULL;
	struct fixture f;
	char *keys[ARRAY_LEN(other) + 3];
	size_t n = 0;

	setup(&f);
	first = key_of(&f, base, "aa", 0, "1");
	same = key_of(&f,
	    "{\"shell\":{\"script\":\"renamed\",\"env\":{\"A\":\"b\"},\"timeout\":\"5s\",\"run\":"
	    "\"always\"}}",
	    "aa", 0, "1");
	ck_assert_str_eq(first, same);
	for (size_t i = 0; i < ARRAY_LEN(other); i++)
		keys[n++] = key_of(&f, other[i], "aa", 0, "1");
	keys[n++] = key_of(&f, base, "bb", 0, "1");
	keys[n++] = key_of(&f, base, "aa", 1, "1");
	keys[n++] = key_of(&f, base, "aa", 0, "2");
	for (size_t i = 0; i < n; i++) {
		ck_assert_str_ne(keys[i], first);
		for (size_t k = 0; k < i; k++)
			ck_assert_str_ne(keys[i], keys[k]);
	}
	for (size_t i = 0; i < n; i++)
		free(keys[i]);
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("provision");

	UNIT_CASE(s, provision__steps__in_order_until_one_fails);
	UNIT_CASE(s, provision__g63_error__quotes_only_the_end);
	UNIT_CASE(s, provision__r20_script__runs_by_its_first_line_and_is_gone_after);
	UNIT_CASE(s, provision__script__without_interpreter_is_explained);
	UNIT_CASE(s, provision__as__goes_through_sudo_with_its_environment);
	UNIT_CASE(s, provision__long_text__runs_also_as_another);
	UNIT_CASE(s, provision__sudo_missing_or_refused__is_told);
	UNIT_CASE(s, provision__g62_file__bytes_mode_and_owner);
	UNIT_CASE(s, provision__cancelled_or_late__names_the_step);
	UNIT_CASE(s, provision__g68_log__live_with_times_and_private);
	UNIT_CASE(s, provision__log__huge_output_is_capped_and_long_lines_cut);
	UNIT_CASE(s, provision__label__is_short_and_printable);
	UNIT_CASE(s, provision__g63_step_key__changes_with_what_matters_only);
	return unit_main(s);
}
