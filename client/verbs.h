/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_VERBS_H
#define CLIENT_VERBS_H

#include "client/vmctl.h"

/* The verbs, grouped by the file that has them; client/verbs.c puts them in order. */

extern const struct verb verb_completion;                                  /* completion.c */
extern const struct verb verb_create;                                      /* verb_create.c */
extern const struct verb verb_console, verb_exec;                          /* verb_console.c */
extern const struct verb verb_daemon_status, verb_daemon_stop;             /* verb_daemon.c */
extern const struct verb verb_events;                                      /* verb_events.c */
extern const struct verb verb_help, verb_version;                          /* help.c */
extern const struct verb verb_image_inspect, verb_image_list;              /* verb_image.c */
extern const struct verb verb_image_prune, verb_image_rm, verb_image_tag;  /* verb_image.c */
extern const struct verb verb_image_verify;                                /* verb_image.c */
extern const struct verb verb_image_catalogue, verb_image_import;          /* verb_image_get.c */
extern const struct verb verb_image_pull;                                  /* verb_image_get.c */
extern const struct verb verb_image_commit, verb_image_export;             /* verb_image_put.c */
extern const struct verb verb_image_push;                                  /* verb_image_put.c */
extern const struct verb verb_image_update;                                /* verb_image_update.c */
extern const struct verb verb_import_legacy;                               /* verb_import.c */
extern const struct verb verb_destroy, verb_resume, verb_start, verb_stop; /* verb_life.c */
extern const struct verb verb_suspend, verb_wait;                          /* verb_life.c */
extern const struct verb verb_list, verb_status;                           /* verb_list.c */
extern const struct verb verb_log;                                         /* verb_log.c */
extern const struct verb verb_down, verb_plan, verb_reload, verb_up;       /* verb_file.c */
extern const struct verb verb_port_add, verb_port_list, verb_port_rm;       /* verb_port.c */
extern const struct verb verb_provision;                                   /* verb_provision.c */
extern const struct verb verb_rpc;                                         /* verb_rpc.c */
extern const struct verb verb_screenshot;                                  /* verb_screenshot.c */
extern const struct verb verb_ssh;                                         /* verb_ssh.c */

/* The positional of most verbs. */
extern const struct positional name_positional[];

#endif
