/* SPDX-License-Identifier: MPL-2.0
 *
 * cloud-init knows user-data by its first characters, and what it does not know it drops with a
 * line in a log inside the guest.  So the same question is asked here, before a machine is made. */
#include "lib/cloudinit/userdata.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/cloudinit/cloudinit.h"

enum { USERDATA_MAX = 16 << 20, HEADER_AREA = 4096 };

/* The longer of two that begin alike comes first. */
static const struct {
	const char *start, *mime_type;
} kinds[] = {
	/* clang-format off */
	{ "#cloud-config-archive", "text/cloud-config-archive" },
	{ "#cloud-config-jsonp",   "text/cloud-config-jsonp" },
	{ "#cloud-config",         "text/cloud-config" },
	{ "#cloud-boothook",       "text/cloud-boothook" },
	{ "#include-once",         "text/x-include-once-url" },
	{ "#include",              "text/x-include-url" },
	{ "#part-handler",         "text/part-handler" },
	{ "#upstart-job",          "text/upstart-job" },
	{ "## template: jinja",    "text/jinja2" },
	{ "#!",                    "text/x-shellscript" },
	/* clang-format on */
};

static int
refuse(const char *name, struct err *err, const char *what)
{
	err_set(err, E_PARAMS, "the user-data '%s' %s", name, what);
	err_hint(err, "it begins with '#cloud-config', '#!', '#include', '#cloud-boothook', "
		      "'#part-handler', '## template: jinja', or is MIME or gzip of such");
	return E_PARAMS;
}

static const char *
kind_of(const char *data, size_t len)
{
	while (len > 0 && strchr(" \t\r\n\f\v", *data) != NULL && *data != '\0') {
		data++;
		len--;
	}
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (len >= strlen(kinds[i].start) &&
		    strncasecmp(data, kinds[i].start, strlen(kinds[i].start)) == 0)
			return kinds[i].mime_type;
	return NULL;
}

static bool
mentions(const char *text, const char *word)
{
	while (*text != '\0' && strncasecmp(text, word, strlen(word)) != 0)
		text++;
	return *text != '\0';
}

/* cloud-init takes for MIME what says so within its first 4 KiB.  As a part the entity needs to
 * begin with its header. */
static bool
is_mime(const char *data, size_t len)
{
	CLEANUP_FREE char *head = xstrndup(data, len < HEADER_AREA ? len : HEADER_AREA);

	if (strncasecmp(head, "content-type:", 13) == 0)
		return true;
	return mentions(head, "mime-version:") && data[0] != '#' &&
	       strcspn(head, ":") < strcspn(head, "\n");
}

static int
unpack(struct userdata *u, const void *data, size_t len, const char *name, struct err *err)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	struct sbuf out = { 0 };
	bool ok = false;
	ssize_t n = 0;
	char chunk[16384];

	archive_read_support_filter_gzip(archive);
	archive_read_support_format_raw(archive);
	if (archive_read_open_memory(archive, data, len) == ARCHIVE_OK &&
	    archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
		while (out.len <= USERDATA_MAX &&
		       (n = archive_read_data(archive, chunk, sizeof(chunk))) > 0)
			sbuf_add(&out, chunk, (size_t)n);
		ok = n == 0 && out.len > 0;
	}
	archive_read_free(archive);
	u->len = out.len;
	u->data = u->unpacked = sbuf_take(&out);
	if (u->len > USERDATA_MAX)
		return refuse(name, err, "is larger than 16 MiB when it is unpacked");
	return ok ? 0 : refuse(name, err, "is gzip and can not be unpacked");
}

/* Whether the top of a cloud-config has a list `users`; libyaml is what PyYAML reads with. */
static int
look_into_config(struct userdata *u, const char *name, struct err *err)
{
	yaml_document_t document;
	yaml_parser_t parser;
	yaml_node_t *root, *key, *value;

	if (yaml_parser_initialize(&parser) == 0)
		return err_set(err, E_INTERNAL, "libyaml did not start");
	yaml_parser_set_input_string(&parser, (const unsigned char *)u->data, u->len);
	if (yaml_parser_load(&parser, &document) == 0) {
		err_set(err, E_PARAMS, "the user-data '%s' is not YAML: line %zu, column %zu: %s",
		    name, parser.problem_mark.line + 1, parser.problem_mark.column + 1,
		    parser.problem != NULL ? parser.problem : "not valid");
		yaml_parser_delete(&parser);
		return E_PARAMS;
	}
	root = yaml_document_get_root_node(&document);
	if (root != NULL && root->type == YAML_MAPPING_NODE)
		for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
		     pair < root->data.mapping.pairs.top; pair++) {
			key = yaml_document_get_node(&document, pair->key);
			value = yaml_document_get_node(&document, pair->value);
			if (key->type == YAML_SCALAR_NODE && value->type == YAML_SEQUENCE_NODE &&
			    str_eq((const char *)key->data.scalar.value, "users"))
				u->adds_users = true;
		}
	/* A document that only is a comment reads as nothing, or as an empty word. */
	bool bad = root != NULL && root->type != YAML_MAPPING_NODE &&
		   !(root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0);

	yaml_document_delete(&document);
	yaml_parser_delete(&parser);
	return bad ? refuse(name, err, "is a cloud-config without 'key: value' lines") : 0;
}

int
userdata_init(struct userdata *u, const void *data, size_t len, const char *name, struct err *err)
{
	static const unsigned char gzip[] = { 0x1f, 0x8b }, utf8_mark[] = { 0xef, 0xbb, 0xbf };
	const char *shown = name != NULL ? name : "user-data";
	int rc;

	*u = (struct userdata){ .data = data, .len = len };
	if (len > USERDATA_MAX)
		return refuse(shown, err, "is larger than 16 MiB");
	if (len >= sizeof(gzip) && memcmp(data, gzip, sizeof(gzip)) == 0) {
		rc = unpack(u, data, len, shown, err);
		if (rc != 0)
			return rc;
	}
	if (u->len == 0)
		return refuse(shown, err, "is empty");
	if (u->len >= sizeof(utf8_mark) && memcmp(u->data, utf8_mark, sizeof(utf8_mark)) == 0)
		return refuse(
		    shown, err, "begins with a byte order mark, which cloud-init stumbles over");
	if (is_mime(u->data, u->len))
		return 0;
	u->mime_type = kind_of(u->data, u->len);
	if (u->mime_type == NULL)
		return refuse(shown, err, "is of a kind that cloud-init does not know");
	return str_eq(u->mime_type, "text/cloud-config") ? look_into_config(u, shown, err) : 0;
}

void
userdata_done(struct userdata *u)
{
	if (u->unpacked != NULL)
		mem_wipe(u->unpacked, u->len);
	free(u->unpacked);
	*u = (struct userdata){ .data = NULL };
}

int
seed_check_user_data(const void *data, size_t len, const char *name, struct err *err)
{
	struct userdata u;
	int rc = userdata_init(&u, data, len, name, err);

	userdata_done(&u);
	return rc;
}
