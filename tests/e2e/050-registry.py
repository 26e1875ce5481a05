#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""vmm-fetch against registries: the real one, and one that lies."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fake"))

import registry as fake
import web
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



# ---- what a reference means ----


def test_a_digest_pins_and_a_tag_moves():
    first = open_registry.put_image("team/moving", "now", DISK)
    equal(pull(open_registry.host, "team/moving:now")[1]["manifest_digest"], first)
    second = open_registry.put_image("team/moving", "now", OTHER)
    image, line = pull(open_registry.host, "team/moving:now")
    equal(line["manifest_digest"], second)
    check(image == OTHER, "the tag's new image")
    # The digest goes before the tag, wherever that points by now.
    image, line = pull(open_registry.host, "team/moving:now", digest=first)
    equal(line["manifest_digest"], first)
    check(image == DISK, "the pinned image")


def test_without_a_tag_latest_is_meant():
    open_registry.put_image("team/latest", "latest", OTHER)
    check(pull(open_registry.host, "team/latest")[0] == OTHER, "the image")


def test_a_known_manifest_is_not_read_again():
    digest = open_registry.put_image("team/known", "v1", DISK)
    got = manifest_of(open_registry.host, "team/known:v1", etag=digest)
    equal(got.events, [{"unchanged": True, "manifest_digest": digest, "event": "manifest"}])
    # Who does not know conditions sends it all, and it comes to the same.
    liar = fake.Hostile()
    digest = liar.put_image("a/b", "v1", DISK)
    equal(manifest_of(liar.host, "a/b:v1", etag=digest).last["unchanged"], True)
    moved = manifest_of(liar.host, "a/b:v1", etag=fake.sha256(b"another"))
    equal((moved.last["unchanged"], moved.last["manifest_digest"]), (False, digest))
    liar.close()


def put_manifest(repository, tag, layers, **more):
    for layer in layers:
        open_registry.put_blob(repository, layer[0])
    open_registry.put_blob(repository, fake.EMPTY)
    text = fake.manifest(layers, **more)
    open_registry.put_manifest(repository, tag, text)
    return text


def test_an_index_is_followed_to_the_platform():
    ours = put_manifest("team/many", "amd64", [(DISK, QCOW2)])
    theirs = put_manifest("team/many", "arm64", [(OTHER, QCOW2)])
    digest = open_registry.put_manifest(
        "team/many", "v1", fake.index([(theirs, "linux", "arm64"), (ours, "linux", "amd64")]))
    image, line = pull(open_registry.host, "team/many:v1")
    check(image == DISK, "the image")
    equal(line["manifest_digest"], digest, "the index is what is pinned")
    got = fetch(work="manifest", registry=open_registry.host, repository="team/many", tag="v1",
                os="linux", architecture="aarch64")
    equal(got.last["layers"][0]["digest"], fake.sha256(OTHER))
    failed(fetch(work="manifest", registry=open_registry.host, repository="team/many", tag="v1",
                 os="linux", architecture="riscv64"), "bad_image", "linux/arm64", "linux/amd64")


def test_an_index_of_podman_machine_gives_the_disk_for_qemu():
    qemu = put_manifest("team/podman", "qemu", [(DISK, OCTETS)])
    hyperv = put_manifest("team/podman", "hyperv", [(OTHER, OCTETS)])
    entries = [(hyperv, "linux", "amd64", {"disktype": "hyperv"}),
               (qemu, "linux", "amd64", {"disktype": "qemu"})]
    open_registry.put_manifest("team/podman", "v5", fake.index(entries))
    check(pull(open_registry.host, "team/podman:v5")[0] == DISK, "the image")


def test_a_container_disk_is_unpacked():
    layer = fake.container_disk(DISK)
    put_manifest("team/kubevirt", "gz", [(layer, fake.TAR_GZIP)])
    image, line = pull(open_registry.host, "team/kubevirt:gz")
    check(image == DISK, "the image")
    equal([la["container"] for la in line["layers"]], [True])
    zstd = subprocess.run(["zstd", "-qc"], input=fake.container_disk(DISK, mode="w"), check=True,
                          stdout=subprocess.PIPE).stdout
    put_manifest("team/kubevirt", "zst", [(zstd, fake.TAR_GZIP.replace("gzip", "zstd"))])
    check(pull(open_registry.host, "team/kubevirt:zst")[0] == DISK, "the image of zstd")


