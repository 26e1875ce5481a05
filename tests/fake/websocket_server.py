# SPDX-License-Identifier: MPL-2.0
"""The server's side of a WebSocket (RFC 6455), strict with its client."""

import base64
import hashlib
import struct

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LONGEST = 16 << 20


class Violation(Exception):
    """The client did what it must not; code: for the close frame."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def upgrade_problem(headers):
    """Why this is no upgrade that can be answered, or None."""
    def words(name):
        return [word.strip().lower() for word in headers.get(name, "").split(",")]
    if "upgrade" not in words("connection"):
        return "expected connection upgrade"
    if "websocket" not in words("upgrade"):
        return "unexpected protocol for upgrade"
    if headers.get("sec-websocket-version") != "13":
        return "missing or invalid websocket version"
    try:
        nonce = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except ValueError:
        nonce = b""
    return None if len(nonce) == 16 else "missing or invalid websocket key"


def accept_value(headers):
    digest = hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()
    return base64.b64encode(digest).decode()


def frame(opcode, data=b"", final=True):
    head = bytes([(0x80 if final else 0) | opcode])
    if len(data) < 126:
        return head + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return head + struct.pack(">BH", 126, len(data)) + data
    return head + struct.pack(">BQ", 127, len(data)) + data


def close_frame(code, reason=""):
    return frame(CLOSE, struct.pack(">H", code) + reason.encode())


def read_frame(read):
    """read(n): exactly n bytes, or EOFError.  Returns (final, opcode, data)."""
    first, second = read(2)
    final, opcode, length = bool(first & 0x80), first & 0x0F, second & 0x7F
    if first & 0x70:
        raise Violation(1002, "reserved bits are set")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise Violation(1002, f"unknown opcode {opcode}")
    if not second & 0x80:
        raise Violation(1002, "the client's frame is not masked")
    if opcode & 8 and (not final or length > 125):
        raise Violation(1002, "a control frame that is long or fragmented")
    least = 0
    if length == 126:
        length, least = struct.unpack(">H", read(2))[0], 126
    elif length == 127:
        length, least = struct.unpack(">Q", read(8))[0], 1 << 16
    if length < least:
        raise Violation(1002, "a length that is not written the shortest way")
    if length > LONGEST:
        raise Violation(1009, f"a frame of {length} bytes")
    mask = read(4)
    data = read(length)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return final, opcode, (int.from_bytes(data, "big") ^ key).to_bytes(length, "big")


def messages(read):
    """(opcode, data) of whole messages and of control frames, until EOFError or Violation."""
    kind, parts = None, b""
    while True:
        final, opcode, data = read_frame(read)
        if opcode & 8:
            yield opcode, data
            continue
        if (opcode == CONTINUATION) != (kind is not None):
            raise Violation(1002, "fragments out of order")
        kind, parts = kind if kind is not None else opcode, parts + data
        if len(parts) > 4 * LONGEST:
            raise Violation(1009, "a message that is too long")
        if final:
            if kind == TEXT:
                try:
                    parts.decode()
                except UnicodeDecodeError:
                    raise Violation(1007, "text that is not UTF-8") from None
            yield kind, parts
            kind, parts = None, b""


def close_problem(data):
    """What is wrong with the payload of a close frame, or None."""
    if not data:
        return None
    if len(data) < 2:
        return "a close frame of one byte"
    code = struct.unpack(">H", data[:2])[0]
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return f"close code {code}"
    try:
        data[2:].decode()
    except UnicodeDecodeError:
        return "a reason that is not UTF-8"
    return None
