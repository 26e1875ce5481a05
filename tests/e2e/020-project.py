#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""up, down, reload and plan of a VMFile, on the no-op backend, by vmctl."""

import os

from harness import Host, check, contains, equal, run

host = Host().start()

TWO = """vms:
  db: {backend: noop, memory: 512}
  web:
    backend: noop
    memory: 1GiB
    depends-on: [db]
    provision:
      - shell: {inline: "true"}
"""


def actions(result):
    return {vm["name"]: vm["action"] for vm in result["vms"]}


def test_r08_up_makes_starts_and_records():
    folder = host.project(TWO)
    equal(host.vmctl("plan", cwd=folder, status=10).returncode, 10)
    equal(actions(host.json("up", cwd=folder)), {"db": "created", "web": "created"})
    equal({vm["name"]: vm["state"] for vm in host.call("vm.list")["vms"]},
          {"db": "running", "web": "running"})
    equal(host.vm("web")["provision"]["state"], "done")
    check(host.vm("db")["created"] <= host.vm("web")["created"], "db comes before web")


def test_up_again_does_nothing():
    folder = host.project(TWO)
    equal(actions(host.json("up", cwd=folder)), {"db": "unchanged", "web": "unchanged"})
    equal(host.vmctl("plan", cwd=folder).returncode, 0)


def test_g65_a_change_is_told():
    folder = host.project(TWO.replace("1GiB", "2GiB"))
    result = host.json("up", cwd=folder)
    web = [vm for vm in result["vms"] if vm["name"] == "web"][0]
    equal([(c["field"], c["from"], c["to"]) for c in web["changed"]],
          [("memory", "1 GiB", "2 GiB")])
    equal(host.vm("web")["memory_mib"], 1024)
    contains(host.vmctl("up", cwd=folder).stderr + host.vmctl("up", cwd=folder).stdout, "memory")


def test_down_then_up_applies_the_change():
    folder = host.project(TWO.replace("1GiB", "2GiB"))
    host.vmctl("down", cwd=folder)
    equal({vm["state"] for vm in host.call("vm.list")["vms"]}, {"stopped"})
    host.vmctl("up", cwd=folder)
    equal(host.vm("web")["memory_mib"], 2048)
    equal(host.vm("web")["state"], "running")


def test_another_vmfile_can_not_touch_it():
    other = host.project(TWO, "other")
    done = host.vmctl("up", cwd=other, status=4)
    contains(done.stderr, os.path.join(os.path.realpath(host.dir), "project", "VMFile.yaml"))
    host.vmctl("down", "--destroy", cwd=other, status=4)
    host.vmctl("reload", cwd=other, status=4)
    equal(host.names(), ["db", "web"])


def test_a_machine_of_create_is_not_taken():
    host.vmctl("create", "--name", "solo", "--backend", "noop")
    folder = host.project("vms:\n  solo: {backend: noop}\n", "solo")
    contains(host.vmctl("up", cwd=folder, status=4).stderr, "vmctl create")
    host.vmctl("destroy", "solo")


def test_g65_reload_validates_before_it_destroys():
    folder = host.project(TWO.replace("1GiB", "lots"))
    before = host.vm("web")["id"]
    done = host.vmctl("reload", cwd=folder, status=2)
    contains(done.stderr, "VMFile.yaml:5:13")
    equal(host.vm("web")["id"], before)
    folder = host.project(TWO.replace("backend: noop\n    memory: 1GiB", "image: ./none.qcow2"))
    check(host.vmctl("reload", cwd=folder, status=None).returncode != 0)
    equal(host.vm("web")["id"], before)


def test_reload_makes_anew():
    folder = host.project(TWO)
    before = host.vm("web")["id"]
    host.vmctl("reload", cwd=folder)
    check(host.vm("web")["id"] != before, "a new machine")
    equal(host.vm("web")["state"], "running")
    equal(host.vm("web")["memory_mib"], 1024)


def test_g64_a_name_that_is_not_there():
    folder = host.project(TWO)
    for verb in ("up", "down", "reload", "provision"):
        done = host.vmctl(verb, "--name", "wbe", cwd=folder, status=3)
        contains(done.stderr, "'web'")


def test_orphans_are_reported_and_removed_when_asked():
    folder = host.project("vms:\n  db: {backend: noop, memory: 512}\n")
    equal(host.json("up", cwd=folder)["orphans"], ["web"])
    host.vmctl("down", "--destroy", cwd=folder)
    equal(host.names(), ["web"])
    host.vmctl("down", "--destroy", "--orphans", cwd=folder)
    equal(host.names(), [])
    equal(os.listdir(os.path.join(host.data, "vms")), [])


def test_down_of_nothing_is_fine():
    folder = host.project(TWO)
    host.vmctl("down", cwd=folder)
    host.vmctl("down", "--destroy", cwd=folder)


run(globals(), [host])