def test_of_several_layers_the_uppermost_with_a_disk_counts():
    base = fake.container_disk(b"no disk at all", name="etc/passwd")
    disk, older = fake.container_disk(DISK), fake.container_disk(OTHER)
    put_manifest("team/layers", "v1", [(older, fake.TAR_GZIP), (disk, fake.TAR_GZIP),
                                       (base, fake.TAR_GZIP)])
    got = manifest_of(open_registry.host, "team/layers:v1")
    layers = got.last["layers"]
    equal([la["digest"] for la in layers], [fake.sha256(la) for la in (base, disk, older)])
    without = blob_of(open_registry.host, "team/layers", layers[0])
    equal(failed(without, "not_found", "no disk")["status"], 0)
    equal(without.image, b"")
    check(blob_of(open_registry.host, "team/layers", layers[1]).image == DISK, "the disk")


def test_a_packed_layer_is_unpacked_and_verified_as_it_came():
    packed = subprocess.run(["zstd", "-qc"], input=DISK, check=True, stdout=subprocess.PIPE).stdout
    open_registry.put_image("team/packed", "v1", packed, OCTETS)
    got = manifest_of(open_registry.host, "team/packed:v1")
    blob = blob_of(open_registry.host, "team/packed", got.last["layers"][0])
    check(blob.image == DISK, "the image")
    equal("sha256:" + blob.last["body_sha256"], fake.sha256(packed))
    equal("sha256:" + blob.last["sha256"], fake.sha256(DISK))


def test_what_is_not_there_is_told():
    failed(manifest_of(open_registry.host, "team/disk:nothing"), "not_found", "team/disk:nothing",
           "MANIFEST_UNKNOWN", "check the repository's name and the tag")
    failed(manifest_of(open_registry.host, "nobody/knows:v1"), "not_found", "nobody/knows:v1")
    failed(manifest_of(open_registry.host, "team/disk", digest=fake.sha256(b"nothing")),
           "not_found", "team/disk@sha256:")
    layer = {"digest": fake.sha256(b"nothing"), "bytes": 7, "media_type": QCOW2,
             "container": False}
    equal(failed(blob_of(open_registry.host, "team/disk", layer), "not_found", "BLOB_UNKNOWN")
          ["status"], 404)


def test_orders_that_make_no_sense_are_refused():
    for order in ({"repository": "../x"}, {"repository": "a/../../b"}, {"tag": "a/b"},
                  {"repository": "A/b"}, {"registry": "me:secret@127.0.0.1"},
                  {"registry": "127.0.0.1/x"}):
        order = {"registry": open_registry.host, "repository": "team/disk", "tag": "v1", **order}
        failed(fetch(work="manifest", **order), "invalid_params")


# ---- who asks ----


def credentials(host, user, password):
    return {"hosts": [{"for": host, "username": user, "password": password}]}


def login_cases(kind):
    registry = fake.Registry(auth=kind, users={"me": "secret"})
    try:
        registry.put_image("team/private", "v1", DISK)
        good = credentials(registry.host, "me", "secret")
        check(pull(registry.host, "team/private:v1", auth=good)[0] == DISK, "the image")
        told = failed(manifest_of(registry.host, "team/private:v1"), "permission_denied",
                      "podman login")
        wrong = manifest_of(registry.host, "team/private:v1",
                            auth=credentials(registry.host, "me", "hunter2"))
        check(failed(wrong, "permission_denied", "podman login")["message"] != told["message"] or
              kind == "basic", told)
        check("hunter2" not in str(wrong.events), wrong.events)
        # Those for another registry are not for this one.
        other = manifest_of(registry.host, "team/private:v1",
                            auth=credentials("127.0.0.1:1", "me", "secret"))
        failed(other, "permission_denied")
        pushed = push(registry.host, "team/mine:v1", DISK, auth=good)
        equal(pushed.last["event"], "pushed", pushed.events)
        check(pull(registry.host, "team/mine:v1", auth=good)[0] == DISK, "what was pushed")
        failed(push(registry.host, "team/mine:v2", DISK), "permission_denied", "podman login")
    finally:
        registry.close()


