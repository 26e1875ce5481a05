/* SPDX-License-Identifier: MPL-2.0
 *
 * What a registry is answered when it asks who we are: Basic, or a token that is fetched from the
 * realm which it names, with a name and password, in exchange for an identity token, or as nobody.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/image/fetcher/oci_session.h"

enum { TOKEN_MAX = 32 << 10, ANSWER_MAX = 256 << 10 };

static void
add_escaped(struct sbuf *sb, const char *name, const char *value)
{
	sbuf_addf(sb, "%s=", name);
	for (const char *p = value; *p != '\0'; p++) {
		if (isalnum((unsigned char)*p) || strchr("-._~", *p) != NULL)
			sbuf_addc(sb, *p);
		else
			sbuf_addf(sb, "%%%02X", (unsigned char)*p);
	}
}

/* A realm that may be spoken to, as a URL without a user; owned.  A registry far away must not
 * send us to a service of this host. */
static int
check_realm(const struct oci_session *session, const char *realm, char **ret_url, struct err *err)
{
	CLEANUP_FREE char *url = http_url_join(realm, realm);
	CLEANUP_FREE char *host = url != NULL ? http_url_host(url) : NULL;
	CLEANUP_FREE char *shown = url != NULL ? http_url_public(url) : NULL;

	if (host == NULL)
		return err_set(err, E_PERMISSION,
		    "the registry '%s' asks for a token of what is no URL of http or https",
		    session->host);
	if (image_host_is_loopback(host) ? image_host_is_loopback(session->host) : !http_url_plain(url)) {
		*ret_url = TAKE(url);
		return 0;
	}
	err_set(err, E_PERMISSION, "the registry '%s' asks for a token of '%s', %s", session->host,
	    shown, image_host_is_loopback(host) ? "which is on this host" : "which is not encrypted");
	err_hint(err, "nothing was sent there; tell who runs the registry");
	return E_PERMISSION;
}

/* The token server's refusal. */
static int
refused(const struct oci_session *session, const struct http_reply *reply, const char *url,
    struct err *err)
{
	CLEANUP_FREE char *words = oci_error_text(reply->body, reply->body_len);
	CLEANUP_FREE char *shown = http_url_public(url);

	if (reply->status == 429 || reply->status == 408 || reply->status >= 500)
		return http_status_error(reply, url, err);
	err_set(err, E_PERMISSION, "'%s' gives no token for '%s/%s' (status %ld)%s%s", shown,
	    session->order->registry, session->order->repository, reply->status,
	    words != NULL ? ": " : "", words != NULL ? words : "");
	if (session->auth != NULL)
		err_hint(err,
		    "the name or password is wrong or has expired; log in again with "
		    "'podman login %s'",
		    session->order->registry);
	else
		err_hint(err, "log in with 'podman login %s'", session->order->registry);
	return E_PERMISSION;
}

/* ret_authorization: "Bearer …". */
static int
read_token(const struct http_reply *reply, char **ret_authorization, struct err *err)
{
	CLEANUP_JSON json_object *doc =
	    oci_json(reply->body, reply->body_len, "the token server's answer", NULL);
	const char *token = NULL;
	size_t len = 0;

	if (doc == NULL)
		return err_set(err, E_FAILED, "the token server's answer is not JSON");
	token = json_string(doc, "token");
	if (token == NULL || *token == '\0')
		token = json_string(doc, "access_token");
	while (token != NULL && token[len] > ' ' && token[len] <= '~')
		len++;
	if (len == 0 || token[len] != '\0' || len > TOKEN_MAX)
		return err_set(err, E_FAILED, "the token server's answer has no token");
	*ret_authorization = xasprintf("Bearer %s", token);
	return 0;
}

static int
ask(struct oci_session *session, const struct http_request *request, char **ret_authorization,
    struct err *err)
{
	struct http_reply reply = { 0 };
	int rc = http_perform(session->http, request, &reply, err);

	if (rc == 0 && reply.status == 200)
		rc = read_token(&reply, ret_authorization, err);
	else if (rc == 0)
		rc = refused(session, &reply, request->url, err);
	http_reply_done(&reply);
	return rc;
}

static int
fetch_token(struct oci_session *session, const char *realm, const char *service,
    char **ret_authorization, struct err *err)
{
	static const struct http_header form = { "Content-Type",
		"application/x-www-form-urlencoded" };
	const struct fetch_order *order = session->order;
	bool exchange = session->auth != NULL && session->auth->identity_token != NULL;
	struct http_request request = { .method = "GET", .body_fd = -1, .max_body = ANSWER_MAX };
	struct sbuf query = { 0 };
	char *url, *text, *basic = NULL;
	int rc;

	if (service != NULL)
		add_escaped(&query, "service", service);
	add_escaped(&query, query.len > 0 ? "&scope" : "scope", session->scope);
	if (exchange) {
		sbuf_adds(&query, "&grant_type=refresh_token&client_id=vmm-fetch&");
		add_escaped(&query, "refresh_token", session->auth->identity_token);
	}
	request.body_len = query.len;
	text = sbuf_take(&query);
	if (exchange) {
		request.method = "POST";
		request.headers = &form;
		request.header_count = 1;
		request.body = text;
		request.stay = true;
		url = xstrdup(realm);
	} else {
		url = xasprintf("%s%c%s", realm, strchr(realm, '?') != NULL ? '&' : '?', text);
		basic = http_basic(order, order->registry, order->repository);
		request.authorization = basic;
	}
	request.url = url;
	rc = ask(session, &request, ret_authorization, err);
	http_secret_free(text);
	http_secret_free(basic);
	free(url);
	return rc;
}

int
oci_authorize(struct oci_session *session, const struct oci_challenge *challenge,
    char **ret_authorization, struct err *err)
{
	const struct fetch_order *order = session->order;
	CLEANUP_FREE char *realm = NULL;
	int rc;

	if (challenge->basic) {
		*ret_authorization = http_basic(order, order->registry, order->repository);
		if (*ret_authorization != NULL)
			return 0;
		err_set(err, E_PERMISSION, "the registry '%s' asks for a name and password",
		    order->registry);
		err_hint(err, "log in with 'podman login %s'", order->registry);
		return E_PERMISSION;
	}
	rc = check_realm(session, challenge->realm, &realm, err);
	return rc != 0 ? rc
		       : fetch_token(session, realm, challenge->service, ret_authorization, err);
}
