/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_OCI_SESSION_H
#define LIB_IMAGE_FETCHER_OCI_SESSION_H

#include "lib/image/fetcher/http.h"
#include "lib/image/fetcher/oci.h"

/* Requests to one repository of a registry, for one order.
 *
 * http:// is spoken with registries of this very host, https:// with all others.  Credentials go to
 * the registry and to the realm that it names, and the realm has to be https://, or as local as the
 * registry; they never follow a redirect to another host.  Nobody is asked for a token before the
 * registry asks for one; where there are credentials it is asked whether it does, so that nothing
 * large is sent in vain. */

struct oci_session {
	struct http *http;		 /* borrowed, as the order is */
	const struct fetch_order *order;
	const struct host_auth *auth;	 /* borrowed from the order; NULL: anonymous */
	char *base;			 /* "https://registry/v2/" */
	char *host;			 /* of base */
	const char *actions;		 /* "pull" or "pull,push" */
	char *scope;			 /* that the last token was asked for; NULL: none was */
	char *authorization;		 /* for base's host only; NULL: none */
	unsigned refusals;		 /* answers with 401 in a row */
	bool greeted;
};

int oci_session_open(struct oci_session *session, struct http *http,
    const struct fetch_order *order, bool push, struct err *err);
void oci_session_close(struct oci_session *session);
/* "https://registry/v2/repository/KIND/NAME"; owned. */
char *oci_session_url(const struct oci_session *session, const char *kind, const char *name);
/* For a request to this URL; NULL: none.  Borrowed until the next answer of 401. */
const char *oci_session_authorization(const struct oci_session *session, const char *url);

/* One request, again with a new authorization when the registry asks for one.  Any other answer is
 * 0, as in http_perform.  what: "the manifest 'team/disk:v1'". */
int oci_session_try(struct oci_session *session, const struct http_request *request,
    const char *what, struct http_reply *ret_reply, struct err *err);
/* The same, with back-off when it fails for now. */
int oci_session_call(struct oci_session *session, const struct http_request *request,
    const char *what, struct http_reply *ret_reply, struct err *err);
/* An answer of 401: 0, there is a new authorization; else why there is none. */
int oci_session_login(struct oci_session *session, const struct http_reply *reply,
    const char *what, struct err *err);
/* 0 for 2xx; else an error with the registry's own words. */
int oci_session_status(const struct oci_session *session, const struct http_reply *reply,
    const char *what, struct err *err);

/* What answers a challenge (oci_auth.c): the value of an Authorization header, to be wiped. */
int oci_authorize(struct oci_session *session, const struct oci_challenge *challenge,
    char **ret_authorization, struct err *err);

#endif
