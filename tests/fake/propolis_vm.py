# SPDX-License-Identifier: MPL-2.0
"""The machine of a propolis-server: its state with generations, and the queue of what is asked.

One thread, the driver, moves a machine from state to state; everybody else queues requests or
waits for a generation.  A setting {"hold": STATE} keeps the driver in a state (or in a phase of a
migration) until the setting is gone, so that a test sees what it wants to see without waiting for
it; {"skip_states": true} hides the states that are only passed.
"""

import threading
import time

import propolis_spec
from propolis_serial import Terminal

PHASES_IN = ("Sync", "RamPush", "Pause", "RamPushDirty", "Device", "Resume", "RamPull", "Server")
PHASES_OUT = ("Sync", "Pause", "RamPush", "RamPushDirty", "Device", "Resume", "RamPull", "Server")
TICK = 0.02  # how often settings are looked at while something is held
DWELL = 0.005  # a passed state lasts so long, so that somebody can see it
TARGET_SPEC = {"board": {"cpus": 1, "memory_mb": 512,
                         "chipset": {"type": "i440_fx", "value": {"enable_pcie": False}}},
               "components": {"com1": {"type": "serial_port", "component": {"num": "com1"}}}}


class Refused(Exception):
    """An answer that is an error: status, message, error_code."""

    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def no_instance():
    return Refused(424, "Server not initialized (no instance)", "NoInstance")


def forbidden(reason):
    return Refused(403, "Forbidden", f"instance state change not allowed: {reason}")


