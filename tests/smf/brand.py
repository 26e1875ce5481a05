#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The hooks of the zone brand and the zone's init, by the shells that illumos and others have.

    brand.py SOURCE_TOP SHELL...

Each runs as zoneadmd runs it, with no environment, on a zonepath of its own; zonecfg, zfs,
ifconfig, ipmgmtd and propolis-server are scripts that write down how they were called.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

from tap import Cases

ZONE = "vmm-0123456789ab"
SERVER = "/opt/oxide/propolis-server/bin/propolis-server"
ROM = "/opt/oxide/propolis-server/blob/OVMF_CODE.fd"
HOOKS = ["install", "boot", "halt", "uninstall"]
# What a file or a variable may be called and a shell must not do.
HOSTILE = ["it's", 'say "no"', "$(touch pwned)", "`touch pwned`", "a; touch pwned", "a b  c",
           "'; touch pwned; '", "\\", "*", "~root", "$HOME", "a&&touch pwned", "#", "'\"'\"'"]


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def tree(folder):
    """What is below a folder: names, modes and contents."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            content = os.readlink(path) if stat.S_ISLNK(mode) else \
                read(path) if stat.S_ISREG(mode) else None
            found[os.path.relpath(path, folder)] = (oct(mode), content)
    return found


class Host:
    """A folder with the brand, its stubs, and a place for zonepaths."""

    def __init__(self, top, shell):
        self.shell = shell
        self.folder = tempfile.mkdtemp(prefix="vmm-brand-")
        self.brand = os.path.join(self.folder, "brand")
        self.stubs = os.path.join(self.folder, "stubs")
        self.zonepath = os.path.join(self.folder, "zones", ZONE)
        self.root = os.path.join(self.zonepath, "root")
        self.conf = os.path.join(self.root, "etc", "vmm.conf")
        self.log = os.path.join(self.root, "var", "log", "vmm.log")
        self.calls = os.path.join(self.folder, "calls")
        self.outside = os.path.join(self.folder, "outside")
        shutil.copytree(os.path.join(top, "smf", "brand", "vmm"), self.brand)
        os.mkdir(os.path.dirname(self.zonepath))
        os.mkdir(self.stubs)
        write(self.outside + "/precious", "not yours\n")
        self.before = tree(self.outside)
        self.mounts("")
        for name in ("common", "init"):
            self.replace(name, "PATH=/usr/sbin:/usr/bin:/sbin",
                         f"PATH={self.stubs}:/usr/sbin:/usr/bin:/sbin:/bin")
        self.replace("common", "mnttab=/etc/mnttab", f"mnttab={self.folder}/mnttab")
        self.replace("init", "root=\n", f"root={self.root}\n")
        self.replace("shutdown", "run=/var/run", f"run={self.root}/var/run")

    def replace(self, name, old, new):
        path = os.path.join(self.brand, name)
        text = read(path)
        assert text.count(old) == 1, (name, old)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))

    def stub(self, name, body, path=None):
        path = path or os.path.join(self.stubs, name)
        write(path, '#!/bin/sh\n{ printf "%s" "' + name + '"; for a; do printf " <%s>" "$a"; done; '
              f"echo; }} >>'{self.calls}'\n{body}\n", 0o755)

    def called(self):
        return read(self.calls).splitlines() if os.path.exists(self.calls) else []

    def mounts(self, *points):
        write(self.folder + "/mnttab", "".join(f"swap\t{p}\ttmpfs\trw\t1\n" for p in points if p))

    def run(self, hook, *args, command=None):
        command = command or [self.shell, os.path.join(self.brand, hook), *args]
        return subprocess.run(command, env={}, cwd=self.folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                              errors="replace", timeout=60)

    def good(self, hook, zonepath=None):
        done = self.run(hook, ZONE, zonepath or self.zonepath)
        assert (done.returncode, done.stdout) == (0, ""), (hook, done)

    def bad(self, hook, words, zonepath=None, status=1):
        done = self.run(hook, ZONE, zonepath or self.zonepath)
        assert done.returncode == status, done
        assert re.fullmatch(rf"vmm brand: {hook} of zone {ZONE}: .*\n", done.stdout, re.S), done
        assert words in done.stdout, (words, done.stdout)

    def attributes(self, **changes):
        """A zonecfg that shows them as the real one does."""
        values = {"vmm-machine": "11111111-2222-4333-8444-555555555555",
                  "vmm-address": "fd76:6d6d::5/64", "vmm-port": "12400", "vmm-link": "vm0_c0",
                  "vmm-server": SERVER, "vmm-bootrom": ROM, "vmm-vnc": "5900"}
        values.update({"vmm-" + name: value for name, value in changes.items()})
        text = "".join(f'attr:\n\tname: {name}\n\ttype: string\n\tvalue: "{value}"\n'
                       for name, value in values.items() if value is not None)
        write(self.folder + "/attributes", text)
        self.stub("zonecfg", f"cat '{self.folder}/attributes'")
        for path in (values["vmm-server"], values["vmm-bootrom"]):
            if path and path.startswith("/") and "\n" not in path:
                write(self.root + path, "")

    def done(self):
        assert tree(self.outside) == self.before, "what is outside was touched"
        for where, _, files in os.walk(self.folder):
            assert "pwned" not in files, f"executed: {where}/pwned"
        shutil.rmtree(self.folder)


def conf_of(host):
    """What a shell makes of the written file."""
    script = f'. "$1"; for v in "$VMM_ZONE" "$VMM_ADDRESS" "$VMM_PORT" "$VMM_LINK" "$VMM_SERVER" ' \
             '"$VMM_BOOTROM" "$VMM_VNC"; do printf "%s\\0" "$v"; done'
    done = subprocess.run([host.shell, "-c", script, "sh", host.conf], cwd=host.folder, env={},
                          stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return done.stdout.split("\0")[:-1]


# ---- install ----

def install__nothing_there__zonepath_is_roots_alone(host):
    host.good("install")
    assert stat.S_IMODE(os.stat(host.zonepath).st_mode) == 0o700
    for name in ("root", "root/dev", "root/etc/svc/volatile", "root/usr", "root/lib", "root/sbin",
                 "root/proc", "root/system/contract", "root/system/object", "root/var/run"):
        assert stat.S_IMODE(os.lstat(os.path.join(host.zonepath, name)).st_mode) == 0o755, name
    assert stat.S_IMODE(os.stat(host.root + "/tmp").st_mode) == 0o1777
    assert os.path.isfile(host.root + "/etc/mnttab")
    assert os.readlink(host.root + "/bin") == "usr/bin"
    assert "auths=solaris.*" in read(host.root + "/etc/user_attr")
    assert "netadm:x:16:65:" in read(host.root + "/etc/passwd")
    if os.geteuid() == 0:
        assert os.stat(host.root + "/etc/ipadm").st_uid == 16


def install__every_mount_of_the_platform__has_its_place(host):
    host.good("install")
    text = read(os.path.join(host.brand, "platform.xml"))
    for place in re.findall(r'<(?:global_)?mount [^>]*directory="([^"]*)"', text):
        assert os.path.exists(host.root + place), place


def install__twice__same(host):
    host.good("install")
    first = tree(host.zonepath)
    write(host.root + "/etc/passwd", "kept\n")
    host.good("install")
    assert read(host.root + "/etc/passwd") == "kept\n"
    assert set(tree(host.zonepath)) == set(first)


def install__options_of_zoneadm__are_no_matter(host):
    done = host.run("install", ZONE, host.zonepath, "-x", "nodataset")
    assert (done.returncode, done.stdout) == (0, ""), done


def install__dataset_made_by_zoneadm__gets_its_mode(host):
    os.mkdir(host.zonepath, 0o755)
    host.good("install")
    assert stat.S_IMODE(os.stat(host.zonepath).st_mode) == 0o700


def install__root_is_a_link__refused(host):
    os.mkdir(host.zonepath)
    os.symlink(host.outside, host.root)
    host.bad("install", "is a link", status=254)
    assert os.path.islink(host.root)


def install__folder_below_is_a_link__refused(host):
    os.makedirs(host.root)
    os.symlink(host.outside, host.root + "/etc")
    host.bad("install", "is a link", status=254)


def install__file_below_is_a_link__refused(host):
    os.makedirs(host.root + "/etc")
    os.symlink(host.outside + "/precious", host.root + "/etc/passwd")
    host.bad("install", "is not a file", status=254)


def install__fails_midway__nothing_is_left(host):
    host.stub("mkdir", 'case $3 in */var/log) echo "no space" >&2; exit 1 ;; esac\n'
                       '/bin/mkdir "$@"')
    done = host.run("install", ZONE, host.zonepath)
    assert done.returncode == 254 and "no space" in done.stdout, done
    assert not os.path.lexists(host.zonepath)
    os.mkdir(host.zonepath)
    assert host.run("install", ZONE, host.zonepath).returncode == 254
    assert os.listdir(host.zonepath) == []


def hooks__wrong_arguments__refused(host):
    for hook in HOOKS:
        for zone, path in (("", host.zonepath), ("a/b", host.zonepath), ("a b", host.zonepath),
                           (ZONE, ""), (ZONE, "zones/x"), (ZONE, "/"), (ZONE, "/zones/../etc"),
                           (ZONE, "/zones/.."), (ZONE, "//zones"), (ZONE, "/zones/x/")):
            done = host.run(hook, zone, path)
            assert done.returncode not in (0, 126, 127), (hook, zone, path, done)
            assert "vmm brand" in done.stdout, done


# ---- boot ----

def booted(host, **attributes):
    host.good("install")
    host.attributes(**attributes)
    host.good("boot")


def boot__as_configured__conf_has_it(host):
    booted(host)
    assert conf_of(host) == [ZONE, "fd76:6d6d::5/64", "12400", "vm0_c0", SERVER, ROM, "5900"]
    assert stat.S_IMODE(os.stat(host.conf).st_mode) == 0o600
    assert host.called() == [f"zonecfg <-z> <{ZONE}> <info> <attr>"]


def boot__twice_with_another_address__the_new_one(host):
    booted(host)
    host.attributes(address="10.7.0.9/16")
    host.good("boot")
    assert conf_of(host)[1] == "10.7.0.9/16"
    assert sorted(n for n in os.listdir(host.root + "/etc") if "vmm" in n) == ["vmm.conf"]


def boot__values_without_quotes__the_same(host):
    host.good("install")
    host.attributes()
    text = read(host.folder + "/attributes").replace('"', "").replace("\t", "    ")
    write(host.folder + "/attributes", text)
    host.good("boot")
    assert conf_of(host)[4] == SERVER


def boot__hostile_paths__quoted(host):
    host.good("install")
    for i, word in enumerate(HOSTILE):
        path = f"/opt/{i}/{word}"
        host.attributes(server=path, bootrom=path)
        host.good("boot")
        assert conf_of(host)[4:6] == [path, path], word


def boot__hostile_other_values__refused(host):
    host.good("install")
    for word in HOSTILE + ["", "none", "10.7.0.9", "/64", "10.7.0.9/", "1/2/3"]:
        host.attributes(address=word)
        host.bad("boot", "address")
    for word in HOSTILE + ["", "0net", "a-b"]:
        host.attributes(link=word)
        host.bad("boot", "vmm-link")
    for name in ("port", "vnc"):
        for word in HOSTILE + ["", "0", "65536", "-1", "012", "999999999999"]:
            host.attributes(**{name: word})
            host.bad("boot", f"vmm-{name}")
    for name in ("server", "bootrom"):
        for word in ("", "propolis-server", "/opt/../etc/passwd", "/opt/\x01"):
            host.attributes(**{name: word})
            host.bad("boot", f"vmm-{name}")
    assert not os.path.lexists(host.conf)


def boot__newline_smuggles_an_attribute__refused(host):
    host.good("install")
    for name in ("address", "port", "link", "server", "bootrom", "vnc"):
        host.attributes(machine=f"x\n\tname: vmm-{name}\n\tvalue: /tmp/evil")
        host.bad("boot", f"'vmm-{name}' is there twice")


def boot__no_address_yet__says_who_starts_machines(host):
    host.good("install")
    host.attributes(address="none")
    host.bad("boot", "vmctl start")


def boot__server_is_not_mounted__says_so(host):
    host.good("install")
    host.attributes()
    os.unlink(host.root + SERVER)
    host.bad("boot", "is its folder mounted there?")


def boot__zonecfg_fails__its_words(host):
    host.good("install")
    host.stub("zonecfg", "echo 'vmm-x: No such zone configured' >&2; exit 1")
    host.bad("boot", "No such zone configured")


def boot__etc_is_a_link__refused(host):
    host.good("install")
    host.attributes()
    shutil.rmtree(host.root + "/etc")
    os.symlink(host.outside, host.root + "/etc")
    host.bad("boot", "is not a folder")


def boot__conf_is_a_link__replaced(host):
    host.good("install")
    host.attributes()
    for target in (host.outside + "/precious", host.outside, "/nowhere"):
        if os.path.lexists(host.conf):
            os.unlink(host.conf)
        os.symlink(target, host.conf)
        host.good("boot")
        assert not os.path.islink(host.conf) and conf_of(host)[0] == ZONE


def boot__conf_is_a_folder__refused(host):
    host.good("install")
    host.attributes()
    os.mkdir(host.conf)
    done = host.run("boot", ZONE, host.zonepath)
    assert done.returncode == 1 and "can not remove the old" in done.stdout, done


# ---- halt, uninstall ----

def halt__after_a_boot__conf_is_gone(host):
    booted(host)
    host.good("halt")
    assert not os.path.exists(host.conf)
    host.good("halt")


def halt__zone_has_a_log__its_end_is_readable(host):
    booted(host)
    os.chmod(os.path.dirname(host.zonepath), 0o750)
    words = host.zonepath + ".log"
    for text in ("first\n", "x" * 9000 + "\nno such link\n"):
        write(host.log, text)
        host.good("halt")
        host.good("halt")
        assert read(words) == text[-4096:]
        assert stat.S_IMODE(os.stat(words).st_mode) == 0o640
        assert os.stat(words).st_gid == os.stat(os.path.dirname(host.zonepath)).st_gid
    host.attributes()
    host.good("boot")
    assert not os.path.exists(words), "what an earlier boot said is not what this one says"
    host.good("halt")
    host.good("uninstall")
    assert os.listdir(os.path.dirname(host.zonepath)) == []


def halt__log_is_a_link__not_followed(host):
    booted(host)
    for place in (host.log, os.path.dirname(host.log)):
        if os.path.isdir(place):
            shutil.rmtree(place)
        write(host.outside + "/vmm.log", "not yours\n")
        host.before = tree(host.outside)
        os.symlink(host.outside + ("/precious" if place == host.log else ""), place)
        host.good("halt")
        assert not os.path.lexists(host.zonepath + ".log")
        os.unlink(place)


def halt__nothing_was_booted__well(host):
    host.good("halt")
    host.good("install")
    host.good("halt")


def halt__links_and_folders_in_the_way__not_touched(host):
    host.good("install")
    os.mkdir(host.conf)
    host.good("halt")
    os.rmdir(host.conf)
    os.symlink(host.outside + "/precious", host.conf)
    host.good("halt")
    assert not os.path.lexists(host.conf)
    shutil.rmtree(host.root + "/etc")
    write(host.outside + "/vmm.conf", "somebody's\n")
    host.before = tree(host.outside)
    os.symlink(host.outside, host.root + "/etc")
    host.good("halt")


def uninstall__installed__nothing_is_left(host):
    booted(host)
    host.good("uninstall")
    assert not os.path.lexists(host.zonepath)
    host.good("uninstall")
    assert os.listdir(os.path.dirname(host.zonepath)) == []


def uninstall__forced_by_zoneadm__the_same(host):
    host.good("install")
    done = host.run("uninstall", ZONE, host.zonepath, "-F")
    assert (done.returncode, done.stdout) == (0, "")
    assert not os.path.lexists(host.zonepath)


def uninstall__links_inside__not_followed(host):
    host.good("install")
    os.symlink(host.outside, host.root + "/var/log/away")
    os.symlink(host.outside + "/precious", host.root + "/etc/away")
    host.good("uninstall")


def uninstall__root_is_a_link__the_link_goes(host):
    os.mkdir(host.zonepath)
    os.symlink(host.outside, host.root)
    host.good("uninstall")
    assert not os.path.lexists(host.zonepath)


def uninstall__zonepath_is_a_link__refused(host):
    os.symlink(host.outside, host.zonepath)
    host.bad("uninstall", "is a link")


def uninstall__something_is_mounted__refused(host):
    host.good("install")
    host.mounts("/", host.root + "/usr")
    before = tree(host.zonepath)
    host.bad("uninstall", f"still mounted: {host.root}/usr")
    host.mounts(host.zonepath + "/notes")
    host.bad("uninstall", "still mounted")
    assert tree(host.zonepath) == before
    os.unlink(host.folder + "/mnttab")
    host.bad("uninstall", "can not read")
    assert tree(host.zonepath) == before


def uninstall__neighbour_is_mounted__no_matter(host):
    host.good("install")
    host.mounts(host.zonepath + "0/root/usr", os.path.dirname(host.zonepath))
    host.good("uninstall")


def uninstall__others_files_in_the_zonepath__kept(host):
    host.good("install")
    write(host.zonepath + "/notes", "mine\n")
    done = host.run("uninstall", ZONE, host.zonepath)
    assert done.returncode == 1 and "has more in it" in done.stdout, done
    assert read(host.zonepath + "/notes") == "mine\n" and not os.path.exists(host.root)


def uninstall__zonepath_is_a_dataset__destroyed(host):
    host.good("install")
    host.mounts(host.zonepath)
    host.stub("zfs", 'case $1 in list) echo rpool/zones/x ;; destroy) '
                     f"rmdir '{host.zonepath}' ;; esac")
    host.good("uninstall")
    assert host.called() == [f"zfs <list> <-H> <-o> <name> <{host.zonepath}>",
                             "zfs <destroy> <rpool/zones/x>"]
    assert not os.path.lexists(host.zonepath)


def uninstall__dataset_is_busy__zfs_words(host):
    host.good("install")
    host.mounts(host.zonepath)
    host.stub("zfs", 'case $1 in list) echo rpool/zones/x ;; '
                     "*) echo 'has snapshots' >&2; exit 1 ;; esac")
    host.bad("uninstall", "'rpool/zones/x': has snapshots")


# ---- init ----

def init(host, closed=True):
    """Runs the zone's first process as the kernel does: no environment, no open files."""
    script = 'exec "$0" "$1" <&- >&- 2>&-' if closed else 'exec "$0" "$1"'
    return host.run("init", command=["/bin/sh", "-c", script, host.shell,
                                     os.path.join(host.brand, "init")])


