#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Names of the daemon's catalogue: from the file to a machine's disk, and into a VMFile's lock."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile

from harness import TOP, Host, RpcError, check, contains, equal, run, wait_until

sys.path.insert(0, os.path.join(TOP, "tests", "fake"))

import web  # noqa: E402

MIB = 1 << 20
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]

server = web.Server()
host = Host()
config = os.path.join(host.dir, "config", "vmm")
os.makedirs(os.path.join(config, "catalogue.d"))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def entry(page, version="1", digest=None, **more):
    keys = {"name": "lab", "version": version, "architecture": MACHINE, "url": page.url,
            "sha256": digest or sha256(page.data), **more}
    return "- " + json.dumps(keys) + "\n"


def write(text, name="catalogue.yaml"):
    """The daemon reads it again, or says in its log why not."""
    with open(os.path.join(config, name), "w", encoding="utf-8") as file:
        file.write("images:\n" + text)
    if host.process:
        host.process.send_signal(signal.SIGHUP)


def names():
    return [f"{e['name']}:{e['version']}" for e in host.call("image.catalogue")["entries"]]


def pull(image, **more):
    return host.call("image.pull", image=image, **more)


def qcow2():
    """A new image each time."""
    path = tempfile.mktemp(dir=host.dir)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "4M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {os.urandom(1)[0] | 1} 0 1M", path],
                   check=True, stdout=subprocess.DEVNULL)
    with open(path, "rb") as file:
        data = file.read()
    os.unlink(path)
    return data


def test_a_name_becomes_a_disk():
    image = qcow2()
    page = server.put("/lab.qcow2", gzip.compress(image))
    write(entry(page, aliases=["stable"], format="qcow2", user="admin", firmware="uefi"))
    host.start()
    equal(names()[-1], "lab:1")
    check("debian:12" in names(), "what ships is there, too")
    row = host.call("image.catalogue")["entries"][-1]
    equal((row["user"], row["firmware"], row["aliases"]), ("admin", "uefi", ["stable"]))
    contains(row["file"], "config/vmm/catalogue.yaml")
    got = pull("lab:1")
    equal(got["image"]["digest"], "sha256:" + sha256(image))
    equal(got["source"], page.url)
    for name in ("lab", "lab:stable", "lab:latest"):
        again = pull(name)
        equal((again["image"]["digest"], again["transferred_bytes"]), (got["image"]["digest"], 0))
    equal(len(page.bodies), 1)
    host.call("vm.create", name="web", backend="qemu", image="lab:stable")
    vm = host.vm("web")
    equal(vm["image"]["digest"], got["image"]["digest"])
    disks = [os.path.join(folder, name) for folder, _, found in os.walk(host.data)
             for name in found if name == "disk.qcow2"]
    equal(len(disks), 1)
    info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", disks[0]], check=True,
                                     stdout=subprocess.PIPE).stdout)
    equal(os.path.realpath(info["full-backing-filename"]), os.path.realpath(got["image"]["path"]))
    equal(info["backing-filename-format"], "qcow2")


def test_what_is_near_is_told():
    for name, hint in (("debain:12", "debian"), ("lab:2", "lab:1")):
        try:
            pull(name)
            check(False, f"'{name}' is in no catalogue")
        except RpcError as e:
            equal(e.name, "not_found")
            contains(e.error["data"]["hint"], hint)


def test_an_entry_that_moves():
    old = host.vm("web")["image"]["digest"]
    page = server.put("/lab-2.raw", os.urandom(MIB))
    write(entry(page, version="2", aliases=["latest"]), "catalogue.d/more.yaml")
    wait_until("the new entry", lambda: "lab:2" in names())
    equal(pull("lab")["image"]["digest"], "sha256:" + sha256(page.data))
    equal(pull("lab:1")["image"]["digest"], old)
    write(entry(page, version="1"), "catalogue.d/more.yaml")
    wait_until("it to be replaced", lambda: names().count("lab:1") == 1 and "lab:2" not in names())
    equal(pull("lab:1")["image"]["digest"], "sha256:" + sha256(page.data))
    equal(host.vm("web")["image"]["digest"], old)


def test_bytes_that_are_not_those_of_the_entry():
    page = server.put("/other.raw", os.urandom(MIB))
    before = host.call("image.list")["images"]
    write(entry(page, version="3", digest="0" * 64), "catalogue.d/wrong-digest.yaml")
    wait_until("the entry", lambda: "lab:3" in names())
    try:
        pull("lab:3")
        check(False, "another image was taken")
    except RpcError as e:
        equal(e.name, "bad_image")
    equal(host.call("image.list")["images"], before)
    os.unlink(os.path.join(config, "catalogue.d/wrong-digest.yaml"))


def test_a_wrong_file_takes_no_name_away():
    before = names()
    write("- {name: lab, version: '4', archtecture: amd64, url: 'https://h/x'}\n",
          "catalogue.d/wrong.yaml")
    wait_until("the log to tell", lambda: "catalogue.d/wrong.yaml:2:" in host.log())
    contains(host.log(), "'archtecture'")
    check(set(before) >= set(names()) and "debian:12" in names(), "the names are there")
    host.restart()
    check("debian:12" in names(), "what ships is there after a start with a wrong file")
    os.unlink(os.path.join(config, "catalogue.d/wrong.yaml"))


def test_a_lock_holds_what_a_name_meant():
    first, second = (server.put(f"/lock-{i}.raw", os.urandom(MIB)) for i in range(2))
    write(entry(first, name="pin"), "catalogue.d/pin.yaml")
    wait_until("the entry", lambda: "pin:1" in names())
    vmfile = "vms:\n  one: {backend: noop, image-url: 'pin:1'}\n"
    folder = host.project(vmfile)
    path = os.path.join(folder, "VMFile.lock")
    host.vmctl("up", cwd=folder)
    with open(path, encoding="utf-8") as file:
        lock = file.read()
    contains(lock, f"  pin:1:\n    digest: sha256:{sha256(first.data)}\n    source: {first.url}\n")
    write(entry(second, name="pin"), "catalogue.d/pin.yaml")
    wait_until("the entry to move", lambda: second.url in [
        e["url"] for e in host.call("image.catalogue")["entries"]])
    host.project(vmfile + "  two: {backend: noop, image: 'pin:1'}\n")
    host.vmctl("up", cwd=folder)
    equal(host.vm("two")["image"]["digest"], "sha256:" + sha256(first.data))
    equal(second.bodies, [])
    with open(path, encoding="utf-8") as file:
        equal(file.read(), lock)

    other = Host().start()  # knows nothing of the name
    try:
        other.vmctl("up", cwd=folder)
        equal(other.vm("one")["image"]["digest"], "sha256:" + sha256(first.data))
    finally:
        other.close()

    host.vmctl("image", "update", cwd=folder)
    with open(path, encoding="utf-8") as file:
        contains(file.read(), f"sha256:{sha256(second.data)}\n    source: {second.url}\n")
    contains(host.vmctl("plan", cwd=folder, status=10).stdout, "image")


run(globals(), [host])
