/* SPDX-License-Identifier: MPL-2.0 */
#include "client/verbs.h"

#include <stddef.h>

const struct positional name_positional[] = { { "name", "NAME", false, false }, { 0 } };

const struct verb *const verbs[] = {
	&verb_up,
	&verb_plan,
	&verb_down,
	&verb_reload,
	&verb_provision,
	&verb_create,
	&verb_start,
	&verb_stop,
	&verb_suspend,
	&verb_resume,
	&verb_destroy,
	&verb_list,
	&verb_status,
	&verb_wait,
	&verb_ssh,
	&verb_exec,
	&verb_console,
	&verb_log,
	&verb_events,
	&verb_image_list,
	&verb_image_rm,
	&verb_import_legacy,
	&verb_daemon_status,
	&verb_daemon_stop,
	&verb_rpc,
	&verb_completion,
	&verb_version,
	&verb_help,
	NULL,
};
