#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Faults and regressions of the original that need no guest, each by its number."""

import email
import json
import os
import shutil
import subprocess
import threading
import time

from harness import (VMCTL, VMMD, Failure, Host, RpcError, check, contains, equal, run, wait_until)

host = Host().start()
DISK = os.path.join(host.dir, "disk.raw")
with open(DISK, "wb") as f:
    f.truncate(4 << 20)


def refused(wanted, method, /, **params):
    try:
        host.call(method, **params)
    except RpcError as e:
        equal(e.name, wanted, f"{method}: {e}")
        return e.error
    raise Failure(f"{method} was not refused")


def test_g01_g05_an_end_is_seen_without_asking():
    host.call("vm.create", name="end", image=DISK, memory=32, start=True)
    connection = host.rpc()
    connection.call("event.subscribe")
    os.kill(host.vm("end")["pid"], 9)
    begin = time.monotonic()
    while connection.line()["params"]["data"].get("state") != "failed":
        pass
    check(time.monotonic() - begin < 1, "within a second")
    connection.close()
    listing = host.vmctl("list").stdout.splitlines()
    contains(listing[0], "STATE")
    contains(listing[1], "failed")
    check("PID" in listing[0] and " - " in listing[1], "no pid of a dead process")
    host.call("vm.destroy", name="end")


def test_g02_clients_at_once_lose_nothing():
    names = [f"c{i}" for i in range(12)]
    threads = [threading.Thread(target=host.vmctl, args=("create", "--name", n, "--backend", "noop"))
               for n in names]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(sorted(host.names()), sorted(names))
    for name in names:
        host.call("vm.destroy", name=name)


def test_g04_folders_of_others_are_refused():
    if os.geteuid() != 0:
        print("# NOT CHECKED: another user's folder (needs root)")
        return
    place = os.path.join(host.dir, "foreign")
    os.makedirs(place)
    os.chown(place, 65534, 65534)
    done = subprocess.run([VMMD, "--data-dir", place, "--runtime-dir", host.dir + "/r4"],
                          env=host.env, stderr=subprocess.PIPE, text=True, timeout=30)
    check(done.returncode != 0, "it refuses")
    contains(done.stderr, place)


def test_g09_a_machine_needs_its_vmfile_no_more():
    folder = host.project("vms:\n  nine: {backend: noop, provision: [{shell: \"true\"}]}\n")
    host.vmctl("up", cwd=folder)
    host.vmctl("down", cwd=folder)
    shutil.rmtree(folder)
    host.vmctl("start", "nine", cwd="/")
    equal(host.call("vm.provision", name="nine", force=True)["ran"], 1)
    host.call("vm.destroy", name="nine")


def test_g10_a_removal_that_fails_can_be_repeated():
    if os.geteuid() != 0:
        print("# NOT CHECKED: a removal that fails (mounting needs root)")
        return
    host.call("vm.create", name="ten", backend="noop")
    place = os.path.join(host.vm("ten")["work_dir"], "held")
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        refused("io_error", "vm.destroy", name="ten")
        equal(host.vm("ten")["state"], "destroyed")
        refused("wrong_state", "vm.start", name="ten")
    finally:
        subprocess.run(["umount", place], check=True)
    host.restart("kill")  # a removal that was begun is finished
    wait_until("the removal", lambda: host.names() == [])


def test_g15_g12_names_are_valid_for_hosts_and_paths():
    for name in ("a;b", "x_y", "UPPER", "é", "a..b", " "):
        refused("invalid_params", "vm.create", name=name, backend="noop")


def test_g24_stop_says_how():
    host.call("vm.create", name="how", image=DISK, memory=32, start=True)
    row = host.call("vm.stop", name="how", timeout=0)
    equal((row["how"], row["by"]), ("terminated", "quit"))
    host.call("vm.start", name="how")
    done = host.vmctl("stop", "how", "--timeout", "1")
    contains(done.stdout, "terminated by quit")
    host.call("vm.destroy", name="how")


def test_g30_relative_image_paths():
    folder = host.project("vms:\n  rel: {image: ./sub/../d.raw, memory: 32}\n", "relative")
    os.makedirs(os.path.join(folder, "sub"))
    shutil.copy(DISK, os.path.join(folder, "d.raw"))
    inner = os.path.join(folder, "sub")
    host.vmctl("create", "--name", "direct", "--image", "../d.raw", "--memory", "32", cwd=inner)
    host.vmctl("start", "direct", cwd="/")
    host.vmctl("up", cwd=inner)  # the VMFile is in the folder above
    equal({host.vm(n)["state"] for n in ("direct", "rel")}, {"running"})
    for name in ("direct", "rel"):
        host.call("vm.destroy", name=name, force=True)


def test_g32_a_failed_create_leaves_nothing():
    refused("invalid_params", "vm.create", name="x", image=DISK, disk="1MiB")
    equal(os.listdir(os.path.join(host.data, "vms")), [])
    host.call("vm.create", name="x", image=DISK)
    refused("already_exists", "vm.create", name="x", image=DISK)
    check(os.path.exists(host.vm("x")["overlay"]), "the first one's disk is untouched")
    host.call("vm.destroy", name="x")


