# SPDX-License-Identifier: MPL-2.0
"""dladm, arp and ndp of the host in illumos.py."""

import json
import random
import re

from illumos import Fail, Usage, escaped, options

USAGE = "usage: dladm <subcommand> <args> ..."
# Letters first, a number without leading zeros last.
LINK = re.compile(r"[a-zA-Z](|[a-zA-Z0-9_]*[a-zA-Z_])(0|[1-9][0-9]*)")
FIELDS = {
    "show-vnic": ["link", "over", "speed", "macaddress", "macaddrtype", "vid", "zone"],
    "show-link": ["link", "class", "mtu", "state", "bridge", "over", "zone"],
    "show-phys": ["link", "media", "state", "speed", "duplex", "device"],
    "show-etherstub": ["link"],
}


def valid_link(name):
    return len(name) <= 31 and LINK.fullmatch(name) is not None


def mac_octets(text):
    parts = text.split(":")
    if len(parts) != 6 or not all(re.fullmatch("[0-9a-fA-F]{1,2}", p) for p in parts):
        return None
    octets = [int(p, 16) for p in parts]
    return None if octets[0] & 1 or not any(octets) else octets


def mac_text(octets):
    return ":".join(f"{o:x}" for o in octets)


def zone_of(state, link):
    """The running zone that has the link."""
    for name, zone in state["zones"].items():
        if zone["state"] in ("running", "ready", "shutting_down", "down"):
            if any(r["type"] == "net" and r["props"].get("physical") == link
                   for r in zone["config"]["resources"]):
                return name
    return None


def dladm(world, argv, **_):
    if not argv or argv[0] not in VERBS:
        raise Usage((f"dladm: unknown subcommand '{argv[0]}'\n" if argv else "") + USAGE)
    with world as state:
        return VERBS[argv[0]](state, argv[0], argv[1:])


def operand(verb, rest, what):
    if len(rest) != 1:
        raise Usage(f"dladm: {verb}: exactly one {what} is required\n{USAGE}")
    if not valid_link(rest[0]):
        raise Fail(f"dladm: invalid link name '{rest[0]}'")
    return rest[0]


def create_vnic(state, verb, argv):
    found, rest = options(argv, "tR:l:m:v:p:fn:r:V:A:", f"dladm: {USAGE}")
    name = operand(verb, rest, "VNIC name")
    if "l" not in found:
        raise Usage(f"dladm: link must be specified\n{USAGE}")
    over = found["l"][0]
    if over not in state["links"] or state["links"][over]["class"] == "vnic":
        raise Fail(f"dladm: invalid link name '{over}'")
    mac = found.get("m", ["auto"])[0]
    if mac in ("auto", "random"):
        kind, octets = "random", [2, 8, 0x20] + [random.randrange(256) for _ in range(3)]
    else:
        kind, octets = "fixed", mac_octets(mac)
        if octets is None:
            raise Fail(f"dladm: invalid MAC address '{mac}'")
    failed = f"dladm: vnic creation over {over} failed: "
    if name in state["links"]:
        raise Fail(failed + "object already exists")
    text = mac_text(octets)
    for link in state["links"].values():
        if link.get("mac") == text and over in (link.get("over"), name):
            raise Fail(failed + "MAC address reserved")
    state["links"][name] = {"class": "vnic", "over": over, "mac": text, "kind": kind,
                            "temporary": "t" in found}


def delete(state, verb, argv):
    kind = verb.split("-")[1]
    found, rest = options(argv, "tR:", f"dladm: {USAGE}")
    name = operand(verb, rest, "link name")
    if state["links"].get(name, {}).get("class") != kind:
        raise Fail(f"dladm: invalid link name '{name}'" if name not in state["links"] else
                   f"dladm: {kind} deletion failed: invalid argument")
    if zone_of(state, name) or any(link.get("over") == name for link in state["links"].values()):
        raise Fail(f"dladm: {kind} deletion failed: link busy")
    del state["links"][name]


def create_etherstub(state, verb, argv):
    found, rest = options(argv, "tR:", f"dladm: {USAGE}")
    name = operand(verb, rest, "link name")
    if name in state["links"]:
        raise Fail("dladm: etherstub creation failed: object already exists")
    state["links"][name] = {"class": "etherstub"}


