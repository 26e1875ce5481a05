/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_IMAGE_H
#define CLIENT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "client/files.h"
#include "client/vmctl.h"
#include "lib/image/catalogue.h"

struct json_object;

/* Images on their way to the daemon: what people write becomes what the methods take, and what it
 * takes to fetch them is found here, as the user. */

/* What a verb takes besides the reference. */
struct image_flags {
	char *sha256, *sha512, *checksums, *format;
	bool insecure_http;
};

/* clang-format off */
#define IMAGE_FLAG_ROWS(type) \
	FIELD_NAMED("sha256", type, flags.sha256, FIELD_STRING, .min = 64, .max = 64, .text = "SHA-256 of the bytes as they come, or of the image"), \
	FIELD_NAMED("sha512", type, flags.sha512, FIELD_STRING, .min = 128, .max = 128, .text = "SHA-512 of the bytes as they come, or of the image"), \
	FIELD_NAMED("checksums", type, flags.checksums, FIELD_STRING, .min = 1, .text = "URL of a SHA256SUMS or SHA512SUMS that lists it"), \
	FIELD_NAMED("format", type, flags.format, FIELD_STRING, .min = 1, .text = "qcow2 or raw; default: as its header says"), \
	FIELD_NAMED("insecure_http", type, flags.insecure_http, FIELD_BOOL, .text = "take it by http:// without a checksum")
/* clang-format on */

struct image_reference {
	char *text;   /* with its login, if it has one: never sent */
	char *digest; /* of the image that will do, if the daemon has it; NULL: none */
};

struct images { /* zero-initialise */
	struct image_reference *references;
	size_t count;
	struct catalogue catalogue; /* the user's own */
	bool loaded;
};

/* Is the word a file's path?  As in a VMFile: it has a '/' and no scheme, begins with '.' or '~',
 * ends like an image, or is there and no folder; never with a ':'. */
bool image_word_is_path(const char *word);
/* A new image of a word of the command line: a file is opened, the rest is resolved. */
int images_word(struct images *images, struct sent_files *files, const char *word,
    const struct image_flags *flags, struct json_object **ret_image, struct err *err);
/* An image as vm_image_fields has it: a name of the user's own catalogue becomes what it stands
 * for, and logins leave its URLs.  Files are left alone. */
int images_resolve(struct images *images, struct json_object *image, struct err *err);
/* A reference that is no image's: where one goes to. */
void images_need(struct images *images, const char *reference, const char *digest);
/* Takes back what came after the first `count` references: nobody will fetch it. */
void images_forget(struct images *images, size_t count);
/* Adds `auth` to the parameters, for what was resolved.  Images that are pinned to a digest which
 * the daemon has need no credentials, and no helper runs for them. */
int images_auth(
    struct vmctl *ctl, struct images *images, struct json_object *params, struct err *err);
/* The user's own catalogue; borrowed, loaded once. */
int images_catalogue(
    struct images *images, const struct catalogue **ret_catalogue, struct err *err);
void images_done(struct images *images);

#endif