def machine(host, **attributes):
    """A zone that is about to boot; its server says how it was called, and by whom."""
    booted(host, **attributes)
    host.stub("ifconfig", "")
    host.stub("ipmgmtd", f'printf "%s\\n" "$SMF_FMRI" >>"{host.calls}"',
              host.root + "/lib/inet/ipmgmtd")
    server = os.path.join(host.folder, "it's a server")
    host.stub("server", f'echo "I am $$"; exit "${{1##*[!0-9]}}7"', server)
    write(host.folder + "/rom.fd", "")
    with open(host.conf, "a", encoding="utf-8") as conf:
        quoted = server.replace("'", "'\\''")
        conf.write(f"VMM_SERVER='{quoted}'\nVMM_BOOTROM='{host.folder}/rom.fd'\n")
    os.unlink(host.calls)


def init__ipv6__plumbs_and_becomes_the_server(host):
    machine(host)
    done = init(host)
    assert done.returncode == 7, (done, read(host.log))
    assert host.called() == [
        "ipmgmtd", "svc:/network/ip-interface-management:default",
        "ifconfig <vm0_c0> <inet6> <plumb> <up>",
        "ifconfig <vm0_c0> <inet6> <addif> <fd76:6d6d::5/64> <up>",
        f"server <run> <{host.folder}/rom.fd> <[fd76:6d6d::5]:12400> <[fd76:6d6d::5]:5900>"]
    pid = read(host.root + "/var/run/vmm.pid").strip()
    assert f"I am {pid}\n" in read(host.log), read(host.log)


