#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Servers and registries that want something: bombs, lies, disks that point elsewhere, words for
a terminal, and names that are paths.  Nothing of it gets into the store or out to the user."""

import atexit
import gzip
import io
import json
import os
import pty
import struct
import subprocess
import tarfile
import tempfile

from fetching import MIB, ImageHost, noise, sha256
from harness import VMCTL, check, contains, equal, run

import registry as fake
import web

CLUSTER = 1 << 16
LIMIT = 64 * MIB
SECRET = b"a secret of this host\n" * 200
ESCAPE = "\x1b]0;owned\x07\x1b[31mred\x9b31m\r\n\x08"
host = ImageHost("image_max: 64MiB\n", base=tempfile.mkdtemp(prefix="vmm-e2e-hostile-"))
server = web.Server()
liar = fake.Hostile()
atexit.register(liar.close)
secret = os.path.join(host.dir, "secret")
with open(secret, "wb") as file:
    file.write(SECRET)
host.start()


def header(**fields):
    """A small qcow2 that is honest but for what is named."""
    at = {"version": (4, ">I", 3), "backing_at": (8, ">Q", 0), "backing": (16, ">I", 0),
          "bits": (20, ">I", 16), "size": (24, ">Q", 1 << 30), "l1_size": (36, ">I", 2),
          "l1": (40, ">Q", 2 * CLUSTER), "table": (48, ">Q", CLUSTER), "clusters": (56, ">I", 1),
          "features": (72, ">Q", 0), "order": (96, ">I", 4), "length": (100, ">I", 104),
          "extension": (104, ">Q", 0)}
    image = bytearray(4 * CLUSTER)
    image[:4] = b"QFI\xfb"
    for key, (offset, form, value) in at.items():
        struct.pack_into(form, image, offset, fields.get(key, value))
    return image


def backed():
    image = header(backing_at=1024, backing=len(secret))
    image[1024:1024 + len(secret)] = secret.encode()
    return bytes(image)


# What it is, its bytes, a part of the reason.
DISKS = [("backing", backed(), "backing"),
         ("data", bytes(header(features=4)), "another file"),
         ("huge", bytes(header(size=1 << 63)), "size"),
         ("tables", bytes(header(l1_size=1 << 30)), "cluster table"),
         ("short", bytes(header()[:2 * CLUSTER + 5]), "cluster table")]


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True,
                          stdout=subprocess.PIPE).stdout


def nothing():
    equal(host.whole(), set())
    equal(host.names(), [])


def refused(code, image, *parts, **more):
    """Neither as an image nor as a machine's; the reason has a name and tells no secret."""
    error = host.pull_fails(code, image, *parts, **more)
    check("secret of this host" not in str(error), error)
    wanted = host.want(image, {})
    host.refused(code, "vm.create", name="evil", backend="noop", **wanted)
    nothing()


# ---- disks ----


def test_disks_that_point_elsewhere():
    for name, data, reason in DISKS:
        refused("bad_image", server.put(f"/{name}", data).url, reason, server.url(f"/{name}"))
        refused("bad_image", server.put(f"/{name}.zst", zstd(data)).url, reason)
        digest = liar.put_image("a/b", name, data)
        refused("bad_image", liar.ref(f"a/b:{name}"), reason, liar.host)
        refused("bad_image", liar.ref(f"a/b@{digest}"), reason)
        layer = fake.container_disk(data)
        liar.put_image("a/c", name, layer, fake.TAR_GZIP)
        refused("bad_image", liar.ref(f"a/c:{name}"), reason)
        # That its bytes are the right ones makes it no better.
        refused("bad_image", {"url": server.url(f"/{name}"), "sha256": sha256(data)[7:]}, reason)


# ---- bombs ----


