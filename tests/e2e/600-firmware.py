#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What machines start by: BIOS, UEFI, secure boot, a TPM, a kernel, a CD-ROM, another architecture.

The guests are real.  Firmware is Debian's (ovmf, qemu-efi-aarch64), the kernel for aarch64 is that
of the installer (debian-installer-12-netboot-arm64).
"""

import json
import os
import shutil
import stat
import struct
import subprocess
import zlib

from harness import (VMCTL, Failure, Host, RpcError, check, contains, equal, guest_image,
                     process_exists, run, wait_until)

host = Host().start()
IMAGE = guest_image()
ARM = "/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64"
OVMF = "/usr/share/OVMF"


def folder_of(name):
    return host.vm(name)["work_dir"]


def inside(name, command, status=0):
    return host.vmctl("exec", name, "--", "sh", "-c", command, status=status).stdout


def end_hard(name):
    """What the guest wrote is on its disk: cloud-init's word on the network may be seconds old."""
    inside(name, "sync")
    host.vmctl("stop", "--force", name)


def refused(error, method, /, **params):
    try:
        host.call(method, **params)
    except RpcError as e:
        equal(e.name, error, str(e))
        return str(e) + " / " + e.error.get("data", {}).get("hint", "")
    raise Failure(f"{method} was taken")


def console_says(name, words, seconds=240):
    path = os.path.join(folder_of(name), "console.log")

    def read():
        with open(path, "rb") as f:
            return words.encode() in f.read()

    wait_until(f"{words!r} on the console of {name}", read, seconds)


def up(name, more):
    folder = host.project(
        f"vms:\n  {name}:\n    image: {IMAGE}\n    memory: 640MiB\n    cloud-init: {{}}\n{more}",
        f"project-{name}")
    host.vmctl("up", cwd=folder)
    return folder


def disk_image(path, mib=16):
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    return path


def png(data):
    """Width, height and the distinct bytes of the pixels: what a broken picture does not have."""
    equal(data[:8], b"\x89PNG\r\n\x1a\n")
    at, pixels, size = 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            pixels += body
        at += 12 + length
    return size, set(zlib.decompress(pixels))


# -- SeaBIOS, and the screen --

def test_g29_bios_by_default_and_its_screen():
    up("plain", "    display: vnc\n")
    equal(inside("plain", "test -d /sys/firmware/efi && echo uefi || echo bios").strip(), "bios")
    row = host.vm("plain")
    equal(row["firmware"], {"type": "bios", "secure_boot": False, "tpm": False})
    equal(row["arch"], os.uname().machine)
    check(stat.S_ISSOCK(os.stat(row["vnc"]).st_mode), row["vnc"])
    equal(stat.S_IMODE(os.stat(os.path.dirname(row["vnc"])).st_mode), 0o700)
    picture = os.path.join(host.dir, "screen.png")
    host.vmctl("screenshot", "plain", picture)
    with open(picture, "rb") as f:
        data = f.read()
    (width, height), shades = png(data)
    check(width >= 640 and height >= 400 and len(data) > 500, width, height, len(data))
    check(len(shades) > 1, "something is on it")
    again = host.vmctl("screenshot", "plain", "-", text=False).stdout
    equal(png(again)[0], (width, height))
    equal(os.path.getsize(os.path.join(row["work_dir"], "screen.png")), 0, "nothing is kept")


def test_screenshot_says_what_is_missing():
    end_hard("plain")
    contains(refused("wrong_state", "vm.screenshot", name="plain"), "its screen is off")
    folder = host.project(f"vms: {{plain: {{image: {IMAGE}, memory: 640MiB, cloud-init: {{}}}}}}",
                          "project-plain")
    contains(host.vmctl("plan", cwd=folder, status=10).stdout, "display")
    host.vmctl("up", "--no-provision", cwd=folder)
    contains(refused("wrong_state", "vm.screenshot", name="plain"), "display: vnc")
    check("vnc" not in host.vm("plain"), "no screen")
    host.vmctl("destroy", "--force", "plain")


