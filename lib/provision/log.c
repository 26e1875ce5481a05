/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/provision/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"

enum { LINE_MAX_BYTES = 4096, STEP_MAX_BYTES = 16 << 20 };

static const char *const stream_names[] = { [SSH_STDOUT] = "stdout", [SSH_STDERR] = "stderr" };

void
provision_log_open(struct provision_log *log, const char *path)
{
	*log = (struct provision_log){ .fd = -1 };
	if (path != NULL)
		log->fd = open(path,
		    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	provision_log_step(log);
}

void
provision_log_step(struct provision_log *log)
{
	log->left = STEP_MAX_BYTES;
}

/* One write, so that a reader never sees half a line. */
static void
put_line(struct provision_log *log, const char *mark, const char *data, size_t len)
{
	CLEANUP_FREE char *time = clock_rfc3339(clock_wall_ms()), *text = str_printable(data, len);
	struct sbuf line = { 0 };

	if (log->fd < 0)
		return;
	sbuf_addf(&line, "%s %s %s\n", time, mark, text);
	(void)!write(log->fd, line.data, line.len);
	sbuf_done(&line);
}

static void
put_output(struct provision_log *log, enum ssh_stream stream, const char *data, size_t len)
{
	if (log->left == 0)
		return;
	if (len >= log->left) {
		log->left = 0;
		provision_log_say(log, "the rest of this step's output is not kept here");
		return;
	}
	log->left -= len;
	if (len > 0 && data[len - 1] == '\r')
		len--;
	put_line(log, stream_names[stream], data, len);
}

void
provision_log_output(
    struct provision_log *log, enum ssh_stream stream, const void *data, size_t len)
{
	struct sbuf *partial = &log->partial[stream];
	const char *at = data, *end;
	size_t part;

	while (len > 0) {
		end = memchr(at, '\n', len);
		part = end != NULL ? (size_t)(end - at) : len;
		if (part > LINE_MAX_BYTES - partial->len)
			part = LINE_MAX_BYTES - partial->len;
		sbuf_add(partial, at, part);
		at += part;
		len -= part;
		if (len > 0 && *at == '\n') {
			at++;
			len--;
		} else if (partial->len < LINE_MAX_BYTES) {
			break;
		}
		put_output(log, stream, partial->data != NULL ? partial->data : "", partial->len);
		sbuf_reset(partial);
	}
}

void
provision_log_say(struct provision_log *log, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list ap;

	for (int i = 0; i < 2; i++)
		if (log->partial[i].len > 0) {
			put_output(
			    log, (enum ssh_stream)i, log->partial[i].data, log->partial[i].len);
			sbuf_reset(&log->partial[i]);
		}
	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	for (char *p = text; (p = strchr(p, '\n')) != NULL;)
		*p = ' ';
	put_line(log, "------", text, strlen(text));
}

void
provision_log_close(struct provision_log *log)
{
	sbuf_done(&log->partial[0]);
	sbuf_done(&log->partial[1]);
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
}
