# SPDX-License-Identifier: MPL-2.0
"""zoneadm and zlogin of the host in illumos.py."""

import os
import shutil
import signal
import time

from illumos import Fail, Usage, alive, escaped, options

USAGE = "usage:\tzoneadm [-z zonename|-u uuid-match] subcommand ..."
ORDER = ["configured", "incomplete", "installed", "ready", "mounted", "running", "shutting_down",
         "down"]
UP = ("ready", "mounted", "running", "shutting_down", "down")


def attributes(zone):
    return {r["props"]["name"]: r["props"]["value"] for r in zone["config"]["resources"]
            if r["type"] == "attr"}


class Zone:
    def __init__(self, world, state, name):
        self.world, self.state, self.name = world, state, name
        if name not in state["zones"]:
            raise Fail(f"zoneadm: zone '{name}': No such zone configured")
        self.row = state["zones"][name]
        self.path = self.row["config"]["props"].get("zonepath", "")

    def fail(self, text):
        raise Fail(f"zoneadm: zone '{self.name}': {text}")

    def kill(self):
        pid = self.row["pid"]
        if pid and alive(pid):
            os.killpg(pid, signal.SIGKILL)
            while alive(pid):
                time.sleep(0.002)
        self.row.update(pid=None)


def no_options(verb, argv, known=""):
    found, rest = options(argv, known, USAGE)
    if rest:
        raise Usage(f"zoneadm: {verb}: unexpected argument '{rest[0]}'\n{USAGE}")
    return found


def verify(zone):
    parent = os.path.dirname(zone.path)
    if not os.path.isdir(parent):
        zone.fail(f"could not verify zonepath {zone.path} because of the above errors.\n"
                  f"zoneadm: {parent}: No such file or directory")
    if os.path.exists(zone.path) and os.stat(zone.path).st_mode & 0o777 != 0o700:
        zone.fail(f"{zone.path} must not be group or world accessible.\n"
                  f"could not verify zonepath {zone.path} because of the above errors.")
    for resource in zone.row["config"]["resources"]:
        link = resource["props"].get("physical")
        if resource["type"] == "net" and link not in zone.state["links"]:
            zone.fail(f"could not verify net physical={link}: object not found")
        if resource["type"] == "fs" and not os.path.exists(resource["props"]["special"]):
            zone.fail(f"could not verify fs {resource['props']['dir']}: could not access "
                      f"{resource['props']['special']}: No such file or directory")


def do_verify(zone, argv, _):
    no_options("verify", argv)
    verify(zone)


def do_install(zone, argv, effect):
    no_options("install", argv, "nv")
    if zone.row["state"] != "configured":
        zone.fail(f"is already {zone.row['state']}.")
    verify(zone)
    os.makedirs(zone.path, 0o700, exist_ok=True)
    for folder in ("root", "root/var", "root/var/log", "root/etc"):
        os.makedirs(os.path.join(zone.path, folder), 0o755, exist_ok=True)
    zone.row["state"] = "installed" if effect is None else "incomplete"


def do_uninstall(zone, argv, _):
    if "F" not in no_options("uninstall", argv, "F"):
        zone.fail("Input not from terminal and -F not specified: uninstall command ignored.")
    if zone.row["state"] == "configured":
        zone.fail("must be installed before uninstall.")
    if zone.row["state"] in UP:
        zone.fail(f"is already {zone.row['state']}.")
    shutil.rmtree(zone.path, ignore_errors=True)
    zone.row["state"] = "configured"


def do_boot(zone, argv, effect):
    no_options("boot", argv, "swi")
    if zone.row["state"] in UP:
        zone.fail(f"is already {zone.row['state']}.")
    if zone.row["state"] != "installed":
        zone.fail("must be installed before boot.")
    from illumos_net import zone_of
    for resource in zone.row["config"]["resources"]:
        link = resource["props"].get("physical")
        if resource["type"] != "net":
            continue
        if link not in zone.state["links"]:
            zone.fail(f"failed to add network device '{link}': object not found\n"
                      f"zoneadm: zone '{zone.name}': call to zoneadmd failed")
        if zone_of(zone.state, link):
            zone.fail(f"data-link '{link}' is in use by zone '{zone_of(zone.state, link)}'\n"
                      f"zoneadm: zone '{zone.name}': call to zoneadmd failed")
    verify(zone)
    pid = first_process(zone, "it can not go on" if effect == "dead" else None)
    zone.row.update(state="running", pid=pid, id=zone.state["next_zone_id"])
    zone.state["next_zone_id"] += 1


