/* SPDX-License-Identifier: MPL-2.0
 *
 * The seed's ISO 9660 image, made in memory and written in one go. */
#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <string.h>

#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/cloudinit/compose.h"

static ssize_t
on_bytes(struct archive *archive, void *arg, const void *data, size_t len)
{
	sbuf_add(arg, data, len);
	return (ssize_t)len;
}

static void
wipe(struct sbuf *sb)
{
	if (sb->data != NULL)
		mem_wipe(sb->data, sb->len);
	sbuf_done(sb);
}

static int
put_file(struct archive *archive, const char *name, const struct sbuf *content)
{
	struct archive_entry *entry = archive_entry_new();
	int rc;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0400);
	archive_entry_set_size(entry, (la_int64_t)content->len);
	rc = archive_write_header(archive, entry);
	archive_entry_free(entry);
	if (rc != ARCHIVE_OK)
		return rc;
	return archive_write_data(archive, content->data, content->len) == (la_ssize_t)content->len
		   ? ARCHIVE_OK
		   : ARCHIVE_FATAL;
}

/* ISO 9660 has no small letters and libarchive keeps to that; a cloud-init from before 2019 looks
 * for this very word. */
static void
name_volume(struct sbuf *image)
{
	enum { DESCRIPTOR = 16 * 2048, VOLUME_ID = DESCRIPTOR + 40 };

	assert(image->len > VOLUME_ID + 6 && memcmp(image->data + VOLUME_ID, "CIDATA", 6) == 0);
	memcpy(image->data + VOLUME_ID, "cidata", 6);
}

static int
put_files(struct archive *archive, const struct seed *seed, const struct sbuf *user_data)
{
	struct sbuf meta_data = { 0 }, network = { 0 }, vendor_data = { 0 };
	int rc = put_file(archive, "user-data", user_data);

	compose_meta_data(seed, &meta_data);
	compose_network(seed, &network);
	compose_vendor_data(seed, &vendor_data);
	if (rc == ARCHIVE_OK)
		rc = put_file(archive, "meta-data", &meta_data);
	if (rc == ARCHIVE_OK && network.len > 0)
		rc = put_file(archive, "network-config", &network);
	if (rc == ARCHIVE_OK && vendor_data.len > 0)
		rc = put_file(archive, "vendor-data", &vendor_data);
	sbuf_done(&meta_data);
	sbuf_done(&network);
	sbuf_done(&vendor_data);
	return rc;
}

static int
write_iso(const char *path, const struct seed *seed, const struct sbuf *user_data, struct err *err)
{
	struct archive *archive = archive_write_new();
	struct sbuf image = { 0 };
	int rc = E_IO;

	if (archive_write_set_format_iso9660(archive) == ARCHIVE_OK &&
	    archive_write_set_options(archive, "iso9660:volume-id=cidata,joliet,rockridge") ==
		ARCHIVE_OK &&
	    archive_write_open(archive, &image, NULL, on_bytes, NULL) == ARCHIVE_OK &&
	    put_files(archive, seed, user_data) == ARCHIVE_OK &&
	    archive_write_close(archive) == ARCHIVE_OK) {
		name_volume(&image);
		rc = fs_write(path, image.data, image.len, 0600, err);
	} else {
		err_set(err, E_IO, "can not make the seed '%s': %s", path,
		    archive_error_string(archive));
	}
	archive_write_free(archive);
	wipe(&image);
	return rc;
}

int
seed_write(const struct seed *seed, const char *path, struct err *err)
{
	struct sbuf user_data = { 0 };
	int rc = compose_user_data(seed, &user_data, err);

	if (rc == 0)
		rc = write_iso(path, seed, &user_data, err);
	wipe(&user_data);
	return rc;
}

int
seed_write_stripped(const struct seed *seed, const char *path, struct err *err)
{
	struct sbuf user_data = { 0 };
	int rc;

	compose_stripped(&user_data);
	rc = write_iso(path, seed, &user_data, err);
	sbuf_done(&user_data);
	return rc;
}

bool
seed_sets_network(const struct seed *seed)
{
	return seed->nic_count > 1 || (seed->nic_count == 1 && seed->nics[0].address != NULL);
}

char *
seed_instance_id(const struct seed *seed, const char *generation)
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *hex = NULL;

	digest_text(digest, "vmm seed 1");
	digest_text(digest, generation);
	digest_text(digest, seed->hostname);
	digest_text(digest, seed->user);
	digest_text(digest, seed->authorized_key);
	digest_field(digest, seed->user_data, seed->user_data_len);
	/* cloud-init sets the network up for a new instance, and not again at later boots: another
	 * network has to be another instance.  Machines without a word on it keep what they had. */
	for (size_t i = 0; seed_sets_network(seed) && i < seed->nic_count; i++) {
		const struct seed_nic *nic = &seed->nics[i];

		if (seed->nic_count > 1)
			digest_text(digest, nic->mac);
		digest_text(digest, nic->address);
		digest_text(digest, nic->gateway);
		for (size_t k = 0; k < nic->dns_count; k++)
			digest_text(digest, nic->dns[k]);
	}
	hex = digest_finish(digest);
	return xasprintf("vmm-%.32s", hex);
}
