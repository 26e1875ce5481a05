#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What 055 leaves: servers in trouble, whose word is not to be taken, disks that are full, and
transfers that end before they are through.  Each time the store is looked at file by file."""

import atexit
import gzip
import os
import signal
import subprocess
import tempfile

from fetching import MIB, ImageHost, noise, sha256
from harness import VMCTL, RpcError, check, contains, equal, run, wait_until

import registry as fake
import web

host = ImageHost("stall_timeout: 1s\n", base=tempfile.mkdtemp(prefix="vmm-e2e-pull-faults-"))
server, other = web.Server(), web.Server(address="127.0.0.2")
DISK = noise(16)
host.start()


def put(name, data=DISK, **more):
    return server.put(f"/{name}", data, **more)


def good(page, data=DISK, at=host, **more):
    """It is there, as it should be, and then it is not any more."""
    got = at.pull(page.url, **more)
    equal(got["image"]["digest"], sha256(data))
    equal(at.whole(), {sha256(data)})
    at.clear()
    return got


def nothing():
    equal(host.whole(), set())


def part_bytes(at=host):
    return sum(os.stat(os.path.join(at.images, name)).st_size for name in at.parts()
               if "." not in name[1:])


def sent_once(page, size=len(DISK)):
    """A server is asked for the last byte again, to see that it goes on with the same file."""
    again = len(page.hits) - 1
    equal(sum(r.sent for r in page.hits), size + again)


def ended(connection):
    """How the pull of begin_pull ended: its digest, or the name of the error."""
    try:
        return connection.answer(1)["image"]["digest"]
    except RpcError as e:
        return e.name
    except (EOFError, OSError):
        return "connection"
    finally:
        connection.close()


def midway(page, at=host, **more):
    """A pull of which 8 MiB have come to the disk and no more will."""
    page.then(hold=8 * MIB + 1000)
    connection = at.begin_pull(page.url, **more)
    check(page.held.wait(30), "the server was not asked")
    wait_until("half of it", lambda: part_bytes(at) >= 7 * MIB)
    return connection


def resumed(page, at=host):
    """The pull that follows goes on where the first ended; the server knows."""
    before = len(page.hits)
    got = good(page, at=at)
    asked = page.hits[before:]
    equal([r.status for r in asked], [206])
    start = int(asked[0]["range"].removeprefix("bytes=").split("-")[0])
    check(start >= 7 * MIB, f"it began at {start}")
    equal(asked[0].sent, len(DISK) - start)
    equal(got["transferred_bytes"], len(DISK) - start - 1, "what was new")


# ---- servers ----


def test_trouble_that_passes_and_that_stays():
    for status in (500, 502, 503, 429):
        page = put(f"{status}").then(status=status)
        good(page)
        equal([r.status for r in page.hits], [status, 200])
        page.always(status=status)
        host.pull_fails(("network_error", "timed_out"), page.url, page.url, str(status))
        equal(len(page.hits), 4)
        nothing()
    for status, code in ((404, "not_found"), (410, "not_found"), (403, "permission_denied"),
                         (400, "failed")):
        page = put(f"{status}").always(status=status)
        host.pull_fails(code, page.url, page.url, str(status))
        equal(len(page.hits), 1, "there is no use in asking again")
        nothing()


def test_redirects():
    page = put("there")
    server.redirect("/one", "/two")
    server.redirect("/two", page.url)
    got = host.pull(server.url("/one"))
    equal((got["image"]["digest"], got["source"]), (sha256(DISK), server.url("/one")))
    equal(host.pull(server.url("/one"))["transferred_bytes"], 0)
    host.clear()
    server.redirect("/ping", "/pong")
    server.redirect("/pong", "/ping")
    host.pull_fails("failed", server.url("/ping"), "redirect", server.url("/ping"))
    for number, to in enumerate(("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/")):
        server.redirect(f"/to-{number}", to)
        host.pull_fails(("failed", "invalid_params"), server.url(f"/to-{number}"), "redirect")
    nothing()


def test_a_redirect_takes_no_credentials_along():
    page = other.put("/secret", DISK)
    server.on("/login", lambda request: web.Answer(302, [("Location", page.url)])
              if request.basic() == ("me", "secret") else
              web.Answer(401, [("WWW-Authenticate", 'Basic realm="test"')]))
    auth = {"hosts": [{"for": f"{server.address}:{server.port}", "username": "me",
                       "password": "secret"}]}
    got = host.pull(server.url("/login"), auth=auth)
    equal(got["image"]["digest"], sha256(DISK))
    check(page.hits, "the redirect was not followed")
    for request in page.hits:
        equal((request["authorization"], request["cookie"]), (None, None))
    check("secret" not in host.log(), "the log tells the password")
    host.clear()


def test_a_length_that_is_wrong():
    for number, faults in enumerate(({"length": len(DISK) + 5}, {"length": len(DISK) * 2})):
        page = put(f"longer-{number}").always(**faults)
        host.pull_fails("network_error", page.url, page.url)
        # What has come is kept and may be gone on with, but it is no image.
        equal(host.whole(parts=True), set())
        host.call("image.prune")
        nothing()
    # What is beyond the length is not of the answer: with a digest, that is seen.
    page = put("shorter").always(length=len(DISK) - 5)
    host.pull_fails("bad_image", {"url": page.url, "sha256": sha256(DISK)[7:]}, page.url, "sha256")
    nothing()


def test_cut_anywhere_and_never_twice():
    for percent in (1, 50, 99):
        page = put(f"cut-{percent}").then(cut=len(DISK) * percent // 100)
        good(page)
        equal([r.status for r in page.hits], [200, 206])
        equal(page.hits[1]["if-range"], page.etag)
        sent_once(page)


def test_cut_when_packed():
    packed = gzip.compress(DISK, 1)
    page = put("cut.gz", packed).then(cut=len(packed) // 2)
    good(page)
    equal([r.status for r in page.hits], [200, 206])
    sent_once(page, len(packed))


def test_changed_while_it_was_cut():
    """The rest of another file is never put behind the beginning of this one."""
    page = put("changing")
    connection = midway(page)
    host.kill()
    equal(ended(connection), "connection")
    page.release()
    page.replace(noise(16))
    host.start()
    good(page, page.data)


def test_stall_and_slow():
    page = put("stall").then(hold=5 * MIB)
    good(page)
    page.release()
    equal(len(page.hits), 2)
    small = put("slow", noise()).then(drip=(MIB // 8, 0.2))  # longer than the stall in all
    got = host.pull(small.url)
    equal((got["image"]["digest"], len(small.hits)), (sha256(small.data), 1))
    host.clear()
    silent = put("silent").always(hold=0)
    error = host.pull_fails("timed_out", silent.url, silent.url, "nothing came")
    contains(error["message"], "1.0 s")
    silent.release()
    nothing()


def test_a_blob_of_a_registry_that_breaks():
    registry = fake.Hostile()
    atexit.register(registry.close)
    registry.put_image("a/b", "v1", DISK)
    page = registry.server.put(f"/v2/a/b/blobs/{sha256(DISK)}", DISK)
    page.then(cut=8 * MIB)
    got = host.pull(registry.ref("a/b:v1"))
    equal(got["image"]["digest"], sha256(DISK))
    equal([r.status for r in page.hits], [200, 206])
    sent_once(page)
    host.clear()
    page.always(status=503)
    host.pull_fails("network_error", registry.ref("a/b:v1"), registry.host, "503")
    nothing()


# ---- the daemon ----


def test_killed_midway_it_goes_on():
    page = put("killed")
    connection = midway(page)
    host.kill()
    equal(ended(connection), "connection")
    page.release()
    host.start()
    equal((host.whole(parts=True), len(host.parts()) > 0), (set(), True))
    resumed(page)


def test_killed_midway_when_packed():
    """The bytes as they came are kept, and unpacked again from the start."""
    packed = gzip.compress(DISK, 1)
    page = put("killed.gz", packed).then(hold=8 * MIB)
    connection = host.begin_pull(page.url)
    check(page.held.wait(30), "the server was not asked")
    wait_until("half of it", lambda: any(
        os.stat(os.path.join(host.images, name)).st_size >= 7 * MIB
        for name in host.parts() if name.endswith(".spool")))
    host.kill()
    equal(ended(connection), "connection")
    page.release()
    host.start()
    good(page)
    equal([r.status for r in page.hits], [200, 206])
    check(page.hits[1].sent < len(packed) - 7 * MIB + 2, page.hits)


def test_stopped_midway_it_goes_on():
    page = put("stopped")
    connection = midway(page)
    equal(host.stop(), 0)
    check(ended(connection) in ("shutting_down", "connection"), "the answer of a stopped daemon")
    page.release()
    host.start()
    equal(host.whole(parts=True), set())
    resumed(page)


def test_cancelled_nothing_stays():
    page = put("cancelled")
    connection = midway(page)
    operation, = host.running()
    check(operation["kind"] == "image.pull", operation)
    host.call("operation.cancel", id=operation["id"])
    equal(ended(connection), "cancelled")
    page.release()
    nothing()
    good(page)
    equal(page.hits[-1].status, 200)


def test_ctrl_c_nothing_stays():
    page = put("interrupted")
    page.then(hold=8 * MIB)
    done = subprocess.Popen([VMCTL, "image", "pull", page.url, "--insecure-http"], env=host.env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    check(page.held.wait(30), "the server was not asked")
    wait_until("half of it", lambda: part_bytes() >= 7 * MIB)
    done.send_signal(signal.SIGINT)
    out = done.communicate(timeout=60)
    equal(done.returncode, 130, out)
    page.release()
    host.settle()
    nothing()


def test_machines_wait_and_fail_together():
    page = put("crowd")
    page.then(hold=MIB).then(status=404)
    connections = [host.rpc(120) for _ in range(10)]
    for i, connection in enumerate(connections):
        connection.begin("vm.create", name=f"m{i}", backend="noop", image={
            "url": page.url, "sha256": "0" * 64})
    check(page.held.wait(30), "the server was not asked")
    wait_until("all to wait", lambda: len(host.running()) == 10)
    page.release()
    for connection in connections:
        equal(ended(connection), "bad_image")
    equal(len(page.hits), 1)
    equal(host.names(), [])
    nothing()


# ---- disks ----


def test_no_space_left():
    if os.geteuid() != 0:
        print("# nobody but root can mount a small disk")
        return
    small = ImageHost("keep_free: 0\n", base=tempfile.mkdtemp(prefix="vmm-e2e-small-"))
    os.makedirs(small.data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "none", small.data], check=True)
    try:
        small.start()
        page = put("large")
        small.pull_fails("no_space", page.url, page.url)
        check(sum(r.sent for r in page.hits) < len(DISK), "it was fetched for nothing")
        equal(small.files(), [])
        # Nobody says how long it is: it fills the disk, and then it goes.
        page = put("long").always(chunked=True)
        small.pull_fails("no_space", page.url, page.url)
        equal(small.files(), [])
        packed = put("packed.gz", gzip.compress(b"\1" * (64 * MIB)))
        small.pull_fails("no_space", packed.url, packed.url)
        equal(small.files(), [])
        # It is well again.
        page = put("fits", noise())
        good(page, page.data, at=small)
    finally:
        small.close()
        subprocess.run(["umount", small.data], check=True)
        os.rmdir(small.data)
        os.rmdir(small.dir)


run(globals(), [host])