# -- UEFI --

def test_g33_r23_uefi_by_one_descriptor():
    folder = up("efi", "    firmware: uefi\n")
    equal(inside("efi", "test -d /sys/firmware/efi && echo uefi || echo bios").strip(), "uefi")
    work = folder_of("efi")
    with open(os.path.join(work, "firmware.json")) as f:
        kept = json.load(f)
    with open(kept["descriptor"]) as f:
        mapping = json.load(f)["mapping"]
    equal(kept["code"], mapping["executable"]["filename"])
    vars_path = os.path.join(work, "efivars.fd")
    equal(os.path.getsize(vars_path), os.path.getsize(mapping["nvram-template"]["filename"]))
    equal(stat.S_IMODE(os.stat(vars_path).st_mode), 0o600)
    # The variables are the machine's: what is written in one life is there in the next.
    inside("efi", "printf '\\7\\0\\0\\0mine' | sudo tee /sys/firmware/efi/efivars/"
                  "Mine-12345678-1234-1234-1234-123456789abc > /dev/null")
    host.vmctl("stop", "efi")
    host.restart()
    host.vmctl("start", "efi")
    host.vmctl("wait", "efi")
    contains(inside("efi", "sudo cat /sys/firmware/efi/efivars/"
                           "Mine-12345678-1234-1234-1234-123456789abc"), "mine")
    equal(host.vm("efi")["firmware"]["type"], "uefi", "the flag survives a restart")
    end_hard("efi")
    host.vmctl("reload", "--no-provision", cwd=folder)
    check("Mine" not in inside_when_ready("efi", "ls /sys/firmware/efi/efivars"), "made anew")
    host.vmctl("destroy", "--force", "efi")
    check(not os.path.exists(work), "nothing is left")


def inside_when_ready(name, command):
    host.vmctl("wait", name)
    return inside(name, command)


def test_g33_missing_firmware_is_told_and_never_a_bios():
    hidden = os.path.join(host.env["XDG_CONFIG_HOME"], "qemu", "firmware")
    os.makedirs(hidden)
    for name in os.listdir("/usr/share/qemu/firmware"):
        open(os.path.join(hidden, name), "w").close()
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    for more, package in (({"firmware": "uefi"}, "ovmf"),
                          ({"firmware": {"type": "uefi", "secure_boot": True}}, "ovmf"),
                          ({"arch": "aarch64"}, "qemu-efi-aarch64")):
        said = refused("unsupported", "vm.create", name="x", image=image, **more)
        contains(said, f"'{package}'")
    done = host.vmctl("create", "x", "--image", image, "--uefi", status=1)
    contains(done.stderr, "ovmf")
    equal(host.names(), [])
    shutil.rmtree(hidden)


def test_r23_the_choice_is_kept_when_the_package_changes():
    mine = os.path.join(host.env["XDG_CONFIG_HOME"], "qemu", "firmware")
    os.makedirs(mine)
    code, template = (os.path.join(host.dir, n) for n in ("CODE.fd", "VARS, 'own'.fd"))
    shutil.copy(f"{OVMF}/OVMF_CODE_4M.fd", code)
    shutil.copy(f"{OVMF}/OVMF_VARS_4M.fd", template)
    descriptor = os.path.join(mine, "10-mine.json")
    with open(descriptor, "w") as f:
        json.dump({"interface-types": ["uefi"], "features": [],
                   "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
                   "mapping": {"device": "flash",
                               "executable": {"filename": code, "format": "raw"},
                               "nvram-template": {"filename": template, "format": "raw"}}}, f)
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    host.call("vm.create", name="kept", image=image, firmware="uefi", memory=128)
    os.unlink(descriptor)
    os.unlink(template)
    equal(host.call("vm.start", name="kept")["state"], "running")
    host.call("vm.stop", name="kept", force=True)
    os.unlink(code)
    try:
        host.call("vm.start", name="kept")
        raise Failure("it started by another firmware")
    except RpcError as e:
        contains(str(e), code)
        contains(e.error["data"]["hint"], "'ovmf'")
    host.call("vm.destroy", name="kept")
    shutil.rmtree(mine)


