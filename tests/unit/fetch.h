/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_FETCH_H
#define TESTS_UNIT_FETCH_H

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/order.h"
#include "tests/unit/unit.h"

/* The real vmm-fetch (VMM_FETCH) against web servers with faults (WEB_PY).  A case has a folder, a
 * server, a file for the image and one for the spool. */

#define UNUSED __attribute__((unused))

enum { RSS_MAX_KIB = 64 << 10, LINE_MAX_BYTES = 64 << 10 };

struct web {
	pid_t pid;
	FILE *in, *out;
	char *url;
};

struct fetched {
	int status;	    /* exit status; -1: a signal ended it */
	json_object *lines; /* array of the events, owned */
	json_object *last;  /* borrowed from lines */
	long rss_kib;
};

struct fix {
	char *dir, *image, *spool;
	struct web web;
};

/* ---- what is served ---- */

/* The same bytes for the same seed: text of some repetition, noise, and holes. */
static UNUSED void
make_bytes(const char *path, size_t len, unsigned seed)
{
	unsigned char *data = xmalloc(len);
	FILE *file = fopen(path, "w");
	uint64_t state = seed * 2654435761U + 1;

	for (size_t i = 0; i < len; i++) {
		state = state * 6364136223846793005U + 1442695040888963407U;
		if ((i >> 16) % 4 == 1)
			data[i] = 0;
		else
			data[i] = (i >> 16) % 4 == 2 ? (unsigned char)(state >> 56) : (unsigned char)"image "[i % 6];
	}
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(data, 1, len, file), len);
	fclose(file);
	free(data);
}

static UNUSED uint64_t
file_bytes(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static UNUSED char *
file_hash(const char *path, const char *algorithm)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char data[65536], sum[EVP_MAX_MD_SIZE];
	FILE *file = fopen(path, "r");
	unsigned len;
	size_t n;

	ck_assert_ptr_nonnull(file);
	EVP_DigestInit_ex(context, EVP_get_digestbyname(algorithm), NULL);
	while ((n = fread(data, 1, sizeof(data), file)) > 0)
		EVP_DigestUpdate(context, data, n);
	EVP_DigestFinal_ex(context, sum, &len);
	EVP_MD_CTX_free(context);
	fclose(file);
	return str_hex(sum, len);
}

static UNUSED bool
same_files(const char *a, const char *b)
{
	CLEANUP_FREE char *hash_a = file_hash(a, "sha256"), *hash_b = file_hash(b, "sha256");

	return strcmp(hash_a, hash_b) == 0;
}

/* For what makes test data. */
static UNUSED void __attribute__((format(printf, 1, 2)))
shell(const char *fmt, ...)
{
	CLEANUP_FREE char *command = NULL;
	va_list ap;
	pid_t pid;
	int status;

	va_start(ap, fmt);
	command = xvasprintf(fmt, ap);
	va_end(ap);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-ec", command, NULL);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "%s: status %d", command, status);
}

/* ---- the server ---- */

static UNUSED json_object *
read_line(FILE *file)
{
	char *line = NULL;
	size_t size = 0;
	json_object *json = NULL;

	ck_assert_msg(getline(&line, &size, file) > 0, "the server is gone");
	json = json_tokener_parse(line);
	free(line);
	return json;
}

