# SPDX-License-Identifier: MPL-2.0
"""The HTTP side of the fake propolis-server: connections, versions, routes, answers."""

import email.utils
import json
import re
import select
import socket
import threading
import time
import urllib.parse
import uuid

import propolis_spec
import websocket_server as ws
from propolis_serial import Client, Expired
from propolis_vm import Host, Refused, no_instance

LONGEST_BODY = 1 << 20
LONGEST_HEAD = 64 << 10
REASONS = {101: "Switching Protocols", 200: "OK", 201: "Created", 204: "No Content",
           400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           409: "Conflict", 410: "Gone", 424: "Failed Dependency", 500: "Internal Server Error",
           503: "Service Unavailable"}
NUMBER = r"(0|[1-9][0-9]*)"
SEMVER = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
GARBAGE = b"\x16\x03\x01\x02\x00 this is not HTTP \x00\xff\r\n\r\n"


def version_of(header, newest):
    """The three numbers of the api-version header."""
    if header is None:
        raise Refused(400, "missing expected header \"api-version\"")
    match = SEMVER.fullmatch(header)
    if not match:
        raise Refused(400, f"bad value for header \"api-version\": \"{header}\"")
    version = tuple(int(number) for number in match.groups()[:3])
    if version > newest:
        raise Refused(400, f"server does not support this API version: {header}")
    return version


class Gone(Exception):
    """The connection is over, by whoever's will."""


class Connection:
    """One client: reads requests, sends what the fault that is in force lets through."""

    def __init__(self, sock):
        self.socket, self.rest, self.sent, self.fault = sock, b"", 0, {}
        self.sending = threading.Lock()

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.rest += data

    def read(self, count):
        parts = [self.rest[:count]]
        left, self.rest = count - len(self.rest), self.rest[count:]
        while left > 0:
            data = self.socket.recv(min(left, 1 << 20))
            if not data:
                raise EOFError
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def line(self):
        while b"\n" not in self.rest:
            if len(self.rest) > LONGEST_HEAD:
                raise Gone
            self.more()
        line, self.rest = self.rest.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def send(self, data):
        with self.sending:
            cut, slow = self.fault.get("cut"), self.fault.get("slow")
            if cut is not None:
                data = data[:max(cut - self.sent, 0)]
            self.sent += len(data)
            if slow:
                for n in range(len(data)):
                    self.socket.sendall(data[n:n + 1])
                    time.sleep(slow)  # this is the slowness, nothing waits for it
            else:
                self.socket.sendall(data)
            if cut is not None and self.sent >= cut:
                self.socket.shutdown(socket.SHUT_RDWR)
                raise Gone

    def is_there(self):
        """The client neither left nor sent anything while it waits for an answer."""
        if not select.select([self.socket], [], [], 0)[0]:
            return True
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False


