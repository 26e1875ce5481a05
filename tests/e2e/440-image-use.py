#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""An image that is in use stays, by whatever way it is asked to go, and whatever becomes of the file
that it was taken from."""

import os
import socket
import subprocess
import tempfile
import threading

from fetching import MIB, ImageHost, noise, sha256
from harness import VMCTL, RpcError, check, contains, equal, run, wait_until

import web

host = ImageHost(base=tempfile.mkdtemp(prefix="vmm-e2e-use-"), env={"VMMD_ACCEL": "tcg"})
server = web.Server()
host.start()


def source(name, data):
    path = os.path.join(host.dir, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def create(name, image):
    return host.call("vm.create", name=name, backend="noop", image=image)


def vmctl(*words):
    return subprocess.Popen([VMCTL, *words], env=host.env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_source_truncated_changed_and_gone():
    data = noise()
    path = source("mine.raw", data)
    create("one", path)
    with open(path, "r+b") as f:
        f.truncate(100)
    equal(host.whole(), {sha256(data)})
    other = noise()
    source("mine.raw", other)
    create("two", path)
    os.unlink(path)
    equal(host.whole(), {sha256(data), sha256(other)})
    equal([vm["image"]["digest"] for vm in host.call("vm.list")["vms"]],
          [sha256(data), sha256(other)])
    host.restart()
    equal(host.whole(), {sha256(data), sha256(other)})
    host.clear()


def test_every_way_of_removal_is_refused():
    data = noise()
    digest = sha256(data)
    page = server.put("/used.raw", data)
    host.pull(page.url, name="golden")
    host.call("image.tag", image="golden", name="golden:2")
    create("user", "golden")
    host.call("image.rm", image="golden:2")  # one of two names: it may go
    for word in ("golden", digest, digest[:20], digest[7:20], page.url, "used.raw"):
        error = host.refused("wrong_state", "image.rm", image=word)
        contains(error["message"], "'user'")
    for params in ({}, {"all": True}):
        equal(host.call("image.prune", **params)["images"], [])
    host.restart()
    host.refused("wrong_state", "image.rm", image="golden")
    equal(host.whole(), {digest})
    host.call("vm.destroy", name="user", force=True)
    equal(host.call("image.rm", image="golden")["digest"], digest)
    equal(host.files(), [])


def busy_meanwhile(digest, what):
    error = host.refused("busy", "image.rm", image=digest)
    contains(error["message"], what)
    check("try again" in error["data"]["hint"], error)
    equal(host.call("image.prune", all=True)["images"], [])


def cancel_all():
    for operation in host.running():
        try:
            host.call("operation.cancel", id=operation["id"])
        except RpcError as e:
            check(e.name in ("not_found", "wrong_state"), e)
    host.settle()


def test_not_while_it_is_pushed():
    data = noise()
    path = source("pushed.raw", data)
    host.call("image.import", image={"path": path}, name="pushed")
    silent = socket.create_server(("127.0.0.1", 0))  # takes the connection, and never answers
    port = silent.getsockname()[1]
    client = vmctl("image", "push", "pushed", f"oci://127.0.0.1:{port}/x:y")
    silent.accept()
    busy_meanwhile(sha256(data), "is being pushed")
    cancel_all()
    check(client.wait(30) != 0, "a push that was cancelled succeeded")
    client.stderr.close()
    silent.close()
    host.call("image.rm", image="pushed")
    equal(host.files(), [])


def test_not_while_it_is_read():
    """A large one, all but a little of it a hole, which takes a while to be looked through."""
    path = source("large.raw", noise())
    os.truncate(path, 24 << 30)
    row = host.call("image.import", image={"path": path}, name="large")["image"]
    connection = host.rpc()
    connection.begin("image.verify", image="large")
    wait_until("the operation to begin", host.running, 60)
    busy_meanwhile(row["digest"], "is being verified")
    cancel_all()
    connection.close()
    equal(set(host.rows()), {row["digest"]})
    host.call("image.rm", image="large")
    os.unlink(path)
    equal(host.files(), [])


def test_removed_while_others_fetch_it():
    """Whoever got it has it, or was told; a machine that was made of it keeps it."""
    page = server.put("/wanted.raw", noise(2))
    digest = sha256(page.data)
    stop = threading.Event()
    failures = []

    def remove():
        while not stop.is_set():
            try:
                host.call("image.rm", image=digest)
            except RpcError as e:
                if e.name not in ("not_found", "wrong_state", "busy"):
                    failures.append(str(e.error))
            try:
                host.call("image.prune", all=True)
            except RpcError as e:
                failures.append(str(e.error))

    def fetch(first):
        for i in range(first, first + 12):
            try:
                if i % 3 == 0:
                    create(f"m{i}", {"url": page.url, "insecure_http": True})
                else:
                    host.pull(page.url)
            except RpcError as e:
                if e.name != "not_found" or "removed meanwhile" not in str(e):
                    failures.append(str(e.error))

    threads = [threading.Thread(target=fetch, args=(k * 100,)) for k in range(3)]
    remover = threading.Thread(target=remove)
    for thread in [remover, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    remover.join()
    host.settle()
    equal(failures, [])
    have = host.whole()
    vms = host.call("vm.list")["vms"]
    check(vms, "no machine was made")
    for vm in vms:
        check(vm["image"]["digest"] in have, f"{vm['name']} lost its image")
    host.restart()
    equal(host.whole(), have)
    host.clear()


def test_killed_at_any_moment_nothing_is_left():
    page = server.put("/killed.raw", noise(4))
    path = source("killed.raw", noise(4))
    for turn in range(6):
        connection = host.rpc()
        if turn % 2 == 0:
            connection.begin("image.pull", image={"url": page.url, "insecure_http": True})
        else:
            connection.begin("image.import", image={"path": path})
        if turn > 1:
            wait_until("something to be there", lambda: host.files() or not host.running(), 30)
        host.kill()
        connection.close()
        host.start()
        left = [n for n in host.files() if not n.startswith(("sha256-", ".part-"))]
        equal(left, [], f"after kill {turn}")
        host.whole(parts=True)
        host.pull(page.url)
        host.call("image.import", image={"path": path})
        host.whole(parts=True)
        host.call("image.prune", all=True)
        equal(host.files(), [], f"after kill {turn}")


def test_reload_without_its_cdrom_spares_the_machine():
    """Nothing is destroyed before the CD-ROM's image is here, as the disk's is."""
    disc = server.put("/disc.raw", noise())
    project = """vms:
  installer:
    memory: 128MiB
    disk: 16MiB
    cdrom: {{url: "{}", insecure-http: true}}
"""
    folder = host.project(project.format(disc.url))
    host.vmctl("up", "--no-provision", cwd=folder)
    before = host.vm("installer")
    equal(before["cdrom"]["digest"], sha256(disc.data))
    with open(os.path.join(folder, "VMFile.lock"), encoding="utf-8") as f:
        contains(f.read(), sha256(disc.data))
    host.project(project.format(server.url("/later.raw")))
    error = host.vmctl("reload", "--no-provision", cwd=folder, status=3).stderr
    contains(error, "machine 'installer'")
    after = host.vm("installer")
    equal([after[key] for key in ("id", "pid", "state")],
          [before[key] for key in ("id", "pid", "state")])
    later = server.put("/later.raw", noise())
    host.vmctl("reload", "--no-provision", cwd=folder)
    check(host.vm("installer")["id"] != before["id"], "it was not made anew")
    host.refused("wrong_state", "image.rm", image=sha256(later.data))
    host.clear()


run(globals(), [host])
