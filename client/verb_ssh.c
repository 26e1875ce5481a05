/* SPDX-License-Identifier: MPL-2.0
 *
 * The system's ssh, told whom to trust: the host key that vmmd pinned, under the machine's id. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/project.h"
#include "client/signals.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"

struct ssh_args {
	char *name, *user, *file;
	struct file_ref key;
	struct strings command;
	bool tty;
};

/* clang-format off */
static const struct field ssh_fields[] = {
	FIELD(struct ssh_args, name,    FIELD_STRING,  .min = 1, .text = "the machine; default: the only one of the VMFile"),
	FIELD(struct ssh_args, command, FIELD_STRINGS, .text = "what to run instead of a login shell"),
	FIELD(struct ssh_args, user,    FIELD_STRING,  .min = 1, .text = "who to log in as; default: the machine's"),
	FIELD(struct ssh_args, key,     FIELD_FILE,    .text = "private key to log in with; default: the machine's"),
	FIELD(struct ssh_args, file,    FIELD_STRING,  .min = 1, .text = "the VMFile that the name is taken from"),
	FIELD(struct ssh_args, tty,     FIELD_BOOL,    .text = "with a terminal, also for a command"),
	FIELD_END
};
/* clang-format on */

/* ---- who ---- */

static int
only_machine(struct vmctl *ctl, const char *file, char **ret_name, struct err *err)
{
	struct strings none = { 0 };
	struct vmfile *vmfile = NULL;
	struct sbuf names = { 0 };
	int rc = project_load(ctl, file, BACKEND_DEFAULT, &none, &vmfile, err);

	if (rc != 0) {
		if (file == NULL && err->code == E_VMFILE && ctl->error == NULL)
			err_hint(err, "name the machine: vmctl ssh NAME");
		return rc;
	}
	if (vmfile->vms.count == 1) {
		*ret_name = xstrdup(vmfile_vm(vmfile, 0)->name);
	} else {
		for (size_t i = 0; i < vmfile->vms.count; i++)
			sbuf_addf(&names, " %s", vmfile_vm(vmfile, i)->name);
		err_set(err, E_USAGE, "which machine? '%s' has several", vmfile->path);
		err_hint(err, "name one of:%s", names.data);
		rc = E_USAGE;
	}
	sbuf_done(&names);
	vmfile_destroy(vmfile);
	return rc;
}

/* ---- files for ssh ---- */

struct login {
	char *dir;         /* ours, 0700, removed afterwards */
	char *known_hosts; /* path */
	char *key;         /* path; NULL: what ssh finds itself */
	bool pinned;
};

static int
make_dir(struct login *login, struct err *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	bool usable = runtime != NULL && runtime[0] == '/' && stat(runtime, &st) == 0 &&
		      st.st_uid == geteuid() && access(runtime, W_OK) == 0;

	login->dir = xasprintf("%s/vmctl-ssh.XXXXXX", usable ? runtime : "/tmp");
	if (mkdtemp(login->dir) != NULL)
		return 0;
	err_errno(err, E_IO, errno, "can not make the folder '%s'", login->dir);
	free(login->dir);
	login->dir = NULL;
	return E_IO;
}

static int
write_file(const char *path, const char *text, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	return 0;
}

/* A pinned key, or, as long as vmmd has learnt none, a file of our own that remembers the first. */
static int
set_known_hosts(struct login *login, struct json_object *info, struct err *err)
{
	const char *host_key = json_string(info, "host_key"), *id = json_string(info, "id");
	const char *state = getenv("XDG_STATE_HOME");
	CLEANUP_FREE char *line = NULL, *home = fs_home(), *dir = NULL;

	login->pinned = host_key != NULL;
	if (login->pinned) {
		login->known_hosts = fs_join(login->dir, "known_hosts");
		line = xasprintf("%s %s\n", id, host_key);
		return write_file(login->known_hosts, line, err);
	}
	if (state != NULL && state[0] == '/')
		dir = xasprintf("%s/vmm", state);
	else
		dir = xasprintf("%s/.local/state/vmm", home != NULL ? home : "/nonexistent");
	login->known_hosts = fs_join(dir, "known_hosts");
	return fs_mkdirs(dir, 0700, err);
}

/* --key, the machine's, the usual ones of the user. */
static int
set_key(struct login *login, const struct ssh_args *a, struct json_object *info, struct err *err)
{
	static const char *const usual[] = { "id_ed25519", "id_ecdsa", "id_rsa" };
	const char *pem = json_string(info, "private_key"),
		   *path = json_string(info, "private_key_path");
	CLEANUP_FREE char *home = fs_home();

	if (a->key.kind != FILE_NONE) {
		login->key = fs_expand(a->key.path, NULL);
		return access(login->key, R_OK) == 0
			   ? 0
			   : err_errno(err, E_IO, errno, "can not read the key '%s'", login->key);
	}
	if (pem != NULL) {
		login->key = fs_join(login->dir, "key");
		return write_file(login->key, pem, err);
	}
	if (path != NULL && access(path, R_OK) == 0) {
		login->key = xstrdup(path);
		return 0;
	}
	for (size_t i = 0; home != NULL && i < ARRAY_LEN(usual); i++) {
		CLEANUP_FREE char *file = xasprintf("%s/.ssh/%s", home, usual[i]);

		if (access(file, R_OK) == 0) {
			login->key = TAKE(file);
			return 0;
		}
	}
	return 0;
}

static void
login_done(struct login *login)
{
	if (login->dir != NULL)
		fs_remove_tree(login->dir, NULL);
	free(login->dir);
	free(login->known_hosts);
	free(login->key);
}

/* ---- ssh ---- */

