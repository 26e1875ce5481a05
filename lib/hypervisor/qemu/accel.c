/* SPDX-License-Identifier: MPL-2.0
 *
 * Which accelerator.  A /dev/kvm that opens proves nothing: there are hosts on which guests hang
 * on it.  So before "auto" takes it, a ROM of a few instructions must have run on it within a
 * second; the answer holds for the daemon's life. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/qemu.h"

enum { ROM_BYTES = 65536, PROBE_MS = 1000, EXIT_WORD = 0x2a };

struct accel_wait {
	LIST_ENTRY(accel_wait) entry;
	struct accel *accel;
	accel_fn *fn;
	void *arg;
};

struct accel {
	const struct hv_env *env;
	char *program;
	LIST_HEAD(, accel_wait) waiting;
	bool decided, probing, posted, dead;
	const char *choice; /* once decided */
	char why[256];	    /* why it is not kvm */
	struct err err;     /* "kvm" was demanded and is not to be had */
};

struct probe {
	struct accel *accel;
	char *program, *rom;
	bool works;
	struct err err;
};

/* Goes to 32-bit mode, counts to a million, and writes a word to the port that makes the emulator
 * exit.  Real mode alone would prove nothing: KVM interprets it where the processor does not work.
 *   ff00: cli; lgdt cs:[0xff40]; mov eax,cr0; or al,1; mov cr0,eax; jmp 0x08:0xffffff20
 *   ff20: mov ecx,1000000; 1: dec ecx; jnz 1b; mov dx,0x501; mov al,0x2a; out dx,al; hlt
 *   ff40: the table's limit and base; ff50: flat code and data */
/* clang-format off */
static const unsigned char at_ff00[] = { 0xfa, 0x66, 0x2e, 0x0f, 0x01, 0x16, 0x40, 0xff, 0x0f, 0x20, 0xc0,
	0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x20, 0xff, 0xff, 0xff, 0x08, 0x00 };
static const unsigned char at_ff20[] = { 0xb9, 0x40, 0x42, 0x0f, 0x00, 0x49, 0x75, 0xfd, 0x66, 0xba, 0x01,
	0x05, 0xb0, EXIT_WORD, 0xee, 0xf4 };
static const unsigned char at_ff40[] = { 0x17, 0x00, 0x48, 0xff, 0xff, 0xff };
static const unsigned char at_ff50[] = { 0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00,
	0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00 };
static const unsigned char at_reset[] = { 0xe9, 0x0d, 0xff }; /* jmp 0xff00 */

static const struct {
	size_t offset;
	const unsigned char *code;
	size_t len;
} rom_parts[] = {
	{ 0xff00, at_ff00, sizeof(at_ff00) },
	{ 0xff20, at_ff20, sizeof(at_ff20) },
	{ 0xff40, at_ff40, sizeof(at_ff40) },
	{ 0xff50, at_ff50, sizeof(at_ff50) },
	{ 0xfff0, at_reset, sizeof(at_reset) },
};
/* clang-format on */

int
accel_try(const char *program, const char *name, const char *rom_path, uint64_t timeout_ms,
    struct job *job, struct err *err)
{
	const char *const argv[] = { program, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", QEMU_MACHINE_TYPE, "-accel", name, "-m", "16M", "-bios", rom_path,
		"-device", "isa-debug-exit,iobase=0x501,iosize=1", NULL };
	CLEANUP_FREE unsigned char *rom = xcalloc(1, ROM_BYTES);
	struct process_output output = { 0 };
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(rom_parts); i++)
		memcpy(rom + rom_parts[i].offset, rom_parts[i].code, rom_parts[i].len);
	rc = fs_write(rom_path, rom, ROM_BYTES, 0600, err);
	if (rc != 0)
		return rc;
	rc = process_run(argv, NULL, 0, 4096, timeout_ms, NULL, job, &output, err);
	unlink(rom_path);
	/* The device's exit status is twice the word, plus one: a success would be a fault. */
	if (rc == E_FAILED && !output.exit.signaled && output.exit.code == EXIT_WORD * 2 + 1)
		rc = 0;
	else if (rc == 0)
		rc = err_set(err, E_FAILED, "the guest did not run");
	process_output_done(&output);
	return rc;
}

static void
decide(struct accel *accel, const char *choice)
{
	accel->decided = true;
	accel->choice = choice;
}

static void
answer_all(void *arg)
{
	struct accel *accel = arg;
	struct accel_wait *wait;

	accel->posted = false;
	while (!accel->dead && (wait = LIST_FIRST(&accel->waiting)) != NULL) {
		LIST_REMOVE(wait, entry);
		wait->fn(wait->arg, accel->choice, accel->why[0] != '\0' ? accel->why : NULL,
		    accel->err.code != E_OK ? &accel->err : NULL);
		free(wait);
	}
	if (accel->dead && !accel->probing)
		free(accel);
}

static void
answer_soon(struct accel *accel)
{
	if (accel->posted)
		return;
	accel->posted = true;
	loop_post(accel->env->loop, answer_all, accel);
}

