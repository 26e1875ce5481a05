/* SPDX-License-Identifier: MPL-2.0
 *
 * Requests to a repository, and what a registry's answers mean. */
#include "lib/image/fetcher/oci_session.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"

enum { REFUSALS_MAX = 2, ANSWER_MAX = 64 << 10 };

#define DOCKER_NAME "index.docker.io"
#define DOCKER_HOST "registry-1.docker.io"

/* The parts become a URL: they have to be what a reference can have. */
static int
check_order(const struct fetch_order *order, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct oci_ref ref = { 0 };
	bool same;
	int rc;

	if (order->registry == NULL || order->repository == NULL)
		return err_set(err, E_PARAMS, "the order names no registry or no repository");
	text = xasprintf("oci://%s/%s%s%s", order->registry, order->repository,
	    order->tag != NULL ? ":" : "", order->tag != NULL ? order->tag : "");
	rc = oci_ref_parse(text, &ref, err);
	if (rc != 0)
		return rc;
	same = str_eq(ref.repository, order->repository) && str_eq(ref.tag, order->tag);
	oci_ref_done(&ref);
	if (!same || (order->digest != NULL && !oci_digest_valid(order->digest)))
		return err_set(err, E_PARAMS, "the order's reference makes no sense");
	return 0;
}

int
oci_session_open(struct oci_session *session, struct http *http, const struct fetch_order *order,
    bool push, struct err *err)
{
	bool docker;
	int rc = check_order(order, err);

	*session = (struct oci_session){ .http = http, .order = order };
	if (rc != 0)
		return rc;
	docker = strcasecmp(order->registry, DOCKER_NAME) == 0;
	session->base =
	    xasprintf("%s://%s/v2/", image_host_is_loopback(order->registry) ? "http" : "https",
		docker ? DOCKER_HOST : order->registry);
	session->host = http_url_host(session->base);
	if (session->host == NULL) {
		oci_session_close(session);
		return err_set(err, E_PARAMS, "'%s' is no registry", order->registry);
	}
	session->actions = push ? "pull,push" : "pull";
	session->auth = fetch_auth_find(&order->auth, order->registry, order->repository);
	if (session->auth != NULL && session->auth->token != NULL)
		session->authorization = xasprintf("Bearer %s", session->auth->token);
	return 0;
}

void
oci_session_close(struct oci_session *session)
{
	http_secret_free(session->authorization);
	free(session->base);
	free(session->host);
	free(session->scope);
	*session = (struct oci_session){ 0 };
}

char *
oci_session_url(const struct oci_session *session, const char *kind, const char *name)
{
	return xasprintf("%s%s/%s/%s", session->base, session->order->repository, kind, name);
}

/* Is it the registry itself, spoken to in the same way? */
static bool
is_registry(const struct oci_session *session, const char *url)
{
	CLEANUP_FREE char *host = http_url_host(url);

	return host != NULL && strcasecmp(host, session->host) == 0 &&
	       http_url_plain(url) == http_url_plain(session->base);
}

const char *
oci_session_authorization(const struct oci_session *session, const char *url)
{
	return is_registry(session, url) ? session->authorization : NULL;
}

/* ---- what answers mean ---- */

static const struct {
	long status;
	enum err_code code;
	const char *text;
} meanings[] = {
	{ 401, E_PERMISSION, "the registry wants to know who you are" },
	{ 403, E_PERMISSION, "the registry denies it" },
	{ 404, E_NOT_FOUND, "the registry does not have it" },
	{ 405, E_UNSUPPORTED, "the registry does not allow this" },
	{ 408, E_NETWORK, "the registry waited too long" },
	{ 413, E_LIMIT, "it is too large for the registry" },
	{ 429, E_NETWORK, "the registry says that it is asked too often" },
};

static void
hint_status(const struct oci_session *session, long status, struct err *err)
{
	const char *registry = session->order->registry;

	if (status == 401 && session->auth == NULL)
		err_hint(err,
		    "log in with 'podman login %s'; a registry may ask so, too, for what "
		    "does not exist: check the name",
		    registry);
	else if (status == 401)
		err_hint(err,
		    "the credentials for '%s' are not taken; log in again with 'podman "
		    "login %s'",
		    registry, registry);
	else if (status == 403 && session->auth == NULL)
		err_hint(err, "check the name; if it is private, log in with 'podman login %s'",
		    registry);
	else if (status == 403)
		err_hint(err, "ask for the right to %s it",
		    str_eq(session->actions, "pull") ? "read" : "write");
	else if (status == 404)
		err_hint(err, "check the repository's name and the tag");
	else if (status == 429 || status >= 500)
		err_hint(err, "try again later");
}

