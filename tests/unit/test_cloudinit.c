/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/cloudinit/cloudinit.h"

#include <archive.h>
#include <archive_entry.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/ssh/ssh.h"
#include "tests/unit/unit.h"

struct fixture {
	char dir[64];
	char *path;
	struct ssh_keypair host, login;
	struct seed seed;
};

static void
setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->dir, "/tmp/vmm-seed.XXXXXX", sizeof("/tmp/vmm-seed.XXXXXX"));
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->path = fs_join(f->dir, "seed.iso");
	ck_assert_int_eq(ssh_keypair_create(&f->host, NULL), 0);
	ck_assert_int_eq(ssh_keypair_create(&f->login, NULL), 0);
	f->seed = (struct seed){ .hostname = "web",
		.instance_id = "vmm-1",
		.user = "vm",
		.own_key = f->login.public_line,
		.host_private_key = f->host.private_pem,
		.host_public_key = f->host.public_line,
		.user_data_name = "cloud.yaml" };
}

static void
teardown(struct fixture *f)
{
	ssh_keypair_done(&f->host);
	ssh_keypair_done(&f->login);
	fs_remove_tree(f->dir, NULL);
	free(f->path);
}

static void
set_user_data(struct fixture *f, const char *text)
{
	f->seed.user_data = text;
	f->seed.user_data_len = strlen(text);
}

/* One file of the image, owned; read through the names of one extension alone. */
static char *
read_iso(const char *path, const char *options, const char *name, size_t *ret_len)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	char *content = NULL;

	archive_read_support_format_iso9660(archive);
	ck_assert_int_eq(archive_read_set_options(archive, options), ARCHIVE_OK);
	ck_assert_int_eq(archive_read_open_filename(archive, path, 2048), ARCHIVE_OK);
	while (archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
		size_t len = (size_t)archive_entry_size(entry);

		if (!str_eq(archive_entry_pathname(entry), name))
			continue;
		content = xcalloc(1, len + 1);
		ck_assert_int_eq(archive_read_data(archive, content, len), (la_ssize_t)len);
		if (ret_len != NULL)
			*ret_len = len;
	}
	archive_read_free(archive);
	ck_assert_msg(content != NULL, "no %s under %s", name, options);
	return content;
}

static char *
written(struct fixture *f)
{
	struct err err = ERR_INIT;

	ck_assert_msg(seed_write(&f->seed, f->path, &err) == 0, "%s", err.msg);
	return read_iso(f->path, "!joliet", "user-data", NULL);
}

/* The text after the header of the n-th part of our archive, owned. */
static char *
part(const char *mime, unsigned n, char **ret_header)
{
	const char *mark = strstr(mime, "boundary=\"") + strlen("boundary=\"");
	CLEANUP_FREE char *word = xstrndup(mark, strcspn(mark, "\""));
	CLEANUP_FREE char *line = xasprintf("\n--%s", word);
	const char *at = mime, *end, *body;

	for (unsigned i = 0; i <= n; i++) {
		at = strstr(at, line);
		ck_assert_ptr_nonnull(at);
		at += strlen(line);
		if (at[0] == '-')
			return NULL;
		at++;
	}
	end = strstr(at, line);
	ck_assert_ptr_nonnull(end);
	body = strstr(at, "\n\n") + 2;
	if (ret_header != NULL)
		*ret_header = xstrndup(at, (size_t)(body - at));
	return xstrndup(body, (size_t)(end - body));
}

static json_object *
config_of(const char *text)
{
	json_object *object;

	ck_assert(str_starts(text, "#cloud-config\n"));
	object = json_tokener_parse(text + strlen("#cloud-config\n"));
	ck_assert_ptr_nonnull(object);
	return object;
}

static json_object *
member(json_object *object, const char *key)
{
	json_object *value = NULL;

	ck_assert_msg(json_object_object_get_ex(object, key, &value), "no %s", key);
	return value;
}

