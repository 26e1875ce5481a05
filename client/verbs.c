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
	&verb_image_inspect,
	&verb_image_catalogue,
	&verb_image_pull,
	&verb_image_import,
	&verb_image_update,
	&verb_image_tag,
	&verb_image_rm,
	&verb_image_prune,
	&verb_image_verify,
	&verb_image_commit,
	&verb_image_push,
	&verb_image_export,
	&verb_import_legacy,
	&verb_daemon_status,
	&verb_daemon_stop,
	&verb_rpc,
	&verb_completion,
	&verb_version,
	&verb_help,
	NULL,
};