/* certificate: "cert key"; NULL: plain. */
static UNUSED void
web_start(struct web *web, const char *certificate, const char *key)
{
	const char *program = getenv("WEB_PY");
	int in[2], out[2];
	json_object *hello;

	ck_assert_ptr_nonnull(program);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	web->pid = fork();
	if (web->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execlp("python3", "python3", program, certificate, key, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	web->in = fdopen(in[1], "w");
	web->out = fdopen(out[0], "r");
	hello = read_line(web->out);
	web->url = xstrdup(json_string(hello, "url"));
	json_object_put(hello);
}

static UNUSED void
web_stop(struct web *web)
{
	fclose(web->in);
	fclose(web->out);
	waitpid(web->pid, NULL, 0);
	free(web->url);
}

/* The control takes JSON; here ' stands for ". */
static UNUSED json_object *__attribute__((format(printf, 2, 0)))
web_vask(struct web *web, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = xvasprintf(fmt, ap);

	for (char *p = text; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	fprintf(web->in, "%s\n", text);
	fflush(web->in);
	return read_line(web->out);
}

static UNUSED json_object *__attribute__((format(printf, 2, 3)))
web_ask(struct web *web, const char *fmt, ...)
{
	json_object *answer;
	va_list ap;

	va_start(ap, fmt);
	answer = web_vask(web, fmt, ap);
	va_end(ap);
	return answer;
}

static UNUSED void __attribute__((format(printf, 2, 3)))
web_do(struct web *web, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_object_put(web_vask(web, fmt, ap));
	va_end(ap);
}

/* ---- one fetch ---- */

struct run {
	const char *const *env; /* besides ours; NULL-terminated pairs NAME, VALUE */
	bool keep;		/* image and spool as they are: to be resumed */
	const char *image;	/* NULL: the fixture's */
	void (*before)(void *arg); /* in the child */
	void *arg;
};

static UNUSED json_object *
make_order(struct fix *f, const char *url, const char *extra)
{
	CLEANUP_FREE char *text = xasprintf("{\"work\":\"http\",\"parent\":%d,\"max_bytes\":%llu,"
		"\"attempts\":1,\"stall_ms\":10000%s}",
	    (int)getpid(), 1ULL << 40, extra);
	json_object *order, *given;

	(void)f;
	for (char *p = text; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	order = json_tokener_parse(text);
	ck_assert_msg(order != NULL, "%s", text);
	if (url != NULL && !json_object_object_get_ex(order, "url", &given))
		json_object_object_add(order, "url", json_object_new_string(url));
	return order;
}

static UNUSED void
start_child(struct fix *f, const struct run *run, int order, int out)
{
	int flags = O_RDWR | O_CREAT | (run->keep ? 0 : O_TRUNC);
	int image = open(run->image != NULL ? run->image : f->image, flags, 0600);
	int spool = open(f->spool, flags, 0600);

	for (size_t i = 0; run->env != NULL && run->env[i] != NULL; i += 2)
		setenv(run->env[i], run->env[i + 1], 1);
	image = fcntl(image, F_DUPFD, 50);
	spool = fcntl(spool, F_DUPFD, 50);
	dup2(order, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(image, SINK_FD);
	dup2(spool, SPOOL_FD);
	close(image);
	close(spool);
	if (run->before != NULL)
		run->before(run->arg);
	execl(getenv("VMM_FETCH"), "vmm-fetch", NULL);
	_exit(127);
}

static UNUSED void
read_lines(int fd, json_object *lines)
{
	FILE *file = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	while ((len = getline(&line, &size, file)) > 0) {
		json_object *json = json_tokener_parse(line);

		ck_assert_msg(len <= LINE_MAX_BYTES, "a line of %zd bytes", len);
		ck_assert_msg(json_object_is_type(json, json_type_object), "no event: %s", line);
		json_object_array_add(lines, json);
	}
	free(line);
	fclose(file);
}

static UNUSED struct fetched
fetch_text(struct fix *f, const char *text, size_t len, const struct run *given)
{
	struct run run = given != NULL ? *given : (struct run){ 0 };
	struct fetched got = { .lines = json_object_new_array() };
	int in[2], out[2], status;
	struct rusage usage;
	pid_t pid;

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		start_child(f, &run, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	fs_write_all(in[1], text, len);
	close(in[1]);
	read_lines(out[0], got.lines);
	ck_assert_int_eq(wait4(pid, &status, 0, &usage), pid);
	got.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	got.rss_kib = usage.ru_maxrss;
	ck_assert_msg(got.status == 0 || got.status == 1, "wait status %x", (unsigned)status);
	ck_assert_uint_gt(json_object_array_length(got.lines), 0);
	got.last = json_object_array_get_idx(
	    got.lines, json_object_array_length(got.lines) - 1);
	/* A sanitizer's own memory is not the program's. */
	if (getenv("VMM_SANITIZE") == NULL)
		ck_assert_msg(got.rss_kib < RSS_MAX_KIB, "%ld KiB of memory", got.rss_kib);
	return got;
}

static UNUSED struct fetched
fetch_order(struct fix *f, json_object *order, const struct run *run)
{
	const char *text = json_object_to_json_string_ext(order, JSON_TEXT_FLAGS);
	struct fetched got = fetch_text(f, text, strlen(text), run);

	json_object_put(order);
	return got;
}

/* From the fixture's server.  extra: more of the order, as ",'name':value…". */
static UNUSED struct fetched
fetch_with(struct fix *f, const char *path, const char *extra, const struct run *run)
{
	CLEANUP_FREE char *url = xasprintf("%s%s", f->web.url, path);

	return fetch_order(f, make_order(f, url, extra), run);
}

static UNUSED struct fetched
fetch(struct fix *f, const char *path, const char *extra)
{
	return fetch_with(f, path, extra, NULL);
}

static UNUSED void
fetched_done(struct fetched *got)
{
	json_object_put(got->lines);
	*got = (struct fetched){ 0 };
}

/* The nth event of a name; NULL. */
static UNUSED json_object *
event_of(const struct fetched *got, const char *name, size_t nth)
{
	for (size_t i = 0; i < json_object_array_length(got->lines); i++) {
		json_object *line = json_object_array_get_idx(got->lines, i);

		if (str_eq(json_string(line, "event"), name) && nth-- == 0)
			return line;
	}
	return NULL;
}

static UNUSED size_t
event_count(const struct fetched *got, const char *name)
{
	size_t count = 0;

	while (event_of(got, name, count) != NULL)
		count++;
	return count;
}

#define SHOW(got) json_object_to_json_string((got)->lines)

#define ASSERT_DONE(got)                                                                           \
	ck_assert_msg((got)->status == 0 && str_eq(json_string((got)->last, "event"), "done"),     \
	    "%s", SHOW(got))

#define ASSERT_FAILED(got, code, part)                                                             \
	do {                                                                                       \
		ck_assert_msg((got)->status == 1 &&                                                \
			str_eq(json_string((got)->last, "event"), "failed") &&                     \
			str_eq(json_string((got)->last, "error"), err_name(code)) &&                       \
			strstr(json_string((got)->last, "message"), (part)) != NULL,               \
		    "no %s with '%s': %s", err_name(code), (part), SHOW(got));                             \
	} while (0)

/* A fetch that must be done, and give just the file; the fetched is released. */
#define ASSERT_GETS(f, got, path)                                                                  \
	do {                                                                                       \
		ASSERT_DONE(got);                                                                  \
		ck_assert_msg(same_files((f)->image, (path)), "another image: %s", SHOW(got));     \
	} while (0)

/* ---- the fixture ---- */

static UNUSED void
fix_init(struct fix *f)
{
	f->dir = xstrdup("/tmp/vmm-fetch-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->image = fs_join(f->dir, "image");
	f->spool = fs_join(f->dir, "spool");
	web_start(&f->web, NULL, NULL);
}

static UNUSED void
fix_done(struct fix *f)
{
	web_stop(&f->web);
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
	free(f->dir);
	free(f->image);
	free(f->spool);
}

/* Serves `len` bytes at `path`; the name of the file behind it, owned. */
static UNUSED char *
serve_bytes(struct fix *f, const char *path, size_t len, unsigned seed)
{
	char *file = fs_join(f->dir, path + 1);

	make_bytes(file, len, seed);
	web_do(&f->web, "{'do':'put','path':'%s','file':'%s'}", path, file);
	return file;
}

static UNUSED void
serve_file(struct fix *f, const char *path, const char *file)
{
	web_do(&f->web, "{'do':'put','path':'%s','file':'%s'}", path, file);
}

/* What the server was asked for at the path: an array, owned. */
static UNUSED json_object *
hits_of(struct web *web, const char *path)
{
	return web_ask(web, "{'do':'hits','path':'%s'}", path);
}

/* Header of the nth request; owned; NULL. */
static UNUSED char *
hit_header(struct web *web, const char *path, size_t nth, const char *name)
{
	json_object *hits = hits_of(web, path), *headers = NULL;
	char *value = NULL;

	ck_assert_uint_gt(json_object_array_length(hits), nth);
	json_object_object_get_ex(json_object_array_get_idx(hits, nth), "headers", &headers);
	value = xstrdup(json_string(headers, name));
	json_object_put(hits);
	return value;
}

static UNUSED size_t
hit_count(struct web *web, const char *path)
{
	json_object *hits = hits_of(web, path);
	size_t count = json_object_array_length(hits);

	json_object_put(hits);
	return count;
}

static UNUSED int64_t
hit_sent(struct web *web, const char *path, size_t nth)
{
	json_object *hits = hits_of(web, path);
	int64_t sent;

	ck_assert_uint_gt(json_object_array_length(hits), nth);
	sent = json_int(json_object_array_get_idx(hits, nth), "sent");
	json_object_put(hits);
	return sent;
}

#endif
