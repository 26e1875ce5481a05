/* SPDX-License-Identifier: MPL-2.0 */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/field.h"
#include "lib/ssh/ssh.h"

char *
ssh_quote(const char *word)
{
	struct sbuf out = { 0 };
	size_t len;

	sbuf_addc(&out, '\'');
	for (;;) {
		len = strcspn(word, "'");
		sbuf_add(&out, word, len);
		word += len;
		if (*word == '\0')
			break;
		sbuf_adds(&out, "'\\''");
		word++;
	}
	sbuf_addc(&out, '\'');
	return sbuf_take(&out);
}

char *
ssh_with_env(const char *command, const struct env *env)
{
	struct sbuf out = { 0 };

	for (size_t i = 0; env != NULL && i < env->count; i++) {
		CLEANUP_FREE char *value = ssh_quote(env->items[i].value);

		sbuf_addf(&out, "export %s=%s; ", env->items[i].name, value);
	}
	sbuf_adds(&out, command);
	return sbuf_take(&out);
}
