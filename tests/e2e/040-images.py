#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The store of images under contention: whatever is removed, taken and killed at the same time, a
machine has its image, an image its file, and nothing else is left."""

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time

from harness import Failure, Host, RpcError, check, equal, run, wait_until

MIB = 1 << 20
host = Host(base=tempfile.mkdtemp(prefix="vmm-e2e-images-"))
sources = os.path.join(host.dir, "sources")
images = os.path.join(host.data, "images")
os.makedirs(sources)


def source(name, content, mib=1):
    path = os.path.join(sources, name)
    with open(path, "wb") as f:
        f.write(content)
        f.truncate(mib * MIB)
    return path


def stored():
    """What lies in the folder; a part of a transfer would be one, too."""
    return sorted(os.listdir(images))


def whole():
    """Every image has a file with the bytes of its name, and every file is an image's."""
    rows = host.call("image.list")["images"]
    equal(stored(), sorted(os.path.basename(row["path"]) for row in rows), "files and rows")
    for row in rows:
        with open(row["path"], "rb") as f:
            equal("sha256:" + hashlib.sha256(f.read()).hexdigest(), row["digest"])
    return {row["digest"] for row in rows}


def settle():
    wait_until("what was begun to be settled", lambda: all(
        "operation" not in vm for vm in host.call("vm.list")["vms"]), 60)


def check_machines():
    have = whole()
    for vm in host.call("vm.list")["vms"]:
        check(vm["image"]["digest"] in have, f"{vm['name']} lost its image")


def clear():
    settle()
    for name in host.names():
        host.call("vm.destroy", name=name, force=True)
    for row in host.call("image.list")["images"]:
        host.call("image.rm", image=row["digest"])
    equal(stored(), [])


class Crowd:
    """Threads that do something again and again until told; what they must not see is told."""

    def __init__(self):
        self.ended = threading.Event()
        self.wrong = []
        self.threads = []

    def add(self, work, *allowed):
        def repeat():
            rounds = 0
            while not self.ended.is_set():
                try:
                    work(rounds)
                except RpcError as e:
                    if e.name not in allowed:
                        self.wrong.append(f"{e.name}: {e}")
                except (OSError, EOFError):
                    return  # killed
                except Failure as e:
                    self.wrong.append(str(e))
                rounds += 1
            self.rounds = min(getattr(self, "rounds", rounds), rounds)

        self.threads.append(threading.Thread(target=repeat))
        self.threads[-1].start()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        equal(self.wrong, [])


def test_41_an_image_in_use_is_not_removed_by_any_path():
    host.start()
    crowd = Crowd()
    twins = [source(f"twin{i}.raw", b"the same") for i in range(3)]
    made = []

    def make(i, twin):
        name = f"m{i}-{threading.get_ident() % 100000}"
        vm = host.call("vm.create", name=name, backend="noop", image=twin)
        # From here on it has an image, and nobody can take that away.
        path = os.path.join(images, "sha256-" + vm["image"]["digest"].split(":")[1])
        made.append(name)
        check(os.path.exists(path), f"{name} has no image")
        host.call("vm.start", name=name)
        check(os.path.exists(path), f"{name} lost its image")
        if i % 2:
            host.call("vm.destroy", name=name, force=True)

    def remove(_):
        for row in host.call("image.list")["images"]:
            host.call("image.rm", image=row["digest"])

    for twin in twins:
        # It may be removed between its arrival and the machine: that is told, and no harm.
        crowd.add(lambda i, twin=twin: make(i, twin), "not_found")
    crowd.add(remove, "not_found", "wrong_state", "busy")
    crowd.add(lambda _: host.call("image.prune", all=True))
    deadline = time.monotonic() + 5
    wait_until("machines", lambda: len(made) > 60 or crowd.wrong or time.monotonic() > deadline, 60)
    crowd.end()
    check(len(made) > 10, f"only {len(made)} machines were made")
    settle()
    check_machines()
    host.restart()
    check_machines()
    clear()


def test_the_source_may_change_or_go():
    path = source("mine.raw", b"as it was")
    host.call("vm.create", name="kept", backend="noop", image=path)
    digest = host.vm("kept")["image"]["digest"]
    with open(path, "r+b") as f:
        f.write(b"otherwise")
    equal(whole(), {digest})
    host.call("vm.create", name="new", backend="noop", image=path)
    check(host.vm("new")["image"]["digest"] != digest, "the changed file is another image")
    os.unlink(path)
    shutil.rmtree(sources)
    os.makedirs(sources)
    check_machines()
    host.call("vm.create", name="again", backend="noop", image=digest)
    equal(host.vm("again")["image"]["digest"], digest)
    clear()


def test_a_reload_keeps_what_it_needs():
    """Between the old machine and the new one, no machine stands on the image."""
    path = source("base.raw", b"base")
    digest = host.call("image.import", image={"path": path})["image"]["digest"]
    folder = host.project("vms:\n"
                          + "".join(f"  r{i}:\n    backend: noop\n    image: {digest}\n"
                                    for i in range(4)))
    host.vmctl("up", cwd=folder)
    crowd = Crowd()
    for _ in range(3):
        crowd.add(lambda _: host.call("image.rm", image=digest), "wrong_state", "busy", "not_found")
    try:
        for _ in range(8):
            host.vmctl("reload", cwd=folder)
    finally:
        crowd.end()
    check_machines()
    host.vmctl("down", "--destroy", cwd=folder)
    clear()