static bool
flags_show_kvm(void)
{
	static const char *const words[] = { " vmx", " svm" };
	CLEANUP_FREE char *text = NULL;
	char *flags;
	size_t len;

	if (fs_read("/proc/cpuinfo", 4 << 20, &text, NULL, NULL) != 0)
		return false;
	flags = strstr(text, "\nflags");
	if (flags == NULL)
		return false;
	len = strcspn(flags + 1, "\n");
	flags[1 + len] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		char *word = strstr(flags + 1, words[i]);

		if (word != NULL && (word[4] == ' ' || word[4] == '\0'))
			return true;
	}
	return false;
}

/* What can be told without running anything; NULL: nothing speaks against it. */
static bool
kvm_ruled_out(char *why, size_t size)
{
	CLEANUP_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		snprintf(why, size, "there is no /dev/kvm");
	else if (fd < 0)
		snprintf(why, size, "/dev/kvm can not be opened: %s",
		    errno == EACCES ? "this user has no right to it" : "it does not work");
	else if (!flags_show_kvm())
		snprintf(why, size, "the processor shows neither vmx nor svm");
	else
		return false;
	return true;
}

static void
probe_run(struct job *job, void *data)
{
	struct probe *probe = data;

	probe->works = accel_try(probe->program, "kvm", probe->rom, PROBE_MS, job, &probe->err) == 0;
}

static void
probe_done(void *data)
{
	struct probe *probe = data;
	struct accel *accel = probe->accel;

	accel->probing = false;
	if (!accel->dead && !accel->decided) {
		if (!probe->works)
			snprintf(accel->why, sizeof(accel->why),
			    "/dev/kvm is there, but no guest runs on it (%.160s)", probe->err.msg);
		decide(accel, probe->works ? "kvm" : "tcg");
	}
	if (!accel->dead)
		answer_soon(accel);
	else if (!accel->posted)
		free(accel);
	free(probe->program);
	free(probe->rom);
	free(probe);
}

static void
start_probe(struct accel *accel, const char *run_dir)
{
	struct probe *probe = xcalloc(1, sizeof(*probe));

	probe->accel = accel;
	probe->program = xstrdup(accel->program);
	probe->rom = fs_join(run_dir, "probe");
	accel->probing = true;
	if (worker_submit(accel->env->pool, "kvm probe", probe_run, probe_done, probe, 10000, NULL,
		&probe->err) == 0)
		return;
	accel->probing = false;
	snprintf(accel->why, sizeof(accel->why), "/dev/kvm could not be tried");
	decide(accel, "tcg");
	free(probe->program);
	free(probe->rom);
	free(probe);
}

struct accel *
accel_create(const struct hv_env *env, const char *program)
{
	struct accel *accel = xcalloc(1, sizeof(*accel));

	accel->env = env;
	accel->program = xstrdup(program);
	LIST_INIT(&accel->waiting);
	return accel;
}

void
accel_destroy(struct accel *accel)
{
	if (accel == NULL)
		return;
	accel->dead = true;
	free(TAKE(accel->program));
	/* A posted turn or a probe still needs the rest, and frees it. */
	if (!accel->posted && !accel->probing)
		free(accel);
}

static void
first_choice(struct accel *accel, const char *run_dir)
{
	bool out;

	if (str_eq(accel->env->accel, "tcg")) {
		decide(accel, "tcg");
		return;
	}
	out = kvm_ruled_out(accel->why, sizeof(accel->why));
	if (str_eq(accel->env->accel, "kvm")) {
		if (access("/dev/kvm", R_OK | W_OK) < 0) {
			err_set(&accel->err, E_UNSUPPORTED, "KVM is demanded, and %s", accel->why);
			err_hint(&accel->err, "use 'auto' or 'tcg' for the accelerator");
		}
		accel->why[0] = '\0';
		decide(accel, "kvm");
	} else if (out) {
		decide(accel, "tcg");
	} else if (!accel->probing) {
		start_probe(accel, run_dir);
	}
}

struct accel_wait *
accel_choose(struct accel *accel, const char *run_dir, accel_fn *fn, void *arg)
{
	struct accel_wait *wait = xcalloc(1, sizeof(*wait));

	*wait = (struct accel_wait){ .accel = accel, .fn = fn, .arg = arg };
	LIST_INSERT_HEAD(&accel->waiting, wait, entry);
	if (!accel->decided)
		first_choice(accel, run_dir);
	if (accel->decided)
		answer_soon(accel);
	return wait;
}

void
accel_cancel(struct accel_wait *wait)
{
	LIST_REMOVE(wait, entry);
	free(wait);
}

void
accel_decide(struct accel *accel, const char *choice, const char *why)
{
	if (!str_eq(accel->env->accel, "auto"))
		return;
	snprintf(accel->why, sizeof(accel->why), "%s", why != NULL ? why : "");
	decide(accel, choice);
}

const char *
accel_chosen(const struct accel *accel, const char **ret_why)
{
	*ret_why = accel->why[0] != '\0' ? accel->why : NULL;
	return accel->decided ? accel->choice : NULL;
}