START_TEST(seed__image__cidata_with_both_kinds_of_names)
{
	CLEANUP_FREE char *rock = NULL, *joliet = NULL, *meta = NULL;
	struct fixture f;
	struct stat st;
	char *image;
	size_t len;

	setup(&f);
	rock = written(&f);
	joliet = read_iso(f.path, "!rockridge", "user-data", NULL);
	meta = read_iso(f.path, "!rockridge", "meta-data", NULL);
	ck_assert_str_eq(rock, joliet);
	ck_assert_ptr_nonnull(strstr(meta, "\"instance-id\": \"vmm-1\""));
	ck_assert_ptr_nonnull(strstr(meta, "\"local-hostname\": \"web\""));
	ck_assert_int_eq(stat(f.path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(fs_read(f.path, 64 << 20, &image, &len, NULL), 0);
	ck_assert_mem_eq(image + 0x8000 + 40, "cidata ", 7);
	free(image);
	teardown(&f);
}
END_TEST

START_TEST(seed__generated__one_user_with_key_and_host_key)
{
	CLEANUP_FREE char *text = NULL;
	json_object *config, *keys;
	struct fixture f;

	setup(&f);
	text = written(&f);
	config = config_of(text);
	keys = member(config, "ssh_keys");
	ck_assert_str_eq(
	    json_object_get_string(member(keys, "ed25519_private")), f.host.private_pem);
	ck_assert_str_eq(
	    json_object_get_string(member(keys, "ed25519_public")), f.host.public_line);
	ck_assert(!json_object_get_boolean(member(config, "ssh_deletekeys")));
	ck_assert_str_eq(json_object_get_string(member(member(config, "user"), "name")), "vm");
	ck_assert_str_eq(json_object_get_string(
			     json_object_array_get_idx(member(config, "ssh_authorized_keys"), 0)),
	    f.login.public_line);
	/* G-50: shell and groups are the distribution's. */
	ck_assert_ptr_null(strstr(text, "/bin/bash"));
	ck_assert_ptr_null(strstr(text, "groups"));
	json_object_put(config);
	teardown(&f);
}
END_TEST

START_TEST(seed__g52_keys__ours_and_theirs_may_log_in)
{
	CLEANUP_FREE char *text = NULL, *lines = NULL;
	json_object *config, *keys;
	struct ssh_keypair other;
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(ssh_keypair_create(&other, NULL), 0);
	lines = xasprintf("%s me@home\n\n%s\n", f.host.public_line, other.public_line);
	f.seed.authorized_key = lines;
	text = written(&f);
	config = config_of(text);
	keys = member(config, "ssh_authorized_keys");
	ck_assert_uint_eq(json_object_array_length(keys), 3);
	ck_assert_str_eq(
	    json_object_get_string(json_object_array_get_idx(keys, 0)), f.login.public_line);
	ck_assert_str_eq(
	    json_object_get_string(json_object_array_get_idx(keys, 2)), other.public_line);
	json_object_put(config);
	ssh_keypair_done(&other);
	teardown(&f);
}
END_TEST

START_TEST(seed__g50_values__inject_nothing)
{
	CLEANUP_FREE char *key = NULL, *text = NULL, *meta = NULL;
	static const char *const bad_users[] = { "a: b", "x\nruncmd: [id]", "-x", "", "a b",
		"a\"b" };
	json_object *config;
	struct fixture f;

	setup(&f);
	key = xasprintf("%s \"]}\truncmd: [id]", f.login.public_line);
	f.seed.own_key = NULL;
	f.seed.authorized_key = key;
	f.seed.hostname = "w\"\nlocal-hostname: evil";
	text = written(&f);
	config = config_of(text);
	ck_assert_ptr_null(strstr(text, "runcmd"));
	ck_assert(!json_object_object_get_ex(config, "runcmd", NULL));
	meta = read_iso(f.path, "!joliet", "meta-data", NULL);
	ck_assert_ptr_nonnull(strstr(meta, "\"w\\\"\\nlocal-hostname: evil\""));
	json_object_put(config);
	for (size_t i = 0; i < ARRAY_LEN(bad_users); i++) {
		f.seed.user = bad_users[i];
		ck_assert_int_eq(seed_write(&f.seed, f.path, NULL), E_PARAMS);
	}
	f.seed.user = "vm";
	f.seed.authorized_key = "ssh-ed25519 AAAA\nruncmd: [id]";
	ck_assert_int_eq(seed_write(&f.seed, f.path, NULL), E_PARAMS);
	teardown(&f);
}
END_TEST

START_TEST(seed__user_data__is_a_part_byte_for_byte)
{
	static const char script[] = "#!/bin/sh\r\nprintf '\xff\xfe'\n--\n\n\n";
	CLEANUP_FREE char *text = NULL, *first = NULL, *second = NULL, *third = NULL,
			  *header = NULL, *joined = NULL, *merge = NULL;
	CLEANUP_FREE unsigned char *data = NULL;
	json_object *config;
	struct fixture f;
	size_t len, n = 0;

	setup(&f);
	set_user_data(&f, script);
	text = written(&f);
	ck_assert(str_starts(text, "MIME-Version: 1.0\n"));
	first = part(text, 0, &header);
	ck_assert(str_starts(header, "Content-Type: text/x-shellscript"));
	joined = xcalloc(1, strlen(first) + 1);
	for (const char *p = first; *p != '\0'; p++)
		if (*p != '\n')
			joined[n++] = *p;
	ck_assert_int_eq(str_unbase64(joined, &data, &len), 0);
	ck_assert_uint_eq(len, strlen(script));
	ck_assert_mem_eq(data, script, len);
	second = part(text, 1, &merge);
	ck_assert_ptr_nonnull(strstr(merge, "Merge-Type: list()+dict(replace)+str()"));
	config = config_of(second);
	ck_assert_str_eq(
	    json_object_get_string(member(member(config, "ssh_keys"), "ed25519_private")),
	    f.host.private_pem);
	ck_assert_int_eq(json_object_object_length(config), 2);
	json_object_put(config);
	third = part(text, 2, NULL);
	config = config_of(third);
	ck_assert_int_eq(json_object_object_length(config), 1);
	ck_assert_uint_eq(json_object_array_length(member(config, "users")), 2);
	json_object_put(config);
	ck_assert_ptr_null(part(text, 3, NULL));
	teardown(&f);
}
END_TEST

START_TEST(seed__user_data__own_users_get_ours_appended)
{
	CLEANUP_FREE char *text = NULL, *login = NULL, *header = NULL, *alone = NULL,
			  *first = NULL;
	json_object *config, *users;
	struct fixture f;

	setup(&f);
	set_user_data(&f, "#cloud-config\npackages: [jq]\nusers:\n  - name: bob\n");
	text = written(&f);
	login = part(text, 2, &header);
	ck_assert_ptr_nonnull(
	    strstr(header, "Merge-Type: list(append)+dict(no_replace,recurse_list)"));
	config = config_of(login);
	users = member(config, "users");
	ck_assert_uint_eq(json_object_array_length(users), 1);
	ck_assert_str_eq(
	    json_object_get_string(member(json_object_array_get_idx(users, 0), "name")), "vm");
	json_object_put(config);
	/* Without a key for it we make no user: the login is the person's affair. */
	f.seed.own_key = NULL;
	alone = written(&f);
	first = part(alone, 1, NULL);
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(part(alone, 2, NULL));
	ck_assert_ptr_null(strstr(alone, "vmm-login"));
	teardown(&f);
}
END_TEST

START_TEST(seed__user_data__mime_nests_as_it_is)
{
	static const char mime[] =
	    "Content-Type: multipart/mixed; boundary=\"==x==\"\n"
	    "MIME-Version: 1.0\n\n--==x==\nContent-Type: text/cloud-config\n\n"
	    "#cloud-config\nhostname: a\n--==x==--\n";
	CLEANUP_FREE char *text = NULL;
	struct fixture f;

	setup(&f);
	set_user_data(&f, mime);
	text = written(&f);
	ck_assert_ptr_nonnull(strstr(text, mime));
	ck_assert_ptr_null(strstr(text, "base64"));
	teardown(&f);
}
END_TEST

static char *
gzip(const char *text, size_t *ret_len)
{
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	char *out = xmalloc(4096);

	archive_write_add_filter_gzip(archive);
	archive_write_set_format_raw(archive);
	archive_write_set_bytes_in_last_block(archive, 1);
	ck_assert_int_eq(archive_write_open_memory(archive, out, 4096, ret_len), ARCHIVE_OK);
	archive_entry_set_filetype(entry, AE_IFREG);
	ck_assert_int_eq(archive_write_header(archive, entry), ARCHIVE_OK);
	ck_assert_int_eq(archive_write_data(archive, text, strlen(text)), (la_ssize_t)strlen(text));
	ck_assert_int_eq(archive_write_close(archive), ARCHIVE_OK);
	archive_write_free(archive);
	archive_entry_free(entry);
	return out;
}

START_TEST(seed__user_data__gzip_is_unpacked)
{
	CLEANUP_FREE char *text = NULL, *packed = NULL, *header = NULL, *first = NULL;
	struct err err = ERR_INIT;
	struct fixture f;

	setup(&f);
	packed = gzip("#cloud-config\nusers: [default]\n", &f.seed.user_data_len);
	f.seed.user_data = packed;
	text = written(&f);
	first = part(text, 0, &header);
	ck_assert(str_starts(header, "Content-Type: text/cloud-config;"));
	free(packed);
	packed = gzip("nothing known", &f.seed.user_data_len);
	ck_assert_int_eq(
	    seed_check_user_data(packed, f.seed.user_data_len, "x.gz", NULL), E_PARAMS);
	ck_assert_int_eq(seed_check_user_data(packed, 12, "x.gz", &err), E_PARAMS);
	ck_assert_ptr_nonnull(strstr(err.msg, "can not be unpacked"));
	teardown(&f);
}
END_TEST

START_TEST(seed__user_data__kinds_known_and_refused)
{
	static const char *const good[] = { "#cloud-config\n", "#cloud-config\na: 1\n",
		"#!/bin/sh\n", "#include\nhttp://x/", "#include-once\nhttp://x/",
		"#cloud-boothook\n#!/bin/sh\n", "#part-handler\n", "#upstart-job\n",
		"#cloud-config-archive\n- a\n", "## template: jinja\n#cloud-config\n{% if x %}",
		"\n\n#CLOUD-CONFIG\na: 1\n",
		("From nobody Mon Nov 24 02:00:00 2025\nContent-Type: text/x-shellscript\n"
		"MIME-Version: 1.0\n\n#!/bin/sh\n") };
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "", "is empty" },
		{ "packages: [jq]\n", "of a kind that cloud-init does not know" },
		{ "\xef\xbb\xbf#cloud-config\n", "byte order mark" },
		{ "#cloud-config\na: [1\nb: 2\n", "line 3" },
		{ "#cloud-config\n- a\n", "without 'key: value' lines" },
		{ "#cloud-config\njust words\n", "without 'key: value' lines" },
		{ "\x1f\x8b is not gzip", "of a kind" },
		{ "\x28\xb5\x2f\xfd", "of a kind" },
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(seed_check_user_data(good[i], strlen(good[i]), "u", &err) == 0,
		    "%s: %s", good[i], err.msg);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(
		    seed_check_user_data(bad[i].text, strlen(bad[i].text), "u.yaml", &err),
		    E_PARAMS);
		ck_assert_msg(strstr(err.msg, bad[i].word) != NULL, "%s: %s", bad[i].text, err.msg);
		ck_assert_ptr_nonnull(strstr(err.msg, "'u.yaml'"));
	}
}
END_TEST

