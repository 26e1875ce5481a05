/* SPDX-License-Identifier: MPL-2.0
 *
 * What is made of disks: chains by qemu-img, file systems by mke2fs, partitions by sfdisk, and
 * what came of it read by the same programs. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/work.h"
#include "tests/unit/unit.h"

#define MIB (1ULL << 20)

static char dir[64];

static char *
at(const char *name)
{
	return fs_join(dir, name);
}

/* Runs a script in the folder; its output, which is the caller's. */
static char *
script(const char *text, int *ret_status)
{
	CLEANUP_FREE char *whole = xasprintf("cd %s && exec 2>&1\n%s", dir, text);
	struct process_output out = { 0 };
	struct err err = ERR_INIT;
	int rc = process_run((const char *[]){ "sh", "-c", whole, NULL }, NULL, 0, 1 << 20, 100000,
	    NULL, NULL, &out, &err);
	char *words;

	ck_assert_msg(rc == 0 || rc == E_FAILED, "%s", err.msg);
	*ret_status = out.exit.code;
	words = TAKE(out.out);
	process_output_done(&out);
	return words;
}

static void
sh(const char *text)
{
	int status;
	CLEANUP_FREE char *words = script(text, &status);

	ck_assert_msg(status == 0, "%s\n%s", text, words);
}

static void
setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-work.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void
teardown(void)
{
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}