# -- secure boot and the TPM --

def tpm_pid(name):
    with open(os.path.join(folder_of(name), "tpm.json")) as f:
        return json.load(f)["pid"]


def test_secure_boot_is_on_and_there_is_a_tpm():
    up("safe", "    firmware: {type: uefi, secure-boot: true, tpm: true}\n")
    state = inside("safe", "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*").split()
    equal(state[-1], "1", "the guest says that secure boot is on")
    contains(inside("safe", "ls -l /dev/tpm0"), "tpm0")
    equal(len(inside("safe", "cat /sys/class/tpm/tpm0/pcr-sha256/0").strip()), 64)
    contains(host.vmctl("status", "safe").stdout, "uefi, secure boot, TPM")
    equal(host.vm("safe")["firmware"], {"type": "uefi", "secure_boot": True, "tpm": True})


def test_kill_9_of_the_daemon_adopts_the_tpm():
    pid, qemu = tpm_pid("safe"), host.vm("safe")["pid"]
    host.kill()
    check(process_exists(pid) and process_exists(qemu), "both live on")
    host.start()
    wait_until("the machine to be adopted", lambda: host.vm("safe")["state"] == "running")
    equal((host.vm("safe")["pid"], tpm_pid("safe")), (qemu, pid))
    equal(len(inside_when_ready("safe", "cat /sys/class/tpm/tpm0/pcr-sha256/0").strip()), 64)


def notices_of(name, act):
    connection = host.rpc()
    connection.call("event.subscribe")
    act()
    while True:
        params = connection.line()["params"]
        if params["kind"] == "notice" and params["vm"] == name:
            connection.close()
            return params["data"]["message"]


def test_the_end_of_a_tpm_is_told_and_the_machine_goes_on():
    pid = tpm_pid("safe")
    contains(notices_of("safe", lambda: os.kill(pid, 9)), "TPM's process ended")
    wait_until("its end", lambda: not process_exists(pid))
    equal(inside("safe", "echo here").strip(), "here")
    equal(host.vm("safe")["state"], "running")


def test_a_tpm_ends_with_its_machine_and_keeps_its_state():
    host.vmctl("stop", "--force", "safe")
    state = os.path.join(folder_of("safe"), "tpm", "tpm2-00.permall")
    check(os.path.getsize(state) > 0, "its state is the machine's")
    for _ in range(3):
        host.vmctl("start", "safe")
        pid, qemu = tpm_pid("safe"), host.vm("safe")["pid"]
        os.kill(qemu, 9)
        wait_until("the TPM to end with it", lambda: not process_exists(pid))
        wait_until("its end to be known", lambda: host.vm("safe")["state"] == "failed")
    host.vmctl("start", "safe")
    pid = tpm_pid("safe")
    # A daemon that is gone ends nothing; a machine that ends meanwhile takes its TPM along.
    qemu = host.vm("safe")["pid"]
    host.kill()
    os.kill(qemu, 9)
    wait_until("the TPM to end without a daemon", lambda: not process_exists(pid))
    host.start()
    work = folder_of("safe")
    host.vmctl("destroy", "--force", "safe")
    check(not os.path.exists(work), "nothing is left")


def test_without_swtpm_the_package_is_named():
    programs = os.path.join(host.dir, "programs")
    os.makedirs(programs)
    for name in ("qemu-img", "qemu-system-x86_64"):
        os.symlink(shutil.which(name), os.path.join(programs, name))
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    host.stop()
    host.start(env={"PATH": programs})
    said = refused("unsupported", "vm.create", name="x", image=image, firmware={"tpm": True})
    contains(said, "'swtpm'")
    # G-34: so is the emulator of an architecture
    said = refused("unsupported", "vm.create", name="x", image=image, arch="aarch64")
    contains(said, "'qemu-system-arm'")
    host.stop()
    host.start()