static char *const name_servers[] = { (char[]){ "192.0.2.2" }, (char[]){ "2001:db8::1" } };

START_TEST(seed__network__the_card_with_its_address)
{
	static const struct seed_nic nic = { .mac = "52:54:00:12:34:56",
		.address = "192.0.2.10/24", .gateway = "192.0.2.1", .dns = name_servers, .dns_count = 2 };
	static const char wanted[] =
	    "{\"version\":2,\"ethernets\":{\"nic0\":{\"match\":{\"macaddress\":\"52:54:00:12:34:56\"},"
	    "\"set-name\":\"eth0\",\"dhcp4\":false,\"dhcp6\":false,\"addresses\":[\"192.0.2.10/24\"],"
	    "\"routes\":[{\"to\":\"0.0.0.0/0\",\"via\":\"192.0.2.1\"}],"
	    "\"nameservers\":{\"addresses\":[\"192.0.2.2\",\"2001:db8::1\"]}}}}";
	struct fixture f;

	setup(&f);
	f.seed.nics = &nic;
	f.seed.nic_count = 1;
	for (int stripped = 0; stripped < 2; stripped++) {
		CLEANUP_FREE char *text = NULL;
		json_object *config;

		ck_assert_int_eq(stripped ? seed_write_stripped(&f.seed, f.path, NULL)
					  : seed_write(&f.seed, f.path, NULL), 0);
		text = read_iso(f.path, "!joliet", "network-config", NULL);
		config = json_tokener_parse(text);
		ck_assert_str_eq(json_object_to_json_string_ext(config,
				     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), wanted);
		json_object_put(config);
	}
	teardown(&f);
}
END_TEST