def test_what_rotted_is_found_and_mended():
    path = source("sound.raw", b"sound")
    host.call("vm.create", name="stands", backend="noop", image=path)
    row = host.call("image.list")["images"][0]
    equal([i["ok"] for i in host.call("image.verify")["images"]], [True])
    os.chmod(row["path"], 0o600)
    with open(row["path"], "r+b") as f:
        f.seek(4096)
        f.write(b"\1")
    try:
        host.call("image.verify", image=row["digest"])
        raise Failure("it was not seen")
    except RpcError as e:
        equal(e.name, "bad_image")
        check("damaged" in str(e), e)
    # No machine is made of it any more; the one that is there keeps it from being removed.
    for method, params in (("vm.create", {"name": "late", "backend": "noop", "image": row["digest"]}),
                           ("image.rm", {"image": row["digest"]})):
        try:
            host.call(method, **params)
            raise Failure(f"{method} was not refused")
        except RpcError as e:
            check(e.name in ("bad_image", "wrong_state", "not_found"), e)
    # The same file mends it: the very one, which is not taken for known, or one from elsewhere.
    equal(host.call("image.import", image={"path": path})["image"]["digest"], row["digest"])
    equal([i["ok"] for i in host.call("image.verify")["images"]], [True])
    with open(row["path"], "r+b") as f:
        f.write(b"S")
    twin = source("twin.raw", b"sound")
    equal(host.call("image.import", image={"path": twin})["image"]["digest"], row["digest"])
    equal([i["ok"] for i in host.call("image.verify")["images"]], [True])
    clear()


def test_kill_9_at_any_moment_leaves_nothing():
    random.seed(40)
    files = [source(f"f{i}.raw", str(i % 2).encode(), 16) for i in range(4)]
    for attempt in range(8):
        crowd = Crowd()
        for i, path in enumerate(files):
            crowd.add(lambda n, i=i, path=path: host.call(
                "vm.create", name=f"k{attempt}-{i}-{n}", backend="noop", image=path), "not_found")
        crowd.add(lambda _: [host.call("image.rm", image=row["digest"])
                             for row in host.call("image.list")["images"]],
                  "not_found", "wrong_state", "busy")
        time.sleep(random.uniform(0, 0.3))  # any moment will do
        host.kill()
        crowd.end()
        host.start()
        settle()
        check_machines()
        for name in host.names():
            host.call("vm.destroy", name=name, force=True)
    clear()


def file_system(name, mib=64):
    """A disk with what makes a guest that guest, and something of its own."""
    root = os.path.join(sources, name + ".d")
    os.makedirs(os.path.join(root, "etc", "ssh"))
    for path, text in (("etc/machine-id", "0123\n"), ("etc/ssh/ssh_host_rsa_key", "VERY-SECRET\n"),
                       ("etc/motd", "mine\n")):
        with open(os.path.join(root, path), "w") as f:
            f.write(text)
    with open(os.path.join(root, "data"), "wb") as f:
        f.write(random.randbytes(mib * MIB // 2))
    path = os.path.join(sources, name)
    subprocess.run([tool("mke2fs"), "-q", "-t", "ext4", "-d", root, path, f"{mib}M"], check=True,
                   stdout=subprocess.DEVNULL)
    return path


def tool(name):
    return shutil.which(name) or "/usr/sbin/" + name


def read_file(disk, path):
    return subprocess.run([tool("debugfs"), "-R", f"cat {path}", disk], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def test_commit_makes_an_image_without_identity():
    path = file_system("guest.raw")
    host.call("vm.create", name="first", image=path, memory=32)
    result = host.call("image.commit", vm="first", name="golden", clean=True)
    equal(sorted(result["removed"]), ["/etc/machine-id", "/etc/ssh/ssh_host_rsa_key"])
    row = result["image"]
    equal((row["names"], row["format"], row["virtual_bytes"]), (["golden"], "qcow2", 64 * MIB))
    whole()
    raw = os.path.join(sources, "raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", row["path"], raw], check=True)
    equal((read_file(raw, "/etc/machine-id"), read_file(raw, "/etc/motd")), ("", "mine\n"))
    with open(raw, "rb") as f:
        check(b"VERY-SECRET" not in f.read(), "the key can still be read")
    # Twice the same disk is one image; the machine still has its own identity.
    one = host.call("image.commit", vm="first", name="one")["image"]
    two = host.call("image.commit", vm="first", name="two")["image"]
    equal((two["digest"], sorted(two["names"])), (one["digest"], ["one", "two"]))
    plain = host.call("image.commit", vm="first", name="plain", format="raw")["image"]
    equal(plain["format"], "raw")
    with open(path, "rb") as f, open(plain["path"], "rb") as g:
        check(f.read() == g.read(), "the disk is what it was made of")
    host.call("vm.create", name="second", image="golden", memory=32)
    equal(host.vm("second")["image"]["digest"], row["digest"])
    check_machines()
    clear()


def test_commit_killed_or_cancelled_leaves_nothing():
    path = file_system("large.raw", 400)
    host.call("vm.create", name="third", image=path, memory=32)
    before = stored()
    for attempt in range(6):
        connection = host.rpc()
        connection.begin("image.commit", vm="third", name="golden", clean=attempt % 2 == 0)
        running = wait_until("it to run", lambda: [
            o for o in host.call("operation.list")["operations"]
            if o["kind"] == "image.commit" and o["state"] == "running"])
        wait_until("its file", lambda: stored() != before or not host.vm("third").get("operation"))
        time.sleep(random.uniform(0, 0.5))  # any moment will do
        if attempt < 3:
            host.kill()
            connection.close()
            host.start()
        else:
            try:
                host.call("operation.cancel", id=running[0]["id"])
            except RpcError as e:
                equal(e.name, "wrong_state")
            connection.close()
        settle()
        wait_until("it to be gone", lambda: len(stored()) == len(whole()))
        for row in host.call("image.list")["images"]:
            if not row["used_by"]:
                host.call("image.rm", image=row["digest"])
        equal(stored(), before)
    clear()


run(globals(), [host])