def test_basic_authentication():
    login_cases("basic")


def test_token_authentication():
    login_cases("token")


# ---- pushing ----


def push(host, name, image, /, **order):
    repository, _, tag = name.partition(":")
    order = {"media_type": QCOW2, **order}
    if tag:
        order["tag"] = tag
    return fetch(image=image, work="push", registry=host, repository=repository, **order)


def test_what_was_pushed_is_pulled_as_it_was():
    got = push(open_registry.host, "team/pushed:v1", DISK)
    equal(got.last["event"], "pushed", got.events)
    equal((got.last["uploaded"], got.last["bytes"]), (True, len(DISK)))
    image, line = pull(open_registry.host, "team/pushed:v1")
    check(image == DISK, "the image")
    equal(line["manifest_digest"], got.last["digest"])
    equal(line["artifact_type"], "application/vnd.cloudnebula.vm.v1")
    equal(line["layers"][0]["media_type"], QCOW2)
    equal(json.loads(open_registry.get("team/pushed", "v1"))["config"]["mediaType"],
          "application/vnd.oci.empty.v1+json")
    equal(open_registry.get("team/pushed", fake.sha256(fake.EMPTY), "blobs"), fake.EMPTY)
    raw = push(open_registry.host, "team/pushed:raw", b"raw" * 999, media_type=OCTETS)
    equal(raw.last["event"], "pushed", raw.events)
    check(pull(open_registry.host, "team/pushed:raw")[0] == b"raw" * 999, "the raw image")


def test_a_push_again_sends_nothing():
    first = push(open_registry.host, "team/again:v1", DISK)
    posts = open_registry.requests("POST", "team/again")
    digest = fake.sha256(DISK).removeprefix("sha256:")
    again = push(open_registry.host, "team/again:v1", DISK, sha256=digest)
    equal((again.last["digest"], again.last["uploaded"], again.last["bytes"]),
          (first.last["digest"], False, 0))
    # Another tag on the same is a manifest and no more.
    tagged = push(open_registry.host, "team/again:v2", DISK)
    equal((tagged.last["digest"], tagged.last["uploaded"], tagged.last["bytes"]),
          (first.last["digest"], True, 0))
    equal(open_registry.requests("POST", "team/again"), posts)


def test_a_push_elsewhere_gives_the_same_digest():
    here = push(open_registry.host, "team/same:v1", DISK)
    there = push(open_registry.host, "others/name:v9", DISK)
    equal(here.last["digest"], there.last["digest"])


def test_a_push_of_what_the_file_is_not_is_refused():
    wrong = fake.sha256(OTHER).removeprefix("sha256:")
    failed(push(open_registry.host, "team/damaged:v1", DISK, sha256=wrong), "failed", "DIGEST")
    failed(manifest_of(open_registry.host, "team/damaged:v1"), "not_found")
    failed(push(open_registry.host, "team/damaged:v1", DISK, digest=fake.sha256(DISK)),
           "invalid_params", "push to a tag")
    failed(push(open_registry.host, "team/damaged:v1", b""), "bad_image", "empty")


def test_other_tools_pull_what_was_pushed():
    push(open_registry.host, "team/skopeo:v1", DISK)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false",
                        f"docker://{open_registry.host}/team/skopeo:v1", f"dir:{folder}/got"],
                       check=True, timeout=60, stdout=subprocess.DEVNULL)
        blob = os.path.join(folder, "got", fake.sha256(DISK).removeprefix("sha256:"))
        with open(blob, "rb") as file:
            check(file.read() == DISK, "what skopeo has")
        # And what they push is pulled.
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"dir:{folder}/got",
                        f"docker://{open_registry.host}/team/copied:v1"], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
    check(pull(open_registry.host, "team/copied:v1")[0] == DISK, "the copy")



# ---- what lies, or fails ----


def json_answer(status, document, *headers):
    return web.Answer(status, [("Content-Type", "application/json"), *headers],
                      json.dumps(document).encode())