START_TEST(seed__network_v6__the_address_alone)
{
	static const struct seed_nic nic = { .mac = "52:54:00:12:34:56",
		.address = "2001:db8::10/64", .gateway = "fe80::1" };
	struct fixture f;
	CLEANUP_FREE char *text = NULL;

	setup(&f);
	f.seed.nics = &nic;
	f.seed.nic_count = 1;
	ck_assert_int_eq(seed_write(&f.seed, f.path, NULL), 0);
	text = read_iso(f.path, "!joliet", "network-config", NULL);
	ck_assert_ptr_nonnull(strstr(text, "\"::/0\""));
	ck_assert_ptr_null(strstr(text, "nameservers"));
	teardown(&f);
}
END_TEST

START_TEST(seed__no_address__no_network_config)
{
	struct fixture f;
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	static const struct seed_nic nic = { .mac = "52:54:00:12:34:56" };

	setup(&f);
	f.seed.nics = &nic;
	f.seed.nic_count = 1;
	ck_assert_int_eq(seed_write(&f.seed, f.path, NULL), 0);
	archive_read_support_format_iso9660(archive);
	ck_assert_int_eq(archive_read_open_filename(archive, f.path, 2048), ARCHIVE_OK);
	while (archive_read_next_header(archive, &entry) == ARCHIVE_OK)
		ck_assert_str_ne(archive_entry_pathname(entry), "network-config");
	archive_read_free(archive);
	teardown(&f);
}
END_TEST