def init__ipv4__plumbs_and_becomes_the_server(host):
    machine(host, address="10.7.0.9/16")
    init(host)
    assert host.called()[2:] == [
        "ifconfig <vm0_c0> <inet> <plumb>", "ifconfig <vm0_c0> <inet> <10.7.0.9/16> <up>",
        f"server <run> <{host.folder}/rom.fd> <10.7.0.9:12400> <10.7.0.9:5900>"]


def init__second_boot__log_begins_anew(host):
    machine(host)
    init(host)
    first = read(host.log)
    init(host, closed=False)
    assert read(host.log + ".1") == first
    assert read(host.log).count("I am") == 1


def failing(host, words):
    done = init(host)
    assert done.returncode not in (0, 7), done
    assert words in read(host.log), (words, read(host.log))
    assert not any(line.startswith("server") for line in host.called())


def init__ipmgmtd_fails__told(host):
    machine(host)
    host.stub("ipmgmtd", "echo 'no door' >&2; exit 3", host.root + "/lib/inet/ipmgmtd")
    failing(host, "ipmgmtd did not start (status 3)")
    assert "no door" in read(host.log)


def init__ifconfig_fails__told(host):
    for verb in ("plumb", "addif"):
        machine(host)
        host.stub("ifconfig", f'case $3 in {verb}) echo "no such link" >&2; exit 1 ;; esac')
        failing(host, f"inet6 {verb}")
        assert "no such link" in read(host.log)


