/* SPDX-License-Identifier: MPL-2.0
 *
 * Reads the header of an untrusted file.  Allowed is what is known to be harmless: raw, and qcow2
 * that points to no other file and whose tables lie inside of it.  Everything else is refused by
 * name; nothing is probed later, since the format found here is passed on explicitly. */
#include "lib/image/image.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

enum {
	HEAD_BYTES = 512,
	SECTOR = 512,
	V2_HEADER = 72,
	V3_HEADER = 104,
	CLUSTER_BITS_MIN = 9,
	CLUSTER_BITS_MAX = 21,
	L1_BYTES_MAX = 32 << 20,	/* QEMU's own limits */
	REFCOUNT_BYTES_MAX = 8 << 20,
	SNAPSHOTS_MAX = 65536,
	SNAPSHOT_HEAD = 40,
	SNAPSHOT_EXTRA_MAX = 1024,
	SNAPSHOT_BYTES_MAX = 64 << 20, /* of all heads */
	BACKING_MAX = 1023,
	CHUNK = 64 * 1024,
};

#define VIRTUAL_BYTES_MAX (64ULL << 40)
#define L1_OFFSET_MASK 0x00fffffffffffe00ULL

enum feature {
	FEATURE_DIRTY = 1 << 0, /* left open by a writer; harmless to a reader */
	FEATURE_CORRUPT = 1 << 1,
	FEATURE_EXTERNAL_DATA = 1 << 2,
	FEATURE_COMPRESSION = 1 << 3,
	FEATURE_EXTENDED_L2 = 1 << 4,
};
#define FEATURES_ACCEPTED (FEATURE_DIRTY | FEATURE_COMPRESSION | FEATURE_EXTENDED_L2)

enum extension {
	EXTENSION_END = 0,
	EXTENSION_CRYPTO = 0x0537be77,
	EXTENSION_EXTERNAL_DATA = 0x44415441,
};

/* Where another format shows itself.  from_end: counted back from the end of the file. */
struct magic {
	const char *bytes;
	size_t len;
	uint64_t offset;
	bool from_end;
	const char *name;
	const char *convert; /* for qemu-img convert -f; NULL: it is no disk image */
	bool packing;	     /* what vmm-fetch unpacks */
};

/* clang-format off */
static const struct magic magics[] = {
	{ "KDMV",                  4,   0, false, "VMDK",                    "vmdk" },
	{ "COWD",                  4,   0, false, "VMDK",                    "vmdk" },
	{ "# Disk DescriptorFile", 21,  0, false, "VMDK",                    "vmdk" },
	{ "\x7f\x10\xda\xbe",      4,  64, false, "VDI",                     "vdi" },
	{ "vhdxfile",              8,   0, false, "VHDX",                    "vhdx" },
	{ "conectix",              8,   0, false, "VHD",                     "vpc" },
	{ "conectix",              8, 512, true,  "VHD",                     "vpc" },
	{ "QED\0",                 4,   0, false, "QED",                     "qed" },
	{ "LUKS\xba\xbe",          6,   0, false, "LUKS",                    "luks" },
	{ "WithoutFreeSpace",     16,   0, false, "Parallels",               "parallels" },
	{ "WithouFreSpacExt",     16,   0, false, "Parallels",               "parallels" },
	{ "Bochs Virtual HD",     16,   0, false, "Bochs",                   "bochs" },
	{ "koly",                  4, 512, true,  "DMG",                     "dmg" },
	{ "\x1f\x8b",              2,   0, false, "gzip",                    NULL, true },
	{ "\xfd" "7zXZ",           5,   0, false, "xz",                      NULL, true },
	{ "\x28\xb5\x2f\xfd",      4,   0, false, "zstd",                    NULL, true },
	{ "BZh",                   3,   0, false, "bzip2",                   NULL, true },
	{ "PK\x03\x04",            4,   0, false, "ZIP",                     NULL },
	{ "7z\xbc\xaf\x27\x1c",    6,   0, false, "7z",                      NULL },
	{ "ustar",                 5, 257, false, "tar (or OVA)",            NULL },
	{ "<!DOCTYPE",             9,   0, false, "HTML",                    NULL },
	{ "<html",                 5,   0, false, "HTML",                    NULL },
};
/* clang-format on */

struct file {
	int fd;
	const char *name;
	uint64_t size;
	bool overlay; /* a backing file is what we look for */
};

