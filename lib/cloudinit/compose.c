/* SPDX-License-Identifier: MPL-2.0
 *
 * What cloud-init reads.  All of our own is JSON, which is YAML too: json-c quotes it, and no
 * value can become a key.
 *
 * With user-data there are up to three parts, merged by cloud-init in this order:
 *  1. the person's own;
 *  2. the host key.  It replaces `ssh_keys` and `ssh_deletekeys` as a whole, because the identity
 *     that we pinned has to be the guest's: the host keys of user-data give way;
 *  3. the login, if we have a key for it: our user is appended to a list of users, and keys that
 *     are there already stay as they are.  The distribution's default user is kept alive where
 *     the person wrote no list of users, as it would have been without us. */
#include "lib/cloudinit/compose.h"

#include <json-c/json.h>
#include <openssl/rand.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/cloudinit/userdata.h"
#include "lib/ssh/ssh.h"

static const char replacing[] = "list()+dict(replace)+str()";
static const char adding[] = "list(append)+dict(no_replace,recurse_list)+str()";
static const char may_all[] = "ALL=(ALL) NOPASSWD:ALL";

static void
add_text(json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static json_object *
list_of(json_object *item)
{
	json_object *list = json_object_new_array();

	if (item != NULL)
		json_object_array_add(list, item);
	return list;
}

static void
put_json(struct sbuf *out, const char *start, json_object *object)
{
	sbuf_adds(out, start);
	sbuf_adds(out, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
								  JSON_C_TO_STRING_SPACED |
								  JSON_C_TO_STRING_NOSLASHESCAPE));
	sbuf_addc(out, '\n');
	json_object_put(object);
}

static size_t
key_length(const char *line)
{
	size_t end = strcspn(line, " \t\r\n");

	end += strspn(line + end, " \t");
	return end + strcspn(line + end, " \t\r\n");
}

/* Of each line only "type base64" is taken: a comment may hold anything. */
static void
add_keys(json_object *list, const char *lines)
{
	for (const char *at = lines; at != NULL && *at != '\0'; at += strcspn(at, "\n")) {
		at += strspn(at, " \t\r\n");
		if (*at != '\0')
			json_object_array_add(
			    list, json_object_new_string_len(at, (int)key_length(at)));
	}
}

static json_object *
login_keys(const struct seed *seed)
{
	json_object *list = json_object_new_array();

	add_keys(list, seed->own_key);
	add_keys(list, seed->authorized_key);
	return list;
}

static bool
has_login(const struct seed *seed)
{
	return seed->own_key != NULL || seed->authorized_key != NULL;
}

static json_object *
host_key(const struct seed *seed, json_object *config)
{
	json_object *keys;

	json_object_object_add(config, "ssh_deletekeys", json_object_new_boolean(false));
	if (seed->host_private_key == NULL)
		return config;
	keys = json_object_new_object();
	add_text(keys, "ed25519_private", seed->host_private_key);
	add_text(keys, "ed25519_public", seed->host_public_key);
	json_object_object_add(config, "ssh_keys", keys);
	return config;
}

/* Everything when there is no user-data.  `user` renames the default user of the distribution, so
 * that its groups and its shell are those that the distribution means. */
static json_object *
whole_config(const struct seed *seed)
{
	json_object *config = json_object_new_object(), *user;
	bool root = str_eq(seed->user, "root");

	host_key(seed, config);
	json_object_object_add(config, "ssh_pwauth", json_object_new_boolean(false));
	json_object_object_add(config, "disable_root", json_object_new_boolean(!root));
	if (has_login(seed))
		json_object_object_add(config, "ssh_authorized_keys", login_keys(seed));
	if (seed->user == NULL)
		return config;
	if (root) {
		json_object_object_add(config, "users", list_of(NULL));
		return config;
	}
	user = json_object_new_object();
	add_text(user, "name", seed->user);
	add_text(user, "sudo", may_all);
	json_object_object_add(user, "lock_passwd", json_object_new_boolean(true));
	json_object_object_add(config, "user", user);
	json_object_object_add(config, "users", list_of(json_object_new_string("default")));
	return config;
}

