/* SPDX-License-Identifier: MPL-2.0
 *
 * Looking at keys that people bring, so that one that can not work is named before a machine is
 * made of it. */
#include "lib/ssh/key_check.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/ssh/ssh.h"

static const char *const public_types[] = { "ssh-ed25519", "ecdsa-sha2-nistp256",
	"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa", "sk-ssh-ed25519@openssh.com",
	"sk-ecdsa-sha2-nistp256@openssh.com" };

/* Takes a length and so many bytes off the front; false when they are not there. */
static bool
take_string(const unsigned char **data, size_t *len, const unsigned char **ret_s, size_t *ret_len)
{
	size_t n;

	if (*len < 4)
		return false;
	n = (size_t)(*data)[0] << 24 | (size_t)(*data)[1] << 16 | (size_t)(*data)[2] << 8 |
	    (*data)[3];
	if (n > *len - 4)
		return false;
	*ret_s = *data + 4;
	*ret_len = n;
	*data += 4 + n;
	*len -= 4 + n;
	return true;
}

static bool
bytes_are(const unsigned char *data, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(data, text, len) == 0;
}

static bool
known_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(public_types); i++)
		if (str_eq(type, public_types[i]))
			return true;
	return false;
}

static int
check_blob(const char *type, const char *base64, struct err *err)
{
	CLEANUP_FREE unsigned char *blob = NULL;
	const unsigned char *at, *name, *key;
	size_t len, name_len, key_len;

	if (str_unbase64(base64, &blob, &len) != 0)
		return err_set(
		    err, E_PARAMS, "the public key is damaged: its second word is not base64");
	at = blob;
	if (!take_string(&at, &len, &name, &name_len) || !take_string(&at, &len, &key, &key_len))
		return err_set(err, E_PARAMS, "the public key is cut short");
	if (!bytes_are(name, name_len, type))
		return err_set(
		    err, E_PARAMS, "the public key says '%s' but holds another type", type);
	if (str_eq(type, "ssh-ed25519") && (key_len != 32 || len != 0))
		return err_set(err, E_PARAMS, "the public key has the wrong length");
	return 0;
}

int
ssh_public_key_check(const char *line, struct err *err)
{
	CLEANUP_FREE char *copy = xstrdup(line);
	char *type = copy + strspn(copy, " \t\r\n"), *base64, *rest;
	size_t len = strlen(type);

	while (len > 0 && strchr(" \t\r\n", type[len - 1]) != NULL)
		type[--len] = '\0';
	if (strstr(type, "PRIVATE KEY") != NULL) {
		err_set(err, E_PARAMS, "this is a private key; a public one is needed");
		err_hint(err, "give the file that ends in .pub");
		return E_PARAMS;
	}
	if (len == 0)
		return err_set(err, E_PARAMS, "the public key is empty");
	if (strpbrk(type, "\r\n") != NULL)
		return err_set(err, E_PARAMS, "there is more than one line; give one public key");
	if (!str_utf8_valid(type, len))
		return err_set(err, E_PARAMS, "the public key is not text");
	base64 = type + strcspn(type, " \t");
	if (*base64 != '\0')
		*base64++ = '\0';
	base64 += strspn(base64, " \t");
	rest = base64 + strcspn(base64, " \t");
	*rest = '\0';
	if (!known_type(type)) {
		err_set(err, E_PARAMS, "'%.40s' is not a type of public key", type);
		err_hint(
		    err, "a line such as 'ssh-ed25519 AAAA… comment' is needed, without options");
		return E_PARAMS;
	}
	return check_blob(type, base64, err);
}

/* ---- private ---- */

static int
refuse_encrypted(struct err *err)
{
	err_set(err, E_PARAMS, "the private key is protected by a passphrase");
	err_hint(err,
	    "nobody can be asked for it: give a key without one (ssh-keygen -p -N '' on a "
	    "copy), or leave it out to have a key made for the machine");
	return E_PARAMS;
}

/* What stands between BEGIN and END, without white space. */
static char *
pem_body(const char *text)
{
	const char *at = strchr(text, '\n'), *end = strstr(text, "-----END");
	char *out, *p;

	if (at == NULL || end == NULL || end < at)
		return NULL;
	p = out = xmalloc((size_t)(end - at) + 1);
	for (; at < end; at++)
		if (strchr(" \t\r\n", *at) == NULL)
			*p++ = *at;
	*p = '\0';
	return out;
}