def init__no_conf__told(host):
    machine(host)
    os.unlink(host.conf)
    failing(host, "there is no /etc/vmm.conf")


def init__conf_is_cut__told(host):
    machine(host)
    write(host.conf, "VMM_ADDRESS='10.7.0.9/16'\n")
    failing(host, "is not complete")


def init__no_server__told(host):
    machine(host)
    os.chmod(os.path.join(host.folder, "it's a server"), 0o644)
    failing(host, "there is no program")


def init__no_boot_rom__told(host):
    machine(host)
    os.unlink(host.folder + "/rom.fd")
    failing(host, "there is no boot ROM")


def init__server_can_not_be_executed__told(host):
    machine(host)
    write(host.folder + "/it's a server", "#!/no/such/interpreter\n", 0o755)
    failing(host, "it's a server")


def shutdown__running__its_server_is_ended(host):
    machine(host)
    server = subprocess.Popen(["/bin/sleep", "60"])
    write(host.root + "/var/run/vmm.pid", f"{server.pid}\n")
    done = host.run("shutdown")
    assert (done.returncode, done.stdout) == (0, ""), done
    assert server.wait(20) == -15


def main():
    top, shells = sys.argv[1], sys.argv[2:]
    names = [name for name in globals() if re.fullmatch(r"[a-z]+(__\w+){2}", name)]
    cases = Cases()

    def one(name, shell):
        host = Host(top, shell)
        globals()[name](host)
        host.done()

    for shell in shells:
        for name in names:
            cases.run(f"{os.path.basename(shell)} {name}", one, name, shell)
    cases.end()


if __name__ == "__main__":
    main()
