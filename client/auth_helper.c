/* SPDX-License-Identifier: MPL-2.0
 *
 * Credential helpers: docker-credential-<name> get, with the server's name on its standard input.
 * Nothing of what a helper prints gets into an error: on the way to a failure it may have printed
 * what is secret. */
#include <ctype.h>
#include <json-c/json.h>
#include <string.h>
#include <strings.h>

#include "client/auth.h"
#include "client/auth_source.h"
#include "client/json.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"

enum { HELPER_TIMEOUT_MS = 30000, HELPER_MAX_BYTES = 256 << 10 };

#define DOCKER_SERVER "https://index.docker.io/v1/"

static int
find_program(const char *name, const char *file, char **ret_path, struct err *err)
{
	CLEANUP_FREE char *program = NULL;

	for (const char *p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("-_.+", *p) == NULL)
			name = "";
	if (name[0] == '\0')
		return err_set(
		    err, E_FAILED, "'%s' names a credential helper that can be no program", file);
	program = xasprintf("docker-credential-%s", name);
	*ret_path = process_find(program);
	if (*ret_path != NULL)
		return 0;
	err_set(err, E_FAILED, "the credential helper '%s', named by '%s', is not in PATH", program,
	    file);
	err_hint(err, "install it, or take its name out of '%s'", file);
	return E_FAILED;
}

/* What helpers print for a server that they know nothing of; the exit status is that of a
 * failure. */
static bool
is_not_found(const struct process_output *output)
{
	static const char words[] = "credentials not found";

	return output->out != NULL && strncasecmp(output->out, words, sizeof(words) - 1) == 0;
}

static int
take_answer(const struct process_output *output, const char *program, const char *host,
    struct host_auth *ret_login, struct err *err)
{
	json_object *answer = json_tokener_parse(output->out_len > 0 ? output->out : "null");
	const char *user = json_string(answer, "Username"), *secret = json_string(answer, "Secret");
	int rc = 0;

	if (secret == NULL || user == NULL) {
		rc = err_set(err, E_FAILED,
		    "the credential helper '%s' answered with something else than credentials",
		    program);
	} else if (secret[0] != '\0') {
		ret_login->present = true;
		ret_login->host = xstrdup(host);
		if (str_eq(user, "<token>"))
			ret_login->identity_token = xstrdup(secret);
		else
			ret_login->password = xstrdup(secret);
		if (ret_login->password != NULL)
			ret_login->username = xstrdup(user);
	}
	auth_wipe(answer);
	json_object_put(answer);
	return rc;
}

int
auth_helper_get(const char *name, const char *file, const char *host, struct host_auth *ret_login,
    struct err *err)
{
	const char *server = str_eq(host, "index.docker.io") ? DOCKER_SERVER : host;
	CLEANUP_FREE char *path = NULL;
	struct process_output output = { 0 };
	struct err problem = ERR_INIT;
	const char *argv[] = { NULL, "get", NULL };
	int rc = find_program(name, file, &path, err);

	if (rc != 0)
		return rc;
	argv[0] = path;
	rc = process_run(argv, server, strlen(server), HELPER_MAX_BYTES, HELPER_TIMEOUT_MS, NULL,
	    NULL, &output, &problem);
	if (rc == 0) {
		rc = take_answer(&output, path, host, ret_login, err);
	} else if (rc == E_FAILED && is_not_found(&output)) {
		rc = 0;
	} else {
		rc = err_set(err, rc == E_TIMEOUT ? E_TIMEOUT : E_FAILED,
		    "the credential helper '%s' %s for '%s'", path,
		    rc == E_TIMEOUT ? "gave no answer"
		    : rc == E_LIMIT ? "gave too long an answer"
				    : "failed",
		    host);
		err_hint(err, "'echo %s | docker-credential-%s get' shows why", server, name);
	}
	if (output.out != NULL)
		mem_wipe(output.out, output.out_len);
	process_output_done(&output);
	return rc;
}