static int
check_openssh(const unsigned char *at, size_t len, bool *ret_rsa, struct err *err)
{
	const unsigned char *cipher, *kdf, *options, *blob, *type;
	size_t cipher_len, kdf_len, options_len, blob_len, type_len;

	if (len < 15 || memcmp(at, "openssh-key-v1", 15) != 0)
		return err_set(err, E_PARAMS, "the private key is damaged");
	at += 15;
	len -= 15;
	if (!take_string(&at, &len, &cipher, &cipher_len) ||
	    !take_string(&at, &len, &kdf, &kdf_len) ||
	    !take_string(&at, &len, &options, &options_len))
		return err_set(err, E_PARAMS, "the private key is cut short");
	if (!bytes_are(cipher, cipher_len, "none"))
		return refuse_encrypted(err);
	if (len < 4)
		return err_set(err, E_PARAMS, "the private key is cut short");
	at += 4; /* how many keys */
	len -= 4;
	if (!take_string(&at, &len, &blob, &blob_len) ||
	    !take_string(&blob, &blob_len, &type, &type_len))
		return err_set(err, E_PARAMS, "the private key is cut short");
	if (type_len > 3 && memcmp(type, "sk-", 3) == 0)
		return err_set(
		    err, E_PARAMS, "the private key lives in a token that has to be touched");
	*ret_rsa = bytes_are(type, type_len, "ssh-rsa");
	return 0;
}

static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

static int
check_other(const void *data, size_t len, bool *ret_rsa, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(data, (int)len);
	EVP_PKEY *key =
	    bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	int kind = key != NULL ? EVP_PKEY_get_base_id(key) : 0;

	EVP_PKEY_free(key);
	BIO_free(bio);
	*ret_rsa = kind == EVP_PKEY_RSA;
	if (kind == 0)
		return err_set(err, E_PARAMS, "the private key can not be read");
	if (kind != EVP_PKEY_RSA && kind != EVP_PKEY_EC && kind != EVP_PKEY_ED25519)
		return err_set(err, E_PARAMS, "the private key is of a type that SSH does not use");
	return 0;
}

int
ssh_private_key_inspect(const void *data, size_t len, bool *ret_rsa, struct err *err)
{
	char *text, *body = NULL;
	unsigned char *blob = NULL;
	size_t blob_len = 0;
	int rc;

	if (len > 64 * 1024)
		return err_set(err, E_PARAMS, "the private key is too long to be one");
	text = xstrndup(data, len);
	if (strstr(text, "-----BEGIN OPENSSH PRIVATE KEY") != NULL) {
		body = pem_body(strstr(text, "-----BEGIN"));
		if (body == NULL || str_unbase64(body, &blob, &blob_len) != 0)
			rc = err_set(err, E_PARAMS, "the private key is damaged");
		else
			rc = check_openssh(blob, blob_len, ret_rsa, err);
	} else if (strstr(text, "-----BEGIN") != NULL && strstr(text, "ENCRYPTED") != NULL) {
		rc = refuse_encrypted(err);
	} else if (strstr(text, "PRIVATE KEY-----") != NULL) {
		rc = check_other(data, len, ret_rsa, err);
	} else if (str_starts(text, "PuTTY-User-Key-File")) {
		rc = err_set(err, E_PARAMS, "the private key is in PuTTY's own format");
		err_hint(err, "puttygen KEY -O private-openssh -o OTHER makes one that works");
	} else {
		rc = err_set(err, E_PARAMS, "this is not a private key");
		if (ssh_public_key_check(text, NULL) == 0)
			err_hint(err, "it is the public half; give the file without .pub");
	}
	if (blob != NULL)
		mem_wipe(blob, blob_len);
	if (body != NULL)
		mem_wipe(body, strlen(body));
	mem_wipe(text, strlen(text));
	free(blob);
	free(body);
	free(text);
	return rc;
}

int
ssh_private_key_check(const void *data, size_t len, struct err *err)
{
	bool rsa;

	return ssh_private_key_inspect(data, len, &rsa, err);
}