START_TEST(seed__instance__another_address_is_another_instance)
{
	struct seed_nic nic = { .mac = "52:54:00:12:34:56" };
	struct seed seed = { .hostname = "web", .user = "vm", .nics = &nic, .nic_count = 1 };
	CLEANUP_FREE char *dhcp = seed_instance_id(&seed, "1"), *first = NULL, *gateway = NULL,
			  *dns = NULL;

	/* As machines without an address always had it. */
	ck_assert_str_eq(dhcp, "vmm-d9610fd9c5eec5f775112fce49aae94e");
	nic.address = "192.0.2.10/24";
	first = seed_instance_id(&seed, "1");
	nic.gateway = "192.0.2.1";
	gateway = seed_instance_id(&seed, "1");
	nic.dns = name_servers;
	nic.dns_count = 1;
	dns = seed_instance_id(&seed, "1");
	ck_assert_str_ne(dhcp, first);
	ck_assert_str_ne(first, gateway);
	ck_assert_str_ne(gateway, dns);
}
END_TEST

START_TEST(seed__several_nics__each_by_its_mac)
{
	static const struct seed_nic nics[] = { { .mac = "52:54:00:00:00:01" },
		{ .mac = "52:54:00:00:00:02", .address = "10.66.0.11/24" } };
	static const char wanted[] =
	    "{\"version\":2,\"ethernets\":{\"nic0\":{\"match\":{\"macaddress\":\"52:54:00:00:00:01\"},"
	    "\"set-name\":\"eth0\",\"dhcp4\":true,\"dhcp6\":false},"
	    "\"nic1\":{\"match\":{\"macaddress\":\"52:54:00:00:00:02\"},\"set-name\":\"eth1\","
	    "\"dhcp4\":false,\"dhcp6\":false,\"addresses\":[\"10.66.0.11/24\"]}}}";
	CLEANUP_FREE char *text = NULL;
	json_object *config;
	struct fixture f;

	setup(&f);
	f.seed.nics = nics;
	f.seed.nic_count = 2;
	ck_assert_int_eq(seed_write(&f.seed, f.path, NULL), 0);
	text = read_iso(f.path, "!joliet", "network-config", NULL);
	config = json_tokener_parse(text);
	ck_assert_str_eq(json_object_to_json_string_ext(config,
			     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), wanted);
	json_object_put(config);
	teardown(&f);
}
END_TEST

