#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The service's method script, with the real vmmd and vmctl, by the shells that there are.

    method.py SOURCE_TOP SHELL...

svcprop and pfexec are stubs: the one prints properties as the real one does, the other runs its
command and writes it down.
"""

import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

from tap import Cases

BUILD = os.environ.get("VMM_BUILD", "build")
FMRI = "svc:/system/vmmd:default"
FATAL, CONFIG, NOSMF, PERM = 95, 96, 99, 100
WAIT_S = 20


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def until(what, condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)


def printed(value):
    """As svcprop prints a value."""
    return re.sub(r"""([;&()|^<>\n \t\\"'`])""", r"\\\1", value) if value else '""'


def running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Service:
    """A host with the service's properties; its folder is named as nobody would."""

    def __init__(self, top, shell):
        self.shell = shell
        self.folder = tempfile.mkdtemp(prefix="vmm-smf-")
        self.method = os.path.join(self.folder, "method")
        self.stubs = os.path.join(self.folder, "stubs")
        self.bin = os.path.join(self.folder, "bin dir")
        self.data = os.path.join(self.folder, "it's $(touch pwned) `touch pwned`; a \"b\"\\", "data")
        self.run = os.path.join(self.folder, "run", "vmm")
        # Root's: nobody else can make it.
        self.zones = os.path.join(self.folder, "zones", "vmm") if os.geteuid() == 0 else ""
        self.output = os.path.join(self.folder, "output")
        self.pids = set()
        for path in (self.stubs, self.bin):
            os.mkdir(path)
        text = read(os.path.join(top, "smf", "vmmd-method.in"))
        for old, new in (("PATH=/usr/sbin:/usr/bin:/sbin",
                          f"PATH={self.stubs}:/usr/sbin:/usr/bin:/sbin:/bin"),
                         ("@bindir@", self.bin),
                         ("method=/lib/svc/method/vmmd", f"method={self.method}"),
                         ("start_s=120", "start_s=${START_S:-60}"), ("stop_s=25", "stop_s=1")):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        write(self.method, re.sub(r"^#!.*", f"#!{shell}", text), 0o755)
        for program, folder in (("vmmd", "daemon"), ("vmctl", "client")):
            os.symlink(os.path.abspath(os.path.join(BUILD, folder, program)),
                       os.path.join(self.bin, program))
        write(self.stubs + "/pfexec",
              f"#!/bin/sh\necho \"$*\" >>'{self.folder}/pfexec.log'\nexec \"$@\"\n", 0o755)
        self.properties({})

    def properties(self, changes, raw=""):
        values = {"value_authorization": "solaris.smf.value.vmmd", "data_dir": self.data,
                  "runtime_dir": self.run, "zone_dir": self.zones, "group": "", "socket": "",
                  "max_per_uid": "256", "log_level": "info"}
        values.update(changes)
        write(self.folder + "/properties",
              "".join(f"config/{name} astring {printed(value)}\n"
                      for name, value in values.items() if value is not None) + raw)
        write(self.stubs + "/svcprop", f'#!/bin/sh\n[ "$*" = "-p config {FMRI}" ] || exit 9\n'
              f"cat '{self.folder}/properties'\n", 0o755)

    def call(self, verb, status, words="", env=None):
        """Calls the method; its output is added to what the service has written."""
        with open(self.output, "a+", encoding="utf-8") as output:
            start = output.seek(0, os.SEEK_END)
            done = subprocess.run([self.method, verb], env=dict({"SMF_FMRI": FMRI}, **(env or {})),
                                  cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                  timeout=120)
            output.seek(start)
            said = output.read()
        if os.path.exists(self.run + "/vmmd.pid"):
            self.pids.add(self.pid())
        assert (done.returncode, words in said) == (status, True), (done.returncode, words, said)
        return said

    def pid(self):
        return int(read(self.run + "/vmmd.pid"))

    def daemon(self, body):
        """Another program for vmmd."""
        os.unlink(self.bin + "/vmmd")
        write(self.bin + "/vmmd", "#!/bin/sh\n" + body, 0o755)

    def vmctl(self, *args):
        return subprocess.run([self.bin + "/vmctl", "--socket", self.run + "/vmmd.sock", *args],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                              timeout=60)

    def done(self):
        for pid in self.pids:
            if running(pid):
                os.kill(pid, signal.SIGKILL)
        for where, _, files in os.walk(self.folder):
            assert "pwned" not in files, f"executed: {where}/pwned"
        shutil.rmtree(self.folder)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# ---- start ----

def start__good_properties__answers(service):
    service.call("start", 0)
    assert service.vmctl("daemon", "status").returncode == 0
    assert running(service.pid())
    assert os.path.exists(service.data + "/vmm.db"), "it has another data folder"
    assert read(service.folder + "/pfexec.log") == \
        f"{service.method} folders {os.getuid()} {os.getgid()}\n"
    assert (mode_of(service.run), mode_of(service.data)) == (0o755, 0o711)
    assert not service.zones or mode_of(service.zones) == 0o750


def start__settings__as_the_properties(service):
    service.properties({"propolis_server": "/opt/it's/\"a\" $(touch pwned)", "vnic_link": "",
                        "start_timeout": "3min"}, raw="config/propolis_port count 12401\n")
    service.call("start", 0)
    lines = read(service.run + "/vmmd.yaml").splitlines()
    assert lines[0].startswith("#")
    got = dict(re.fullmatch(r"([a-z-]+): '(.*)'", line).groups() for line in lines[1:])
    assert {k: v.replace("''", "'") for k, v in got.items()} == {
        "data-dir": service.data, "runtime-dir": service.run, "max-per-uid": "256",
        "log-level": "info", "start-timeout": "3min",
        "propolis-server": "/opt/it's/\"a\" $(touch pwned)", "propolis-port": "12401",
        **({"zone-dir": service.zones} if service.zones else {})}


def start__twice__the_second_is_refused(service):
    service.call("start", 0)
    pid = service.pid()
    service.call("start", FATAL, "another vmmd serves")
    assert service.pid() == pid and running(pid)


def start__unknown_property__config_error(service):
    service.properties({"log_levl": "debug"})
    said = service.call("start", CONFIG, "unknown setting 'log-levl'")
    assert "did you mean 'log-level'" in said and "refuses its settings" in said
    assert not os.path.exists(service.run + "/vmmd.pid")


def start__bad_value__config_error(service):
    service.properties({"start_timeout": "soon"})
    service.call("start", CONFIG, "vmmd refuses its settings")


def start__values_that_are_no_setting__config_error(service):
    for raw, words in (("config/vnic_link astring a\\\nb\n", "line break"),
                       ("config/vnic_link astring a b\n", "takes one value"),
                       ("config/vnic_link astring a\x01b\n", "control character"),
                       ("other/vnic_link astring a\n", "svcprop printed"),
                       ("config/ astring a\n", "svcprop printed")):
        service.properties({}, raw=raw)
        service.call("start", CONFIG, words)
    for name in ("data_dir", "runtime_dir", "zone_dir"):
        for value in ("vmm", "/", "/var/../etc", "/var/.."):
            service.properties({name: value})
            service.call("start", CONFIG, "path")
    assert not os.path.exists(service.data)


def start__property_without_a_value__as_empty(service):
    service.properties({}, raw="config/vnic_link astring \nconfig/control_link astring\n")
    service.call("start", 0)
    assert "link" not in read(service.run + "/vmmd.yaml")


def start__svcprop_fails__its_words(service):
    write(service.stubs + "/svcprop", "#!/bin/sh\necho 'no such instance' >&2\nexit 1\n", 0o755)
    service.call("start", CONFIG, "no such instance")
    os.unlink(service.stubs + "/svcprop")
    service.call("start", NOSMF, "there is no svcprop")


def start__no_profile__permission(service):
    write(service.stubs + "/pfexec", "#!/bin/sh\nexit 1\n", 0o755)
    service.call("start", PERM, "VM Manager Daemon")


def start__no_program__config_error(service):
    os.unlink(service.bin + "/vmmd")
    service.call("start", CONFIG, "there is no program")


def start__daemon_dies_at_once__fatal_with_its_words(service):
    service.daemon("echo 'the store is of a newer version' >&2; exit 1\n")
    said = service.call("start", FATAL, "the store is of a newer version")
    assert "vmmd ended at once (status 1)" in said
    service.daemon("kill -SEGV $$\n")
    service.call("start", FATAL, "vmmd ended at once")


def start__daemon_never_answers__killed(service):
    service.daemon(f"echo $$ >'{service.folder}/silent'; exec sleep 60\n")
    service.call("start", 1, "did not answer", env={"START_S": "1"})
    pid = int(read(service.folder + "/silent"))
    until("the silent daemon has ended", lambda: not running(pid))


def start__after_a_kill__answers(service):
    service.call("start", 0)
    pid = service.pid()
    os.kill(pid, signal.SIGKILL)
    until("the daemon is gone", lambda: not running(pid))
    service.call("start", 0)
    assert service.pid() != pid


def start__socket_elsewhere__waited_for_there(service):
    service.properties({"socket": service.folder + "/a socket"})
    service.call("start", 0)
    assert stat.S_ISSOCK(os.stat(service.folder + "/a socket").st_mode)


# ---- stop, refresh ----

def stop__running__daemon_ends_and_machines_live(service):
    service.call("start", 0)
    made = service.vmctl("create", "--name", "lasting", "--backend", "noop", "--start")
    assert made.returncode == 0, made
    pid = service.pid()
    service.call("stop", 0)
    assert not running(pid) and not os.path.exists(service.run + "/vmmd.pid")
    service.call("start", 0)
    assert re.search(r"^lasting .*running", service.vmctl("list").stdout, re.M)


def stop__nothing_runs__well(service):
    service.call("stop", 0)
    service.call("start", 0)
    pid = service.pid()
    os.kill(pid, signal.SIGKILL)
    until("the daemon is gone", lambda: not running(pid))
    service.call("stop", 0)
    service.call("stop", 0)


def stop__pid_is_somebody_elses__not_touched(service):
    os.makedirs(service.run)
    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        for text in (str(other.pid), "1", "-1", "0", "", "x", f"{other.pid} 1"):
            write(service.run + "/vmmd.pid", text + "\n")
            subprocess.run([service.method, "stop"], env={"SMF_FMRI": FMRI}, check=True)
            assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        os.unlink(service.run + "/vmmd.pid")


def stop__daemon_that_does_not_listen__killed(service):
    os.makedirs(service.run)
    service.daemon("trap '' TERM; echo ready; while :; do sleep 1; done\n")
    deaf = subprocess.Popen([service.bin + "/vmmd"], stdout=subprocess.PIPE)
    deaf.stdout.readline()
    write(service.run + "/vmmd.pid", f"{deaf.pid}\n")
    # Whoever started it waits for it, so that it is gone.
    stop = subprocess.Popen([service.method, "stop"], env={"SMF_FMRI": FMRI})
    assert deaf.wait(WAIT_S) == -signal.SIGKILL
    assert stop.wait(WAIT_S) == 0


def refresh__running__reloads(service):
    service.call("start", 0)
    pid = service.pid()
    service.call("refresh", 0)
    until("it reloads", lambda: "reload:" in read(service.output))
    assert service.vmctl("daemon", "status").returncode == 0 and service.pid() == pid


def refresh__nothing_runs__fails(service):
    service.call("refresh", 1, "does not run")


# ---- the rest ----

def folders__as_they_are__kept(service):
    folders = [path for path in (service.run, service.data, service.zones) if path]
    for path in folders:
        os.makedirs(path, 0o750)
    service.call("start", 0)
    assert {mode_of(path) for path in folders} == {0o750}


def folders__wrong_owner__refused(service):
    for args in ((), ("0",), ("", ""), ("root", "root"), ("0", ""), ("", "0"), ("0;", "0")):
        done = subprocess.run([service.method, "folders", *args], env={},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == FATAL, (args, done)
    assert not os.path.exists(service.run)


def method__unknown_verb__fatal(service):
    service.call("restart", FATAL, "usage")


def main():
    top, shells = sys.argv[1], sys.argv[2:]
    pwd.getpwuid(os.getuid())  # the method asks for a name
    names = [name for name in globals() if re.fullmatch(r"[a-z]+(__\w+){2}", name)]
    cases = Cases()

    def one(name, shell):
        service = Service(top, shell)
        try:
            globals()[name](service)
        finally:
            service.done()

    for shell in shells:
        for name in names:
            cases.run(f"{os.path.basename(shell)} {name}", one, name, shell)
    cases.end()


if __name__ == "__main__":
    main()
