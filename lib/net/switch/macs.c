/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/switch/macs.h"

#include <stdio.h>
#include <string.h>

void
macs_init(struct macs *macs, uint64_t ageing_ms)
{
	memset(macs, 0, sizeof(*macs));
	macs->ageing_ms = ageing_ms;
}

static uint64_t
number(const uint8_t *mac)
{
	uint64_t value = 0;

	memcpy(&value, mac, MAC_BYTES);
	return value;
}

static unsigned
bucket_of(const uint8_t *mac)
{
	return (unsigned)((number(mac) * 0x9e3779b97f4a7c15ULL) >> 40) % MACS_BUCKETS;
}

static struct mac_entry *
find(const struct macs *macs, const uint8_t *mac)
{
	const struct mac_entry *bucket = &macs->entries[bucket_of(mac) * MACS_WAYS];
	uint64_t wanted = number(mac);

	for (int i = 0; i < MACS_WAYS; i++)
		if (bucket[i].used && number(bucket[i].mac) == wanted)
			return (struct mac_entry *)(uintptr_t)&bucket[i];
	return NULL;
}

static bool
expired(const struct macs *macs, const struct mac_entry *e, uint64_t now_ms)
{
	return !e->fixed && now_ms - e->seen_ms >= macs->ageing_ms;
}

static void
forget(struct macs *macs, struct mac_entry *e)
{
	if (!e->fixed)
		macs->learnt[e->port]--;
	e->used = false;
	macs->count--;
}

/* A free place of its bucket, or that of the one not seen for longest; NULL: all are fixed. */
static struct mac_entry *
make_room(struct macs *macs, const uint8_t *mac)
{
	struct mac_entry *bucket = &macs->entries[bucket_of(mac) * MACS_WAYS], *oldest = NULL;

	for (int i = 0; i < MACS_WAYS; i++) {
		if (!bucket[i].used)
			return &bucket[i];
		if (!bucket[i].fixed && (oldest == NULL || bucket[i].seen_ms < oldest->seen_ms))
			oldest = &bucket[i];
	}
	if (oldest != NULL)
		forget(macs, oldest);
	return oldest;
}

static void
place(struct macs *macs, struct mac_entry *e, const uint8_t *mac, unsigned port)
{
	*e = (struct mac_entry){ .used = true, .port = (uint8_t)port };
	memcpy(e->mac, mac, MAC_BYTES);
	macs->count++;
}

bool
macs_learn(struct macs *macs, const uint8_t *mac, unsigned port, uint64_t now_ms)
{
	struct mac_entry *e = find(macs, mac);

	if (e != NULL && e->fixed)
		return e->port == port;
	if (e != NULL && e->port != port) {
		forget(macs, e);
		e = NULL;
	}
	if (e == NULL) {
		e = macs->learnt[port] < MACS_PER_PORT ? make_room(macs, mac) : NULL;
		if (e == NULL)
			return true;
		place(macs, e, mac, port);
		macs->learnt[port]++;
	}
	e->seen_ms = now_ms;
	return true;
}

bool
macs_fix(struct macs *macs, const uint8_t *mac, unsigned port)
{
	struct mac_entry *e = find(macs, mac);

	if (e != NULL && e->fixed)
		return e->port == port;
	if (e != NULL)
		forget(macs, e);
	e = make_room(macs, mac);
	if (e == NULL)
		return false;
	place(macs, e, mac, port);
	e->fixed = true;
	return true;
}

int
macs_find(const struct macs *macs, const uint8_t *mac, uint64_t now_ms)
{
	const struct mac_entry *e = find(macs, mac);

	return e != NULL && !expired(macs, e, now_ms) ? e->port : MACS_NOWHERE;
}

void
macs_forget_port(struct macs *macs, unsigned port)
{
	for (int i = 0; i < MACS_MAX; i++)
		if (macs->entries[i].used && macs->entries[i].port == port)
			forget(macs, &macs->entries[i]);
}

void
macs_age(struct macs *macs, uint64_t now_ms)
{
	for (int i = 0; i < MACS_MAX; i++)
		if (macs->entries[i].used && expired(macs, &macs->entries[i], now_ms))
			forget(macs, &macs->entries[i]);
}

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool
mac_parse(const char *text, uint8_t ret_mac[MAC_BYTES])
{
	uint8_t mac[MAC_BYTES];

	if (strlen(text) != 3 * MAC_BYTES - 1)
		return false;
	for (int i = 0; i < MAC_BYTES; i++) {
		int high = digit(text[3 * i]), low = digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < MAC_BYTES - 1 && text[3 * i + 2] != ':'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	if ((mac[0] & 1) || number(mac) == 0)
		return false;
	memcpy(ret_mac, mac, MAC_BYTES);
	return true;
}

void
mac_format(const uint8_t *mac, char ret_text[18])
{
	snprintf(ret_text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
	    mac[4], mac[5]);
}
