/* SPDX-License-Identifier: MPL-2.0
 *
 * A step's name and its identity. */
#include <assert.h>
#include <string.h>

#include "lib/base/digest.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/provision/provision.h"

enum { LABEL_MAX = 60 };

char *
provision_step_key(const struct provision_step *step, size_t index, const char *generation)
{
	const struct shell_step *shell = &step->shell;
	const struct file_step *file = &step->file;
	struct digest *digest = digest_create();
	uint64_t position = index;

	digest_text(digest, "vmm step 1");
	digest_text(digest, generation);
	digest_field(digest, &position, sizeof(position));
	if (step->shell.present) {
		assert(shell->script.kind == FILE_NONE || shell->script.sha256 != NULL);
		digest_text(digest, "shell");
		digest_text(digest, shell->run_inline);
		digest_text(digest, shell->script.sha256);
		digest_text(digest, shell->as);
		for (size_t i = 0; i < shell->env.count; i++) {
			digest_text(digest, shell->env.items[i].name);
			digest_text(digest, shell->env.items[i].value);
		}
	} else {
		assert(file->source.sha256 != NULL);
		digest_text(digest, "file");
		digest_text(digest, file->source.sha256);
		digest_text(digest, file->destination);
		digest_text(digest, file->mode);
		digest_text(digest, file->owner);
	}
	return digest_finish(digest);
}

char *
provision_step_label(const struct provision_step *step)
{
	const char *kind = "file", *what = step->file.destination;
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (step->shell.present) {
		kind = step->shell.run_inline != NULL ? "shell" : "script";
		what = step->shell.run_inline != NULL ? step->shell.run_inline
						      : file_ref_shown(&step->shell.script);
		what += strspn(what, " \t\r\n");
	}
	len = strcspn(what, "\r\n");
	if (len <= LABEL_MAX && what[len + strspn(what + len, "\r\n")] == '\0') {
		text = str_printable(what, len);
		return xasprintf("%s '%s'", kind, text);
	}
	if (len > LABEL_MAX)
		for (len = LABEL_MAX; len > 0 && ((unsigned char)what[len] & 0xc0) == 0x80;)
			len--; /* not in the middle of a letter */
	text = str_printable(what, len);
	return xasprintf("%s '%s…'", kind, text);
}
