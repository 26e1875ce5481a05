#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Disks that are real: from everywhere to a machine, and from a machine to everywhere.

One guest boots off an image that came packed over HTTP under a name of the catalogue, another off
what was made of the first one's disk.  The cases share them and run in order.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

from harness import (TOP, Host, RpcError, check, contains, equal, guest_image, run, wait_until)

sys.path.insert(0, os.path.join(TOP, "tests", "fake"))

import registry as fake  # noqa: E402
import web  # noqa: E402

IMAGE = guest_image()
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
TOLD = "we were here"

server = web.Server()
registry = fake.Registry()
host, elsewhere = Host(), Host().start()
seen = {}  # what the first guest was


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


DIGEST = "sha256:" + sha256(IMAGE)


def guest(name, image, **more):
    """A VMFile with one machine, which tells its users apart by nothing but its image."""
    return host.project("vms:\n  " + name + ": " + json.dumps(
        {"image": image, "memory": "512MiB", "cloud-init": {}, **more}) + "\n", name)


def inside(name, command, **kwargs):
    return host.vmctl("exec", name, "--", "sh", "-c", command, **kwargs).stdout.strip()


def identity(name):
    return {"machine-id": inside(name, "cat /etc/machine-id"),
            "host key": inside(name, f"sudo cut -d' ' -f2 {KEY}"),
            "instance": inside(name, "cat /var/lib/cloud/data/instance-id"),
            "host name": inside(name, "hostname")}


def stored(at):
    return sorted(os.listdir(os.path.join(at.data, "images")))


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, text=True, stdout=subprocess.PIPE).stdout