def show(state, verb, argv):
    found, rest = options(argv, "pPl:o:" if verb != "show-phys" else "pPmo:", f"dladm: {USAGE}")
    known = FIELDS[verb]
    wanted = found["o"][0].lower().split(",") if "o" in found else None
    if wanted == ["all"]:
        wanted = known
    for field in wanted or []:
        if field not in known:
            raise Fail(f"dladm: invalid output field(s): {field}")
    if "p" in found and wanted is None:
        raise Fail("dladm: -p requires -o")
    if len(rest) > 1:
        raise Usage(f"dladm: {verb}: one link at most\n{USAGE}")
    kind = {"show-vnic": "vnic", "show-phys": "phys", "show-etherstub": "etherstub"}.get(verb)
    rows, over = [], found.get("l", [None])[0]
    for name, link in state["links"].items():
        if kind in (None, link["class"]) and over in (None, link.get("over")):
            rows.append({
                "link": name, "over": link.get("over", "--"), "class": link["class"],
                "speed": "1000", "macaddress": link.get("mac", "--"),
                "macaddrtype": link.get("kind", "--"), "vid": "0", "mtu": "1500", "state": "up",
                "bridge": "--", "zone": zone_of(state, name) or "--", "media": "Ethernet",
                "duplex": "full", "device": name})
    if rest:
        rows = [row for row in rows if row["link"] == rest[0]]
        if not rows:
            raise Fail(f"dladm: invalid {kind or 'link'} name '{rest[0]}': object not found")
    wanted = wanted or known
    if "p" not in found:
        table = [[f.upper() for f in wanted]] + [[row[f] for f in wanted] for row in rows]
        return "".join("".join(f"{cell:<18}" for cell in line).rstrip() + "\n" for line in table)
    if len(wanted) == 1:  # nothing to tell apart, nothing to escape
        return "".join(row[wanted[0]] + "\n" for row in rows)
    return "".join(escaped("" if row[f] == "--" else row[f] for f in wanted) for row in rows)


VERBS = {
    "create-vnic": create_vnic, "delete-vnic": delete, "show-vnic": show,
    "create-etherstub": create_etherstub, "delete-etherstub": delete, "show-etherstub": show,
    "show-link": show, "show-phys": show,
}


# ---- neighbour tables ----

def neighbours(world):
    try:
        with open(world.path("neighbours.json"), encoding="utf-8") as file:
            rows = json.load(file)
    except FileNotFoundError:
        return []
    return [(mac, address) for mac, addresses in rows.items() for address in addresses]


def arp(world, argv, **_):
    if argv not in (["-an"], ["-a"], ["-n", "-a"], ["-a", "-n"]):
        raise Usage("usage: arp hostname\n       arp -a [-n]")
    lines = ["Net to Media Table: IPv4",
             "Device   IP Address               Mask      Flags      Phys Addr",
             "------ -------------------- --------------- -------- ---------------",
             f"{'igb0':<6} {'192.0.2.254':<20} {'255.255.255.255':<15} {'U':<8} ",
             f"{'igb0':<6} {'224.0.0.0':<20} {'240.0.0.0':<15} {'SM':<8} 1:0:5e:0:0:0"]
    for mac, address in neighbours(world):
        if ":" not in address:
            phys = ":".join(f"{int(octet, 16):x}" for octet in mac.split(":"))
            lines.append(f"{'igb0':<6} {address:<20} {'255.255.255.255':<15} {'o':<8} {phys}")
    return "".join(line + "\n" for line in lines)


def ndp(world, argv, **_):
    if argv not in (["-an"], ["-a"], ["-n", "-a"], ["-a", "-n"]):
        raise Usage("usage: ndp [-n] hostname\n       ndp [-n] -a")
    lines = ["", "Net to Media Table: IPv6",
             " If   Physical Address    Type      State      Destination/Mask",
             "----- -----------------  ------- ------------ ---------------------------",
             "igb0  33:33:00:00:00:01  other   REACHABLE    ff02::1"]
    for mac, address in neighbours(world):
        if ":" in address:
            lines.append(f"igb0  {mac:<17}  dynamic STALE        {address}")
    return "".join(line + "\n" for line in lines)