class Machine:
    """One, from its ensure until it is run down."""

    def __init__(self, properties, spec, settings, log):
        self.properties, self.spec, self.settings, self.log = properties, spec, settings, log
        self.changed = threading.Condition()
        self.gen, self.hidden, self.state = 1, 0, "Creating"
        self.migration = {"migration_in": None, "migration_out": None}
        self.active = False  # there is one to send requests to
        self.over = False  # the generation stands still for ever
        self.stage = "not started"  # what the queue knows: start pending, running, halted, failed
        self.queue, self.awaiting = [], set()
        self.terminal = Terminal(log)
        log("state", gen=1, state="Creating")

    # What everybody sees

    def publish(self, state, passing=False, **migration):
        with self.changed:
            if passing and self.settings().get("skip_states"):
                self.hidden += 1
                return
            self.gen += 1 + self.hidden
            self.hidden, self.state = 0, state
            self.migration = {**self.migration, **migration}
            self.log("state", gen=self.gen, state=state)
            self.changed.notify_all()
        if passing:
            time.sleep(DWELL)

    def monitor(self, gen, client_is_there):
        """Returns the first state of that generation or later; None when the client left."""
        with self.changed:
            while self.gen < gen:
                if self.over:
                    raise Refused(410, f"No instance present; will never reach generation {gen}",
                                  "NoInstance")
                if not client_is_there():
                    return None
                self.changed.wait(0.2)
            return {"gen": self.gen, "state": self.state, "migration": self.migration}

    # What is asked

    def put(self, request):
        with self.changed:
            if not self.active:
                raise no_instance()
            if self.stage in ("halted", "failed"):
                if request == "Stop":
                    return
                raise forbidden("Instance has already halted" if self.stage == "halted" else
                                "Instance failed to start or halted due to a failure")
            if {"Run": self.put_run, "Reboot": self.put_reboot, "Stop": self.put_stop}[request]():
                self.awaiting.add(request)
                self.queue.append(request)
                self.changed.notify_all()

    def put_run(self):
        if "Stop" in self.awaiting:
            raise forbidden("Instance is preparing to stop")
        if self.stage != "not started":
            return False
        self.stage = "start pending"
        return True

    def put_reboot(self):
        if "MigrateOut" in self.awaiting:
            raise forbidden("Operation cannot be performed on a migration source")
        if "Stop" in self.awaiting:
            raise forbidden("Instance is preparing to stop")
        if self.stage == "not started":
            raise forbidden("Operation requires an active instance")
        if self.stage == "start pending":
            raise forbidden("Instance is currently starting")
        return "Reboot" not in self.awaiting

    def put_stop(self):
        return "Stop" not in self.awaiting

    def guest(self, event, **details):
        """Poweroff, Reset, Fail, MigrateOut: not asked by anybody."""
        with self.changed:
            if self.active and (self.stage == "running" or event == "Fail"):
                if event == "MigrateOut":
                    self.awaiting.add(event)
                self.queue.append((event, details))
                self.changed.notify_all()

    # The driver

    def build(self, in_zone):
        """Within the ensure: the machine's parts."""
        self.hold("Creating")
        try:
            if self.settings().get("fail_ensure"):
                raise propolis_spec.Unfit("failed to create the machine (asked to)")
            propolis_spec.build(self.spec, in_zone)
        except propolis_spec.Unfit as error:
            self.publish("Failed")
            self.end()
            self.log("failure", text=f"VM initialization failed: {error}")
            raise Refused(500, "Internal Server Error", "Internal") from error
        self.launch(self.drive)

    def launch(self, work, *args):
        with self.changed:
            self.active = True
        threading.Thread(target=work, args=args, daemon=True).start()

    def hold(self, name, until=lambda: False):
        while self.settings().get("hold") == name and not until():
            with self.changed:
                self.changed.wait(TICK)

    def next_event(self):
        with self.changed:
            while not self.queue:
                self.changed.wait()
            event = self.queue.pop(0)
        return event if isinstance(event, tuple) else (event, {})

    def drive(self):
        work = {"Run": self.start, "Reboot": self.reboot, "Reset": self.reboot, "Stop": self.halt,
                "Poweroff": self.halt, "Fail": self.fail, "MigrateOut": self.migrate_out}
        going = True
        while going:
            event, details = self.next_event()
            going = work[event](**details) is not False
            with self.changed:
                self.awaiting.discard(event)
        self.end()

    def stop_asked(self):
        return any(event == "Stop" or (isinstance(event, tuple) and event[0] == "Fail")
                   for event in self.queue)

    def start(self):
        self.publish("Starting", passing=True)
        self.hold("Starting", self.stop_asked)
        if self.settings().get("fail_run"):
            return self.fail()
        with self.changed:
            if self.stop_asked():
                return True  # it ends by what is queued, and is never seen running
            self.stage = "running"
        self.publish("Running")
        self.terminal.boot(self.properties["name"])
        return True

    def reboot(self):
        self.publish("Rebooting", passing=True)
        self.terminal.off()
        self.hold("Rebooting")
        self.publish("Running")
        self.terminal.boot(self.properties["name"])

    def halt(self):
        started = self.stage == "running"
        self.terminal.off()
        if started:
            self.publish("Stopping", passing=True)
            self.hold("Stopping")
        with self.changed:
            self.stage = "halted"
        self.publish("Stopped", passing=True)
        self.hold("Stopped")
        return False

    def fail(self):
        with self.changed:
            self.stage = "failed"
        self.terminal.off()
        self.publish("Failed")
        self.hold("Failed")
        return False

    def end(self):
        """Run down: no machine any more, though what it was can still be read."""
        with self.changed:
            self.active = False
        self.terminal.close()
        if self.state != "Failed":
            self.publish("Destroyed")
        with self.changed:
            self.over = True
            self.changed.notify_all()

    # Migration: there is no other side, only what a client sees of it

    def migrate_in(self, ident):
        self.migration["migration_in"] = {"id": ident, "state": "Sync"}
        for phase in PHASES_IN:
            self.publish("Migrating", migration_in={"id": ident, "state": phase})
            self.hold(phase)
            if phase == "Sync":
                self.spec = TARGET_SPEC
        with self.changed:
            self.stage = "running"
        self.publish("Running", migration_in={"id": ident, "state": "Finish"})
        self.terminal.boot(self.properties["name"])
        self.drive()

    def migrate_out(self, ident, destination, error=False):
        for phase in PHASES_OUT[:3] if error else PHASES_OUT:
            self.publish("Migrating", migration_out={"id": ident, "state": phase})
            self.hold(phase)
        end = {"id": ident, "state": "Error" if error else "Finish"}
        if error:
            self.publish("Running", migration_out=end)
            return True
        self.publish("Migrating", migration_out=end)
        self.terminal.migrating(destination)
        return self.halt()


class Host:
    """The server's place for one machine at a time."""

    def __init__(self, settings, in_zone, log):
        self.settings, self.in_zone, self.log = settings, in_zone, log
        self.lock = threading.Lock()
        self.machine = None

    def present(self):
        if self.machine is None:
            raise no_instance()
        return self.machine

    def running(self):
        """The active machine."""
        machine = self.machine
        if machine is None or not machine.active:
            raise no_instance()
        return machine

    def ensure(self, request):
        init = request["init"]
        with self.lock:
            if self.machine is not None and not self.machine.over:
                raise Refused(409, "instance already initialized", "AlreadyInitialized")
            self.machine = machine = Machine(request["properties"], init["value"].get("spec"),
                                             self.settings, self.log)
        if init["method"] == "Spec":
            machine.build(self.in_zone)
            return {"migrate": None}
        ident = init["value"]["migration_id"]
        machine.launch(machine.migrate_in, ident)
        return {"migrate": {"migration_id": ident}}