static void add(struct strings *argv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
add(struct strings *argv, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	argv->items = xreallocarray(argv->items, argv->count + 2, sizeof(char *));
	argv->items[argv->count++] = xvasprintf(fmt, ap);
	argv->items[argv->count] = NULL;
	va_end(ap);
}

static void
add_option(struct strings *argv, const char *name, const char *value)
{
	add(argv, "-o");
	add(argv, "%s=%s", name, value);
}

/* Paths stand in quotes: ssh splits the values of some options at spaces. */
static void
add_path_option(struct strings *argv, const char *name, const char *path)
{
	add(argv, "-o");
	add(argv, "%s=\"%s\"", name, path);
}

static void
build_argv(struct strings *argv, const struct ssh_args *a, const struct login *login,
    struct json_object *info)
{
	const char *user = a->user != NULL ? a->user : json_string(info, "user");

	add(argv, "ssh");
	if (a->tty)
		add(argv, "-t");
	add_path_option(argv, "UserKnownHostsFile", login->known_hosts);
	add_option(argv, "GlobalKnownHostsFile", "/dev/null");
	add_option(argv, "StrictHostKeyChecking", login->pinned ? "yes" : "accept-new");
	add_option(argv, "HostKeyAlias", json_string(info, "id"));
	add_option(argv, "CheckHostIP", "no");
	add_option(argv, "UpdateHostKeys", "no");
	add_option(argv, "ControlPath", "none");
	add_option(argv, "ProxyCommand", "none");
	add_option(argv, "LogLevel", "ERROR");
	if (login->key != NULL) {
		add_option(argv, "IdentitiesOnly", "yes");
		add(argv, "-i");
		add(argv, "%s", login->key);
	}
	add(argv, "-p");
	add(argv, "%lld", (long long)json_int(info, "port"));
	add(argv, "-l");
	add(argv, "%s", user != NULL ? user : "vm");
	add(argv, "--");
	add(argv, "%s", json_string(info, "host"));
	for (size_t i = 0; i < a->command.count; i++)
		add(argv, "%s", a->command.items[i]);
}

static int
wait_for(pid_t pid, int pidfd, int *ret_status)
{
	int how, ended;

	while (pidfd >= 0) {
		struct pollfd fds[2] = { { .fd = pidfd, .events = POLLIN },
			{ .fd = signals_fd(), .events = POLLIN } };

		if (poll(fds, 2, -1) > 0 && fds[0].revents != 0)
			break;
		signals_drain();
		ended = signals_ended();
		if (ended != 0)
			kill(pid, ended);
	}
	while (waitpid(pid, &how, 0) < 0)
		if (errno != EINTR)
			return -1;
	*ret_status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
	return 0;
}

static int
run_program(const struct strings *argv, int *ret_status, struct err *err)
{
	struct process_spec spec = { .argv = (const char *const *)argv->items,
		.stdin_fd = STDIN_FILENO,
		.stdout_fd = STDOUT_FILENO,
		.stderr_fd = STDERR_FILENO };
	CLEANUP_FD int pidfd = -1;
	pid_t pid;
	int rc;

	signals_catch_end();
	rc = process_spawn(&spec, &pid, &pidfd, err);
	if (rc != 0) {
		err_hint(err, "install the OpenSSH client");
		return rc;
	}
	if (wait_for(pid, pidfd, ret_status) < 0)
		return err_errno(err, E_IO, errno, "can not wait for ssh");
	return 0;
}

static int
log_in(struct vmctl *ctl, const struct ssh_args *a, struct json_object *info, struct err *err)
{
	struct login login = { 0 };
	struct strings argv = { 0 };
	int rc;

	if (json_string(info, "id") == NULL || json_string(info, "host") == NULL)
		return err_set(err, E_FAILED, "vmmd did not tell how to reach the machine");
	rc = make_dir(&login, err);
	if (rc == 0)
		rc = set_known_hosts(&login, info, err);
	if (rc == 0)
		rc = set_key(&login, a, info, err);
	if (rc == 0) {
		build_argv(&argv, a, &login, info);
		rc = run_program(&argv, &ctl->status, err);
	}
	for (size_t i = 0; i < argv.count; i++)
		free(argv.items[i]);
	free(argv.items);
	login_done(&login);
	return rc;
}

static int
run_ssh(struct vmctl *ctl, void *args, struct err *err)
{
	struct ssh_args *a = args;
	struct name_args name = { 0 };
	struct call call = { .method = METHOD_vm_ssh_info };
	struct json_object *info = NULL;
	int rc = 0;

	if (a->name == NULL)
		rc = only_machine(ctl, a->file, &a->name, err);
	if (rc != 0)
		return rc;
	name.name = a->name;
	call.params = fields_encode(vm_ssh_info_params, &name);
	rc = call_run(ctl, &call, &info, err);
	if (rc == 0 && ctl->global.json)
		out_json(ctl, info);
	else if (rc == 0)
		rc = log_in(ctl, a, info, err);
	json_object_put(info);
	return rc;
}

const struct verb verb_ssh = {
	.name = "ssh",
	.summary = "Log in to a machine, or run a command there",
	.details =
	    "Runs the system's ssh.  The host key is the one that vmmd made or pinned, so that\n"
	    "the first connection is verified too.  The exit status is that of ssh.\n"
	    "With --json, how to log in is printed instead.",
	.fields = ssh_fields,
	.args_size = sizeof(struct ssh_args),
	.positionals = (const struct positional[]){ { "name", "NAME", true, false },
	    { "command", "COMMAND", true, true }, { 0 } },
	.shorts = (const struct short_flag[]){ { 't', "tty" }, { 0 } },
	.flags = VERB_PASSES_STATUS,
	.method = METHOD_vm_ssh_info,
	.run = run_ssh,
};
