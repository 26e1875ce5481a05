#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Fetching through a daemon while servers, disks and processes fail: never a wrong file under a
right name, never a leftover, always the reason."""

import hashlib
import os
import random
import signal
import sys
import threading

from harness import TOP, Host, RpcError, check, contains, equal, run, wait_until

sys.path.insert(0, os.path.join(TOP, "tests", "fake"))

import web  # noqa: E402

MIB = 1 << 20
DISK = random.Random(55).randbytes(16 * MIB)

server = web.Server()


def configured(**settings):
    host = Host()
    folder = os.path.join(host.dir, "config", "vmm")
    os.makedirs(folder)
    with open(os.path.join(folder, "vmmd.yaml"), "w", encoding="utf-8") as file:
        file.writelines(f"{key.replace('_', '-')}: {value}\n" for key, value in settings.items())
    return host.start()


host = configured(stall_timeout="1s")
full = configured(keep_free="64TiB")


def pull(url, at=host, **more):
    return at.call("image.pull", image={"url": url, **more.pop("image", {})}, **more)


def refused(name, words, url, at=host, **image):
    try:
        pull(url, at, image=image)
    except RpcError as e:
        equal(e.name, name, str(e))
        contains(str(e), words)
        return
    check(False, f"{url} was taken")


def stored(at=host):
    folder = os.path.join(at.data, "images")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_disk(row, data=DISK):
    equal(row["digest"], digest(data))
    with open(row["path"], "rb") as file:
        equal(digest(file.read()), row["digest"])


def clear(at=host):
    for row in at.call("image.list")["images"]:
        at.call("image.rm", image=row["digest"])
    equal(stored(at), [], "leftovers")


def fetchers():
    """The pids of the daemon's vmm-fetch processes."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "vmm-fetch" and int(rest.split()[1]) == host.process.pid:
            found.append(int(entry))
    return found


class Pulling(threading.Thread):
    """A pull that goes on beside; result or error afterwards."""

    def __init__(self, url):
        super().__init__()
        self.url, self.result, self.error = url, None, None
        self.start()

    def run(self):
        try:
            self.result = pull(self.url)
        except (RpcError, OSError, EOFError) as e:
            self.error = e


def test_final_answers_are_told_and_leave_nothing():
    server.on("/gone", web.Answer(404))
    server.redirect("/loop", server.url("/loop"))
    page = server.put("/other", DISK)
    server.put("/page", b"<!DOCTYPE html><html>not found</html>" * 100)
    refused("not_found", "404", server.url("/gone"))
    refused("failed", "redirects", server.url("/loop"))
    refused("bad_image", "not the one that was meant", page.url, sha256="0" * 64)
    refused("bad_image", "not the one that was meant", page.url, sha512="0" * 128)
    refused("bad_image", "qcow2", page.url, format="qcow2")
    equal(stored(), [])


def test_cut_anywhere_it_goes_on_from_there():
    for percent in (1, 50, 99):
        page = server.put(f"/cut{percent}", DISK)
        page.then(cut=len(DISK) * percent // 100, reset=percent == 50)
        got = pull(page.url)
        is_disk(got["image"])
        # A reset throws away what was sent and not yet read.
        twice = 8 * MIB if percent == 50 else MIB
        check(sum(r.sent for r in page.hits) < len(DISK) + twice, page.hits)
        clear()


def test_stall_is_noticed():
    page = server.put("/stall", DISK)
    page.then(hold=5 * MIB)
    got = pull(page.url)
    page.release()
    is_disk(got["image"])
    equal(len(page.hits), 2)
    clear()


def test_kill_9_of_the_daemon_midway():
    rounds = random.Random(9)
    for number in range(4):
        page = server.put(f"/kill{number}", DISK)
        stop = rounds.randrange(2 * MIB, 15 * MIB)
        page.then(hold=stop)
        waiting = Pulling(page.url)
        check(page.held.wait(30), "the server was not asked")
        # What was sent is in the part, or it will be asked for again: both are right.
        host.kill()
        waiting.join()
        equal(waiting.result, None)
        host.start()
        equal([name for name in stored() if name.startswith("sha256-")], [])
        page.release()
        got = pull(page.url)
        is_disk(got["image"])
        # Once it is let go, the dead one's connection swallows what nobody asked for any more.
        first, *later = page.hits
        check(min(first.sent, stop) + sum(r.sent for r in later) <= len(DISK) + stop, page.hits)
        equal(got["transferred_bytes"] <= len(DISK), True)
        clear()


def test_vmm_fetch_killed_midway():
    page = server.put("/child", DISK)
    page.then(hold=8 * MIB)
    waiting = Pulling(page.url)
    check(page.held.wait(30), "the server was not asked")
    pids = wait_until("vmm-fetch to run", fetchers)
    os.kill(pids[0], signal.SIGKILL)
    waiting.join()
    page.release()
    contains(str(waiting.error), "vmm-fetch ended")
    is_disk(pull(page.url)["image"])
    clear()


def test_many_want_one():
    page = server.put("/many", DISK)
    page.then(hold=4 * MIB)
    connections = [host.rpc(120) for _ in range(50)]
    asked = [c.begin("image.pull", image=page.url) for c in connections[:40]]
    made = [c.begin("vm.create", name=f"m{i}", backend="noop", image=page.url)
            for i, c in enumerate(connections[40:])]
    check(page.held.wait(30), "the server was not asked")
    wait_until("all to wait", lambda: len(
        [op for op in host.call("operation.list")["operations"] if op["state"] == "running"]) == 50)
    page.release()
    for connection, number in zip(connections, asked + made):
        connection.answer(number)
        connection.close()
    equal(sum(r.sent for r in page.hits), len(DISK))
    equal(len(page.bodies), 1)
    for i in range(10):
        host.call("vm.destroy", name=f"m{i}")
    clear()


def test_first_who_asked_goes_the_others_get_it():
    page = server.put("/first", DISK)
    page.then(hold=4 * MIB)
    first, second = host.rpc(), host.rpc()
    a = first.begin("image.pull", image=page.url)
    check(page.held.wait(30), "the server was not asked")
    b = second.begin("image.pull", image=page.url)
    running = wait_until("both to wait", lambda: [
        op["id"] for op in host.call("operation.list")["operations"]
        if op["state"] == "running"][:2] if len([
            op for op in host.call("operation.list")["operations"]
            if op["state"] == "running"]) == 2 else None)
    host.call("operation.cancel", id=min(running, key=str))
    page.release()
    answers = []
    for connection, number in ((first, a), (second, b)):
        try:
            answers.append(connection.answer(number)["image"]["digest"])
        except RpcError as e:
            answers.append(e.name)
        connection.close()
    equal(sorted(answers), sorted(["cancelled", digest(DISK)]))
    equal(len(page.hits), 1)
    clear()


def test_no_space_is_found_before_anything_is_fetched():
    page = server.put("/large", DISK)
    refused("no_space", "are to stay free", page.url, full)
    check(sum(r.sent for r in page.hits) < len(DISK), page.hits)
    equal(stored(full), [])


def test_nothing_is_left_after_a_restart():
    host.restart()
    equal(stored(), [])
    equal(fetchers(), [])


run(globals(), (host, full))
