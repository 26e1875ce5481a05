# SPDX-License-Identifier: MPL-2.0
"""com1 of the fake's guest: what it prints, what it remembers, and who is attached to it."""

import json
import queue
import threading

import websocket_server as ws

KEPT = 1 << 20  # at the beginning, and again at the end
PIECE = 16 << 10
BOOT = ("\r\nUEFI firmware (fake) on com1\r\n", "Booting {name} from the first disk\r\n",
        "{name} login: ")


class Expired(Exception):
    pass


class History:
    """The first and the last MiB; `kept` is smaller in no server, but in a test it may be."""

    def __init__(self, kept=KEPT):
        self.kept, self.total = kept, 0
        self.first, self.last = bytearray(), bytearray()

    def add(self, data):
        self.last += data
        self.total += len(data)
        extra = len(self.last) - self.kept
        if extra > 0:
            self.first += self.last[:min(extra, self.kept - len(self.first))]
            del self.last[:extra]

    def read(self, from_start=None, most_recent=None, limit=PIECE):
        """Returns bytes and the offset behind them."""
        if from_start is None:
            from_start = max(self.total - most_recent, 0)
        at = min(from_start, self.total)
        gap_end = self.total - len(self.last)
        if at < len(self.first):
            data = self.first[at:at + limit]
            if len(self.first) == gap_end:
                data += self.last[:limit - len(data)]
        elif at >= gap_end:
            data = self.last[at - gap_end:at - gap_end + limit]
        else:
            raise Expired(f"Requested byte offset {at} is no longer cached: only the first "
                          f"{len(self.first)} and the most recent {len(self.last)} bytes of "
                          f"{self.total} are")
        return bytes(data), at + len(data)


class Client:
    """One WebSocket; what it is sent is queued, so that a slow one holds up nobody."""

    def __init__(self, send):
        self.send, self.frames = send, queue.SimpleQueue()

    def put(self, *frames):
        for frame in frames:
            self.frames.put(frame)

    def finish(self):
        self.frames.put(None)

    def write(self):
        """Sends until finish(), on a thread of its own."""
        try:
            while (frame := self.frames.get()) is not None:
                self.send(frame)
        except OSError:
            pass


class Terminal:
    def __init__(self, log):
        self.log = log
        self.lock = threading.Lock()
        self.history, self.clients = History(), []
        self.on, self.closed, self.line = False, False, bytearray()

    # The guest

    def boot(self, name):
        with self.lock:
            self.on, self.line = True, bytearray()
        for text in BOOT:
            self.show(text.format(name=name).encode())

    def off(self):
        with self.lock:
            self.on = False

    def show(self, data):
        with self.lock:
            self.output(data, ws.frame(ws.BINARY, data))

    def output(self, data, *frames):
        self.history.add(data)
        for client in self.clients:
            client.put(*frames)

    def show_in_fragments(self, data):
        """One message in three frames, with a ping in their midst."""
        a, b = len(data) // 3, 2 * len(data) // 3
        with self.lock:
            self.output(data, ws.frame(ws.BINARY, data[:a], final=False),
                        ws.frame(ws.CONTINUATION, data[a:b], final=False),
                        ws.frame(ws.PING, b"between"), ws.frame(ws.CONTINUATION, data[b:]))

    def typed(self, data):
        """Echoes every byte as it is, a carriage return as a new line, and answers a line."""
        with self.lock:
            if not self.on:
                return
            out = bytearray()
            for byte in data:
                if byte == 13:
                    out += b"\r\n"
                    if self.line:
                        out += b"you typed: " + self.line + b"\r\n"
                    self.line = bytearray()
                else:
                    out.append(byte)
                    self.line.append(byte)
            for at in range(0, len(out), PIECE):
                piece = bytes(out[at:at + PIECE])
                self.output(piece, ws.frame(ws.BINARY, piece))

    # Who is attached

    def attach(self, client, offset):
        """offset: arguments of History.read, or None for what comes from now on.  False: the
        history that was asked for ran into what is forgotten; the connection is just dropped."""
        with self.lock:
            whole = True
            try:
                while offset is not None:
                    data, end = self.history.read(**offset)
                    if not data:
                        break
                    client.put(ws.frame(ws.BINARY, data))
                    offset = {"from_start": end}
            except Expired as error:
                self.log("expired", text=str(error))
                whole = False
            if self.closed:
                client.put(ws.close_frame(1001, "VM stopped"))
                whole = False
            if whole:
                self.clients.append(client)
            else:
                client.finish()
            return whole

    def detach(self, client):
        with self.lock:
            if client in self.clients:
                self.clients.remove(client)

    def everybody(self, frame):
        with self.lock:
            for client in self.clients:
                client.put(frame)

    def migrating(self, destination):
        with self.lock:
            message = {"Migrating": {"destination": destination,
                                     "from_start": self.history.total}}
            for client in self.clients:
                client.put(ws.frame(ws.TEXT, json.dumps(message).encode()))

    def close(self):
        with self.lock:
            self.closed = True
            for client in self.clients:
                client.put(ws.close_frame(1001, "VM stopped"))
                client.finish()
            self.clients = []
