#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmm-fetch against registries: the real one, and one that lies."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fake"))

import registry as fake
from fetcher import fetch
from harness import check, contains, equal, run

QCOW2, OCTETS = fake.QCOW2_LAYER, fake.OCTETS
DISK = b"QFI\xfb" + bytes(range(256)) * 3000
OTHER = b"QFI\xfb" + bytes(range(255, -1, -1)) * 2000

open_registry = fake.Registry()


def manifest_of(host, name, /, **order):
    repository, _, tag = name.partition(":")
    if tag:
        order["tag"] = tag
    return fetch(work="manifest", registry=host, repository=repository, os="linux",
                 architecture="amd64", **order)


def blob_of(host, name, layer, /, **order):
    return fetch(work="blob", registry=host, repository=name.partition(":")[0],
                 digest=layer["digest"], blob_bytes=layer["bytes"],
                 media_type=layer["media_type"], container=layer["container"], **order)


def pull(host, name, /, auth=None, **order):
    """Both steps, as vmmd does; the image's bytes and the manifest's line."""
    more = {"auth": auth} if auth else {}
    got = manifest_of(host, name, **order, **more)
    equal(got.last["event"], "manifest", got.events)
    blob = blob_of(host, name, got.last["layers"][0], **more)
    equal(blob.last["event"], "done", blob.events)
    return blob.image, got.last


def failed(got, error, *parts):
    equal(got.last.get("event"), "failed", got.events)
    equal(got.last["error"], error, got.last)
    check(got.status != 0, "it claims success")
    for part in parts:
        contains(got.last["message"] + "\n" + got.last.get("hint", ""), part)
    return got.last


def test_a_tag_is_pulled():
    digest = open_registry.put_image("team/disk", "v1", DISK)
    image, line = pull(open_registry.host, "team/disk:v1")
    equal(image == DISK, True, "the image")
    equal(line["manifest_digest"], digest)
    equal([(la["digest"], la["bytes"], la["container"]) for la in line["layers"]],
          [(fake.sha256(DISK), len(DISK), False)])


run(globals(), [open_registry])