static json_object *
login_config(const struct seed *seed, bool adds_users)
{
	json_object *config = json_object_new_object(), *users, *user;

	if (seed->user == NULL || str_eq(seed->user, "root")) {
		if (seed->user != NULL)
			json_object_object_add(
			    config, "disable_root", json_object_new_boolean(false));
		json_object_object_add(config, "ssh_authorized_keys", login_keys(seed));
		return config;
	}
	users = list_of(adds_users ? NULL : json_object_new_string("default"));
	user = json_object_new_object();
	add_text(user, "name", seed->user);
	add_text(user, "sudo", may_all);
	json_object_object_add(user, "lock_passwd", json_object_new_boolean(true));
	json_object_object_add(user, "ssh_authorized_keys", login_keys(seed));
	json_object_array_add(users, user);
	json_object_object_add(config, "users", users);
	return config;
}

/* A line that is in none of the parts. */
static char *
boundary_for(const struct userdata *u)
{
	unsigned char random[16] = { 0 };
	char *boundary = NULL;

	do {
		CLEANUP_FREE char *hex = NULL;

		free(boundary);
		RAND_bytes(random, sizeof(random));
		hex = str_hex(random, sizeof(random));
		boundary = xasprintf("vmm-%s", hex);
	} while (mem_find(u->data, u->len, boundary, strlen(boundary)) != NULL);
	return boundary;
}

static void
put_base64(struct sbuf *out, const void *data, size_t len)
{
	char *text = str_base64(data, len);
	size_t text_len = strlen(text);

	for (size_t at = 0; at < text_len; at += 76) {
		sbuf_add(out, text + at, text_len - at < 76 ? text_len - at : 76);
		sbuf_addc(out, '\n');
	}
	mem_wipe(text, text_len);
	free(text);
}

static void
put_user_part(struct sbuf *out, const struct userdata *u)
{
	if (u->mime_type == NULL) { /* an entity with a header of its own: a part as it is */
		sbuf_add(out, u->data, u->len);
		return;
	}
	sbuf_addf(out,
	    "Content-Type: %s; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n"
	    "Content-Disposition: attachment; filename=\"user-data\"\n\n",
	    u->mime_type);
	put_base64(out, u->data, u->len);
}

static void
put_our_part(struct sbuf *out, const char *name, const char *merge, json_object *config)
{
	sbuf_addf(out,
	    "Content-Type: text/cloud-config; charset=\"utf-8\"\nMerge-Type: %s\n"
	    "Content-Disposition: attachment; filename=\"%s\"\n\n",
	    merge, name);
	put_json(out, "#cloud-config\n", config);
}

static int
check_keys(const char *lines, struct err *err)
{
	int rc = 0;

	for (const char *at = lines; rc == 0 && at != NULL && *at != '\0';
	     at += strcspn(at, "\n")) {
		CLEANUP_FREE char *line = NULL;

		at += strspn(at, " \t\r\n");
		line = xstrndup(at, strcspn(at, "\n"));
		if (*line != '\0')
			rc = ssh_public_key_check(line, err);
	}
	return rc;
}

static int
check(const struct seed *seed, struct err *err)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	static const char more[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-";
	const char *user = seed->user;
	int rc;

	if (user != NULL && (user[0] == '\0' || strchr(first, user[0]) == NULL ||
				strspn(user, more) != strlen(user) || strlen(user) > 32))
		return err_set(
		    err, E_PARAMS, "'%.64s' is not a name for a user of the guest", user);
	rc = check_keys(seed->authorized_key, err);
	return rc != 0 ? rc : check_keys(seed->own_key, err);
}

int
compose_user_data(const struct seed *seed, struct sbuf *out, struct err *err)
{
	CLEANUP_FREE char *boundary = NULL;
	struct userdata u;
	int rc = check(seed, err);

	if (rc != 0)
		return rc;
	if (seed->user_data == NULL) {
		put_json(out, "#cloud-config\n", whole_config(seed));
		return 0;
	}
	rc = userdata_init(&u, seed->user_data, seed->user_data_len, seed->user_data_name, err);
	if (rc == 0) {
		boundary = boundary_for(&u);
		sbuf_addf(out,
		    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"%s\"\n\n--%s\n",
		    boundary, boundary);
		put_user_part(out, &u);
		sbuf_addf(out, "\n--%s\n", boundary);
		put_our_part(
		    out, "vmm-host-key", replacing, host_key(seed, json_object_new_object()));
		if (has_login(seed)) {
			sbuf_addf(out, "\n--%s\n", boundary);
			put_our_part(out, "vmm-login", adding, login_config(seed, u.adds_users));
		}
		sbuf_addf(out, "\n--%s--\n", boundary);
	}
	userdata_done(&u);
	return rc;
}

