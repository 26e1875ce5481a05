/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/hypervisor/launcher/launcher.h"

/* clang-format off */
static const struct field launch_file_fields[] = {
	FIELD(struct launch_file, path, FIELD_STRING, .required = true, .text = "the file"),
	FIELD(struct launch_file, to,   FIELD_UINT,   .required = true, .min = 3, .max = 255, .text = "its descriptor"),
	FIELD_END
};

static const struct field launch_tap_fields[] = {
	FIELD(struct launch_tap, bridge,   FIELD_STRING, .required = true, .min = 1, .max = 15, .text = "the bridge"),
	FIELD(struct launch_tap, name,     FIELD_STRING, .required = true, .min = 1, .max = 15, .text = "what a tap of our own is called"),
	FIELD(struct launch_tap, helper,   FIELD_STRING, .text = "the program that makes it"),
	FIELD(struct launch_tap, to,       FIELD_UINT,   .required = true, .min = 3, .max = 255, .text = "its descriptor"),
	FIELD(struct launch_tap, vhost_to, FIELD_UINT,   .max = 255, .text = "the descriptor of /dev/vhost-net"),
	FIELD_END
};

const struct field launch_order_fields[] = {
	FIELD(struct launch_order, argv,       FIELD_STRINGS, .required = true, .min = 1, .text = "the program and its arguments"),
	FIELD(struct launch_order, env,        FIELD_ENV,     .text = "its whole environment"),
	FIELD(struct launch_order, parent,     FIELD_UINT,    .required = true, .min = 1, .text = "who must still be there"),
	FIELD(struct launch_order, record,     FIELD_STRING,  .required = true, .text = "where to note who was started"),
	FIELD(struct launch_order, generation, FIELD_STRING,  .required = true, .text = "which start it is"),
	FIELD(struct launch_order, files,      FIELD_OBJECTS, .fields = launch_file_fields, .size = sizeof(struct launch_file), .text = "files to pass"),
	FIELD(struct launch_order, taps,       FIELD_OBJECTS, .fields = launch_tap_fields, .size = sizeof(struct launch_tap), .text = "ways onto bridges"),
	FIELD(struct launch_order, drop,       FIELD_BOOL,    .text = "whether to change the user"),
	FIELD(struct launch_order, uid,        FIELD_UINT,    .max = UINT32_MAX - 1, .text = "the user to become"),
	FIELD(struct launch_order, gid,        FIELD_UINT,    .max = UINT32_MAX - 1, .text = "the group to become"),
	FIELD(struct launch_order, own,        FIELD_STRINGS, .text = "files to give to that user"),
	FIELD(struct launch_order, read,       FIELD_STRINGS, .text = "what may be read"),
	FIELD(struct launch_order, write,      FIELD_STRINGS, .text = "what may be written"),
	FIELD(struct launch_order, make,       FIELD_STRINGS, .text = "folders to make files in"),
	FIELD(struct launch_order, lock,       FIELD_STRING,  .min = 1, .text = "a file whose lock is awaited"),
	FIELD(struct launch_order, network,    FIELD_BOOL,    .text = "whether TCP may be used"),
	FIELD_END
};
/* clang-format on */
