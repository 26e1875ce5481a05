#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Machines of the original vmctl: listed, and taken over with their disks."""

import hashlib
import json
import os
import subprocess

from harness import Host, check, contains, equal, run

host = Host(env={"VMMD_ACCEL": "tcg"}).start()
old = os.path.join(host.dir, ".local/share/vmctl")
MIB = 1 << 20
VARS = {"x86_64": "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "aarch64": "/usr/share/AAVMF/AAVMF_VARS.fd"}[os.uname().machine]


def qemu_img(*args, cwd=None):
    return subprocess.run(["qemu-img", *args], check=True, cwd=cwd, text=True,
                          stdout=subprocess.PIPE).stdout


def content(disk):
    """What the guest would read from it."""
    raw = os.path.join(host.dir, "raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", disk, raw)
    with open(raw, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def old_machine(name, base, **more):
    """As the original left it: an overlay on a file of the user's, and a handle."""
    work = os.path.join(old, "vms", name)
    os.makedirs(work)
    overlay = os.path.join(work, "overlay.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay, "8M", cwd=work)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 64k", overlay], check=True,
                   stdout=subprocess.DEVNULL)
    return {"id": "qemu-" + name, "name": name, "backend": "qemu", "work_dir": work,
            "overlay_path": overlay, "seed_iso_path": None, "pid": None, **more}


def write_store(vms):
    with open(os.path.join(old, "vms.json"), "w") as file:
        json.dump(vms, file, indent=2)


def rows(*args, **kwargs):
    return {vm["name"]: vm for vm in host.json("import-legacy", *args, **kwargs)["vms"]}


def prepare():
    os.makedirs(old)
    base = os.path.join(old, "base.img")
    with open(base, "wb") as file:
        file.write(os.urandom(2 * MIB))
        file.truncate(4 * MIB)
    # The documented form of the original, relative to the overlay's folder.
    boot = old_machine("boot", base, uefi=True)
    grown = old_machine("grown", base, uefi=True)
    with open(VARS, "rb") as file:
        variables = file.read()
    with open(os.path.join(boot["work_dir"], "efivars.fd"), "wb") as file:
        file.write(variables[:-1] + b"!")
    with open(os.path.join(grown["work_dir"], "efivars.fd"), "wb") as file:
        file.write(variables + variables)
    write_store({
        "boot": boot, "grown": grown,
        "web": old_machine("web", "../../base.img", vcpus=2, memory_mb=512, disk_gb=None,
                           network={"type": "user"}, ssh_host_port=40022,
                           mac_addr="52:54:00:aa:bb:cc", uefi=False),
        "Old_VM": old_machine("Old_VM", base),
        "gone": {**old_machine("gone", base), "overlay_path": "/nowhere/overlay.qcow2"},
        "noop": {"id": "noop-1", "name": "noop", "backend": "noop", "work_dir": "/nowhere"},
    })


def test_r05_listed_and_nothing_touched():
    prepare()
    found = rows()
    equal(sorted(found), ["Old_VM", "boot", "gone", "grown", "noop", "web"])
    equal([found[name]["uefi"] for name in ("web", "boot")], [False, True])
    equal((found["web"]["vcpus"], found["web"]["memory_mib"]), (2, 512))
    equal(found["web"]["network"], {"type": "user"})
    equal((found["Old_VM"]["vcpus"], found["Old_VM"]["memory_mib"]), (1, 1024))
    equal(found["Old_VM"]["new_name"], "old-vm")
    check(found["noop"]["problems"], "noop machines have no disk")
    equal(host.names(), [])


def test_a_running_machine_is_left():
    work = os.path.join(old, "vms", "web")
    with subprocess.Popen(["sh", "-c", "read x", work + "/qmp.sock"],
                          stdin=subprocess.PIPE) as process:
        with open(os.path.join(work, "qemu.pid"), "w") as file:
            file.write(f"{process.pid}\n")
        found = rows("--take", "--name", "web")
        check(found["web"]["running"], "it runs")
        equal(found["web"]["action"], "left")
    equal(host.names(), [])
    os.unlink(os.path.join(work, "qemu.pid"))


def test_r05_taken_over_with_its_content():
    before = {name: content(os.path.join(old, "vms", name, "overlay.qcow2"))
              for name in ("web", "Old_VM")}
    found = rows("--take", status=1)  # one of them failed
    equal({name: vm["action"] for name, vm in found.items()},
          {"web": "taken", "Old_VM": "taken", "boot": "taken", "grown": "taken",
           "gone": "failed", "noop": "left"})
    contains(found["gone"]["error"], "/nowhere/overlay.qcow2")
    equal(sorted(host.names()), ["boot", "grown", "old-vm", "web"])
    web = host.vm("web")
    equal((web["state"], web["vcpus"], web["memory_mib"], web["mac"]),
          ("prepared", 2, 512, "52:54:00:aa:bb:cc"))
    # The new disk does not need the former files, and reads the same.
    subprocess.run(["rm", "-r", old], check=True)
    for name, was in (("web", before["web"]), ("old-vm", before["Old_VM"])):
        disk = os.path.join(host.data, "vms", host.vm(name)["id"], "disk.qcow2")
        equal(content(disk), was, name)
        info = json.loads(qemu_img("info", "--output=json", disk))
        contains(info["backing-filename"], os.path.join(host.data, "images", "sha256-"))
        equal(info["virtual-size"], 8 * MIB)
    equal(len(host.call("image.list")["images"]), 1, "one base for both")
    # Nothing is left of the one that failed.
    equal(len(os.listdir(os.path.join(host.data, "vms"))), 4)
    # Those of UEFI stay so, with their boot entries where the firmware can read them.
    for name, ends, new in (("boot", b"!", False), ("grown", None, True)):
        equal(host.vm(name)["firmware"]["type"], "uefi")
        with open(os.path.join(host.data, "vms", host.vm(name)["id"], "efivars.fd"), "rb") as f:
            variables = f.read()
        equal(len(variables), os.path.getsize(VARS))
        check(ends is None or variables.endswith(ends), "other variables")
        equal(any("begin anew" in note for note in found[name]["notes"]), new)
    equal(host.vm("web")["firmware"]["type"], "bios")


def test_taken_over_uefi_machine_starts():
    host.vmctl("start", "boot")
    equal(host.vm("boot")["state"], "running")
    host.vmctl("stop", "boot", "--force")


def test_taken_over_machines_survive_a_restart():
    host.restart()
    equal(sorted(host.names()), ["boot", "grown", "old-vm", "web"])
    for name in host.names():
        host.vmctl("destroy", name)
    equal(os.listdir(os.path.join(host.data, "vms")), [])


run(globals(), [host])