# -- another architecture, kernels, CD-ROMs --

def test_g34_aarch64_starts_a_kernel_directly():
    done = host.vmctl("create", "arm", "--arch", "aarch64", "--kernel", f"{ARM}/linux", "--initrd",
                      f"{ARM}/initrd.gz", "--cmdline", "console=ttyAMA0 panic=-1 'a, b'", "--disk",
                      "1GiB", "--memory", "512", "--network", "none", "--start")
    contains(done.stdout, "started")
    equal(host.vm("arm")["firmware"]["type"], "none")
    console_says("arm", "Linux version")
    console_says("arm", "Kernel command line: console=ttyAMA0 panic=-1 'a, b'")
    row = host.vm("arm")
    equal((row["arch"], row["accel"], row["machine_type"]), ("aarch64", "tcg", "virt-7.2"))


def test_g34_aarch64_console_takes_input_and_lives_on():
    """The installer's menu answers keys; a daemon that was killed comes back to the same."""
    console_says("arm", "Debian")
    pid = host.vm("arm")["pid"]
    host.kill()
    host.start()
    wait_until("the machine to be adopted", lambda: host.vm("arm")["state"] == "running")
    equal(host.vm("arm")["pid"], pid)
    log = os.path.join(folder_of("arm"), "console.log")
    wait_until("the installer's first question",
               lambda: b"language" in open(log, "rb").read(), 300)
    before = os.path.getsize(log)
    client = subprocess.Popen([VMCTL, "console", "arm"], env=host.env, stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client.stdin.write(b"\t")
        client.stdin.flush()
        wait_until("an answer on the console", lambda: os.path.getsize(log) > before, 60)
    finally:
        client.kill()
        client.wait()
    host.vmctl("destroy", "--force", "arm")


def test_g34_aarch64_starts_a_kernel_by_uefi():
    folder = host.project(f"""vms:
  arm:
    arch: aarch64
    firmware: uefi
    disk: 1GiB
    memory: 512MiB
    network: none
    boot: {{kernel: {ARM}/linux, cmdline: "console=ttyAMA0"}}
""", "project-arm")
    host.vmctl("up", "--no-provision", cwd=folder)
    console_says("arm", "UEFI firmware")
    console_says("arm", "EFI v2")
    equal(host.json("plan", cwd=folder, status=None)["vms"][0]["action"], "none")
    host.vmctl("down", "--destroy", cwd=folder)


def efi_image(path):
    """A file system with the installer's GRUB where every UEFI looks, as CDs and sticks have it."""
    with open(path, "wb") as f:
        f.truncate(120 << 20)
    config = os.path.join(host.dir, "grub.cfg")
    with open(config, "w") as f:
        f.write("echo GRUB is here\nlinux /linux console=ttyAMA0 by=cdrom\n"
                "initrd /initrd.gz\nboot\n")
    for args in (["mkfs.vfat", "-F", "32", path], ["mmd", "-i", path, "::/EFI", "::/EFI/BOOT",
                 "::/debian-installer", "::/debian-installer/arm64",
                 "::/debian-installer/arm64/grub", "::/boot", "::/boot/grub"],
                 ["mcopy", "-i", path, f"{ARM}/grubaa64.efi", "::/EFI/BOOT/BOOTAA64.EFI"],
                 ["mcopy", "-i", path, f"{ARM}/linux", f"{ARM}/initrd.gz", "::/"],
                 ["mcopy", "-i", path, config, "::/debian-installer/arm64/grub/grub.cfg"],
                 ["mcopy", "-i", path, config, "::/boot/grub/grub.cfg"],
                 ["mcopy", "-i", path, config, "::/EFI/BOOT/grub.cfg"]):
        subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
    return path


def test_cdrom_of_an_installer_starts():
    image = efi_image(os.path.join(host.dir, "installer.img"))
    host.vmctl("create", "cd", "--arch", "aarch64", "--cdrom", image, "--disk", "1GiB", "--memory",
               "512", "--network", "none", "--start")
    console_says("cd", "UEFI firmware")
    console_says("cd", "by=cdrom")
    with open(image, "rb") as f:
        before = f.read(1 << 20)
    images = host.call("image.list")["images"]
    used = [i for i in images if i["used_by"] == ["cd"]]
    equal(len(used), 1, "it is in the store, and used")
    try:
        host.call("image.rm", image=used[0]["digest"])
        raise Failure("an image in a drive was removed")
    except RpcError:
        pass
    host.vmctl("destroy", "--force", "cd")
    with open(used[0]["path"], "rb") as f:
        equal(f.read(1 << 20), before, "it was not written to")


def test_what_can_not_be_is_refused_before_anything_is_made():
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    before, names = sorted(os.listdir(os.path.join(host.data, "vms"))), host.names()
    for error, more, words in (
            ("unsupported", {"arch": "aarch64", "firmware": "bios"}, "firmware bios"),
            ("unsupported", {"firmware": "none", "boot": {"kernel": {"data": "aGk="}}},
             "firmware none"),
            ("invalid_params", {"firmware": "none"}, "kernel"),
            ("invalid_params", {"firmware": {"type": "bios", "secure_boot": True}}, "uefi"),
            ("invalid_params", {"boot": {"cmdline": "quiet"}}, "boot.kernel"),
            ("invalid_params", {"arch": "riscv64"}, "riscv64"),
            ("invalid_params", {"display": "spice"}, "spice")):
        contains(refused(error, "vm.create", name="x", image=image, **more), words)
    for more in ({"firmware": {"tpm": True}}, {"arch": "x86_64"}, {"display": "vnc"},
                 {"boot": {"kernel": {"data": "aGk="}}}, {"cdrom": image},
                 {"firmware": {"secure_boot": True}}):
        refused("unsupported", "vm.create", name="x", backend="noop", **more)
    contains(refused("invalid_params", "vm.create", name="x", cdrom=image), "disk")
    contains(refused("not_found", "vm.create", name="x", image="debian:1", arch="aarch64"),
             "debian")
    equal(sorted(os.listdir(os.path.join(host.data, "vms"))), before)
    equal(host.names(), names)


def test_g34_images_of_another_architecture_are_refused():
    entries = host.call("image.catalogue")["entries"]
    other = next(e for e in entries if e["architecture"] == "arm64")
    said = refused("invalid_params", "vm.create", name="x", image=other["url"], arch="x86_64")
    contains(said, "arm64")


def test_r24_screens_of_machines_started_together_are_their_own():
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    names = [f"s{i}" for i in range(4)]
    before = os.listdir(os.path.join(host.runtime, "vm"))
    for name in names:
        host.call("vm.create", name=name, image=image, memory=64, display="vnc", network="none")
    connection = host.rpc(120)
    started = [connection.begin("vm.start", name=name) for name in names]
    rows = [connection.answer(i) for i in started]
    connection.close()
    equal(len({row["vnc"] for row in rows}), len(names))
    for row in rows:
        check(stat.S_ISSOCK(os.stat(row["vnc"]).st_mode), row["vnc"])
    for name in names:
        host.call("vm.destroy", name=name, force=True)
    equal(os.listdir(os.path.join(host.runtime, "vm")), before)


def test_g35_macs_are_distinct():
    image = disk_image(os.path.join(host.dir, "disk.raw"))
    rows = [host.call("vm.create", name=f"m{i}", image=image, memory=64) for i in range(24)]
    macs = {row["mac"] for row in rows}
    equal(len(macs), len(rows))
    host.restart()
    equal({host.vm(row["name"])["mac"] for row in rows}, macs, "and stay")
    for row in rows:
        first = int(row["mac"][:2], 16)
        check(first & 3 == 2, f"{row['mac']} is of one station, and locally administered")
        host.call("vm.destroy", name=row["name"])


run(globals(), [host])
