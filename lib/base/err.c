/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct error_row {
	const char *name;
	int rpc_code;
	int exit_status;
	const char *meaning;
};

static const struct error_row rows[E_COUNT] = {
	[E_OK] = { "ok", 0, 0, "no error" },
#define ERROR(id, name, rpc, status, text) [id] = { name, rpc, status, text },
#include "lib/base/errors.def"
#undef ERROR
};

int
err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return (int)code;
	memset(err, 0, sizeof(*err));
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return (int)code;
}

int
err_errno(struct err *err, enum err_code code, int errno_value, const char *fmt, ...)
{
	char text[128] = "";
	va_list ap;
	size_t len;

	if (code == E_IO && (errno_value == ENOSPC || errno_value == EDQUOT))
		code = E_NO_SPACE;
	if (err == NULL)
		return (int)code;
	memset(err, 0, sizeof(*err));
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	if (strerror_r(errno_value, text, sizeof(text)) != 0)
		snprintf(text, sizeof(text), "error %d", errno_value);
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", text);
	return (int)code;
}

int
err_wrap(struct err *err, const char *fmt, ...)
{
	char tail[sizeof(err->msg)];
	va_list ap;
	size_t len;

	if (err == NULL)
		return E_FAILED;
	memcpy(tail, err->msg, sizeof(tail));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", tail);
	return (int)err->code;
}

void
err_hint(struct err *err, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
}

void
err_object(struct err *err, const char *name)
{
	if (err != NULL)
		snprintf(err->object, sizeof(err->object), "%s", name);
}

const char *
err_name(enum err_code code)
{
	return rows[code].name;
}

const char *
err_meaning(enum err_code code)
{
	return rows[code].meaning;
}

int
err_rpc_code(enum err_code code)
{
	return rows[code].rpc_code;
}

int
err_exit_status(enum err_code code)
{
	return rows[code].exit_status;
}

enum err_code
err_from_name(const char *name)
{
	for (int i = 1; i < E_COUNT; i++)
		if (strcmp(rows[i].name, name) == 0)
			return (enum err_code)i;
	return E_FAILED;
}

enum err_code
err_from_rpc_code(int rpc_code)
{
	for (int i = 1; i < E_COUNT; i++)
		if (rows[i].rpc_code == rpc_code)
			return (enum err_code)i;
	return E_FAILED;
}