static uint32_t
be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t
be16(const unsigned char *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint64_t
be64(const unsigned char *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

/* Exactly len bytes; a file that ends before is E_IMAGE. */
static int
read_at(const struct file *f, void *data, size_t len, uint64_t at, struct err *err)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = pread(f->fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, E_IO, errno, "can not read '%s'", f->name);
		if (n == 0)
			return err_set(err, E_IMAGE, "'%s' ends too early; it may be incomplete",
			    f->name);
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int
refuse(const struct file *f, const char *hint, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int
refuse(const struct file *f, const char *hint, struct err *err, const char *fmt, ...)
{
	CLEANUP_FREE char *what = NULL;
	va_list ap;

	va_start(ap, fmt);
	what = xvasprintf(fmt, ap);
	va_end(ap);
	err_set(err, E_IMAGE, "the image '%s' can not be used: %s", f->name, what);
	err_object(err, f->name);
	if (hint != NULL)
		err_hint(err, "%s", hint);
	return E_IMAGE;
}

static int
refuse_foreign(const struct file *f, const struct magic *m, struct err *err)
{
	CLEANUP_FREE char *hint = NULL;

	if (m->convert == NULL)
		return refuse(f, "unpack it first; a disk image is needed, qcow2 or raw", err,
		    "it is a %s file", m->name);
	hint = xasprintf("qemu-img convert -f %s -O qcow2 '%s' new.qcow2", m->convert, f->name);
	return refuse(f, hint, err, "its format is %s; qcow2 and raw are taken", m->name);
}

bool
disk_is_packed(int fd)
{
	char head[8];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	for (size_t i = 0; i < ARRAY_LEN(magics); i++)
		if (magics[i].packing && n >= (ssize_t)magics[i].len &&
		    memcmp(head, magics[i].bytes, magics[i].len) == 0)
			return true;
	return false;
}

/* Refuses what is neither raw nor qcow2. */
static int
check_foreign(const struct file *f, const unsigned char *head, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		const struct magic *m = &magics[i];
		char tail[32];

		if (!m->from_end) {
			if (memcmp(head + m->offset, m->bytes, m->len) == 0)
				return refuse_foreign(f, m, err);
		} else if (f->size >= m->offset) {
			int rc = read_at(f, tail, m->len, f->size - m->offset, err);

			if (rc != 0)
				return rc;
			if (memcmp(tail, m->bytes, m->len) == 0)
				return refuse_foreign(f, m, err);
		}
	}
	return 0;
}

static bool
inside(const struct file *f, uint64_t offset, uint64_t len)
{
	return len <= f->size && offset <= f->size - len;
}

/* Extensions may name other files or carry keys, also where no feature bit says so. */
static int
check_extensions(const struct file *f, uint64_t at, uint64_t end, struct err *err)
{
	unsigned char head[8];

	while (at + sizeof(head) <= end) {
		uint32_t type, len;
		int rc = read_at(f, head, sizeof(head), at, err);

		if (rc != 0)
			return rc;
		type = be32(head);
		len = be32(head + 4);
		at += sizeof(head);
		if (type == EXTENSION_END)
			return 0;
		if (len > end - at)
			return refuse(f, NULL, err, "a header extension is longer than the header");
		if (type == EXTENSION_EXTERNAL_DATA)
			return refuse(f, "qemu-img convert -O qcow2 makes one file of it", err,
			    "its data is in another file");
		if (type == EXTENSION_CRYPTO)
			return refuse(f, NULL, err, "it is encrypted");
		at += (len + 7ULL) & ~7ULL;
	}
	return 0;
}

/* Each entry must point into the file: a cut-off download shows here. */
static int
check_l1(const struct file *f, uint64_t offset, uint64_t entries, uint64_t cluster, struct err *err)
{
	CLEANUP_FREE unsigned char *chunk = xmalloc(CHUNK);

	while (entries > 0) {
		size_t n = entries < CHUNK / 8 ? (size_t)entries : CHUNK / 8;
		int rc = read_at(f, chunk, n * 8, offset, err);

		if (rc != 0)
			return rc;
		for (size_t i = 0; i < n; i++) {
			uint64_t l2 = be64(chunk + i * 8) & L1_OFFSET_MASK;

			if (l2 % cluster != 0)
				return refuse(f, NULL, err, "its tables are damaged");
			if (l2 != 0 && !inside(f, l2, cluster))
				return refuse(f, "get the file again", err,
				    "it is incomplete: a table lies behind the end of the file");
		}
		offset += n * 8;
		entries -= n;
	}
	return 0;
}

/* Each has a cluster table of its own, and a head whose length it tells itself. */
static int
check_snapshots(const struct file *f, const unsigned char *head, uint64_t cluster, struct err *err)
{
	uint32_t count = be32(head + 60);
	uint64_t table = be64(head + 64), at = table;

	if (count > SNAPSHOTS_MAX || (count > 0 && table % cluster != 0))
		return refuse(f, NULL, err, "its snapshot table is out of bounds");
	for (uint32_t i = 0; i < count; i++) {
		unsigned char entry[SNAPSHOT_HEAD];
		uint64_t l1_offset, l1_bytes;
		uint32_t extra;
		int rc;

		if (!inside(f, at, sizeof(entry)) || at - table > SNAPSHOT_BYTES_MAX)
			return refuse(f, NULL, err, "its snapshot table is out of bounds");
		rc = read_at(f, entry, sizeof(entry), at, err);
		if (rc != 0)
			return rc;
		l1_offset = be64(entry);
		l1_bytes = be32(entry + 8) * 8ULL;
		extra = be32(entry + 36);
		if (extra > SNAPSHOT_EXTRA_MAX || l1_bytes > L1_BYTES_MAX ||
		    l1_offset % cluster != 0 || !inside(f, l1_offset, l1_bytes))
			return refuse(f, NULL, err, "snapshot %u of it is out of bounds", i + 1);
		at += sizeof(entry) + extra + be16(entry + 12) + be16(entry + 14);
		at = (at + 7) & ~7ULL;
	}
	return 0;
}

static int
check_features(const struct file *f, const unsigned char *head, struct err *err)
{
	uint64_t features = be64(head + 72);
	uint32_t header_len = be32(head + 100);
	uint64_t unknown = features & ~(uint64_t)(FEATURES_ACCEPTED);

	if (features & FEATURE_EXTERNAL_DATA)
		return refuse(f, "qemu-img convert -O qcow2 makes one file of it", err,
		    "its data is in another file");
	if (features & FEATURE_CORRUPT)
		return refuse(f, "qemu-img check -r all may mend it", err,
		    "it is marked as corrupt");
	if (unknown != 0)
		return refuse(f, NULL, err, "it needs a feature that is not known here (bit %d)",
		    __builtin_ctzll(unknown));
	if (header_len < V3_HEADER || header_len % 8 != 0 || header_len > HEAD_BYTES)
		return refuse(f, NULL, err, "its header has the length %u", header_len);
	if ((features & FEATURE_COMPRESSION) && (header_len <= V3_HEADER || head[104] > 1))
		return refuse(f, NULL, err, "its compression is not known here");
	if (be32(head + 96) > 6)
		return refuse(f, NULL, err, "its reference counts are too wide");
	return 0;
}

/* The path of the file that an overlay stands on; NULL when it stands on none. */
static int
read_backing(const struct file *f, const unsigned char *head, char **ret_backing, struct err *err)
{
	uint64_t offset = be64(head + 8);
	uint32_t len = be32(head + 16);
	char name[BACKING_MAX + 1] = { 0 };
	size_t plain;
	int rc;

	*ret_backing = NULL;
	if (offset == 0 && len == 0)
		return 0;
	if (len == 0 || len > BACKING_MAX || !inside(f, offset, len))
		return refuse(f, NULL, err, "the name of its backing file is out of bounds");
	rc = read_at(f, name, len, offset, err);
	if (rc != 0)
		return rc;
	plain = strcspn(name, "/:");
	if (strlen(name) != len || name[plain] == ':')
		return refuse(f, NULL, err, "its backing file is no plain file");
	*ret_backing = xstrdup(name);
	return 0;
}

static int
check_qcow2(const struct file *f, const unsigned char *head, uint64_t *ret_bytes, struct err *err)
{
	uint32_t version = be32(head + 4), bits = be32(head + 20), l1_size = be32(head + 36);
	uint64_t size = be64(head + 24), l1_offset = be64(head + 40);
	uint64_t table = be64(head + 48), table_bytes;
	uint64_t cluster, l1_needed, header_len = V2_HEADER, l2_entry = 8;
	int rc;

	if (version == 1)
		return refuse(f, "qemu-img convert -f qcow -O qcow2 makes a current one", err,
		    "its format is qcow, version 1");
	if (version != 2 && version != 3)
		return refuse(f, NULL, err, "qcow2 of version %u is not known here", version);
	if (!f->overlay && (be64(head + 8) != 0 || be32(head + 16) != 0))
		return refuse(f, "qemu-img convert -O qcow2 makes one file of it", err,
		    "it stands on another file (a backing file)");
	if (be32(head + 32) != 0)
		return refuse(f, NULL, err, "it is encrypted");
	if (version == 3) {
		rc = check_features(f, head, err);
		if (rc != 0)
			return rc;
		header_len = be32(head + 100);
		if (be64(head + 72) & FEATURE_EXTENDED_L2)
			l2_entry = 16;
	}
	if (bits < CLUSTER_BITS_MIN || bits > CLUSTER_BITS_MAX)
		return refuse(f, NULL, err, "its clusters have 2^%u bytes", bits);
	cluster = 1ULL << bits;
	if (size == 0 || size > VIRTUAL_BYTES_MAX)
		return refuse(f, NULL, err, "its size of %llu bytes is out of bounds",
		    (unsigned long long)size);
	l1_needed = (size + cluster * (cluster / l2_entry) - 1) / (cluster * (cluster / l2_entry));
	if (l1_size < l1_needed || (uint64_t)l1_size * 8 > L1_BYTES_MAX || l1_offset == 0 ||
	    l1_offset % cluster != 0 || !inside(f, l1_offset, (uint64_t)l1_size * 8))
		return refuse(f, NULL, err, "its cluster table is out of bounds");
	table_bytes = (uint64_t)be32(head + 56) * cluster;
	if (table == 0 || table % cluster != 0 || table_bytes == 0 ||
	    table_bytes > REFCOUNT_BYTES_MAX || !inside(f, table, table_bytes))
		return refuse(f, NULL, err, "its reference table is out of bounds");
	rc = check_snapshots(f, head, cluster, err);
	if (rc == 0)
		rc = check_extensions(f, header_len, cluster, err);
	if (rc == 0)
		rc = check_l1(f, l1_offset, l1_size, cluster, err);
	if (rc == 0)
		*ret_bytes = size;
	return rc;
}

/* ret_backing: NULL when no backing file is allowed. */
static int
inspect(int fd, const char *name, struct disk_header *ret_header, char **ret_backing,
    struct err *err)
{
	unsigned char head[HEAD_BYTES] = { 0 };
	struct file f = { .fd = fd, .name = name, .overlay = ret_backing != NULL };
	uint64_t bytes;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read '%s'", name);
	if (!S_ISREG(st.st_mode))
		return refuse(&f, "give the file of a disk image", err, "it is not a regular file");
	f.size = bytes = (uint64_t)st.st_size;
	rc = read_at(&f, head, f.size < sizeof(head) ? (size_t)f.size : sizeof(head), 0, err);
	if (rc != 0)
		return rc;
	rc = check_foreign(&f, head, err);
	if (rc != 0)
		return rc;
	if (f.size < SECTOR)
		return refuse(&f, NULL, err, "%llu bytes are too few for a disk",
		    (unsigned long long)f.size);
	if (memcmp(head, "QFI\xfb", 4) == 0) {
		rc = check_qcow2(&f, head, &bytes, err);
		if (rc == 0 && ret_backing != NULL)
			rc = read_backing(&f, head, ret_backing, err);
		if (rc == 0)
			*ret_header = (struct disk_header){ "qcow2", bytes };
		return rc;
	}
	if (ret_backing != NULL)
		return refuse(&f, NULL, err, "it is no qcow2 overlay");
	if (bytes > VIRTUAL_BYTES_MAX)
		return refuse(&f, NULL, err, "its size of %llu bytes is out of bounds",
		    (unsigned long long)bytes);
	*ret_header = (struct disk_header){ "raw", bytes };
	return 0;
}

int
disk_inspect(int fd, const char *name, struct disk_header *ret_header, struct err *err)
{
	return inspect(fd, name, ret_header, NULL, err);
}

int
disk_inspect_overlay(int fd, const char *name, struct disk_header *ret_header, char **ret_backing,
    struct err *err)
{
	return inspect(fd, name, ret_header, ret_backing, err);
}