void
compose_meta_data(const struct seed *seed, struct sbuf *out)
{
	json_object *meta = json_object_new_object();

	add_text(meta, "instance-id", seed->instance_id);
	if (seed->hostname != NULL)
		add_text(meta, "local-hostname", seed->hostname);
	put_json(out, "", meta);
}

static json_object *
nic_config(const struct seed_nic *nic, size_t index)
{
	CLEANUP_FREE char *name = xasprintf("eth%zu", index);
	json_object *card = json_object_new_object(), *match = json_object_new_object();
	json_object *route, *servers, *list;
	bool v6 = nic->address != NULL && strchr(nic->address, ':') != NULL;

	add_text(match, "macaddress", nic->mac);
	json_object_object_add(card, "match", match);
	add_text(card, "set-name", name);
	json_object_object_add(card, "dhcp4", json_object_new_boolean(nic->address == NULL));
	json_object_object_add(card, "dhcp6", json_object_new_boolean(false));
	if (nic->address == NULL)
		return card;
	json_object_object_add(card, "addresses", list_of(json_object_new_string(nic->address)));
	if (nic->gateway != NULL) {
		route = json_object_new_object();
		add_text(route, "to", v6 ? "::/0" : "0.0.0.0/0");
		add_text(route, "via", nic->gateway);
		json_object_object_add(card, "routes", list_of(route));
	}
	if (nic->dns_count > 0) {
		servers = json_object_new_object();
		list = json_object_new_array();
		for (size_t i = 0; i < nic->dns_count; i++)
			json_object_array_add(list, json_object_new_string(nic->dns[i]));
		json_object_object_add(servers, "addresses", list);
		json_object_object_add(card, "nameservers", servers);
	}
	return card;
}

/* By version 2, in the part of it that cloud-init itself renders.  A card is found by its MAC
 * address, and named: a cloud-init that can not look names up would write about a card that is not
 * there.  The default route is written out, as `gateway4` is going away. */
void
compose_network(const struct seed *seed, struct sbuf *out)
{
	json_object *config, *cards;

	if (!seed_sets_network(seed))
		return;
	config = json_object_new_object();
	cards = json_object_new_object();
	json_object_object_add(config, "version", json_object_new_int(2));
	json_object_object_add(config, "ethernets", cards);
	for (size_t i = 0; i < seed->nic_count; i++) {
		CLEANUP_FREE char *id = xasprintf("nic%zu", i);

		json_object_object_add(cards, id, nic_config(&seed->nics[i], i));
	}
	put_json(out, "", config);
}

char *
seed_hosts_script(char *const *hosts, size_t count)
{
	struct sbuf out = { 0 };

	sbuf_adds(&out, "#!/bin/sh\nset -e\n"
			"new=$(sed '/^# vmm: begin$/,/^# vmm: end$/d' /etc/hosts)\n"
			"cat >/etc/hosts <<END\n$new\n# vmm: begin\n");
	for (size_t i = 0; i < count; i++)
		sbuf_addf(&out, "%s\n", hosts[i]);
	sbuf_adds(&out, "# vmm: end\nEND\n");
	return sbuf_take(&out);
}

/* A boothook runs at each boot, whatever the instance; user-data has no part in it. */
void
compose_vendor_data(const struct seed *seed, struct sbuf *out)
{
	CLEANUP_FREE char *script = NULL;

	if (seed->host_count == 0)
		return;
	script = seed_hosts_script(seed->hosts, seed->host_count);
	sbuf_addf(out, "#cloud-boothook\n%s", script);
}

void
compose_stripped(struct sbuf *out)
{
	json_object *config = json_object_new_object();

	json_object_object_add(config, "ssh_deletekeys", json_object_new_boolean(false));
	put_json(out, "#cloud-config\n", config);
}
