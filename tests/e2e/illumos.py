# SPDX-License-Identifier: MPL-2.0
"""A daemon with the backend propolis on a host of illumos that is all make-believe: the tools and
the propolis-server of tests/fake.  What others have on that host is put there first and compared
in the end."""

import json
import os
import socket
import subprocess
import sys
import threading

from harness import TOP, Failure, Host, RpcError, check, equal, process_exists, wait_until

FAKE = os.path.join(TOP, "tests", "fake")
sys.path.append(FAKE)
import exchange_rows  # noqa: E402
import openapi  # noqa: E402

MIB = 1 << 20
BOOTED = "login: "  # the last thing that the fake's guest prints
KINDS = ("zones", "links", "datasets")
API = openapi.api()


def a_port():
    """Nobody's on any address, and not one that the kernel would hand out."""
    for port in range(20000 + os.getpid() % 9000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
                return port
            except OSError:
                pass
    raise Failure("no free port")


class Rows:
    """A file that grows by a row of JSON a line; what was read once is not read again, since tests
    that wait look at it a hundred times a second."""

    def __init__(self, path):
        self.path, self.at, self.rows = path, 0, []

    def read(self):
        try:
            with open(self.path, "rb") as f:
                f.seek(self.at)
                whole = f.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return self.rows
        if whole:
            self.at += len(whole) + 1
            self.rows += [json.loads(line) for line in whole.split(b"\n")]
        return self.rows


class IllumosHost(Host):
    def __init__(self, settings="", **kwargs):
        super().__init__(**kwargs)
        self.fake = os.path.join(self.dir, "illumos")
        self.zone_dir = os.path.join(self.fake, "zones")
        self.devices = os.path.join(self.fake, "dev", "zvol", "rdsk")
        for folder in (self.zone_dir, self.devices, os.path.join(self.fake, "server-commands")):
            os.makedirs(folder)
        os.chmod(self.zone_dir, 0o700)
        self.port = a_port()
        self.network = f"127.{64 + os.getpid() % 128}"
        self.rom = os.path.join(self.fake, "OVMF_CODE.fd")
        with open(self.rom, "wb") as f:
            f.write(b"not a ROM")
        self.env.update(PATH=os.path.join(FAKE, "bin") + ":" + self.env["PATH"],
                        VMM_FAKE_DIR=self.fake, PYTHONDONTWRITEBYTECODE="1")
        config = os.path.join(self.dir, "config", "vmm")
        os.makedirs(config)
        with open(os.path.join(config, "vmmd.yaml"), "w") as f:
            f.write(f"zfs_dataset: rpool/vmm\nzvol_dir: {self.devices}\nzone_dir: {self.zone_dir}\n"
                    f"vnic_link: igb0\ncontrol_link: vmmstub0\n"
                    f"control_network: {self.network}.0.0/16\npropolis_port: {self.port}\n"
                    f"propolis_server: {FAKE}/propolis-server\npropolis_bootrom: {self.rom}\n"
                    + settings)
        self.image = os.path.join(self.dir, "disk.raw")
        with open(self.image, "wb") as f:
            f.write(b"a boot sector" * 1000)
            f.truncate(3 * MIB + 512)
        self.exchanges_seen = 0
        self.call_rows = Rows(os.path.join(self.fake, "calls.jsonl"))
        self.exchange_rows = Rows(os.path.join(self.fake, "exchanges.jsonl"))
        self.tool("zfs", "create", "rpool/vmm")
        self.put_others()

    # -- the make-believe host --

    def tool(self, *argv, status=0, input=None):
        """Runs a tool as the administrator would."""
        done = subprocess.run([os.path.join(FAKE, "bin", argv[0]), *argv[1:]], env=self.env,
                              input=input, text=True, timeout=60, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        equal(done.returncode, status, f"{argv}: {done.stderr}")
        return done.stdout

    def put_others(self):
        """What has nothing to do with us, some of it named as ours could be."""
        for dataset in ("rpool/data", "rpool/vmm/keep"):
            self.tool("zfs", "create", dataset)
        self.tool("zfs", "create", "-V", "1048576", "rpool/data/volume")
        self.tool("zfs", "snapshot", "rpool/data/volume@monday")
        self.tool("zfs", "clone", "rpool/data/volume@monday", "rpool/data/clone")
        for link in ("web0", "vmffffffffffff_n0", "vmffffffffffff_c0"):
            self.tool("dladm", "create-vnic", "-l", "igb1", link)
        for zone, link in (("web", "web0"), ("vmm-ffffffffffff", "vmffffffffffff_n0")):
            self.tool("zonecfg", "-z", zone, "-f", "/dev/stdin",
                      input=f"create -b\nset brand=lipkg\nset zonepath={self.zone_dir}/{zone}\n"
                      f"set ip-type=exclusive\nadd net\nset physical={link}\nend\ncommit\n")
            self.tool("zoneadm", "-z", zone, "install")
        self.others = self.state()

    def state(self):
        with open(os.path.join(self.fake, "state.json")) as f:
            return json.load(f)

    def change(self, edit):
        """edit(state) while no tool is at it."""
        program = ("import json, sys, illumos\nwith illumos.World() as state:\n"
                   "    state.clear() or state.update(json.load(sys.stdin))\n")
        state = self.state()
        edit(state)
        subprocess.run([sys.executable, "-B", "-c", program], input=json.dumps(state), text=True,
                       check=True, env=dict(self.env, PYTHONPATH=FAKE))

    def calls(self, tool=None, verb=None):
        return [r for r in self.call_rows.read() if tool in (None, r["tool"])
                and (verb is None or verb in " ".join(r["argv"]).split())]

    def write_rules(self, name, rules):
        path = os.path.join(self.fake, name)
        with open(path + ".part", "w") as f:
            json.dump(rules, f)
        os.rename(path + ".part", path)

    def faults(self, *rules):
        """Of the tools; none: all is well again."""
        self.write_rules("faults.json", rules)

    def server_faults(self, *rules, **settings):
        self.write_rules("server-faults.json", [*rules, settings] if settings else list(rules))

    def guest(self, name, do, zone=None, **more):
        """Something happens in the guest; zone: for a time without a daemon to ask for it."""
        path = os.path.join(self.fake, "server-commands", (zone or self.zone(name)) + ".jsonl")
        with open(path, "a") as f:
            f.write(json.dumps({"do": do, **more}) + "\n")

    def neighbours(self, **rows):
        self.write_rules("neighbours.json", {mac: addresses for mac, addresses in rows.items()})

    # -- machines --

    def create(self, name, **params):
        params.setdefault("memory", 64)
        params.setdefault("network", {"type": "none"})
        return self.call("vm.create", name=name, backend="propolis", image=self.image, **params)

    def refused(self, wanted, method, /, **params):
        try:
            self.call(method, **params)
        except RpcError as e:
            equal(e.name, wanted, f"{method}: {e.error}")
            return e.error
        raise Failure(f"{method} was not refused")

    def zone(self, name):
        return "vmm-" + self.vm(name)["id"]

    def zone_row(self, name):
        return self.state()["zones"].get(self.zone(name))

    def server_pid(self, name):
        return self.zone_row(name)["pid"]

    def console_log(self, name):
        try:
            with open(os.path.join(self.vm(name)["work_dir"], "console.log"),
                      errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def booted(self, name, times=1):
        wait_until(f"'{name}' to print its login prompt",
                   lambda: self.console_log(name).count(BOOTED) >= times)

    # -- what must hold --

    def compare_others(self):
        """Nothing of others was touched."""
        state = self.state()
        for kind in KINDS:
            for name, row in self.others[kind].items():
                check(name in state[kind], f"{kind} {name} of others is gone")
                equal(state[kind][name], row, f"{kind} {name}")

    def ours(self, state=None):
        """What is there that was not in the beginning, but for images and their parents."""
        state = state or self.state()
        return sorted(f"{kind} {name}" for kind in KINDS for name in state[kind]
                      if name not in self.others[kind]
                      and not (kind == "datasets" and self.is_image(name)))

    @staticmethod
    def is_image(name):
        parents = ("rpool/vmm/images", "rpool/vmm/machines")
        return name in parents or (name.startswith("rpool/vmm/images/") and ".part" not in name)

    def servers(self):
        """Pids of every propolis-server of this host that runs."""
        pids = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    environ = f.read()
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    command = f.read()
            except OSError:
                continue
            if f"VMM_FAKE_DIR={self.fake}".encode() in environ.split(b"\0") \
                    and b"propolis-server\0run" in command and process_exists(int(pid)):
                pids.append(int(pid))
        return pids

    def nothing_left(self):
        equal(self.names(), [])
        self.compare_others()
        equal(self.ours(), [])
        equal(self.servers(), [])
        equal(sorted(os.listdir(self.zone_dir)), ["vmm-ffffffffffff", "web"])
        equal(os.listdir(os.path.join(self.data, "vms")), [])
        folders = [d for d, _, files in os.walk(os.path.join(self.fake, "dev")) if files]
        check(not any("machines" in d for d in folders), folders)

    def only_machine(self, name):
        """The host has exactly what this one machine is made of."""
        row = self.vm(name)
        ident = row["id"]
        wanted = [f"datasets rpool/vmm/machines/{ident}", f"links vm{ident}_c0",
                  f"zones vmm-{ident}"]
        if row["network"]["type"] == "vnic":
            wanted.append("links " + (row["network"].get("name") or f"vm{ident}_n0"))
        equal(self.ours(), sorted(wanted))
        self.compare_others()

    def gone(self, *names):
        for name in names:
            self.call("vm.destroy", name=name, force=True)
        self.nothing_left()
        self.validate()

    # -- what was said to the servers --

    def exchanges(self, start=0):
        return self.exchange_rows.read()[start:]

    def validate(self):
        """Every exchange since the last look, by the published schema and by rows of our own."""
        rows = self.exchanges(self.exchanges_seen)
        self.exchanges_seen += len(rows)
        for row in rows:
            problems = exchange_rows.problems(row)
            if API is not None:
                problems += sum(API.problems(row) or [["no schema for its version"]], [])
            equal(problems, [], f"{row['method']} {row['path']} -> {row['status']}")
        return rows

    def log(self):
        """For failures: the daemon's words, and the last calls of tools that failed."""
        text = super().log()
        for row in [r for r in self.calls() if r["status"]][-8:]:
            text += f"{row['tool']} {' '.join(row['argv'])}: {row['status']} {row['stderr']}"
        return text

    def stop(self):
        status = super().stop()
        words = [line for line in Host.log(self).splitlines()
                 if "Sanitizer" in line or "runtime error" in line]
        check(not words, *words)
        return status

    def close(self):
        for name in ("faults.json", "server-faults.json"):
            if os.path.exists(os.path.join(self.fake, name)):
                os.unlink(os.path.join(self.fake, name))
        super().close()
        for pid in self.servers():
            print(f"# propolis-server {pid} was left")
            os.kill(pid, 9)


def together(calls):
    """Runs them at once; returns what each returned, or the error's name."""
    results = [None] * len(calls)

    def one(i):
        try:
            results[i] = calls[i]()
        except RpcError as e:
            results[i] = e.name

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Sshd:
    """OpenSSH's own server as the guest of a machine: its host key is the machine's, it lets the
    machine's key in, and what runs there finds `cloud-init`, `poweroff` and the like of a guest.
    One process of it for each connection, on an address of its own."""

    GUEST = {
        "cloud-init": 'echo "status: done"\n',
        # What waits in a guest for cloud-init would wait for this host's.
        "sh": 'case $2 in "command -v cloud-init"*) echo \'{"v1": {"stage": null, '
              '"init": {"errors": [], "finished": 2.0, "start": 1.0}}}\' ;; '
              '*) exec /bin/sh "$@" ;; esac\n',
        "systemctl": 'case $* in *poweroff*) exec "$(dirname "$0")/poweroff" ;; esac\n',
        "sudo": 'while :; do case $1 in -u) shift 2 ;; -*) shift ;; *) break ;; esac; done\n'
                'exec "$@"\n',
    }

    def __init__(self, host, address):
        self.host, self.address = host, address
        self.dir = os.path.join(host.dir, "sshd-" + address)
        self.home = os.path.join(self.dir, "home")
        self.bin = os.path.join(self.dir, "bin")
        os.makedirs(self.home)
        os.makedirs(self.bin)
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.ready = threading.Event()
        self.user = subprocess.run(["id", "-un"], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout.strip()
        threading.Thread(target=self.serve, daemon=True).start()

    def params(self):
        """Of vm.create: the guest is here."""
        return {"network": {"type": "vnic", "address": self.address + "/8"},
                "ssh": {"user": self.user, "port": self.port}, "cloud_init": {}}

    def script(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)

    def become(self, name, powers_off=True):
        """From here on it answers as that machine's guest."""
        folder = self.host.vm(name)["work_dir"]
        wait_until("the seed", lambda: os.path.exists(os.path.join(folder, "id_ed25519.pub")))
        commands = os.path.join(self.host.fake, "server-commands", self.host.zone(name) + ".jsonl")
        for script, text in self.GUEST.items():
            self.script(script, text)
        off = f"echo '{json.dumps({'do': 'poweroff'})}' >> {commands}\n"
        off = off if powers_off else "exit 1\n"
        for script in ("poweroff", "shutdown", "halt"):
            self.script(script, f"echo {script} $* >> {self.dir}/power\n" + off)
        text = (f"HostKey {folder}/host_ed25519\nAuthorizedKeysFile {folder}/id_ed25519.pub\n"
                "StrictModes no\nUsePAM no\nPidFile none\nLogLevel ERROR\n"
                "PermitRootLogin prohibit-password\nPrintLastLog no\nPasswordAuthentication no\n"
                f"SetEnv HOME={self.home} PATH={self.bin}:/usr/local/sbin:/usr/local/bin:"
                "/usr/sbin:/usr/bin:/sbin:/bin\n")
        with open(os.path.join(self.dir, "config"), "w") as f:
            f.write(text)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.ready.set()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if self.ready.is_set():
                    subprocess.Popen(["/usr/sbin/sshd", "-i", "-e", "-f", self.dir + "/config"],
                                     stdin=connection, stdout=connection,
                                     stderr=subprocess.DEVNULL)

    def asked_to_power_off(self):
        return os.path.exists(os.path.join(self.dir, "power"))