START_TEST(seed__hosts__written_at_each_boot)
{
	char line[] = "10.66.0.12 db", *const hosts[] = { line };
	struct fixture f;

	setup(&f);
	f.seed.hosts = hosts;
	f.seed.host_count = 1;
	for (int stripped = 0; stripped < 2; stripped++) {
		CLEANUP_FREE char *text = NULL;

		ck_assert_int_eq(stripped ? seed_write_stripped(&f.seed, f.path, NULL)
					  : seed_write(&f.seed, f.path, NULL), 0);
		text = read_iso(f.path, "!joliet", "vendor-data", NULL);
		ck_assert(str_starts(text, "#cloud-boothook\n#!/bin/sh\n"));
		ck_assert_ptr_nonnull(strstr(text, "\n10.66.0.12 db\n"));
	}
	teardown(&f);
}
END_TEST

START_TEST(seed__stripped__keeps_the_instance_and_no_secret)
{
	CLEANUP_FREE char *meta = NULL;
	struct fixture f;
	char *image;
	size_t len;

	setup(&f);
	set_user_data(&f, "#!/bin/sh\n# hunter2\n");
	ck_assert_int_eq(seed_write_stripped(&f.seed, f.path, NULL), 0);
	meta = read_iso(f.path, "!joliet", "meta-data", NULL);
	ck_assert_ptr_nonnull(strstr(meta, "\"instance-id\": \"vmm-1\""));
	ck_assert_int_eq(fs_read(f.path, 64 << 20, &image, &len, NULL), 0);
	ck_assert_ptr_null(memmem(image, len, "PRIVATE", 7));
	ck_assert_ptr_null(memmem(image, len, "hunter2", 7));
	ck_assert_ptr_nonnull(memmem(image, len, "\"ssh_deletekeys\": false", 23));
	free(image);
	teardown(&f);
}
END_TEST

START_TEST(seed__g51_instance_id__follows_the_inputs_only)
{
	CLEANUP_FREE char *first = NULL, *same = NULL;
	struct ssh_keypair other;
	struct fixture f;
	char *id;

	setup(&f);
	ck_assert_int_eq(ssh_keypair_create(&other, NULL), 0);
	first = seed_instance_id(&f.seed, "1");
	f.seed.host_private_key = other.private_pem;
	f.seed.host_public_key = other.public_line;
	f.seed.own_key = other.public_line;
	f.seed.instance_id = "whatever";
	same = seed_instance_id(&f.seed, "1");
	ck_assert_str_eq(first, same);
#define DIFFERS(change)                                                                            \
	do {                                                                                       \
		change;                                                                            \
		id = seed_instance_id(&f.seed, "1");                                               \
		ck_assert_str_ne(id, first);                                                       \
		free(id);                                                                          \
	} while (0)
	id = seed_instance_id(&f.seed, "2");
	ck_assert_str_ne(id, first);
	free(id);
	DIFFERS(f.seed.authorized_key = other.public_line);
	f.seed.authorized_key = NULL;
	DIFFERS(f.seed.hostname = "other");
	f.seed.hostname = "web";
	DIFFERS(f.seed.user = "bob");
	f.seed.user = "vm";
	DIFFERS(set_user_data(&f, "#cloud-config\n"));
	ssh_keypair_done(&other);
	teardown(&f);
}
END_TEST

