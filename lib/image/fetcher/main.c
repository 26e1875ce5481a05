/* SPDX-License-Identifier: MPL-2.0
 *
 * vmm-fetch: fetches one image, or pushes one (order.h).  vmmd starts it with an order and a file
 * to fill; it gives up what it does not need before it speaks to any server. */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/http.h"
#include "lib/image/fetcher/oci.h"
#include "lib/image/fetcher/order.h"
#include "lib/image/fetcher/transfer.h"

enum { ORDER_MAX = 1 << 20, ADDRESS_SPACE_MAX = 1 << 30, EXIT_FETCH = 1 };

typedef int work_fn(struct http *http, const struct fetch_order *order, struct err *err);

static work_fn *const works[] = {
	[FETCH_HTTP] = transfer_http,
	[FETCH_MANIFEST] = oci_manifest,
	[FETCH_BLOB] = oci_blob,
	[FETCH_PUSH] = oci_push,
	[FETCH_FILE] = transfer_file,
};

/* From the start, when it is a file. */
static int
read_text(char **ret_text, size_t *ret_len, struct err *err)
{
	char *text = xmalloc(ORDER_MAX + 1);
	size_t len = 0;
	ssize_t n = 1;

	lseek(STDIN_FILENO, 0, SEEK_SET);
	while (n != 0 && len <= ORDER_MAX) {
		n = read(STDIN_FILENO, text + len, ORDER_MAX + 1 - len);
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	if (n == 0 && len <= ORDER_MAX) {
		text[len] = '\0';
		*ret_text = text;
		*ret_len = len;
		return 0;
	}
	mem_wipe(text, len);
	free(text);
	return err_set(err, E_PARAMS, "the order can not be read");
}

static int
read_order(struct fetch_order *ret_order, struct err *err)
{
	CLEANUP_JSON json_object *doc = NULL;
	char *text = NULL;
	size_t len = 0;
	int rc = read_text(&text, &len, err);

	if (rc != 0)
		return rc;
	doc = json_tokener_parse(text);
	mem_wipe(text, len);
	free(text);
	if (!json_object_is_type(doc, json_type_object))
		return err_set(err, E_PARAMS, "the order is not a JSON object");
	rc = fields_decode_one(fetch_order_fields, doc, ret_order, err);
	fetch_order_wipe(doc);
	return rc;
}

static int
give_up(const struct fetch_order *order, struct err *err)
{
	struct rlimit core = { 0, 0 };

	umask(077);
	if (setrlimit(RLIMIT_CORE, &core) < 0)
		return err_errno(err, E_FAILED, errno, "can not forbid core dumps");
	if (order->drop && platform_become((uid_t)order->uid, (gid_t)order->gid) < 0)
		return err_errno(err, E_PERMISSION, errno, "can not become user %llu",
		    (unsigned long long)order->uid);
	/* After the change of user, which would forget a part of it. */
	if (platform_confine_self() < 0)
		return err_errno(err, E_FAILED, errno, "can not give up privileges");
	if ((uint64_t)getppid() != order->parent)
		return err_set(err, E_CANCELLED, "the daemon is gone");
	return 0;
}

/* From here on this process reads what servers say. */
static int
confine(struct err *err)
{
	const char *const read[] = {
		/* names and addresses */
		"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf",
		"/etc/gai.conf", "/etc/services", "/etc/protocols",
		/* whom to trust */
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies",
		"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki",
		"/var/lib/ca-certificates", "/dev/urandom", "/etc/localtime",
		getenv("SSL_CERT_FILE"), /* last: it may be NULL */
		NULL,
	};
	const struct jail_self self = { .read = read, .network = true,
		.limits.address_space_bytes = ADDRESS_SPACE_MAX };

	return jail_enter(&self, err);
}

int
main(void)
{
	struct fetch_order order = { 0 };
	struct err err = ERR_INIT;
	struct http *http = NULL;
	long status;
	int rc;

	rc = read_order(&order, &err);
	if (rc == 0)
		rc = give_up(&order, &err);
	if (rc == 0)
		rc = confine(&err);
	if (rc == 0) {
		http = http_create(&order, &err);
		rc = http != NULL ? works[order.work](http, &order, &err) : (int)err.code;
	}
	if (rc != 0) {
		status = http != NULL ? http_last_status(http) : 0;
		event_failed(&order, &err, status >= 400 ? status : 0, http_is_temporary(&err));
	}
	http_destroy(http);
	fetch_auth_release(&order.auth);
	fields_release(fetch_order_fields, &order);
	return rc == 0 ? 0 : EXIT_FETCH;
}
