#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Images that want something, by every way into the store: the reason is told, nothing stays, and
the daemon lives on."""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fake"))

import web
from harness import BUILD, VMCTL, Failure, Host, RpcError, check, contains, equal, run

CLUSTER = 1 << 16
SECRET = b"a secret of this host\n" * 200
host = Host(base=tempfile.mkdtemp(prefix="vmm-e2e-hostile-"))
images = os.path.join(host.data, "images")
folder = os.path.join(host.dir, "sources")
server = web.Server()
os.makedirs(folder)
host.start()


def path_of(name, data=None):
    path = os.path.join(folder, name)
    if data is not None:
        with open(path, "wb") as f:
            f.write(data)
    return path


secret = path_of("secret", SECRET)


def made(name, *args):
    path = path_of(name)
    subprocess.run([arg if arg != "@" else path for arg in ("qemu-img", "create", "-q", *args)],
                   check=True)
    with open(path, "rb") as f:
        return f.read()


def header(**fields):
    """A small qcow2 that is honest but for what is named."""
    at = {"version": (4, ">I", 3), "bits": (20, ">I", 16), "size": (24, ">Q", 1 << 30),
          "l1_size": (36, ">I", 2), "l1": (40, ">Q", 2 * CLUSTER), "table": (48, ">Q", CLUSTER),
          "clusters": (56, ">I", 1), "snapshots": (60, ">I", 0), "features": (72, ">Q", 0),
          "order": (96, ">I", 4), "length": (100, ">I", 104), "extension": (104, ">Q", 0)}
    image = bytearray(4 * CLUSTER)
    image[:4] = b"QFI\xfb"
    for key, (offset, form, value) in at.items():
        struct.pack_into(form, image, offset, fields.get(key, value))
    return bytes(image)


# What it is, its bytes, a part of the reason, a part of the hint.
ATTACKS = [
    ("backing", made("backing", "-f", "qcow2", "-F", "raw", "-b", secret, "@"), "backing", "convert"),
    ("data", made("data", "-f", "qcow2", "-o", f"data_file={folder}/data.raw,data_file_raw=on", "@",
                  "1M"), "another file", "convert"),
    ("data-bit", header(features=4), "another file", "convert"),
    ("data-name", header(extension=0x4441544100000010), "another file", "convert"),
    ("feature", header(features=1 << 40), "bit 40", ""),
    ("huge", header(size=1 << 63), "size", ""),
    ("tables", header(l1_size=1 << 30), "cluster table", ""),
    ("counts", header(order=63), "reference counts", ""),
    ("snapshots", header(snapshots=1 << 31), "snapshot", ""),
    ("short", header()[:2 * CLUSTER + 5], "cluster table", ""),
    ("old", b"QFI\xfb\0\0\0\1" + bytes(1 << 16), "version 1", "convert"),
    ("vmdk", b"# Disk DescriptorFile\nRW 8 FLAT \"" + secret.encode() + b"\" 0\n" + bytes(4096),
     "VMDK", "convert -f vmdk"),
    ("vdi", made("vdi", "-f", "vdi", "@", "1M"), "VDI", "convert -f vdi"),
    ("vhdx", made("vhdx", "-f", "vhdx", "@", "1M"), "VHDX", "convert -f vhdx"),
    ("luks", b"LUKS\xba\xbe\0\1" + bytes(1 << 16), "LUKS", "convert -f luks"),
]


def refused(code, method, /, **params):
    try:
        host.call(method, **params)
    except RpcError as e:
        equal(e.name, code, str(e))
        return e.error
    raise Failure(f"{method} {params} was taken")


def nothing_stays():
    equal(sorted(os.listdir(images)), [])
    equal(host.call("image.list")["images"], [])


def clear():
    for row in host.call("image.list")["images"]:
        host.call("image.rm", image=row["digest"])
    nothing_stays()


def expect(error, name, reason, hint):
    contains(error["message"], reason)
    contains(error.get("data", {}).get("hint", "") or "", hint)
    check("secret of this host" not in str(error), name)


def test_the_layers_in_force_are_told():
    probe = subprocess.run([os.path.join(BUILD, "lib", "base", "jailer", "vmm-jail"), "--probe"],
                           check=True, capture_output=True, text=True)
    names = ["landlock", "netns", "seccomp", "limits"]
    equal(host.call("system.info")["jail"],
          [name for bit, name in enumerate(names) if int(probe.stdout) & 1 << bit])


def status_of_children():
    """What the kernel says of the programs that the daemon runs at the moment."""
    rows = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                row = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        except OSError:
            continue
        if row.get("PPid") == str(host.process.pid):
            rows.append(row)
    return rows


def test_what_speaks_to_servers_is_confined():
    seen = []

    def watched(_request):
        seen.extend(status_of_children())
        return web.Answer(body=bytes(1 << 20))

    server.on("/watched.img", watched)
    host.call("image.pull", image={"url": server.url("/watched.img"), "insecure_http": True})
    equal([row["Name"] for row in seen], ["vmm-fetch"])
    equal(seen[0]["NoNewPrivs"], "1")
    if "VMM_SANITIZE" not in os.environ:  # which can not live in there
        equal(int(seen[0]["CapEff"], 16), 0)
        equal(seen[0]["Seccomp"], "2" if "seccomp" in host.call("system.info")["jail"] else "0")
    clear()


def test_files_of_every_kind():
    for name, data, reason, hint in ATTACKS:
        path = path_of(name + ".img", data)
        expect(refused("bad_image", "image.import", image={"path": path}), name, reason, hint)
        expect(refused("bad_image", "vm.create", name="evil", backend="noop", image=path), name,
               reason, hint)
    nothing_stays()
    equal(host.names(), [])


def test_the_same_from_a_server():
    for name, data, reason, hint in ATTACKS:
        server.put(f"/{name}.img", data)
        expect(refused("bad_image", "image.pull",
                       image={"url": server.url(f"/{name}.img"), "insecure_http": True}), name,
               reason, hint)
    nothing_stays()


def test_what_unpacks_to_one():
    for name, data, reason, hint in ATTACKS[:3]:
        packed = subprocess.run(["zstd", "-q", "-c"], input=data, check=True,
                                capture_output=True).stdout
        server.put(f"/{name}.zst", packed)
        expect(refused("bad_image", "image.pull",
                       image={"url": server.url(f"/{name}.zst"), "insecure_http": True}), name,
               reason, hint)
    nothing_stays()


def test_a_format_that_it_is_not():
    honest = path_of("honest.img", header())
    plain = path_of("plain.img", bytes(1 << 20))
    equal(host.call("image.import", image={"path": honest, "format": "qcow2"})["image"]["format"],
          "qcow2")
    clear()
    for path, claim in ((honest, "raw"), (plain, "qcow2")):
        error = refused("bad_image", "image.import", image={"path": path, "format": claim})
        contains(error["message"], claim)
        error = refused("bad_image", "vm.create", name="evil", backend="noop",
                        image={"path": path, "format": claim})
        contains(error["message"], claim)
    equal(host.names(), [])
    clear()


def test_sources_that_are_no_files():
    fifo = path_of("fifo")
    os.mkfifo(fifo)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path_of("socket"))
    for path in (fifo, "/dev/zero", folder):
        error = refused("invalid_params", "image.import", image={"path": path})
        contains(error["message"], "regular file")
    error = refused("io_error", "image.import", image={"path": path_of("socket")})
    contains(error["message"], "socket")
    nothing_stays()
    listener.close()


def test_a_link_is_the_file_that_it_leads_to():
    target = path_of("target.img", b"\1" * (1 << 20))
    link = path_of("link.img")
    os.symlink(target, link)
    row = host.call("image.import", image={"path": link})["image"]
    check(not os.path.islink(row["path"]), "the store has a link")
    os.unlink(link)
    os.symlink(secret, link)
    os.unlink(target)
    with open(row["path"], "rb") as f:
        equal(f.read(), b"\1" * (1 << 20))
    clear()


def test_a_file_that_changes_meanwhile():
    """Whatever is taken of it, the store has the bytes of the name that it gives them."""
    path = path_of("changing.img", bytes(8 << 20))
    stop, begun = threading.Event(), threading.Event()

    def scribble():
        with open(path, "r+b", buffering=0) as f:
            n = 0
            while not stop.is_set():
                n += 1
                f.seek(n * 4096 % (8 << 20))
                f.write(b"%08d" % n)
                begun.set()

    writer = threading.Thread(target=scribble)
    writer.start()
    begun.wait()
    try:
        contains(refused("bad_image", "image.import", image={"path": path})["message"], "changed while")
    finally:
        stop.set()
        writer.join()
    nothing_stays()
    row = host.call("image.import", image={"path": path})["image"]
    host.call("image.verify", image=row["digest"])
    clear()


def test_a_name_does_not_reach_the_terminal_raw():
    server.put("/%1b%5b31mred", header(features=4))
    path = path_of("a\x1b[31mred\nline.img", header(features=4))
    done = subprocess.run([VMCTL, "image", "import", path], env=host.env, capture_output=True,
                          check=False)
    check(done.returncode != 0, "it was taken")
    check(b"\x1b" not in done.stderr + done.stdout, done.stderr)
    error = refused("bad_image", "image.pull", image={
        "url": server.url("/%1b%5b31mred"), "insecure_http": True})
    check("\x1b" not in str(error), error)
    nothing_stays()


run(globals(), hosts=[host])