def hostile(case):
    """Gives the case a registry that lies, with team/disk:v1 in it."""
    def run_case():
        liar = fake.Hostile()
        try:
            case(liar, liar.put_image("team/disk", "v1", DISK))
        finally:
            liar.close()
    return run_case


def layer_of(data, **more):
    return {"digest": fake.sha256(data), "bytes": len(data), "media_type": QCOW2,
            "container": False, **more}


@hostile
def test_a_manifest_that_is_another_is_refused(liar, digest):
    other = fake.manifest([(OTHER, QCOW2)])
    liar.manifests["team/disk", digest] = other
    failed(manifest_of(liar.host, "team/disk", digest=digest), "bad_image", digest,
           fake.sha256(other))
    # The registry's own word for it is held against it, too.
    liar.manifests["team/disk", "v1"] = web.Answer(
        200, [("Docker-Content-Digest", digest), ("Content-Type", fake.MANIFEST)], other)
    failed(manifest_of(liar.host, "team/disk:v1"), "bad_image", digest)
    # And so is what an index promised.
    liar.manifests["team/disk", "v1"] = fake.index(
        [(fake.manifest([(DISK, QCOW2)]), "linux", "amd64")])
    failed(manifest_of(liar.host, "team/disk:v1"), "bad_image", digest)


@hostile
def test_a_manifest_of_10_mib_is_refused_on_the_way(liar, digest):
    liar.manifests["team/disk", "v1"] = web.Answer(200, [("Content-Type", fake.MANIFEST)],
                                                   b" " * (10 << 20))
    failed(manifest_of(liar.host, "team/disk:v1"), "limit_exceeded", "team/disk:v1", "too long")
    # One without an end shows that it is not read to its end first.
    liar.manifests["team/disk", "v1"] = web.Answer(200, [], b" " * (1 << 20), chunked=True,
                                                   endless=True)
    failed(manifest_of(liar.host, "team/disk:v1"), "limit_exceeded", "too long")


@hostile
def test_indexes_that_never_end_are_refused(liar, digest):
    text = fake.manifest([(DISK, QCOW2)])
    for _ in range(6):
        liar.manifests["team/disk", fake.sha256(text)] = text
        text = fake.index([(text, "linux", "amd64")])
    liar.manifests["team/disk", "v1"] = text
    failed(manifest_of(liar.host, "team/disk:v1"), "bad_image", "nested")


@hostile
def test_a_blob_that_is_another_is_refused(liar, digest):
    wrong = bytearray(DISK)
    wrong[-1] ^= 1
    liar.blobs[fake.sha256(DISK)] = bytes(wrong)
    failed(blob_of(liar.host, "team/disk", layer_of(DISK)), "bad_image", "manifest says")


@hostile
def test_a_blob_of_another_length_is_refused(liar, digest):
    place = "/v2/team/disk/blobs/" + fake.sha256(DISK)
    for answer in (web.Answer(200, [], DISK + b"more"), web.Answer(200, [], DISK + b"more",
                                                                   chunked=True)):
        liar.blobs[fake.sha256(DISK)] = answer
        failed(blob_of(liar.host, "team/disk", layer_of(DISK)), "bad_image", str(len(DISK)))
    before = len(liar.server.hits(place))
    liar.blobs[fake.sha256(DISK)] = web.Answer(200, [], DISK[:-9], chunked=True)
    failed(blob_of(liar.host, "team/disk", layer_of(DISK), attempts=2), "network_error")
    check(len(liar.server.hits(place)) <= before + 3, "it is asked without end")