int
oci_session_status(const struct oci_session *session, const struct http_reply *reply,
    const char *what, struct err *err)
{
	CLEANUP_FREE char *words = NULL, *host = NULL, *shown = NULL;
	enum err_code code = reply->status >= 500 ? E_NETWORK : E_FAILED;
	const char *text = reply->status >= 500 ? "the registry failed" : "the registry refuses it";

	if (reply->status >= 200 && reply->status < 300)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
		if (meanings[i].status == reply->status) {
			code = meanings[i].code;
			text = meanings[i].text;
		}
	}
	words = oci_error_text(reply->body, reply->body_len);
	/* Redirected: it is not the registry that says so. */
	if (reply->url != NULL && !is_registry(session, reply->url))
		host = http_url_host(reply->url);
	if (host != NULL)
		shown = oci_shown(host, strlen(host), 100);
	err_set(err, code, "%s at '%s': %s (status %ld%s%s)%s%s", what, session->order->registry,
	    text, reply->status, shown != NULL ? " of " : "", shown != NULL ? shown : "",
	    words != NULL ? ": " : "", words != NULL ? words : "");
	hint_status(session, reply->status, err);
	return code;
}

/* ---- logging in ---- */

/* 0: there is a new authorization. */
static int
answer(struct oci_session *session, const struct oci_challenge *challenge,
    const struct http_reply *reply, const char *what, struct err *err)
{
	char *authorization = NULL;
	/* First for what is needed; then, where the registry calls that otherwise, for that. */
	bool other_scope = !challenge->basic && challenge->scope != NULL &&
			   session->scope != NULL && !str_eq(challenge->scope, session->scope);
	bool again = session->refusals == REFUSALS_MAX;
	int rc;

	if (session->refusals > REFUSALS_MAX || (again && !other_scope) ||
	    (session->auth != NULL && session->auth->token != NULL))
		return oci_session_status(session, reply, what, err);
	free(session->scope);
	session->scope =
	    again ? xstrdup(challenge->scope)
		  : xasprintf("repository:%s:%s", session->order->repository, session->actions);
	rc = oci_authorize(session, challenge, &authorization, err);
	if (rc != 0)
		return rc;
	http_secret_free(session->authorization);
	session->authorization = authorization;
	return 0;
}

int
oci_session_login(
    struct oci_session *session, const struct http_reply *reply, const char *what, struct err *err)
{
	struct oci_challenge challenge = { 0 };
	struct err why = ERR_INIT;
	int rc;

	session->refusals++;
	if (is_registry(session, reply->url) &&
	    oci_parse_challenge(reply->www_authenticate, &challenge))
		rc = answer(session, &challenge, reply, what, &why);
	else
		rc = oci_session_status(session, reply, what, &why);
	/* A token server that fails for now is not the registry's refusal. */
	if (rc != 0 && http_is_temporary(&why))
		session->refusals--;
	if (rc != 0 && err != NULL)
		*err = why;
	oci_challenge_done(&challenge);
	return rc;
}

/* Before the first request of somebody with credentials. */
static int
greet(struct oci_session *session, const char *what, struct err *err)
{
	struct http_request request = {
		.method = "GET", .url = session->base, .body_fd = -1, .max_body = ANSWER_MAX
	};
	struct http_reply reply = { 0 };
	int rc = http_perform(session->http, &request, &reply, err);

	session->greeted = rc == 0;
	if (rc == 0 && reply.status == 401)
		rc = oci_session_login(session, &reply, what, err);
	http_reply_done(&reply);
	return rc;
}

int
oci_session_try(struct oci_session *session, const struct http_request *request, const char *what,
    struct http_reply *ret_reply, struct err *err)
{
	struct http_request asked = *request;
	struct http_reply reply = { 0 };
	int rc = 0;

	if (asked.max_body == 0)
		asked.max_body = ANSWER_MAX;
	if (session->auth != NULL && session->authorization == NULL && !session->greeted)
		rc = greet(session, what, err);
	while (rc == 0) {
		asked.authorization = oci_session_authorization(session, request->url);
		rc = http_perform(session->http, &asked, &reply, err);
		if (rc == E_LIMIT)
			err_wrap(err, "%s", what);
		if (rc != 0 || reply.status != 401)
			break;
		rc = oci_session_login(session, &reply, what, err);
		http_reply_done(&reply);
	}
	if (rc == 0) {
		session->refusals = 0;
		*ret_reply = reply;
	}
	return rc;
}

int
oci_session_call(struct oci_session *session, const struct http_request *request, const char *what,
    struct http_reply *ret_reply, struct err *err)
{
	struct err why = ERR_INIT;
	int rc;

	for (unsigned attempt = 1;; attempt++) {
		struct http_reply reply = { 0 };
		uint64_t after_ms;

		rc = oci_session_try(session, request, what, &reply, &why);
		if (rc == 0) {
			int status = oci_session_status(session, &reply, what, &why);

			if (status == 0 || !http_is_temporary(&why)) {
				*ret_reply = reply;
				return 0;
			}
			rc = status;
		}
		after_ms = reply.retry_after_ms;
		http_reply_done(&reply);
		if (!http_is_temporary(&why) || attempt >= session->order->attempts) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		http_back_off(session->http, attempt, after_ms, &why);
	}
}
