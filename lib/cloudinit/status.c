/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/cloudinit/cloudinit.h"

const char *const cloudinit_result_names[] = { "running", "done", "degraded", "error", "disabled",
	"absent", NULL };

enum { DETAIL_MAX = 1500, NOT_THERE = 127 };

/* Waits in the guest for the file that the last stage writes, and gives out what cloud-init wrote
 * down: asking `cloud-init status` costs a processor some seconds when it is emulated, taken from
 * the very boot that it waits for.  That is asked when the file does not come.  An old cloud-init
 * knows no --format; the words are for any login shell. */
static const char command[] =
    "sh -c 'command -v cloud-init >/dev/null 2>&1 || exit 127; d=/run/cloud-init; n=0; "
    "while [ ! -e $d/result.json ] && [ ! -e $d/disabled ] && [ $n -lt 1200 ]; do "
    "sleep 0.25; n=$((n + 1)); done; "
    "if [ -e $d/result.json ]; then cat $d/status.json 2>/dev/null && exit 0; fi; "
    "out=$(cloud-init status --wait --format json 2>/dev/null); s=$?; "
    "case $out in *{*) printf \"%s\\n\" \"$out\"; exit $s;; esac; "
    "cloud-init status --wait --long 2>&1'";

static const struct {
	const char *word;
	enum cloudinit_result result;
} words[] = {
	{ "not run", CLOUDINIT_RUNNING },
	{ "not started", CLOUDINIT_RUNNING },
	{ "running", CLOUDINIT_RUNNING },
	{ "degraded", CLOUDINIT_DEGRADED },
	{ "done", CLOUDINIT_DONE },
	{ "disabled", CLOUDINIT_DISABLED },
	{ "error", CLOUDINIT_ERROR },
};

const char *
cloudinit_status_command(void)
{
	return command;
}

static bool
read_word(const char *text, enum cloudinit_result *ret_result)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_starts(text, words[i].word)) {
			*ret_result = words[i].result;
			return true;
		}
	return false;
}

static const char *
json_text(json_object *object, const char *key)
{
	json_object *value = NULL;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return "";
	return json_object_get_string(value);
}

static void
add_list(struct sbuf *out, json_object *list)
{
	size_t count =
	    json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < count; i++)
		sbuf_addf(out, "%s%s", out->len > 0 ? "; " : "",
		    json_object_get_string(json_object_array_get_idx(list, i)));
}

static void
add_levels(struct sbuf *out, json_object *levels)
{
	if (!json_object_is_type(levels, json_type_object))
		return;
	json_object_object_foreach(levels, level, list)
	{
		(void)level;
		add_list(out, list);
	}
}

/* What it wrote down itself: {"v1": {stage: {"errors": […], "recoverable_errors": {…}}, …}}. */
static enum cloudinit_result
read_stages(json_object *stages, struct sbuf *detail)
{
	struct sbuf errors = { 0 }, warnings = { 0 };
	enum cloudinit_result result = CLOUDINIT_DONE;
	json_object *part = NULL;

	json_object_object_foreach(stages, stage, value)
	{
		(void)stage;
		if (json_object_object_get_ex(value, "errors", &part))
			add_list(&errors, part);
		if (json_object_object_get_ex(value, "recoverable_errors", &part))
			add_levels(&warnings, part);
	}
	if (errors.len > 0)
		result = CLOUDINIT_ERROR;
	else if (warnings.len > 0)
		result = CLOUDINIT_DEGRADED;
	sbuf_add(detail, errors.data, errors.len);
	if (errors.len == 0)
		sbuf_add(detail, warnings.data, warnings.len);
	sbuf_done(&errors);
	sbuf_done(&warnings);
	return result;
}

static bool
read_json(const char *text, enum cloudinit_result *ret_result, struct sbuf *detail)
{
	json_object *root = json_tokener_parse(text), *part = NULL;
	bool known;

	if (!json_object_is_type(root, json_type_object)) {
		json_object_put(root);
		return false;
	}
	if (json_object_object_get_ex(root, "v1", &part) &&
	    json_object_is_type(part, json_type_object)) {
		*ret_result = read_stages(part, detail);
		json_object_put(root);
		return true;
	}
	known = read_word(json_text(root, "status"), ret_result);
	if (known && *ret_result == CLOUDINIT_DONE &&
	    strstr(json_text(root, "extended_status"), "degraded") != NULL)
		*ret_result = CLOUDINIT_DEGRADED;
	if (json_object_object_get_ex(root, "errors", &part))
		add_list(detail, part);
	if (json_object_object_get_ex(root, "recoverable_errors", &part))
		add_levels(detail, part);
	if (detail->len == 0 && known && *ret_result != CLOUDINIT_DONE)
		sbuf_adds(detail, json_text(root, "detail"));
	json_object_put(root);
	return known;
}

/* "status: done", after the dots that --wait prints; "detail:" and what follows. */
static bool
read_plain(const char *text, enum cloudinit_result *ret_result, struct sbuf *detail)
{
	const char *at = strstr(text, "status: "), *extended, *more;
	bool known;

	if (at == NULL)
		return false;
	known = read_word(at + strlen("status: "), ret_result);
	extended = strstr(text, "extended_status: degraded");
	if (known && *ret_result == CLOUDINIT_DONE && extended != NULL)
		*ret_result = CLOUDINIT_DEGRADED;
	more = strstr(at, "detail:");
	if (known && *ret_result != CLOUDINIT_DONE && more != NULL) {
		more += strlen("detail:");
		more += strspn(more, " \n");
		sbuf_add(detail, more, strlen(more));
		while (detail->len > 0 && detail->data[detail->len - 1] == '\n')
			detail->data[--detail->len] = '\0';
	}
	return known;
}

enum cloudinit_result
cloudinit_status_parse(int status, const char *output, char **ret_detail)
{
	enum cloudinit_result result = CLOUDINIT_ERROR;
	const char *brace = strchr(output, '{');
	struct sbuf detail = { 0 };
	bool known;

	if (status == NOT_THERE) {
		result = CLOUDINIT_ABSENT;
	} else {
		known = brace != NULL ? read_json(brace, &result, &detail)
				      : read_plain(output, &result, &detail);
		if (!known)
			sbuf_addf(&detail, "'cloud-init status' ended with %d and said '%.200s'",
			    status, output);
		else if (result == CLOUDINIT_DONE && status != 0)
			result = CLOUDINIT_DEGRADED;
	}
	if (detail.len > DETAIL_MAX)
		detail.data[DETAIL_MAX] = '\0';
	if (ret_detail != NULL)
		*ret_detail = str_printable(detail.data != NULL ? detail.data : "",
		    detail.data != NULL ? strlen(detail.data) : 0);
	sbuf_done(&detail);
	return result;
}