def bracketed(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def first_process(zone, problem):
    """What the brand's init is given and does: it is the server, or ends at once."""
    about = attributes(zone.row)
    address = about.get("vmm-address", "none").split("/")[0]
    log = os.path.join(zone.path, "root/var/log/vmm.log")
    try:
        argv = [about["vmm-server"], "run", about["vmm-bootrom"],
                bracketed(address, about["vmm-port"]), bracketed(address, about["vmm-vnc"])]
        problem = "the zone has no address" if address == "none" else problem
        links = [r["props"].get("physical") for r in zone.row["config"]["resources"]]
        if about["vmm-link"] not in links:
            problem = f"no link {about['vmm-link']} in this zone"
    except KeyError as e:
        problem, argv = f"the zone has no attribute {e.args[0]}", None
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, target)
        os.closerange(3, 256)
        if problem is None:
            os.chdir("/")
            os.execve(argv[0], argv, dict(os.environ, VMM_FAKE_DIR=zone.world.dir,
                                          VMM_FAKE_ZONE=zone.name))
    except OSError as e:
        problem = f"{argv[0]}: {e.strerror}"
    finally:
        os.write(2, f"init: {problem}\n".encode())
        os._exit(1)


def do_halt(zone, argv, effect):
    no_options("halt", argv, "X")
    if zone.row["state"] not in UP:
        zone.fail("must be running before halt.")
    zone.kill()
    zone.row.update(state="shutting_down" if effect == "stuck" else "installed")
    if effect != "stuck":
        zone.row.update(id=None)


def do_shutdown(zone, argv, effect):
    no_options("shutdown", argv, "r")
    if zone.row["state"] != "running":
        zone.fail("must be running before shutdown.")
    do_halt(zone, [], effect)


def zone_line(name, row, parsable):
    fields = ["-" if row["id"] is None else row["id"], name, row["state"],
              row["config"]["props"].get("zonepath", ""), row["uuid"],
              row["config"]["props"].get("brand", ""),
              {"exclusive": "excl"}.get(row["config"]["props"].get("ip-type"), "shared")]
    if parsable:
        return escaped(fields)
    return "{:>4} {:<16} {:<10} {:<30} {:<8} {:<6}\n".format(*fields[:4], *fields[5:])


GLOBAL = {"id": 0, "state": "running", "uuid": "",
          "config": {"props": {"zonepath": "/", "brand": "ipkg", "ip-type": "shared"}}}


def list_zones(state, argv, name):
    found, rest = options(argv, "icnpv", USAGE)
    if rest or {"p", "v"} <= set(found):
        raise Usage(f"zoneadm: list: -p and -v exclude each other, nothing else is taken\n{USAGE}")
    zones = {"global": GLOBAL, **state["zones"]}
    if name is not None:
        if name not in zones:
            raise Fail(f"zoneadm: zone '{name}': No such zone configured")
        rows = [(name, zones[name])]
    else:
        least = 0 if "c" in found else ORDER.index("installed") if "i" in found else \
            ORDER.index("ready")
        rows = [(n, z) for n, z in zones.items() if ORDER.index(z["state"]) >= least]
    if "p" not in found and "v" not in found:
        return "".join(n + "\n" for n, _ in rows)
    head = "" if "p" in found else "  ID NAME             STATUS     PATH     BRAND    IP\n"
    return head + "".join(zone_line(n, z, "p" in found) for n, z in rows)


VERBS = {"install": do_install, "uninstall": do_uninstall, "boot": do_boot, "halt": do_halt,
         "shutdown": do_shutdown, "verify": do_verify}


def zoneadm(world, argv, effect=None, **_):
    found, rest = options(argv, "z:u:R:", USAGE)
    if not rest or rest[0] not in (*VERBS, "list"):
        raise Usage((f"zoneadm: unknown subcommand '{rest[0]}'\n" if rest else "") + USAGE)
    name = found.get("z", [None])[0]
    with world as state:
        if "u" in found:
            name = next((n for n, z in state["zones"].items() if z["uuid"] == found["u"][0]), "?")
        if rest[0] == "list":
            return list_zones(state, rest[1:], name)
        if name is None:
            raise Usage(f"zoneadm: {rest[0]}: a zone must be named\n{USAGE}")
        if name == "global":
            raise Fail(f"zoneadm: {rest[0]} operation is invalid for the global zone.")
        VERBS[rest[0]](Zone(world, state, name), rest[1:], effect)


def zlogin(world, argv, **_):
    usage = "usage: zlogin [ -dnQCES ] [ -e cmdchar ] [-l user] zonename [command [args ...] ]"
    found, rest = options(argv, "dnQCESe:l:", usage)
    if not rest:
        raise Usage(usage)
    state = world.read()
    if rest[0] not in state["zones"]:
        raise Fail(f"zlogin: {rest[0]}: No such zone configured")
    zone = state["zones"][rest[0]]
    if zone["state"] != "running":
        raise Fail("zlogin: login allowed only to running zones "
                   f"({rest[0]} is '{zone['state']}').")
    if rest[1:3] == ["ipadm", "show-addr"]:  # the zone's addresses, never its guest's
        return "127.0.0.1/8\n" + attributes(zone).get("vmm-address", "") + "\n"
    raise Fail(f"{rest[1] if rest[1:] else 'login'}: not found", 127)
