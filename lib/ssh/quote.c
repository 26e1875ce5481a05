/* SPDX-License-Identifier: MPL-2.0 */
#include <string.h>

#include "lib/base/str.h"
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