def test_bombs_that_are_packed():
    chunk, count = bytes(MIB), 2 * LIMIT // MIB
    for name, packed in (("gz", gzip.compress(chunk * count)), ("zst", zstd(chunk * count)),
                         ("noise", zstd(noise(16) * (2 * LIMIT // (16 * MIB))))):
        page = server.put(f"/bomb.{name}", packed)
        refused(("limit_exceeded", "bad_image"), page.url, "large", page.url)
        liar.put_image("bomb/packed", name, packed)
        refused(("limit_exceeded", "bad_image"), liar.ref(f"bomb/packed:{name}"), "large")
    plain = server.put("/bomb.raw", chunk * (LIMIT // MIB + 1))
    refused("limit_exceeded", plain.url, "large")
    equal([r.sent < LIMIT for r in plain.hits], [True, True], "it was fetched all the same")
    endless = server.put("/endless.raw", chunk).always(endless=True, chunked=True)
    refused("limit_exceeded", endless.url, "large")


def tar_of(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, size, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = size, kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname, info.size = secret, 0
            tar.addfile(info, io.BytesIO(bytes(size)) if info.size else None)
    return packed.getvalue()


def test_layers_that_are_bombs_or_traps():
    file = tarfile.REGTYPE
    claims = tarfile.TarInfo("disk/disk.img")
    claims.size = 1 << 42
    layers = {
        "large": tar_of(("disk/disk.img", 2 * LIMIT, file)),
        "claims": gzip.compress(claims.tobuf(tarfile.GNU_FORMAT) + bytes(1024)),
        "many": tar_of(*((f"etc/{i}", 0, file) for i in range(20000))),
        "besides": tar_of(("usr/data", LIMIT * 8, file), ("disk/disk.img", MIB, file)),
        "symlink": tar_of(("disk/disk.img", 0, tarfile.SYMTYPE)),
        "hardlink": tar_of(("disk/disk.img", 0, tarfile.LNKTYPE)),
        "device": tar_of(("disk/disk.img", 0, tarfile.CHRTYPE)),
        "dots": tar_of(("disk/../../../etc/cron.d/x", MIB, file)),
        "absolute": tar_of(("/etc/cron.d/x", MIB, file)),
        "none": tar_of(("etc/passwd", 10, file)),
        "two": tar_of(("disk/a.img", MIB, file), ("disk/b.img", MIB, file)),
        "no-tar": gzip.compress(noise(0.1)),
        "cut": tar_of(("disk/disk.img", MIB, file))[:-200],
    }
    for name, layer in layers.items():
        liar.put_image("bomb/layer", name, layer, fake.TAR_GZIP)
        refused(("bad_image", "limit_exceeded", "not_found"), liar.ref(f"bomb/layer:{name}"),
                liar.host)
    check(not os.path.exists("/etc/cron.d/x"), "a layer wrote into the host")


# ---- registries ----


def test_digests_that_do_not_match():
    data, other = noise(), noise()
    digest = liar.put_image("lie/blob", "v1", data)
    liar.blobs[sha256(data)] = other
    refused("bad_image", liar.ref("lie/blob:v1"), liar.host)
    liar.blobs[sha256(data)] = data + b"more"
    refused(("bad_image", "network_error"), liar.ref("lie/blob:v1"), liar.host)
    liar.blobs[sha256(data)] = data
    liar.manifests["lie/blob", digest] = fake.manifest([(other, fake.QCOW2_LAYER)])
    refused("bad_image", liar.ref(f"lie/blob@{digest}"), digest)
    liar.blobs[sha256(other)] = other
    refused("bad_image", {"url": liar.ref("lie/blob:v1"), "digest": sha256(other)}, sha256(other))


def test_manifests_that_are_none():
    good = json.loads(fake.manifest([(b"x", fake.QCOW2_LAYER)]))
    manifests = {
        "large": b'{"a":"' + b"x" * (10 * MIB) + b'"}',
        "deep": b'{"layers":' + b"[" * 100000 + b"]" * 100000 + b"}",
        "empty": b"", "text": b"<html>welcome</html>", "list": b"[]",
        "no-layers": json.dumps({**good, "layers": []}).encode(),
        "digest": json.dumps({**good, "layers": [
            {**good["layers"][0], "digest": "sha256:../../../../etc/passwd"}]}).encode(),
        "negative": json.dumps({**good, "layers": [{**good["layers"][0], "size": -1}]}).encode(),
        "many": json.dumps({**good, "layers": good["layers"] * 10000}).encode(),
        "self": fake.index([(b"{}", "linux", "amd64")]),
    }
    for name, text in manifests.items():
        headers = [("Content-Type", fake.INDEX if name == "self" else fake.MANIFEST)]
        liar.manifests["lie/manifest", name] = web.Answer(200, headers, text)
        error = host.refused(("bad_image", "limit_exceeded", "not_found", "failed"), "image.pull",
                             image=liar.ref(f"lie/manifest:{name}"))
        contains(error["message"], liar.host)
        nothing()
    sent = [r.sent for r in liar.server.hits("/v2/lie/manifest/manifests/large")]
    check(sent and max(sent) < 10 * MIB, f"10 MiB of a manifest were read: {sent}")


def test_a_loop_of_401():
    asked = len(liar.server.requests)
    realm = liar.server.url("/token")
    liar.server.on("/token", web.Answer(200, [("Content-Type", "application/json")],
                                        b'{"token": "abc"}'))
    liar.manifests["lie/loop", "v1"] = web.Answer(401, [
        ("WWW-Authenticate", f'Bearer realm="{realm}",service="x",scope="y"')], b"{}")
    auth = {"hosts": [{"for": liar.host, "username": "me", "password": "p4ssword"}]}
    error = host.pull_fails("permission_denied", liar.ref("lie/loop:v1"), liar.host, auth=auth)
    check("p4ssword" not in str(error), error)
    check(len(liar.server.requests) - asked < 12, "it asks for ever")
    nothing()


# ---- words ----


def on_a_terminal(*args):
    """What vmctl shows on a terminal, and how it ends."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(VMCTL, [VMCTL, *args], host.env)
    shown = b""
    try:
        while data := os.read(terminal, 1 << 16):
            shown += data
    except OSError:
        pass  # the other side is closed
    os.close(terminal)
    return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_words_do_not_reach_the_terminal():
    text = json.dumps({"errors": [{"code": ESCAPE, "message": ESCAPE, "detail": ESCAPE}]}).encode()
    error = web.Answer(403, [("Content-Type", "application/json"), ("X", "\x1b]0;owned\x07")], text)
    liar.manifests["lie/words", "v1"] = error
    titled = fake.manifest([(b"\1" * MIB, fake.QCOW2_LAYER,
                             {"org.opencontainers.image.title": ESCAPE})])
    liar.put_image("lie/words", "titled", b"\1" * MIB, text=titled)
    backing = header(backing_at=1024, backing=len(ESCAPE))
    backing[1024:1024 + len(ESCAPE)] = ESCAPE.encode("latin-1")
    liar.put_image("lie/words", "backing", bytes(backing))
    server.on("/403", web.Answer(403, [], ESCAPE.encode("latin-1") * 100))
    server.on("/redirect", web.Answer(302, [("Location", "http://127.0.0.1/\x1b]0;owned\x07")]))
    server.on("/reason", web.Answer(raw=b"HTTP/1.1 500 \x1b]0;owned\x07\r\n\r\n"))
    server.on("/broken", web.Answer(raw=b"\x1b]0;owned\x07\r\n\r\n"))
    server.put("/etag", noise(), etag='"\x1b]0;owned\x07"')
    for url in (liar.ref("lie/words:v1"), liar.ref("lie/words:titled"),
                liar.ref("lie/words:backing"), *map(server.url, (
                    "/403", "/redirect", "/reason", "/broken", "/etag"))):
        for args in ((), ("--json",)):
            shown, status = on_a_terminal(*args, "image", "pull", url)
            check(b"owned\x07" not in shown and b"\x1b]" not in shown and b"\x1b[31m" not in shown
                  and b"\x9b31m" not in shown and b"\x08" not in shown, f"{url}: {shown}")
            equal(status == 0, url.endswith(("titled", "etag")), f"{url}: {shown}")
    for args in (("image", "list"), ("image", "inspect", sha256(b"\1" * MIB)),
                 ("--json", "image", "list")):
        shown, status = on_a_terminal(*args)
        equal(status, 0)
        check(b"\x1b]" not in shown and b"\x1b[31m" not in shown and b"\x07" not in shown, shown)
    with open(host.log_path, "rb") as f:
        check(b"\x1b]" not in f.read(), "the log steers a terminal")
    host.clear()


# ---- names ----

TRICKS = ["../x", "..", ".", "a/../b", "a/b", "/etc/passwd", "a\nb", "a\x1b[31m", "-rf", "%2e%2e/x",
          "sha256:../../x", "a:../b", "a:b:c", "a:", ":b", "a b", "a\\b", "~", "é", "a" * 300,
          ".part-00", "sha256-" + "0" * 64 + "/x"]


def test_names_that_are_paths():
    page = server.put("/good.raw", noise())
    host.pull(page.url, name="good")
    digest = sha256(page.data)
    host.call("vm.create", name="m", backend="noop", image="good")
    path = os.path.join(host.dir, "file")
    with open(path, "wb") as f:
        f.write(noise())
    before = host.whole()
    taken = []

    def tried(code, method, /, **params):
        try:
            host.refused(code, method, **params)
        except Exception as e:
            taken.append(str(e))

    for name in TRICKS:
        wrong = "invalid_params"
        tried(wrong, "image.tag", image="good", name=name)
        tried(wrong, "image.pull", image=page.url, name=name)
        tried(wrong, "image.import", image={"path": path}, name=name)
        tried(wrong, "image.commit", vm="m", name=name)
        for method in ("image.inspect", "image.rm", "image.verify"):
            tried((wrong, "not_found"), method, image=name)
        tried((wrong, "not_found"), "image.push", image=name, reference=liar.ref("a/b:c"))
        tried((wrong, "not_found"), "image.pull", image=name)
        if not name.startswith("/"):  # that is a file of the caller, who is the daemon's user
            tried((wrong, "not_found"), "vm.create", name="evil", backend="noop",
                  image={"url": name})
        tried(wrong, "image.push", image="good", reference=f"oci://{liar.host}/a:{name}")
        tried(wrong, "image.pull", image=f"oci://{liar.host}/a:{name}")
    for digest_like in ("sha256:", "sha256:zz", "sha256:" + "0" * 63 + "/", "md5:" + "0" * 32,
                        "sha256:" + "A" * 64):
        tried(("invalid_params", "not_found"), "image.pull",
              image={"url": page.url, "digest": digest_like})
    for repository in ("../../x", "a/../b", "A/b", "a//b", "a/", "a/b?x=y", "a/b#c", "a/%2e%2e/b",
                       "a/b@sha256:1234", "a/b@sha256:../x"):
        tried("invalid_params", "image.pull", image=f"oci://{liar.host}/{repository}")
    equal(taken, [])
    equal(host.whole(), before)
    names = {name for row in host.rows().values() for name in row["names"]}
    equal(names, {"good", page.url})
    equal(host.vm("m")["image"]["digest"], digest)
    host.clear()


run(globals(), [host])
