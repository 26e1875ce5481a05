/* SPDX-License-Identifier: MPL-2.0
 *
 * Making Ed25519 keys.  OpenSSL makes the key; the container that OpenSSH and cloud-init want
 * (openssh-key-v1) is written here, as no library at hand writes it. */
#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/ssh/ssh.h"

enum { KEY_LEN = 32, PEM_WIDTH = 70 };
static const char ed25519[] = "ssh-ed25519";

/* Everything secret is built in place, so that nothing is left behind by a buffer that grew. */
struct blob {
	unsigned char data[384];
	size_t len;
};

static void
put_bytes(struct blob *blob, const void *data, size_t len)
{
	assert(len <= sizeof(blob->data) - blob->len);
	memcpy(blob->data + blob->len, data, len);
	blob->len += len;
}

static void
put_u32(struct blob *blob, uint32_t value)
{
	unsigned char bytes[4] = { (unsigned char)(value >> 24), (unsigned char)(value >> 16),
		(unsigned char)(value >> 8), (unsigned char)value };

	put_bytes(blob, bytes, sizeof(bytes));
}

static void
put_string(struct blob *blob, const void *data, size_t len)
{
	put_u32(blob, (uint32_t)len);
	put_bytes(blob, data, len);
}

static void
put_public(struct blob *blob, const unsigned char public[KEY_LEN])
{
	put_string(blob, ed25519, strlen(ed25519));
	put_string(blob, public, KEY_LEN);
}

/* The half that a passphrase would encrypt: two equal numbers, the key, a comment, 1 2 3 … */
static void
put_private(struct blob *blob, const unsigned char private[KEY_LEN],
    const unsigned char public[KEY_LEN], uint32_t check)
{
	unsigned char pad = 0;

	put_u32(blob, check);
	put_u32(blob, check);
	put_public(blob, public);
	put_u32(blob, 2 * KEY_LEN);
	put_bytes(blob, private, KEY_LEN);
	put_bytes(blob, public, KEY_LEN);
	put_string(blob, "", 0);
	while (blob->len % 8 != 0)
		put_bytes(blob, &(unsigned char){ ++pad }, 1);
}

static char *
pem(const struct blob *blob)
{
	static const char head[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
	static const char tail[] = "-----END OPENSSH PRIVATE KEY-----\n";
	char *text = str_base64(blob->data, blob->len), *out, *p;
	size_t len = strlen(text);

	p = out = xmalloc(sizeof(head) + sizeof(tail) + len + len / PEM_WIDTH + 1);
	p = stpcpy(p, head);
	for (size_t at = 0; at < len; at += PEM_WIDTH) {
		size_t wide = len - at < PEM_WIDTH ? len - at : PEM_WIDTH;

		memcpy(p, text + at, wide);
		p += wide;
		*p++ = '\n';
	}
	memcpy(p, tail, sizeof(tail));
	mem_wipe(text, len);
	free(text);
	return out;
}

static int
make_key(unsigned char private[KEY_LEN], unsigned char public[KEY_LEN], uint32_t *ret_check)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	size_t private_len = KEY_LEN, public_len = KEY_LEN;
	bool ok = key != NULL && EVP_PKEY_get_raw_private_key(key, private, &private_len) == 1 &&
		  EVP_PKEY_get_raw_public_key(key, public, &public_len) == 1 &&
		  RAND_bytes((unsigned char *)ret_check, sizeof(*ret_check)) == 1;

	EVP_PKEY_free(key);
	return ok ? 0 : E_FAILED;
}

int
ssh_keypair_create(struct ssh_keypair *ret_pair, struct err *err)
{
	static const char magic[] = "openssh-key-v1"; /* its zero belongs to it */
	struct blob blob = { .len = 0 }, public_blob = { .len = 0 }, private_blob = { .len = 0 };
	unsigned char private[KEY_LEN], public[KEY_LEN];
	CLEANUP_FREE char *text = NULL;
	uint32_t check;

	if (make_key(private, public, &check) != 0)
		return err_set(err, E_FAILED, "OpenSSL could not make an Ed25519 key");
	put_public(&public_blob, public);
	put_private(&private_blob, private, public, check);
	put_bytes(&blob, magic, sizeof(magic));
	put_string(&blob, "none", 4); /* cipher */
	put_string(&blob, "none", 4); /* how a passphrase becomes its key */
	put_string(&blob, "", 0);
	put_u32(&blob, 1);
	put_string(&blob, public_blob.data, public_blob.len);
	put_string(&blob, private_blob.data, private_blob.len);
	text = str_base64(public_blob.data, public_blob.len);
	ret_pair->private_pem = pem(&blob);
	ret_pair->public_line = xasprintf("%s %s", ed25519, text);
	mem_wipe(&blob, sizeof(blob));
	mem_wipe(&private_blob, sizeof(private_blob));
	mem_wipe(private, sizeof(private));
	return 0;
}

void
ssh_keypair_done(struct ssh_keypair *pair)
{
	if (pair->private_pem != NULL)
		mem_wipe(pair->private_pem, strlen(pair->private_pem));
	free(pair->private_pem);
	free(pair->public_line);
	*pair = (struct ssh_keypair){ .private_pem = NULL };
}