class Request:
    """What came: method, path, query (a dictionary), headers (lower case), body (bytes)."""

    def __init__(self, connection):
        words = connection.line().split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise Gone
        self.method, self.target, self.protocol = words
        url = urllib.parse.urlsplit(self.target)
        self.path, self.query_text = url.path, url.query
        self.headers = {}
        while line := connection.line():
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.too_long = False
        if self.headers.get("expect", "").lower() == "100-continue":
            connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body = self.read_body(connection)
        self.version = None

    def read_body(self, connection):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.keep(connection, int(self.headers.get("content-length", "0")), b"")
        body = b""
        while size := int(connection.line().partition(";")[0], 16):
            body = self.keep(connection, size, body)
            connection.line()
        while connection.line():
            pass
        return body

    def keep(self, connection, size, body):
        """Reads all of it, keeps what a server would."""
        self.too_long = self.too_long or len(body) + size > LONGEST_BODY
        while size:
            piece = connection.read(min(size, 1 << 20))
            size -= len(piece)
            body += b"" if self.too_long else piece
        return body

    def json(self):
        """The body as JSON: duplicates are remembered, everything else is 400."""
        if self.too_long:
            raise Refused(400, f"request body exceeded maximum size of {LONGEST_BODY} bytes")
        kind = self.headers.get("content-type", "application/json").partition(";")[0]
        if kind.strip().lower() != "application/json":
            raise Refused(400, f"expected content type \"application/json\", got \"{kind}\"")
        return propolis_spec.parse(self.body)

    def query(self, *names):
        """u64 parameters that may be missing."""
        out = {}
        for name, value in urllib.parse.parse_qsl(self.query_text, keep_blank_values=True):
            if name in names and (name in out or not re.fullmatch(r"[0-9]{1,20}", value)
                                  or int(value) >= 1 << 64):
                raise Refused(400, f"unable to parse query string: {name}")
            if name in names:
                out[name] = int(value)
        return out

    def for_the_log(self):
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return {"not JSON": self.body.decode("latin-1")}


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.host = Host(folder.settings, folder.in_zone, folder.event)

    def newest(self):
        text = self.folder.settings().get("max_version", "5.0.0")
        return tuple(int(number) for number in text.split("."))

    # Connections

    def listen(self, address, serve):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.create_server(address, family=family, backlog=64)

        def accept():
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(sock,), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[:2]

    def serve(self, sock):
        connection = Connection(sock)
        try:
            while self.one_request(connection):
                pass
        except (EOFError, Gone, OSError, ValueError):
            pass
        finally:
            sock.close()

    @staticmethod
    def serve_vnc(sock):
        """As much of RFB as tells who is there."""
        with sock:
            try:
                sock.sendall(b"RFB 003.008\n")
                while sock.recv(4096):
                    pass
            except OSError:
                pass

    def one_request(self, connection):
        request = Request(connection)
        connection.fault = fault = self.folder.fault(request.method, request.path)
        connection.sent = 0
        if fault.get("close"):
            self.record(request, 0, None, fault)
            return False
        if "delay" in fault:
            time.sleep(fault["delay"])  # this is the slowness, nothing waits for it
        if "garbage" in fault:
            self.record(request, 0, None, fault)
            connection.send(GARBAGE)
            return False
        if "status" in fault:
            status, body = fault["status"], fault.get("body", self.error(
                fault["status"], REASONS.get(fault["status"], "Unknown")))
        else:
            status, body = self.handle(connection, request)
        if status == 101:
            return False
        self.record(request, status, body, fault)
        if status:
            self.answer(connection, status, body, "chunked" in fault)
        return bool(status) and request.protocol == "HTTP/1.1" and (
            request.headers.get("connection", "").lower() != "close")

    def record(self, request, status, reply, fault):
        row = {"method": request.method, "path": request.target, "status": status,
               "api_version": request.headers.get("api-version"), "reply": reply,
               "request_headers": request.headers, "request": request.for_the_log()}
        if fault:
            row["fault"] = fault
        self.folder.exchange(**row)

    @staticmethod
    def answer(connection, status, body, chunked):
        ident = body.get("request_id") if isinstance(body, dict) else None
        head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}",
                f"x-request-id: {ident or uuid.uuid4()}",
                f"date: {email.utils.formatdate(usegmt=True)}"]
        data = b""
        if status != 204:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            head += ["content-type: application/json", "transfer-encoding: chunked" if chunked
                     else f"content-length: {len(data)}"]
        if data and chunked:
            size = max(len(data) // 3, 1)
            pieces = [data[at:at + size] for at in range(0, len(data), size)] + [b""]
            data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        connection.send("\r\n".join(head + ["", ""]).encode() + data)

    @staticmethod
    def error(status, message, code=None):
        body = {"request_id": str(uuid.uuid4()), "message": message}
        if status == 500 and code is None:
            code = "Internal"
        return body if code is None else {**body, "error_code": code}

    def handle(self, connection, request):
        """Returns status and body; 101: it was a WebSocket and is over; 0: the client left."""
        try:
            request.version = version_of(request.headers.get("api-version"), self.newest())
            return self.route(connection, request)
        except Refused as error:
            return error.status, self.error(error.status, error.message, error.code)
        except propolis_spec.Bad as error:
            return 400, self.error(400, str(error))

    def route(self, connection, request):
        other_method = False
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                return handler(self, connection, request, *match.groups())
            other_method = other_method or bool(match)
        raise Refused(405, "Method Not Allowed") if other_method else Refused(404, "Not Found")

    # Routes

    def instance_get(self, _, request):
        machine = self.host.present()
        return 200, {"instance": {"properties": machine.properties, "state": machine.state}}

    def instance_ensure(self, _, request):
        return 201, self.host.ensure(propolis_spec.ensure_request(request.json(),
                                                                  request.version))

    def spec_get(self, _, request):
        machine = self.host.present()
        spec = {"type": "WaitingForMigrationSource"}
        if machine.spec is not None:
            spec = {"type": "Present",
                    "value": propolis_spec.as_version(machine.spec, request.version)}
        return 200, {"properties": machine.properties, "state": machine.state, "spec": spec}

    def state_put(self, _, request):
        wanted = propolis_spec.state_request(request.json())
        self.host.running().put(wanted)
        return 204, None

    def state_monitor(self, connection, request):
        gen = propolis_spec.monitor_request(request.json())
        state = self.host.present().monitor(gen, connection.is_there)
        return (200, state) if state else (0, None)

    def migration_status(self, _, request):
        return 200, self.host.present().migration

    def nmi(self, _, request):
        self.host.running()
        return 200, None

    def serial_history(self, _, request):
        wanted = request.query("from_start", "most_recent", "max_bytes")
        terminal = self.host.running().terminal
        limit = wanted.pop("max_bytes", None)
        if len(wanted) != 1:
            raise Refused(400, "Exactly one of 'from_start' or 'most_recent' must be specified.")
        try:
            with terminal.lock:
                data, end = terminal.history.read(
                    **wanted, **({} if limit is None else {"limit": limit}))
        except Expired as error:
            raise Refused(400, str(error)) from None
        return 200, {"data": list(data), "last_byte_offset": end}

    def no_such_disk(self, _, request, disk, *more):
        """Of a machine without Crucible volumes."""
        if request.method == "PUT":
            propolis_spec.vcr_request(request.json())
        if more:
            propolis_spec.uuid_text(more[0], "snapshot_id")
        self.host.running()
        raise Refused(404, f"No crucible backend for id {disk}")

    # WebSockets

    def upgrade(self, connection, request):
        problem = ws.upgrade_problem(request.headers)
        if problem:
            raise Refused(400, problem)
        self.record(request, 101, None, connection.fault)
        connection.send((f"HTTP/1.1 101 {REASONS[101]}\r\nconnection: Upgrade\r\n"
                         "upgrade: websocket\r\nsec-websocket-accept: "
                         f"{ws.accept_value(request.headers)}\r\n\r\n").encode())

    def serial(self, connection, request):
        """One offset gives history first; none, or both, what comes from now on."""
        wanted = request.query("from_start", "most_recent")
        if self.folder.settings().get("silent_upgrade") and not (
                self.host.machine and self.host.machine.active):
            self.upgrade(connection, request)
            return 101, None
        terminal = self.host.running().terminal
        self.upgrade(connection, request)
        client = Client(connection.send)
        writer = threading.Thread(target=self.write_to, args=(client, connection), daemon=True)
        if terminal.attach(client, wanted if len(wanted) == 1 else None):
            self.folder.event("attached")
            writer.start()
            try:
                self.listen_to(client, connection, terminal)
            finally:
                terminal.detach(client)
                client.finish()
                self.folder.event("detached")
        else:
            writer.start()
        writer.join(10)
        return 101, None

    @staticmethod
    def write_to(client, connection):
        try:
            client.write()
            connection.socket.shutdown(socket.SHUT_WR)
        except (Gone, OSError):
            pass

    def listen_to(self, client, connection, terminal):
        try:
            for opcode, data in ws.messages(connection.read):
                if opcode == ws.BINARY:
                    terminal.typed(data)
                elif opcode == ws.TEXT:
                    self.folder.event("text ignored", text=data.decode())
                elif opcode == ws.PING:
                    client.put(ws.frame(ws.PONG, data))
                    self.folder.event("ping", data=data.decode("latin-1"))
                elif opcode == ws.PONG:
                    self.folder.event("pong", data=data.decode("latin-1"))
                elif opcode == ws.CLOSE:
                    problem = ws.close_problem(data)
                    if problem:
                        raise ws.Violation(1002, problem)
                    client.put(ws.frame(ws.CLOSE, data))
                    self.folder.event("close", code=int.from_bytes(data[:2], "big"))
                    return
        except ws.Violation as error:
            self.folder.event("violation", text=str(error), code=error.code)
            client.put(ws.close_frame(error.code, str(error)))
        except EOFError:
            pass

    def vnc(self, connection, request):
        self.upgrade(connection, request)
        connection.send(ws.frame(ws.BINARY, b"RFB 003.008\n"))
        try:
            for opcode, data in ws.messages(connection.read):
                if opcode == ws.CLOSE:
                    connection.send(ws.frame(ws.CLOSE, data))
                    break
        except (ws.Violation, EOFError):
            pass
        return 101, None

    def migrate_start(self, connection, request, ident):
        """Servers only: there is no other one here."""
        propolis_spec.uuid_text(ident, "migration_id")
        raise no_instance()

    # What tests do to the guest

    def command(self, row):
        machine, row = self.host.machine, dict(row)
        do, text = row.pop("do"), row.get("text", "").encode()
        self.folder.event("command", do=do)
        if do == "exit":
            return row.get("status", 1)
        if machine is None:
            return None
        terminal = machine.terminal
        if do in ("poweroff", "reset", "fail"):
            machine.guest(do.capitalize())
        elif do == "print":
            terminal.show(text * row.get("times", 1))
        elif do == "fragment":
            terminal.show_in_fragments(text)
        elif do == "ping":
            terminal.everybody(ws.frame(ws.PING, text))
        elif do == "garbage":
            terminal.everybody(b"\x83\x02??" if not text else text)
        elif do == "migrate-notice":
            terminal.migrating(row["destination"])
        elif do == "migrate-out":
            machine.guest("MigrateOut", ident=row["id"], destination=row["destination"],
                          error=row.get("error", False))
        return None


ROUTES = (
    ("GET", "/instance", Server.instance_get),
    ("PUT", "/instance", Server.instance_ensure),
    ("GET", "/instance/spec", Server.spec_get),
    ("PUT", "/instance/state", Server.state_put),
    ("GET", "/instance/state-monitor", Server.state_monitor),
    ("GET", "/instance/serial", Server.serial),
    ("GET", "/instance/serial/history", Server.serial_history),
    ("GET", "/instance/vnc", Server.vnc),
    ("GET", "/instance/migration-status", Server.migration_status),
    ("GET", "/instance/migrate/([^/]+)/start", Server.migrate_start),
    ("POST", "/instance/nmi", Server.nmi),
    ("POST", "/instance/disk/([^/]+)/snapshot/([^/]+)", Server.no_such_disk),
    ("GET", "/instance/disk/([^/]+)/status", Server.no_such_disk),
    ("PUT", "/instance/disk/([^/]+)/vcr", Server.no_such_disk),
)