static uint64_t
disk_bytes(const char *name)
{
	CLEANUP_FREE char *path = at(name);
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- flatten ---- */

struct told {
	uint64_t done, total;
	unsigned times;
};

static void
on_told(void *arg, uint64_t done, uint64_t total)
{
	struct told *told = arg;

	ck_assert_uint_le(done, total);
	ck_assert_uint_ge(done, told->done);
	told->done = done;
	told->total = total;
	told->times++;
}

/* Random, written three times over each other; the headers name files that are not there. */
static const char make_chain[] =
    "truncate -s 24M base.raw\n"
    "dd if=/dev/urandom of=base.raw bs=1M seek=1 count=4 conv=notrunc status=none\n"
    "qemu-img create -q -f qcow2 -b base.raw -F raw mid.qcow2 32M\n"
    "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2\n"
    "qemu-io -f qcow2 -c 'write -P 7 2M 1M' -c 'write -P 8 30M 1M' mid.qcow2 >out\n"
    "qemu-io -f qcow2 -c 'write -P 9 2560k 1M' -c 'write -z 4M 64k' top.qcow2 >out\n"
    "qemu-img convert -f qcow2 -O raw top.qcow2 expected\n"
    "qemu-img rebase -q -u -f qcow2 -F raw -b /nowhere/secret mid.qcow2\n"
    "qemu-img rebase -q -u -f qcow2 -F qcow2 -b '' top.qcow2\n";

static int
flatten(const char *name, const char *format, bool compressed, struct told *told, struct job *job,
    struct err *err)
{
	CLEANUP_FREE char *base = at("base.raw"), *mid = at("mid.qcow2"), *top = at("top.qcow2");
	CLEANUP_FREE char *path = at(name);
	const struct disk_layer layers[] = { { top, "qcow2" }, { mid, "qcow2" }, { base, "raw" } };

	return disk_flatten(layers, ARRAY_LEN(layers), path, format, compressed,
	    told != NULL ? on_told : NULL, told, job, err);
}

START_TEST(flatten__three_layers__same_bytes)
{
	struct told told = { 0 };
	struct err err = ERR_INIT;
	struct stat st;
	CLEANUP_FREE char *path = NULL;

	setup();
	sh(make_chain);
	umask(0);
	ck_assert_msg(flatten("one.qcow2", "qcow2", true, &told, NULL, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(told.done, told.total);
	ck_assert_uint_gt(told.total, 4 * MIB);
	ck_assert_uint_gt(told.times, 1);
	path = at("one.qcow2");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	sh("qemu-img info one.qcow2 >info; grep -q 'compression type: zstd' info; ! grep -q backing info\n"
	   "qemu-img convert -f qcow2 -O raw one.qcow2 got; cmp expected got && qemu-img check -q one.qcow2");
	ck_assert_msg(flatten("one.raw", "raw", true, NULL, NULL, &err) == 0, "%s", err.msg);
	sh("cmp expected one.raw");
	ck_assert_uint_lt(disk_bytes("one.raw"), 8 * MIB);
	ck_assert_msg(flatten("plain.qcow2", "qcow2", false, NULL, NULL, &err) == 0, "%s", err.msg);
	sh("qemu-img convert -f qcow2 -O raw plain.qcow2 got && cmp expected got");
	ck_assert_uint_lt(disk_bytes("one.qcow2"), disk_bytes("plain.qcow2"));
	teardown();
}
END_TEST

START_TEST(flatten__again__same_file)
{
	struct err err = ERR_INIT;

	setup();
	sh(make_chain);
	ck_assert_int_eq(flatten("one.qcow2", "qcow2", true, NULL, NULL, &err), 0);
	ck_assert_int_eq(flatten("two.qcow2", "qcow2", true, NULL, NULL, &err), 0);
	sh("cmp one.qcow2 two.qcow2");
	teardown();
}
END_TEST

/* A name with all that a shell, JSON or qemu-img could take for something else. */
START_TEST(flatten__odd_names__only_names)
{
	CLEANUP_FREE char *from = NULL, *to = NULL;
	struct err err = ERR_INIT;

	setup();
	from = at("a, \"b\"=c:json:{}.raw");
	to = at("x:y,size=1 'z'.qcow2");
	sh("head -c 1000000 /dev/urandom >'a, \"b\"=c:json:{}.raw'");
	ck_assert_msg(disk_flatten(&(struct disk_layer){ from, "raw" }, 1, to, "qcow2", true, NULL,
	    NULL, NULL, &err) == 0, "%s", err.msg);
	sh("qemu-img convert -f qcow2 -O raw ./x:*.qcow2 got && cmp -n 1000000 got a,*.raw");
	teardown();
}
END_TEST

START_TEST(flatten__target_there__untouched)
{
	struct err err = ERR_INIT;

	setup();
	sh(make_chain);
	sh("echo mine > one.qcow2");
	ck_assert_int_eq(flatten("one.qcow2", "qcow2", true, NULL, NULL, &err), E_EXISTS);
	sh("test \"$(cat one.qcow2)\" = mine");
	teardown();
}
END_TEST

START_TEST(flatten__wrong_chains__refused_and_nothing_left)
{
	struct err err = ERR_INIT;

	setup();
	CLEANUP_FREE char *top = at("top.qcow2"), *mid = at("mid.qcow2"), *path = at("one.qcow2");
	CLEANUP_FREE char *base = at("base.raw"), *data = at("data.qcow2"), *bad = at("bad.qcow2");
	const struct {
		struct disk_layer layers[2];
		size_t count;
		const char *word;
	} cases[] = {
		{ { { top, "qcow2" }, { mid, "qcow2" } }, 2, "another file" },
		{ { { base, "raw" }, { mid, "qcow2" } }, 2, "layer" },
		{ { { base, "qcow2" } }, 1, "qcow2" },
		{ { { base, "vmdk" } }, 1, "layer" },
		{ { { data, "qcow2" } }, 1, "another file" },
		{ { { bad, "qcow2" } }, 1, "" },
		{ { { "/nowhere.qcow2", "qcow2" } }, 1, "/nowhere.qcow2" },
	};

	sh(make_chain);
	sh("qemu-img create -q -f qcow2 -o data_file=other,data_file_raw=on data.qcow2 1M\n"
	   "head -c 300000 mid.qcow2 > bad.qcow2");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ck_assert_int_eq(disk_flatten(cases[i].layers, cases[i].count, path, "qcow2", true,
		    NULL, NULL, NULL, &err), E_IMAGE);
		ck_assert_msg(strstr(err.msg, cases[i].word) != NULL, "%s", err.msg);
		ck_assert(!fs_exists(path));
	}
	teardown();
}
END_TEST

START_TEST(flatten__no_room__said_before)
{
	struct err err = ERR_INIT;

	setup();
	if (geteuid() == 0) { /* only root makes a small file system */
		CLEANUP_FREE char *small = at("small"), *path = at("small/one.raw");

		sh(make_chain);
		ck_assert_int_eq(mkdir(small, 0700), 0);
		ck_assert_int_eq(mount("small", small, "tmpfs", 0, "size=32M"), 0);
		ck_assert_int_eq(flatten("small/one.raw", "raw", false, NULL, NULL, &err), E_NO_SPACE);
		ck_assert(!fs_exists(path));
		ck_assert_int_eq(umount(small), 0);
	}
	teardown();
}
END_TEST

/* ---- in a job ---- */

struct stopped {
	struct loop *loop;
	struct job *job;
	struct err err;
	int rc;
	bool asked;
};

static void
cancel_it(void *arg)
{
	struct stopped *s = arg;

	job_cancel(s->job);
}

/* Waits here until it was cancelled: the program is in the middle of its work. */
static void
on_first_progress(void *arg, uint64_t done, uint64_t total)
{
	struct stopped *s = arg;
	struct pollfd fd = { .fd = job_cancel_fd(s->job), .events = POLLIN };

	if (!s->asked)
		job_post(s->job, cancel_it, s);
	s->asked = true;
	ck_assert_int_eq(poll(&fd, 1, 60000), 1);
}

static void
run_flatten(struct job *job, void *data)
{
	CLEANUP_FREE char *base = at("base.raw"), *path = at("one.qcow2");
	struct stopped *s = data;

	s->job = job;
	s->rc = disk_flatten(&(struct disk_layer){ base, "raw" }, 1, path, "qcow2", true,
	    on_first_progress, s, job, &s->err);
}

static void
run_verify(struct job *job, void *data)
{
	CLEANUP_FREE char *base = at("base.raw");
	struct stopped *s = data;

	s->job = job;
	s->rc = disk_verify(base, "raw", "sha256:00", on_first_progress, s, job, &s->err);
}

static void
run_done(void *data)
{
	struct stopped *s = data;

	loop_stop(s->loop);
}

static void
run_stopped(job_run_fn *run)
{
	struct stopped s = { .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(s.loop, 1, 1);

	ck_assert_int_eq(worker_submit(pool, "work", run, run_done, &s, 0, NULL, NULL), 0);
	loop_run(s.loop);
	ck_assert(s.asked);
	ck_assert_msg(s.rc == E_CANCELLED, "%d %s", s.rc, s.err.msg);
	worker_pool_destroy(pool);
	loop_destroy(s.loop);
}

START_TEST(flatten__cancelled__nothing_left)
{
	CLEANUP_FREE char *path = NULL;

	setup();
	sh("head -c 300000000 /dev/urandom >base.raw");
	run_stopped(run_flatten);
	path = at("one.qcow2");
	ck_assert(!fs_exists(path));
	sh("test \"$(ls)\" = base.raw");
	teardown();
}
END_TEST

/* ---- verify ---- */

static int
verify(const char *name, const char *format, struct err *err)
{
	CLEANUP_FREE char *path = at(name), *digest = NULL, *words = NULL;
	int status;

	words = script("cat digest", &status);
	digest = xasprintf("sha256:%.64s", words);
	return disk_verify(path, format, digest, NULL, NULL, NULL, err);
}

START_TEST(verify__whole_images__fine)
{
	struct err err = ERR_INIT;

	setup();
	sh(make_chain);
	ck_assert_int_eq(flatten("one.qcow2", "qcow2", true, NULL, NULL, &err), 0);
	sh("sha256sum one.qcow2 >digest");
	ck_assert_msg(verify("one.qcow2", "qcow2", &err) == 0, "%s", err.msg);
	sh("sha256sum base.raw >digest");
	ck_assert_msg(verify("base.raw", "raw", &err) == 0, "%s", err.msg);
	/* Kept as raw, whatever is in it. */
	sh("sha256sum one.qcow2 >digest");
	ck_assert_msg(verify("one.qcow2", "raw", &err) == 0, "%s", err.msg);
	teardown();
}
END_TEST

START_TEST(verify__one_bit__seen)
{
	struct err err = ERR_INIT;

	setup();
	sh("head -c 3000001 /dev/urandom >a.raw; sha256sum a.raw >digest\n"
	   "b=$(od -An -tu1 -j 2000000 -N 1 a.raw)\n"
	   "printf \"\\\\$(printf %03o $((b ^ 16)))\" | dd of=a.raw bs=1 seek=2000000 conv=notrunc status=none");
	ck_assert_int_eq(verify("a.raw", "raw", &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "damaged"));
	sh("sha256sum a.raw >digest; truncate -s 3000000 a.raw");
	ck_assert_int_eq(verify("a.raw", "raw", &err), E_IMAGE);
	sh("rm a.raw");
	ck_assert_int_eq(verify("a.raw", "raw", &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "gone"));
	teardown();
}
END_TEST

/* The bytes are what they were: it was never sound. */
START_TEST(verify__wrong_tables__seen)
{
	struct err err = ERR_INIT;

	setup();
	/* An entry of the second table points far behind the end of the file. */
	sh("qemu-img create -q -f qcow2 a.qcow2 16M; qemu-io -f qcow2 -c 'write -P 1 0 8M' a.qcow2 >out\n"
	   "qemu-img check -q -f qcow2 a.qcow2\n"
	   "printf '\\200\\000\\000\\377\\000\\000\\000\\000' |\n"
	   "dd of=a.qcow2 bs=1 seek=262152 conv=notrunc status=none; sha256sum a.qcow2 >digest");
	ck_assert_int_eq(verify("a.qcow2", "qcow2", &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "damaged"));
	/* A leak is no damage. */
	sh("qemu-img create -q -f qcow2 c.qcow2 16M; qemu-io -f qcow2 -c 'write -P 1 0 64k' c.qcow2 >out\n"
	   "dd if=/dev/zero of=c.qcow2 bs=1 seek=262144 count=8 conv=notrunc status=none\n"
	   "qemu-img check -f qcow2 c.qcow2; test $? = 3; sha256sum c.qcow2 >digest");
	ck_assert_msg(verify("c.qcow2", "qcow2", &err) == 0, "%s", err.msg);
	teardown();
}
END_TEST

START_TEST(verify__cancelled__stops)
{
	setup();
	sh("truncate -s 1G base.raw");
	run_stopped(run_verify);
	teardown();
}
END_TEST

/* ---- clean ---- */

static const char make_root[] =
    "mkdir -p root/etc/ssh root/var/lib/dbus root/var/lib/systemd root/var/log root/home/vm/.ssh\n"
    "c=root/var/lib/cloud; mkdir -p $c/instances/i-1/sem $c/data $c/sem $c/seed $c/scripts/per-boot\n"
    "mkdir -p root/var/lib/dhcp root/var/lib/NetworkManager\n"
    "echo 0123456789abcdef0123456789abcdef >root/etc/machine-id; chmod 444 root/etc/machine-id\n"
    "ln -s /etc/machine-id root/var/lib/dbus/machine-id\n"
    "for k in rsa ed25519 ecdsa; do echo VERY-SECRET-$k >root/etc/ssh/ssh_host_${k}_key\n"
    "echo public >root/etc/ssh/ssh_host_${k}_key.pub; done; echo Port 22 >root/etc/ssh/sshd_config\n"
    "ln -s /var/lib/cloud/instances/i-1 $c/instance; echo x >$c/instances/i-1/user-data.txt\n"
    "echo y >\"$c/instances/i-1/sem/a \\\"b\\\" 'c'\"; echo z >$c/data/instance-id\n"
    "echo keep >$c/seed/meta-data; echo keep >$c/scripts/per-boot/mine; echo s >$c/sem/once\n"
    "head -c 512 /dev/urandom >root/var/lib/systemd/random-seed\n"
    "echo log >root/var/log/cloud-init.log; echo log >root/var/log/cloud-init-output.log\n"
    "echo lease >root/var/lib/dhcp/dhclient.eth0.leases; echo k >root/var/lib/NetworkManager/secret_key\n"
    "echo keep >root/var/lib/NetworkManager/NetworkManager-intern.conf; echo web1 >root/etc/hostname\n"
    "echo keep >root/home/vm/.ssh/authorized_keys; head -c 3000000 /dev/urandom >root/home/vm/data\n"
    "fill() { head -c 30000000 /dev/urandom >junk; debugfs -w -R 'write junk junk' $1; debugfs -w -R 'rm junk' $1; }\n";

/* What must hold of the file system in `at`, which debugfs and e2fsck read. */
static const char check_root[] =
    "has() { debugfs -R \"stat $1\" $at 2>/dev/null | grep -q '^Inode'; }\n"
    "e2fsck -fn $at || exit 1\n"
    "for f in /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_ed25519_key.pub /var/lib/cloud/instance \\\n"
    "  /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem /var/log/cloud-init.log \\\n"
    "  /var/log/cloud-init-output.log /var/lib/systemd/random-seed /var/lib/dhcp/dhclient.eth0.leases \\\n"
    "  /var/lib/NetworkManager/secret_key; do ! has $f || { echo $f is there; exit 1; }; done\n"
    "for f in /etc/ssh/sshd_config /var/lib/cloud/seed/meta-data /var/lib/cloud/scripts/per-boot/mine \\\n"
    "  /var/lib/dbus/machine-id /var/lib/NetworkManager/NetworkManager-intern.conf /etc/hostname \\\n"
    "  /home/vm/.ssh/authorized_keys /var/lib/dhcp; do has $f || { echo $f is gone; exit 1; }; done\n"
    "debugfs -R 'stat /etc/machine-id' $at | grep -q 'Mode:  0444' || exit 1\n"
    "debugfs -R 'dump /etc/machine-id id' $at; test -e id -a ! -s id || { echo id; exit 1; }\n"
    "debugfs -R 'dump /home/vm/data data' $at; cmp data root/home/vm/data || exit 1\n"
    "! grep -aq VERY-SECRET disk.raw || { echo the key is still there; exit 1; }\n";

static int
clean(struct err *err, char **ret_removed)
{
	CLEANUP_FREE char *path = at("disk.raw");

	return disk_clean_identity(path, ret_removed, NULL, err);
}

static void
check_clean(const char *where)
{
	CLEANUP_FREE char *removed = NULL, *text = xasprintf("at=%s\n%s", where, check_root);
	uint64_t before = disk_bytes("disk.raw");
	struct err err = ERR_INIT;

	ck_assert_msg(clean(&err, &removed) == 0, "%s", err.msg);
	ck_assert_msg(err.code == E_OK, "%s", err.msg);
	ck_assert_msg(strstr(removed, "/etc/machine-id\n") != NULL, "%s", removed);
	ck_assert_ptr_nonnull(strstr(removed, "/etc/ssh/ssh_host_ed25519_key\n"));
	ck_assert_ptr_nonnull(strstr(removed, "/var/lib/cloud/instances\n"));
	ck_assert_ptr_null(strstr(removed, "authorized_keys"));
	ck_assert_uint_lt(disk_bytes("disk.raw") + 20 * MIB, before);
	sh(text);
	free(TAKE(removed));
	/* Nothing is left to do. */
	ck_assert_msg(clean(&err, &removed) == 0, "%s", err.msg);
	ck_assert_str_eq(removed, "");
}

START_TEST(clean__whole_disk__each_ext)
{
	static const char *const types[] = { "ext2", "ext3", "ext4", "ext4 -O inline_data" };

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		CLEANUP_FREE char *text = xasprintf(
		    "%s mke2fs -q -t %s -d root disk.raw 128M; fill disk.raw", make_root, types[i]);

		setup();
		sh(text);
		check_clean("disk.raw");
		teardown();
	}
}
END_TEST

static const char put_in[] =
    "mke2fs -q -t ext4 -d root fs.img 100M; fill fs.img\n"
    "dd if=fs.img of=disk.raw bs=1M seek=$mib conv=notrunc,sparse status=none\n";

START_TEST(clean__gpt__the_partition)
{
	CLEANUP_FREE char *text = xasprintf("%s truncate -s 160M disk.raw; mib=48\n"
	    "printf 'label: gpt\\nstart=2048,size=4096,type=21686148-6449-6E6F-744E-656564454649\\n"
	    "size=40M\\nstart=98304\\n' | sfdisk -q disk.raw\n%s sfdisk -d disk.raw >table",
	    make_root, put_in);

	setup();
	sh(text);
	check_clean("disk.raw?offset=50331648");
	sh("sfdisk -d disk.raw | cmp - table && sfdisk -V disk.raw");
	teardown();
}
END_TEST

START_TEST(clean__mbr__a_logical_partition)
{
	CLEANUP_FREE char *text = xasprintf("%s truncate -s 160M disk.raw; mib=20\n"
	    "printf 'label: dos\\nstart=2048,size=8192,type=82\\nstart=16384,type=5\\n"
	    "start=40960,type=83\\n' | sfdisk -q disk.raw\n"
	    "mkswap -q -L s --offset 1048576 disk.raw 2>/dev/null || true\n%s", make_root, put_in);

	setup();
	sh(text);
	check_clean("disk.raw?offset=20971520");
	teardown();
}
END_TEST

START_TEST(clean__var_apart__found_there)
{
	CLEANUP_FREE char *text = xasprintf("%s mv root/var v; mkdir root/var\n"
	    "truncate -s 200M disk.raw\n"
	    "printf 'label: gpt\\nstart=2048,size=80M\\nstart=200704\\n' | sfdisk -q disk.raw\n"
	    "mke2fs -q -t ext4 -d root a.img 80M; mke2fs -q -t ext4 -d v b.img 64M\n"
	    "dd if=a.img of=disk.raw bs=1M seek=1 conv=notrunc status=none\n"
	    "dd if=b.img of=disk.raw bs=1M seek=98 conv=notrunc status=none\n", make_root);
	CLEANUP_FREE char *removed = NULL;
	struct err err = ERR_INIT;

	setup();
	sh(text);
	ck_assert_msg(clean(&err, &removed) == 0, "%s", err.msg);
	ck_assert_ptr_nonnull(strstr(removed, "/etc/machine-id\n"));
	ck_assert_msg(strstr(removed, "/var/lib/cloud/instances\n") != NULL, "%s", removed);
	ck_assert_msg(strstr(removed, "/var/log/cloud-init.log\n") != NULL, "%s", removed);
	sh("at=disk.raw?offset=102760448; e2fsck -fn $at; debugfs -R 'ls /lib/cloud' $at >out\n"
	   "grep -q seed out && ! grep -q inst out");
	teardown();
}
END_TEST

/* The journal holds a block that is not where it belongs yet, as after a crash. */
START_TEST(clean__dirty_journal__replayed_first)
{
	CLEANUP_FREE char *removed = NULL, *text = xasprintf("%s"
	    "head -c 4096 /dev/zero | tr '\\0' o >root/home/journaled\n"
	    "mke2fs -q -t ext4 -b 4096 -d root disk.raw 128M\n"
	    "head -c 4096 /dev/zero | tr '\\0' n >new\n"
	    "b=$(debugfs -R 'blocks /home/journaled' disk.raw 2>/dev/null)\n"
	    /* Also the inodes of keys as they are: replayed too late, they would be there again. */
	    "i=$(debugfs -R 'imap /etc/ssh/ssh_host_rsa_key' disk.raw 2>/dev/null |\n"
	    "  sed -n 's/.*located at block \\([0-9]*\\).*/\\1/p')\n"
	    "dd if=disk.raw of=inodes bs=4096 skip=$i count=1 status=none\n"
	    "printf 'jo\\njw -b %%s new\\njw -b %%s inodes\\njc\\n' $b $i >cmds; debugfs -w -f cmds disk.raw\n"
	    "dumpe2fs -h disk.raw 2>/dev/null | grep -q needs_recovery", make_root);
	struct err err = ERR_INIT;

	setup();
	sh(text);
	ck_assert_msg(clean(&err, &removed) == 0, "%s", err.msg);
	sh("debugfs -R 'dump /home/journaled got' disk.raw; cmp got new; e2fsck -fn disk.raw\n"
	   "! grep -aq VERY-SECRET disk.raw || exit 1\n"
	   "! dumpe2fs -h disk.raw 2>/dev/null | grep -q needs_recovery");
	teardown();
}
END_TEST

START_TEST(clean__other_file_systems__named)
{
	struct err err = ERR_INIT;
	char *removed = NULL;

	setup();
	/* As much of XFS as tells it, in the second partition; the first has no root of a guest. */
	sh("truncate -s 160M disk.raw\n"
	   "printf 'label: gpt\\nstart=2048,size=20480\\nstart=40960\\n' | sfdisk -q disk.raw\n"
	   "mkdir boot; echo k >boot/vmlinuz; mke2fs -q -t ext2 -d boot fs.img 10M\n"
	   "dd if=fs.img of=disk.raw bs=1M seek=1 conv=notrunc status=none\n"
	   "printf 'XFSB\\0\\0\\020\\0\\0\\0\\0\\0\\0\\0\\200\\0' >x\n"
	   "truncate -s 80 x; printf '\\0\\0\\0\\001\\0\\0\\040\\0\\0\\0\\0\\004' >>x\n"
	   "truncate -s 100 x; printf '\\264\\245\\002\\0\\002\\0\\0\\010' >>x\n"
	   "truncate -s 120 x; printf '\\014\\011\\011\\003\\015\\0\\0\\031' >>x\n"
	   "dd if=x of=disk.raw bs=1M seek=20 conv=notrunc status=none; blkid -p -O 20971520 disk.raw");
	ck_assert_int_eq(clean(&err, &removed), E_UNSUPPORTED);
	ck_assert_msg(strstr(err.msg, "ext2 in partition 1, xfs in partition 2") != NULL, "%s",
	    err.msg);
	ck_assert_ptr_nonnull(strstr(err.hint, "cloud-init clean"));
	sh("rm disk.raw; truncate -s 1M disk.raw");
	ck_assert_int_eq(clean(&err, &removed), E_UNSUPPORTED);
	ck_assert_msg(strstr(err.msg, "nothing known") != NULL, "%s", err.msg);
	ck_assert_ptr_null(removed);
	teardown();
}
END_TEST

/* No line of debugfs can hold it; nothing is claimed that was not done. */
START_TEST(clean__newline_in_a_name__told)
{
	CLEANUP_FREE char *text = xasprintf("%s touch \"root/var/lib/cloud/data/a\nrm hostname\n\"\n"
	    "mke2fs -q -t ext4 -d root disk.raw 128M", make_root);
	struct err err = ERR_INIT;
	char *removed = NULL;

	setup();
	sh(text);
	ck_assert_int_eq(clean(&err, &removed), E_FAILED);
	ck_assert_msg(strstr(err.msg, "/var/lib/cloud/data") != NULL, "%s", err.msg);
	sh("e2fsck -fn disk.raw && debugfs -R 'stat /etc/hostname' disk.raw | grep -q Inode");
	teardown();
}
END_TEST

START_TEST(clean__damaged_file_system__mended_or_refused)
{
	CLEANUP_FREE char *text = xasprintf("%s mke2fs -q -t ext4 -b 4096 -d root disk.raw 128M\n"
	    "debugfs -w -R 'clri /home' disk.raw; ! e2fsck -fn disk.raw", make_root);
	CLEANUP_FREE char *removed = NULL;
	struct err err = ERR_INIT;

	setup();
	sh(text);
	ck_assert_msg(clean(&err, &removed) == 0, "%s", err.msg);
	sh("e2fsck -fn disk.raw");
	/* Of another time: a feature that nobody knows. */
	sh("printf '\\0\\0\\0\\200' | dd of=disk.raw bs=1 seek=1120 conv=notrunc status=none");
	free(TAKE(removed));
	ck_assert_msg(clean(&err, &removed) != 0, "%s", removed);
	teardown();
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("image_work");

	/* People's PATH lacks the folders of mke2fs and its like. */
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	UNIT_CASE(suite, flatten__three_layers__same_bytes);
	UNIT_CASE(suite, flatten__again__same_file);
	UNIT_CASE(suite, flatten__odd_names__only_names);
	UNIT_CASE(suite, flatten__target_there__untouched);
	UNIT_CASE(suite, flatten__wrong_chains__refused_and_nothing_left);
	UNIT_CASE(suite, flatten__no_room__said_before);
	UNIT_CASE(suite, flatten__cancelled__nothing_left);
	UNIT_CASE(suite, verify__whole_images__fine);
	UNIT_CASE(suite, verify__one_bit__seen);
	UNIT_CASE(suite, verify__wrong_tables__seen);
	UNIT_CASE(suite, verify__cancelled__stops);
	UNIT_CASE(suite, clean__whole_disk__each_ext);
	UNIT_CASE(suite, clean__gpt__the_partition);
	UNIT_CASE(suite, clean__mbr__a_logical_partition);
	UNIT_CASE(suite, clean__var_apart__found_there);
	UNIT_CASE(suite, clean__dirty_journal__replayed_first);
	UNIT_CASE(suite, clean__other_file_systems__named);
	UNIT_CASE(suite, clean__newline_in_a_name__told);
	UNIT_CASE(suite, clean__damaged_file_system__mended_or_refused);
	return unit_main(suite);
}
