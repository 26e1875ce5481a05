#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Images from servers into the store, through the daemon: what is asked of the server, what the
store has afterwards, and under which names."""

import atexit
import bz2
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import tempfile

from fetching import MIB, ImageHost, noise, sha256
from harness import check, contains, equal, run

import registry as fake
import web

host = ImageHost(base=tempfile.mkdtemp(prefix="vmm-e2e-pull-"))
server = web.Server()
host.start()


def registry(**kwargs):
    made = fake.Registry(**kwargs)
    atexit.register(made.close)
    return made


def login_of(server_of, password):
    return {"hosts": [{"for": server_of.host, "username": "me", "password": password}]}


def put(name, data=None, **more):
    return server.put(f"/{name}", noise() if data is None else data, **more)


def hexes(data, kind=hashlib.sha256):
    return kind(data).hexdigest()


# ---- http ----


def test_pull_and_again_without_a_byte():
    page = put("disk.raw")
    got = host.pull(page.url)
    equal((got["image"]["digest"], got["source"], got["transferred_bytes"], got["known"]),
          (sha256(page.data), page.url, MIB, False))
    for policy in ("revalidate", "refresh", "missing"):
        before = len(page.hits)
        got = host.pull(page.url, policy=policy)
        equal((got["image"]["digest"], got["transferred_bytes"], got["known"]),
              (sha256(page.data), 0, True), policy)
        asked = page.hits[before:]
        equal([(r.status, r.sent) for r in asked], [] if policy == "missing" else [(304, 0)])
    host.restart()
    equal(host.pull(page.url)["transferred_bytes"], 0)
    equal(sum(r.sent for r in page.hits), MIB, "bytes of bodies that the server sent")
    equal(host.whole(), {sha256(page.data)})
    host.clear()


def test_a_url_that_moves():
    dates = ["Tue, 01 Jul 2025 00:00:00 GMT", "Wed, 02 Jul 2025 00:00:00 GMT"]
    for number, ((etag, other), (date, later)) in enumerate((
            (('"a"', '"b"'), (None, None)), ((None, None), dates), (('W/"a"', 'W/"b"'), dates))):
        page = put(f"moving-{number}.raw", etag=etag, last_modified=date)
        first, old = host.pull(page.url), page.data
        page.replace(noise(), etag=other, last_modified=later)
        equal(host.pull(page.url, policy="missing")["image"]["digest"], sha256(old))
        got = host.pull(page.url)
        equal((got["image"]["digest"], got["transferred_bytes"], got["known"]),
              (sha256(page.data), MIB, False))
        equal(host.pull(page.url)["transferred_bytes"], 0)
        equal(len(page.bodies), 2)
        # What it was is there until somebody removes it.
        check(first["image"]["digest"] in host.whole(), "the old image went away")
    host.clear()


def test_a_server_without_validators_is_asked_in_full():
    page = put("plain.raw", etag=None)
    for known in (False, True):
        got = host.pull(page.url)
        equal((got["image"]["digest"], got["transferred_bytes"]), (sha256(page.data), MIB))
    equal(len(page.bodies), 2)
    equal(host.whole(), {sha256(page.data)})
    host.clear()


def test_what_is_known_of_it_is_checked():
    page, other = put("lab.raw"), put("other.raw")
    lists = {}
    for kind in ("sha256", "sha512"):
        lists[kind] = put(kind.upper() + "SUMS", "".join(
            f"{hashlib.new(kind, p.data).hexdigest()}  {p.path[1:]}\n"
            for p in (page, other)).encode())
    good = [{"sha256": hexes(page.data)},
            {"sha512": hexes(page.data, hashlib.sha512)},
            {"checksums": lists["sha256"].url}, {"checksums": lists["sha512"].url}]
    for pins in good:
        before = len(page.bodies)
        got = host.pull({"url": page.url, **pins})
        equal(got["image"]["digest"], sha256(page.data))
        equal(len(page.bodies), before + 1)
        host.clear()
    for pins in ({"sha256": hexes(other.data)}, {"sha512": hexes(other.data, hashlib.sha512)},
                 {"sha256": "0" * 64}):
        host.pull_fails("bad_image", {"url": page.url, **pins}, next(iter(pins)))
    lists["sha256"].replace(lists["sha256"].data.replace(hexes(page.data).encode(), b"0" * 64))
    host.pull_fails("bad_image", {"url": page.url, "checksums": lists["sha256"].url}, page.url)
    lists["sha256"].replace(b"<html>welcome</html>")
    host.pull_fails("bad_image", {"url": page.url, "checksums": lists["sha256"].url}, "checksums")
    lists["sha256"].always(status=404)
    host.pull_fails("not_found", {"url": page.url, "checksums": lists["sha256"].url},
                    lists["sha256"].url)
    equal(host.files(), [])


def test_a_digest_never_asks_anybody():
    page = put("pinned.raw")
    pin = sha256(page.data)
    host.pull(page.url)
    asked = len(server.requests)
    for image in ({"url": page.url, "digest": pin}, {"url": page.url, "sha256": pin[7:]},
                  {"url": "http://192.0.2.1/gone.raw", "digest": pin},
                  {"url": "oci://registry.invalid/a/b:c", "digest": pin},
                  {"url": "no-such-name", "digest": pin, "source": "https://h.invalid/x"},
                  {"url": pin}):
        for policy in ("revalidate", "refresh", "missing"):
            got = host.pull(image, policy=policy)
            equal((got["image"]["digest"], got["transferred_bytes"]), (pin, 0))
    equal(len(server.requests), asked)
    host.call("vm.create", name="m", backend="noop", image={"url": page.url, "digest": pin})
    equal((host.vm("m")["image"]["digest"], len(server.requests)), (pin, asked))
    host.clear()
    # It is not there: now it is fetched, from where the lock says, and must be it.
    got = host.pull({"url": "no-such-name", "digest": pin, "source": page.url})
    equal((got["image"]["digest"], got["source"]), (pin, page.url))
    host.clear()
    page.replace(noise())
    host.pull_fails("bad_image", {"url": "name", "digest": pin, "source": page.url}, pin, page.url,
                    "image update")
    equal(host.files(), [])


def test_packed_images_unpack_by_content():
    image = bytes(MIB) + noise(0.5) + bytes(MIB)
    packers = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress,
               "zst": lambda data: subprocess.run(["zstd", "-q", "-c"], input=data, check=True,
                                                  stdout=subprocess.PIPE).stdout}
    for number, (end, pack) in enumerate(packers.items()):
        packed = pack(image)
        page = put(f"{number}.raw", packed)  # the name says nothing of it
        got = host.pull(page.url)
        equal((got["image"]["digest"], got["transferred_bytes"]), (sha256(image), len(packed)), end)
        row = got["image"]
        equal((row["format"], row["virtual_bytes"]), ("raw", len(image)))
        check(row["disk_bytes"] < 2 * MIB, "holes were stored")
        equal(host.pull(page.url)["transferred_bytes"], 0)
        host.clear()
        # Its maker gives the sum of what is on the server, or of what is in it.
        for data in (packed, image):
            host.pull({"url": page.url, "sha256": hexes(data)})
            before = len(page.hits)
            equal(host.pull({"url": page.url, "sha256": hexes(data)})["transferred_bytes"], 0)
            equal(len(page.hits), before)
            host.clear()
        broken = put(f"broken-{number}.raw", packed[:-len(packed) // 3])
        host.pull_fails("bad_image", broken.url, broken.url)
        equal(host.files(), [])


def test_a_format_that_it_has_not():
    raw, path = put("mine.raw"), os.path.join(host.dir, "q")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "4M"], check=True)
    with open(path, "rb") as f:
        qcow2 = put("mine.qcow2", f.read())
    for page, is_it, claim in ((raw, "raw", "qcow2"), (qcow2, "qcow2", "raw")):
        host.pull_fails("bad_image", {"url": page.url, "format": claim}, page.url, claim, is_it)
        equal(host.files(), [])
        equal(host.pull({"url": page.url, "format": is_it})["image"]["format"], is_it)
        host.pull_fails("bad_image", {"url": page.url, "format": claim}, claim, is_it)
        host.clear()


def test_without_encryption_something_else_must_say_what_it_is():
    url = "http://192.0.2.1/disk.raw"
    error = host.refused("invalid_params", "image.pull", image=url)
    contains(str(error), "not encrypted")
    page = put("open.raw")
    named = page.url.replace("127.0.0.1", "127.0.0.1.example.invalid")
    host.refused("invalid_params", "image.pull", image=named)
    host.call("image.pull", image=page.url)  # on this host nobody listens
    for url in ("ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/", "https://",
                "http:/x", "oci://", "oci://UPPER/x y"):
        host.refused(("invalid_params", "not_found"), "image.pull", image=url)
    host.clear()


def test_a_server_that_is_gone():
    other = web.Server()
    page = other.put("/gone.raw", noise())
    host.pull(page.url)
    other.close()
    got = host.pull(page.url)
    equal((got["image"]["digest"], got["transferred_bytes"]), (sha256(page.data), 0))
    contains(got["note"], page.url)
    contains(got["note"], "nobody could say")
    out = host.vmctl("image", "pull", page.url, "--insecure-http")
    contains(out.stdout + out.stderr, "nobody could say")
    host.pull_fails("network_error", page.url, page.url, policy="refresh")
    host.clear()
    host.pull_fails("network_error", page.url, page.url)
    equal(host.files(), [])


# ---- registries ----


def test_a_registry_open_and_with_logins():
    for auth in (None, "basic", "token"):
        server_of = registry(auth=auth, users={"me": "secret"} if auth else None)
        data = noise()
        digest = server_of.put_image("team/disk", "v1", data)
        ref = server_of.ref("team/disk:v1")
        full = server_of.ref(f"team/disk@{digest}")
        login = {"auth": login_of(server_of, "secret")} if auth else {}
        if auth:
            error = host.pull_fails("permission_denied", ref, ref)
            check("secret" not in str(error), error)
            wrong = {"auth": login_of(server_of, "wr0ng-one")}
            error = host.pull_fails("permission_denied", ref, ref, **wrong)
            check("wr0ng-one" not in str(error), error)
            equal(host.files(), [])
        got = host.pull(ref, **login)
        equal((got["image"]["digest"], got["source"], got["transferred_bytes"]),
              (sha256(data), full, len(data)), auth)
        again = host.pull(ref, **login)
        equal((again["transferred_bytes"], again["known"]), (0, True))
        blob = "/blobs/" + sha256(data)
        equal(server_of.requests("GET", blob), 1 if not auth else server_of.requests("GET", blob))
        # By digest, nobody is asked when the image is there.
        before = server_of.log().count("HTTP/1.1")
        host.pull(full, **login)
        more = server_of.log().count("HTTP/1.1")
        host.pull(full, **login)
        equal(server_of.log().count("HTTP/1.1"), more, f"asked again for a digest ({before})")
        # A tag that moves.
        other = noise()
        moved = server_of.put_image("team/disk", "v1", other)
        equal(host.pull(ref, policy="missing", **login)["image"]["digest"], sha256(data))
        got = host.pull(ref, **login)
        equal((got["image"]["digest"], got["source"]),
              (sha256(other), server_of.ref(f"team/disk@{moved}")))
        equal(host.pull(full, **login)["image"]["digest"], sha256(data))
        if auth:
            text = host.log() + json.dumps(host.call("operation.list")) + json.dumps(
                host.call("image.list"))
            check("secret" not in text, "a password is told")
            with_passwords = subprocess.run(["grep", "-rlaF", "wr0ng-one", host.data], check=False,
                                            stdout=subprocess.PIPE, text=True).stdout
            equal(with_passwords, "")
        host.whole()
        host.clear()


def test_an_index_and_a_machine_of_it():
    server_of = registry(auth="token", users={"me": "secret"})
    ours, theirs = noise(), noise()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    rows = []
    for data, architecture in ((theirs, "s390x"), (ours, machine)):
        server_of.put_image("team/many", architecture, data)
        rows.append((server_of.get("team/many", architecture), "linux", architecture))
    digest = server_of.put_manifest("team/many", "v1", fake.index(rows))
    login = login_of(server_of, "secret")
    ref = server_of.ref("team/many:v1")
    host.call("vm.create", name="m", backend="noop", image={"url": ref}, auth=login)
    row = host.vm("m")["image"]
    equal((row["digest"], row["source"], row["url"]),
          (sha256(ours), server_of.ref(f"team/many@{digest}"), ref))
    equal(host.pull(ref, auth=login)["transferred_bytes"], 0)
    equal(host.whole(), {sha256(ours)})
    host.refused("wrong_state", "image.rm", image=sha256(ours))
    host.clear()


# ---- names ----


def test_names_are_given_moved_and_taken():
    one, two = put("one.raw"), put("two.raw")
    first, second = sha256(one.data), sha256(two.data)
    host.pull(one.url, name="golden")
    host.call("image.tag", image="golden", name="base:1")
    equal(set(host.rows()[first]["names"]) >= {"golden", "base:1"}, True)
    equal(host.call("image.rm", image="golden")["untagged"], True)
    host.refused("not_found", "image.inspect", image="golden")
    host.pull(two.url, name="golden")
    host.call("image.tag", image=second, name="base:1")
    equal(host.call("image.inspect", image="base:1")["digest"], second)
    host.call("vm.create", name="user", backend="noop", image="golden")
    equal(host.vm("user")["image"]["digest"], second)
    # What a machine stands on stays, by each of its names and by its digest.
    for name in (second, two.url):
        host.refused("wrong_state", "image.rm", image=name)
    equal([r["digest"] for r in host.call("image.prune", dry_run=True)["images"]], [first])
    pruned = host.call("image.prune")
    equal([r["digest"] for r in pruned["images"]], [first])
    check(pruned["bytes"] >= MIB, pruned)
    equal(host.whole(), {second})
    host.call("vm.destroy", name="user")
    equal(host.call("image.prune")["images"], [], "what has a name is meant to stay")
    equal([r["digest"] for r in host.call("image.prune", all=True)["images"]], [second])
    equal(host.files(), [])
    host.refused("not_found", "image.inspect", image="golden")


run(globals(), [host])