START_TEST(cloudinit__status__told_apart)
{
	static const struct {
		int status;
		const char *output;
		enum cloudinit_result result;
		const char *detail;
	} rows[] = {
		{ 0,
		    "....\n{\"detail\": \"DataSourceNoCloud\", \"errors\": [], \"status\": "
		    "\"done\"}",
		    CLOUDINIT_DONE, "" },
		{ 1, "{\"errors\": [\"('ssh', Error('x'))\", \"b\"], \"status\": \"error\"}",
		    CLOUDINIT_ERROR, "('ssh', Error('x')); b" },
		{ 2,
		    "{\"status\": \"done\", \"extended_status\": \"degraded done\", \"errors\": [],"
		    "\"recoverable_errors\": {\"WARNING\": [\"old key\"]}}",
		    CLOUDINIT_DEGRADED, "old key" },
		{ 0, "{\"status\": \"running\", \"detail\": \"in init\"}", CLOUDINIT_RUNNING,
		    "in init" },
		{ 0, "{\"status\": \"disabled\", \"detail\": \"by file\"}", CLOUDINIT_DISABLED,
		    "by file" },
		{ 0, "......\nstatus: done\ntime: x\ndetail:\nDataSourceNoCloud\n", CLOUDINIT_DONE,
		    "" },
		{ 1, "..\nstatus: error\ntime: x\ndetail:\nmodule failed\n", CLOUDINIT_ERROR,
		    "module failed" },
		{ 0,
		    "{\"v1\": {\"datasource\": \"NoCloud\", \"stage\": null, \"init\": {\"errors\": [],"
		    " \"finished\": 3.5}, \"modules-final\": {\"errors\": []}}}",
		    CLOUDINIT_DONE, "" },
		{ 0,
		    "{\"v1\": {\"stage\": null, \"init\": {\"errors\": [\"a\"]},"
		    " \"modules-final\": {\"errors\": [\"b\"], \"recoverable_errors\": {}}}}",
		    CLOUDINIT_ERROR, "a; b" },
		{ 0,
		    "{\"v1\": {\"init\": {\"errors\": [], \"recoverable_errors\":"
		    " {\"DEPRECATED\": [\"old key\"]}}}}",
		    CLOUDINIT_DEGRADED, "old key" },
		{ 127, "", CLOUDINIT_ABSENT, "" },
		{ 1, "Traceback", CLOUDINIT_ERROR,
		    "'cloud-init status' ended with 1 and said 'Traceback'" },
		{ 0, "{\"status\": 3}", CLOUDINIT_ERROR, NULL },
		{ 0, "{", CLOUDINIT_ERROR, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *detail = NULL;

		ck_assert_msg(cloudinit_status_parse(rows[i].status, rows[i].output, &detail) ==
				  rows[i].result,
		    "%s", rows[i].output);
		if (rows[i].detail != NULL)
			ck_assert_str_eq(detail, rows[i].detail);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("cloudinit");

	UNIT_CASE(s, seed__image__cidata_with_both_kinds_of_names);
	UNIT_CASE(s, seed__generated__one_user_with_key_and_host_key);
	UNIT_CASE(s, seed__g52_keys__ours_and_theirs_may_log_in);
	UNIT_CASE(s, seed__g50_values__inject_nothing);
	UNIT_CASE(s, seed__user_data__is_a_part_byte_for_byte);
	UNIT_CASE(s, seed__user_data__own_users_get_ours_appended);
	UNIT_CASE(s, seed__user_data__mime_nests_as_it_is);
	UNIT_CASE(s, seed__user_data__gzip_is_unpacked);
	UNIT_CASE(s, seed__user_data__kinds_known_and_refused);
	UNIT_CASE(s, seed__instance__another_address_is_another_instance);
	UNIT_CASE(s, seed__network__the_card_with_its_address);
	UNIT_CASE(s, seed__network_v6__the_address_alone);
	UNIT_CASE(s, seed__no_address__no_network_config);
	UNIT_CASE(s, seed__several_nics__each_by_its_mac);
	UNIT_CASE(s, seed__hosts__written_at_each_boot);
	UNIT_CASE(s, seed__stripped__keeps_the_instance_and_no_secret);
	UNIT_CASE(s, seed__g51_instance_id__follows_the_inputs_only);
	UNIT_CASE(s, cloudinit__status__told_apart);
	return unit_main(s);
}