@hostile
def test_a_broken_blob_is_resumed_by_a_range(liar, digest):
    page = liar.server.put("/v2/team/disk/blobs/" + fake.sha256(DISK), DISK, etag=None)
    page.then(cut=len(DISK) // 2, reset=True)
    got = blob_of(liar.host, "team/disk", layer_of(DISK))
    check(got.image == DISK, got.events)
    equal([r.status for r in page.hits], [200, 206])
    # The part of an earlier process needs no validator: the digest names the bytes.
    got = blob_of(liar.host, "team/disk", layer_of(DISK), image=DISK[:400000], part_bytes=400000)
    check(got.image == DISK, got.events)
    equal(page.hits[-1].sent, len(DISK) - 400000 + 1)
    equal(page.hits[-1]["range"], "bytes=399999-")
    # A damaged one costs no more than that.
    got = blob_of(liar.host, "team/disk", layer_of(DISK), image=OTHER[:400000], part_bytes=400000)
    check(got.image == DISK, got.events)
    equal([r.status for r in page.hits[-2:]], [206, 200])


@hostile
def test_a_broken_container_layer_is_resumed(liar, digest):
    layer = fake.container_disk(os.urandom(500000) + DISK)
    page = liar.server.put("/v2/team/disk/blobs/" + fake.sha256(layer), layer, etag=None)
    page.then(cut=300000)
    got = blob_of(liar.host, "team/disk", layer_of(layer, container=True))
    check(got.image.endswith(DISK) and len(got.image) == 500000 + len(DISK), got.events)
    equal([r.status for r in page.hits], [200, 206])
    # And so is what an earlier process had of it.
    got = blob_of(liar.host, "team/disk", layer_of(layer, container=True), spool=layer[:200000],
                  part_bytes=200000, part_packed=True)
    check(got.image.endswith(DISK) and len(got.image) == 500000 + len(DISK), got.events)
    equal(page.hits[-1].sent, len(layer) - 200000 + 1)


@hostile
def test_a_401_loop_ends(liar, digest):
    realm = liar.server.url("/token")
    liar.server.on("/token", json_answer(200, {"token": "abc"}))
    challenge = ("WWW-Authenticate", f'Bearer realm="{realm}",service="x",scope="other"')
    liar.manifests["team/disk", "v1"] = json_answer(
        401, {"errors": [{"code": "UNAUTHORIZED", "message": "never \x1b[31menough\n"}]}, challenge)
    line = failed(manifest_of(liar.host, "team/disk:v1"), "permission_denied", "UNAUTHORIZED",
                  "podman login")
    check("\x1b" not in line["message"] and "\n" not in line["message"], line)
    check(len(liar.server.hits("/v2/team/disk/manifests/v1")) <= 3, "it asks too often")
    liar.blobs[fake.sha256(DISK)] = liar.manifests["team/disk", "v1"]
    failed(blob_of(liar.host, "team/disk", layer_of(DISK)), "permission_denied")
    basic = json_answer(401, {}, ("WWW-Authenticate", 'Basic realm="x"'))
    liar.manifests["team/disk", "v1"] = basic
    failed(manifest_of(liar.host, "team/disk:v1", auth=credentials(liar.host, "me", "secret")),
           "permission_denied", "not taken")
    liar.manifests["team/disk", "v1"] = json_answer(401, {}, ("WWW-Authenticate", "Negotiate"))
    failed(manifest_of(liar.host, "team/disk:v1"), "permission_denied")


@hostile
def test_realms_that_are_not_to_be_asked(liar, digest):
    for realm in ("http://registry.invalid/token", "file:///etc/passwd", "gopher://127.0.0.1:1/",
                  "/token", "http://me:you@registry.invalid/"):
        liar.manifests["team/disk", "v1"] = json_answer(
            401, {}, ("WWW-Authenticate", f'Bearer realm="{realm}",service="x"'))
        line = failed(manifest_of(liar.host, "team/disk:v1",
                                  auth=credentials(liar.host, "me", "secret")),
                      "permission_denied", "asks for a token of")
        check("you@" not in line["message"], line)


@hostile
def test_what_token_servers_answer(liar, digest):
    liar.manifests["team/disk", "v1"] = json_answer(
        401, {}, ("WWW-Authenticate", f'Bearer realm="{liar.server.url("/token")}"'))
    for answer, error in ((json_answer(200, {"token": "a\r\nX-Evil: 1"}), "failed"),
                          (json_answer(200, {}), "failed"),
                          (web.Answer(200, [], b"<html>"), "failed"),
                          (web.Answer(200, [], b" " * (1 << 20)), "limit_exceeded"),
                          (json_answer(403, {"errors": [{"code": "DENIED", "message": "no"}]}),
                           "permission_denied"),
                          (json_answer(503, {}), "network_error")):
        liar.server.on("/token", answer)
        failed(manifest_of(liar.host, "team/disk:v1", attempts=2), error)
    check(not liar.server.hits("/evil"), "a header was made")


def guard(liar, path, token, answer):
    """Only with this token; else the usual question."""
    realm = liar.server.url("/token")

    def page(request):
        if request["authorization"] == f"Bearer {token}":
            return answer
        return json_answer(401, {}, ("WWW-Authenticate", f'Bearer realm="{realm}",service="it"'))
    liar.server.on(path, page)


@hostile
def test_an_identity_token_is_exchanged(liar, digest):
    def token(request):
        form = urllib.parse.parse_qs(request.body.decode())
        equal((request.method, request.query), ("POST", ""))
        equal({k: v[0] for k, v in form.items()},
              {"grant_type": "refresh_token", "client_id": "vmm-fetch", "service": "it",
               "scope": "repository:team/disk:pull", "refresh_token": "se/cret+&="})
        return json_answer(200, {"access_token": "short"})
    liar.server.on("/token", token)
    guard(liar, "/v2/team/disk/manifests/v1", "short",
          web.Answer(200, [], liar.manifests["team/disk", "v1"]))
    auth = {"hosts": [{"for": liar.host, "identity_token": "se/cret+&="}]}
    equal(manifest_of(liar.host, "team/disk:v1", auth=auth).last["manifest_digest"], digest)
    # What is in a body goes nowhere else, whatever the realm says.
    elsewhere = web.Server()
    liar.server.redirect("/token", elsewhere.url("/token"), 307)
    failed(manifest_of(liar.host, "team/disk:v1", auth=auth), "permission_denied")
    equal(elsewhere.requests, [])
    elsewhere.close()


@hostile
def test_a_token_that_is_ready_is_used_as_it_is(liar, digest):
    guard(liar, "/v2/team/disk/manifests/v1", "ready",
          web.Answer(200, [], liar.manifests["team/disk", "v1"]))
    auth = {"hosts": [{"for": liar.host + "/team", "token": "ready"}]}
    equal(manifest_of(liar.host, "team/disk:v1", auth=auth).last["manifest_digest"], digest)
    equal(len(liar.server.requests), 1)
    auth["hosts"][0]["token"] = "old"
    failed(manifest_of(liar.host, "team/disk:v1", auth=auth), "permission_denied", "not taken")


@hostile
def test_a_token_that_ends_on_the_way_is_fetched_anew(liar, digest):
    place, tokens = "/v2/team/disk/blobs/" + fake.sha256(DISK), []
    realm = liar.server.url("/token")
    page = web.Page(liar.server, place, DISK, etag=None)
    page.then(cut=100000, reset=True).then(cut=300000, reset=True).then(cut=200000, reset=True)

    def token(request):
        tokens.append(f"t{len(tokens)}")
        return json_answer(200, {"token": tokens[-1]})

    def blob(request):
        """Each token is good for one answer."""
        if tokens and request["authorization"] == f"Bearer {tokens[-1]}" and \
                request["authorization"] not in used:
            used.append(request["authorization"])
            return page.answer(request)
        return json_answer(401, {}, ("WWW-Authenticate", f'Bearer realm="{realm}"'))
    used = []
    liar.server.on("/token", token)
    liar.server.on(place, blob)
    got = blob_of(liar.host, "team/disk", layer_of(DISK))
    check(got.image == DISK, got.events)
    equal(len(tokens), 4)


@hostile
def test_credentials_do_not_follow_a_redirect(liar, digest):
    store = web.Server()
    page = store.put("/blob", DISK)
    guard(liar, "/v2/team/disk/blobs/" + fake.sha256(DISK), "t",
          web.Answer(307, [("Location", page.url)]))
    liar.server.on("/token", json_answer(200, {"token": "t"}))
    good = credentials(liar.host, "me", "secret")
    got = blob_of(liar.host, "team/disk", layer_of(DISK), auth=good)
    check(got.image == DISK, got.events)
    equal([r["authorization"] for r in page.hits], [None])
    # Nor is the other host's question answered with them.
    page.always(status=401, headers=[("WWW-Authenticate",
                                      f'Bearer realm="{store.url("/steal")}"')])
    failed(blob_of(liar.host, "team/disk", layer_of(DISK), auth=good), "permission_denied",
           f"127.0.0.1:{store.port}")
    # Not by who has not asked for anything before, either.
    liar.server.on("/v2/team/disk/blobs/" + fake.sha256(DISK),
                   web.Answer(307, [("Location", page.url)]))
    failed(blob_of(liar.host, "team/disk", layer_of(DISK), auth=good), "permission_denied",
           f"127.0.0.1:{store.port}")
    equal(store.hits("/steal"), [])
    equal({r["authorization"] for r in store.requests}, {None})
    store.close()


@hostile
def test_a_registry_that_fails_for_now_is_asked_again(liar, digest):
    answers = [json_answer(503, {}), json_answer(429, {}, ("Retry-After", "0"))]
    text = liar.manifests["team/disk", "v1"]
    liar.server.on("/v2/team/disk/manifests/v1",
                   lambda request: answers.pop() if answers else web.Answer(200, [], text))
    got = manifest_of(liar.host, "team/disk:v1")
    equal(got.last["manifest_digest"], digest)
    equal(len(got.named("retry")), 2)


def test_no_registry_at_all():
    line = failed(manifest_of(f"127.0.0.1:{fake.free_port()}", "team/disk:v1", attempts=1),
                  "network_error")
    equal((line["temporary"], line["status"]), (True, 0))


class Uploads(fake.Hostile):
    """Takes uploads; `plan` holds answers that go before the good ones of PUT."""

    def __init__(self):
        super().__init__()
        self.plan, self.put, self.elsewhere = [], {}, None
        self.server.on("/v2/*", self.upload)

    def upload(self, request):
        if request.method == "POST":
            place = (self.elsewhere.server.url("") if self.elsewhere else "") + "/v2/up/1?state=x"
            return web.Answer(202, [("Location", place)])
        if request.method != "PUT":
            return self.answer(request)
        if self.plan and self.plan[0] is not None:
            return self.plan.pop(0)
        self.put[request.target] = request
        digest = request.query.partition("digest=")[2]
        if digest:
            self.blobs[digest] = request.body
        # It was taken, but nobody hears so.
        return self.plan.pop(0) or web.Answer(504) if self.plan else web.Answer(201)


def test_uploads_are_tried_again():
    registry = Uploads()
    registry.plan = [web.Answer(503), web.Answer(503)]
    got = push(registry.host, "team/up:v1", DISK)
    equal(got.last["event"], "pushed", got.events)
    equal(len(got.named("retry")), 2)
    blob = registry.put[f"/v2/up/1?state=x&digest={fake.sha256(DISK)}"]
    check(blob.body == DISK, "what was sent")
    equal(blob["content-type"], OCTETS)
    # What has come without our being told is not sent again.
    registry.plan = [None]
    got = push(registry.host, "team/up:v3", OTHER)
    equal(got.last["event"], "pushed", got.events)
    puts = [r for r in registry.server.requests if r.method == "PUT" and r.body == OTHER]
    equal(len(puts), 1)
    registry.blobs.clear()
    registry.plan = [web.Answer(503)] * 9
    failed(push(registry.host, "team/up:v2", OTHER, attempts=2), "network_error")
    registry.plan = [json_answer(403, {"errors": [{"code": "DENIED", "message": "read only"}]})]
    failed(push(registry.host, "team/up:v2", OTHER), "permission_denied", "read only")
    check(not any(t.endswith("/manifests/v2") for t in registry.put), "a tag without its disk")
    registry.close()


def test_an_upload_to_another_host_carries_no_credentials():
    registry, registry.elsewhere = Uploads(), Uploads()
    auth = {"hosts": [{"for": registry.host, "token": "ready"}]}
    got = push(registry.host, "team/up:v1", DISK, auth=auth)
    equal(got.last["event"], "pushed", got.events)
    equal({r["authorization"] for r in registry.server.requests}, {"Bearer ready"})
    equal({r["authorization"] for r in registry.elsewhere.server.requests}, {None})
    check(any(r.body == DISK for r in registry.elsewhere.put.values()), "what was sent")
    registry.elsewhere.close()
    registry.close()


run(globals(), [open_registry])