def same_disk(a, a_format, b, b_format):
    done = subprocess.run(["qemu-img", "compare", "-U", "-f", a_format, "-F", b_format, a, b],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    equal(done.returncode, 0, f"compare {a} {b}: {done.stdout}")


def disk_of(at, name):
    return os.path.join(at.data, "vms", at.vm(name)["id"], "disk.qcow2")


def test_a_packed_image_of_the_catalogue_boots():
    packed = os.path.join(host.dir, "guest.zst")
    subprocess.run(["zstd", "-q", "-1", "-T2", IMAGE, "-o", packed], check=True)
    page = server.put("/guest.img", web.File(packed))
    folder = os.path.join(host.dir, "config", "vmm")
    os.makedirs(folder)
    with open(os.path.join(folder, "catalogue.yaml"), "w", encoding="utf-8") as file:
        file.write("images:\n- " + json.dumps(
            {"name": "lab", "version": "12", "aliases": ["bookworm"], "architecture": MACHINE,
             "url": page.url, "sha256": sha256(packed), "format": "qcow2"}) + "\n")
    host.start()
    host.vmctl("up", cwd=guest("first", "lab:bookworm"))
    equal(len(page.bodies), 1)
    row = host.vm("first")
    equal((row["image"]["digest"], row["state"], row["ssh"]["reachable"], row["cloud_init"]),
          (DIGEST, "running", True, "done"))
    inside("first", f"echo '{TOLD}' | sudo tee /srv/told && sync")
    seen.update(identity("first"))
    equal(seen["host name"], "first")


def test_what_runs_is_not_copied():
    before = stored(host)
    for args in (("commit", "first", "golden"), ("push", "first", registry.ref("team/no:v1"))):
        contains(host.vmctl("image", *args, status=4).stderr, "vmctl stop first")
    equal(stored(host), before)
    equal([row["names"].count("golden") for row in host.call("image.list")["images"]], [0])
    host.vmctl("stop", "first")


def commit(connection, at=host):
    """Begins one and returns its operation once a part of the disk is written."""
    connection.begin("image.commit", vm="first", name="golden")
    before = set(stored(at))

    def under_way():
        found = [o for o in at.call("operation.list")["operations"]
                 if o["kind"] == "image.commit" and o["state"] == "running"]
        new = set(stored(at)) - before
        return found and new and found[0]
    return wait_until("the commit to write", under_way)


def test_a_cancelled_commit_leaves_nothing():
    before = stored(host)
    connection = host.rpc()
    last = connection.last_id + 1
    host.call("operation.cancel", id=commit(connection)["id"])
    try:
        connection.answer(last)
        check(False, "it was not cancelled")
    except RpcError as e:
        equal(e.name, "cancelled", str(e))
    connection.close()
    equal(stored(host), before)
    check("operation" not in host.vm("first"), "the machine is free again")


def test_a_full_disk_leaves_nothing():
    """A file system of its own with room for the disk's changes and not for all of it."""
    small = Host()
    os.makedirs(small.data)
    mounted = False
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=0700", "tmpfs", small.data], check=True)
        mounted = True
        small.start()
        small.call("vm.create", name="full", image=IMAGE, memory=256)
        before = stored(small)
        for clean in (False, True):
            try:
                small.call("image.commit", vm="full", name="golden", clean=clean, format="raw")
                check(False, "there was room")
            except RpcError as e:
                equal(e.name, "no_space", str(e))
            equal(stored(small), before)
        equal(small.vm("full")["state"], "prepared")
        small.call("vm.destroy", name="full")
    finally:
        small.close()
        if mounted:
            subprocess.run(["umount", small.data], check=True)
        shutil.rmtree(small.dir, ignore_errors=True)


def test_a_machine_of_a_commit_is_another():
    result = host.json("image", "commit", "first", "golden", "--clean")
    seen["golden"] = result["image"]
    check("/etc/machine-id" in result["removed"], result["removed"])
    check(KEY in result["removed"], result["removed"])
    host.vmctl("up", cwd=guest("second", "golden"))
    equal(host.vm("second")["image"]["digest"], result["image"]["digest"])
    equal(inside("second", "cat /srv/told"), TOLD)
    now = identity("second")
    equal([key for key in now if now[key] == seen[key]], [], "what both are")
    equal(inside("second", "ls /var/lib/cloud/instances"), now["instance"])
    contains(inside("second", "cloud-init status"), "done")
    host.vmctl("stop", "--force", "second")


def test_a_push_arrives_the_same_elsewhere():
    reference = registry.ref("team/first:v1")
    pushed = host.json("image", "push", "first", reference)
    equal(pushed["uploaded"], True)
    manifest = json.loads(registry.get("team/first", "v1"))
    equal([layer["digest"] for layer in manifest["layers"]], [pushed["image"]["digest"]])
    pulled = elsewhere.json("image", "pull", reference)
    equal(pulled["image"]["digest"], pushed["image"]["digest"])
    check(pulled["transferred_bytes"] > 0, "it came from there")
    contains(pulled["source"], pushed["digest"])
    # It is the machine's disk, and a machine of it has the same.
    same_disk(disk_of(host, "first"), "qcow2", pulled["image"]["path"], "qcow2")
    again = elsewhere.json("image", "push", pulled["image"]["digest"], reference)
    equal((again["digest"], again["uploaded"]), (pushed["digest"], False))
    elsewhere.vmctl("image", "rm", pulled["image"]["digest"])


def test_an_export_is_the_same_disk():
    path = seen["golden"]["path"]
    for wanted, args in (("qcow2", ()), ("raw", ("--format", "raw"))):
        out = os.path.join(host.dir, "out." + wanted)
        told = host.json("image", "export", "golden", out, *args)
        equal(told["format"], wanted)
        equal(json.loads(qemu_img("info", "--output=json", out))["format"], wanted)
        same_disk(path, "qcow2", out, wanted)
        if wanted == "qcow2":
            equal("sha256:" + sha256(out), seen["golden"]["digest"])
        os.unlink(out)


def test_from_everywhere_it_is_the_same_disk():
    """To a store that has nothing yet, up to the machine's overlay; the machine is not started."""
    packed = os.path.join(host.dir, "guest.zst")
    own = os.path.join(elsewhere.dir, "guest.qcow2")
    shutil.copyfile(IMAGE, own)
    host.json("image", "push", DIGEST, registry.ref("team/guest:v1"))
    plain, small = server.put("/guest.qcow2", web.File(IMAGE)), server.put("/z", web.File(packed))
    ways = {"file": own, "http": plain.url, "zstd": small.url,
            "registry": registry.ref("team/guest:v1")}
    for name, image in ways.items():
        more = ("--insecure-http",) if image.startswith("http:") else ()
        elsewhere.vmctl("create", name, "--image", image, "--disk", "4GiB", *more)
        vm = elsewhere.vm(name)
        equal(vm["image"]["digest"], DIGEST, name)
        if name == "file":
            os.unlink(own)  # it is not needed any more
        disk = disk_of(elsewhere, name)
        facts = json.loads(qemu_img("info", "--output=json", disk))
        rows = elsewhere.call("image.list")["images"]
        equal([row["digest"] for row in rows], [DIGEST])
        equal((os.path.realpath(facts["full-backing-filename"]), facts["backing-filename-format"],
               facts["virtual-size"]), (os.path.realpath(rows[0]["path"]), "qcow2", 4 << 30), name)
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", rows[0]["path"], disk)
        same_disk(disk, "qcow2", IMAGE, "qcow2")
        refused = elsewhere.vmctl("image", "rm", DIGEST, status=4)
        contains(refused.stderr, name)
        elsewhere.vmctl("destroy", name)
        elsewhere.vmctl("image", "rm", DIGEST)
        equal(stored(elsewhere), [], name)
    equal((len(plain.bodies), len(small.bodies)), (1, 1))


try:
    run(globals(), lambda: [h for h in (host, elsewhere) if h.process])
finally:
    registry.close()
    server.close()