def test_g36_more_than_the_host_has():
    contains(refused("invalid_params", "vm.create", name="x", image=DISK, memory="8TiB")["message"],
             "this host has")
    contains(refused("invalid_params", "vm.create", name="x", image=DISK, vcpus=255)["message"],
             "this host has")


def test_g54_no_tool_is_needed_for_the_seed():
    tools = os.path.join(host.dir, "tools")
    os.makedirs(tools)
    for name in ("qemu-system-x86_64", "qemu-img", "ssh-keygen"):
        os.symlink(shutil.which(name), os.path.join(tools, name))
    other = Host(env={"PATH": tools}).start()
    try:
        row = other.call("vm.create", name="iso", image=DISK, memory=32, cloud_init={}, start=True)
        with open(row["seed"], "rb") as f:
            contains(str(f.read(0x8100)[0x8000:]), "cidata")
        # the generated key is its owner's alone
        equal(os.stat(os.path.join(row["work_dir"], "id_ed25519")).st_mode & 0o777, 0o600)
    finally:
        other.close()


def test_g61_stdout_is_the_answer():
    folder = host.project("vms:\n  out: {backend: noop}\n", "stdout")
    done = host.vmctl("--json", "up", cwd=folder)
    equal(json.loads(done.stdout)["vms"][0]["action"], "created")
    equal(json.loads(host.vmctl("--json", "list").stdout)["vms"][0]["name"], "out")
    host.call("vm.destroy", name="out")


def test_g67_a_key_beside_user_data_is_not_dropped():
    key = os.path.join(host.dir, "k67")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    data = os.path.join(host.dir, "user-data")
    with open(data, "w") as f:
        f.write("#cloud-config\npackages: []\n")
    host.vmctl("create", "--name", "both", "--image", DISK, "--memory", "32", "--cloud-init", data,
               "--ssh-key", key + ".pub", "--start")
    with open(host.vm("both")["seed"], "rb") as f:
        iso = f.read()
    message = email.message_from_bytes(
        iso[iso.index(b"Content-Type: multipart"):].split(b"\0")[0])
    parts = [p.get_payload(decode=True) for p in message.walk() if not p.is_multipart()]
    with open(key + ".pub") as f:
        public = f.read().split()[1].encode()
    check(any(b"packages: []" in p for p in parts), "the user's part, byte for byte")
    check(any(public in p for p in parts), "the key is there")
    host.call("vm.destroy", name="both", force=True)


def test_r03_g45_user_networking_is_reached_through_its_forward():
    host.call("vm.create", name="fwd", image=DISK, memory=32, start=True)
    info = host.call("vm.ssh_info", name="fwd")
    equal(info["host"], "127.0.0.1")
    check(info["port"] not in (0, 22), info)
    host.call("vm.stop", name="fwd", force=True)
    # Never the host's own sshd.
    refused("wrong_state", "vm.ssh_info", name="fwd")
    host.call("vm.destroy", name="fwd")


def test_r18_a_followed_log_may_appear_late():
    host.call("vm.create", name="late", image=DISK, memory=32)
    follower = subprocess.Popen([VMCTL, "log", "--console", "-f", "late"], env=host.env,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        host.call("vm.start", name="late")
        path = os.path.join(host.vm("late")["work_dir"], "console.log")
        with open(path, "ab") as f:
            f.write(b"here it is\n")
        os.set_blocking(follower.stdout.fileno(), False)
        seen = b""

        def there():
            nonlocal seen
            seen += follower.stdout.read() or b""
            return b"here it is" in seen

        wait_until("the line", there)
    finally:
        follower.kill()
        follower.wait()
    host.call("vm.destroy", name="late", force=True)


def test_r19_the_data_folder_follows_the_environment():
    place = os.path.join(host.dir, "xdg")
    os.makedirs(place)
    env = dict(host.env, XDG_DATA_HOME=place + "/data", XDG_RUNTIME_DIR=place + "/run")
    env.pop("VMCTL_SOCKET")
    os.makedirs(place + "/run", mode=0o700)
    daemon = subprocess.Popen([VMMD], env=env, stderr=subprocess.DEVNULL)
    try:
        wait_until("its socket", lambda: os.path.exists(place + "/run/vmm/vmmd.sock"))
        wait_until("its store", lambda: os.path.exists(place + "/data/vmm/vmm.db"))
        done = subprocess.run([VMCTL, "--json", "list"], env=env, stdout=subprocess.PIPE, check=True)
        equal(json.loads(done.stdout), {"vms": []})
    finally:
        daemon.terminate()
        equal(daemon.wait(30), 0)


def test_r22_an_unknown_network_lists_all_four():
    error = refused("invalid_params", "vm.create", name="n", backend="noop", network="bridge")
    for word in ("user", "tap", "vnic", "none"):
        contains(error["message"], word)
    refused("unsupported", "vm.create", name="n", backend="noop", network="vnic")


run(globals(), [host])
