/* SPDX-License-Identifier: MPL-2.0
 *
 * start, stop, suspend, resume, destroy, wait: one method each, and a line about the result. */
#include <json-c/json.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/str.h"
#include "proto/params.h"

/* "started 'web' (id 3f…)", and what is worth knowing besides. */
static void
print_line(const struct vmctl *ctl, const char *word, struct json_object *vm)
{
	struct json_object *ssh = json_member(vm, "ssh");
	const char *how = json_string(vm, "how"), *id = json_string(vm, "id");
	const char *name = json_string(vm, "name"), *by = json_string(vm, "by");
	struct sbuf text = { 0 };

	sbuf_addf(&text, "%s '%s' (%s", word, name != NULL ? name : "?", id != NULL ? id : "?");
	if (how != NULL && (!str_eq(how, "graceful") || str_eq(by, "ssh")))
		sbuf_addf(&text, ", %s%s%s", how, by != NULL ? " by " : "", by != NULL ? by : "");
	if (str_eq(word, "started") && json_int(ssh, "port") > 0)
		sbuf_addf(&text, ", ssh port %lld", (long long)json_int(ssh, "port"));
	sbuf_addc(&text, ')');
	out_line(ctl, "%s", text.data);
	sbuf_done(&text);
}

static int
run_life(struct vmctl *ctl, const void *args, const char *word, struct err *err)
{
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, true, &result, err);

	if (rc == 0) {
		out_json(ctl, result);
		print_line(ctl, word, result);
	}
	json_object_put(result);
	return rc;
}

static int
run_start(struct vmctl *ctl, void *args, struct err *err)
{
	return run_life(ctl, args, "started", err);
}

static int
run_stop(struct vmctl *ctl, void *args, struct err *err)
{
	return run_life(ctl, args, "stopped", err);
}

static int
run_suspend(struct vmctl *ctl, void *args, struct err *err)
{
	return run_life(ctl, args, "suspended", err);
}

static int
run_resume(struct vmctl *ctl, void *args, struct err *err)
{
	return run_life(ctl, args, "resumed", err);
}

static int
run_destroy(struct vmctl *ctl, void *args, struct err *err)
{
	return run_life(ctl, args, "destroyed", err);
}

static int
run_wait(struct vmctl *ctl, void *args, struct err *err)
{
	const struct vm_wait_args *a = args;
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl, "'%s' is %s", a->name, wait_for_names[a->condition]);
	}
	json_object_put(result);
	return rc;
}

#define LIFE_VERB(word, id)                                                                        \
	const struct verb verb_##word = { .name = #word,                                           \
		.fields = id##_params,                                                             \
		.args_size = sizeof(struct id##_args),                                             \
		.positionals = name_positional,                                                    \
		.method = METHOD_##id,                                                             \
		.run = run_##word }

LIFE_VERB(start, vm_start);
LIFE_VERB(stop, vm_stop);
LIFE_VERB(suspend, vm_suspend);
LIFE_VERB(resume, vm_resume);
LIFE_VERB(destroy, vm_destroy);
LIFE_VERB(wait, vm_wait);
