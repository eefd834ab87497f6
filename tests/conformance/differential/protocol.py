"""Kafka's protocol from its definitions (`broker/wire/schema`), independent of Weir's own codec: any message in any version, as a dict."""

import json
import os
import socket
import struct
import uuid

SCHEMA = os.path.join(os.path.dirname(__file__), "../../../broker/wire/schema")
NULL_UUID = str(uuid.UUID(int=0))


def _range(text):
    if text in (None, "none"):
        return (1, 0)
    low, _, high = text.partition("-")
    if low.endswith("+"):
        return (int(low[:-1]), 1 << 15)
    return (int(low), int(high or low))


def _within(text, version):
    low, high = _range(text)
    return low <= version <= high


class Api:
    def __init__(self, name):
        self.name = name
        self.request, self.response = _load(f"{name}Request"), _load(f"{name}Response")
        self.key = self.request["apiKey"]
        self.low, self.high = _range(self.request["validVersions"])


def _load(name):
    with open(os.path.join(SCHEMA, f"{name}.json")) as file:
        return json.load(file)


APIS = {}
for _file in sorted(os.listdir(SCHEMA)):
    if _file.endswith("Request.json"):
        _api = Api(_file.removesuffix("Request.json"))
        APIS[_api.name] = _api


class Writer:
    def __init__(self, version, flexible):
        self.version, self.flexible, self.out = version, flexible, bytearray()

    def pack(self, form, *values):
        self.out += struct.pack(">" + form, *values)

    def varint(self, value):
        while value > 0x7F:
            self.out.append(value & 0x7F | 0x80)
            value >>= 7
        self.out.append(value)

    def length(self, count, short=False):
        if self.flexible:
            self.varint(count + 1)
        else:
            self.pack("h" if short else "i", count)


class Reader:
    def __init__(self, data, version, flexible):
        self.data, self.at, self.version, self.flexible = data, 0, version, flexible

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def unpack(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self, short=False):
        if self.flexible:
            return self.varint() - 1
        return self.unpack("h" if short else "i")


NUMBERS = {"int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float64": "d"}


class Codec:
    """One message's definition in one version."""

    def __init__(self, definition, version):
        self.definition, self.version = definition, version
        self.flexible = _within(definition.get("flexibleVersions"), version)
        self.structs = {common["name"]: common["fields"] for common in definition.get("commonStructs", [])}

    def fields_of(self, field, kind):
        return field.get("fields") or self.structs[kind]

    def default(self, field):
        kind = field["type"]
        said = field.get("default")
        if said in ("null",) or (said is None and kind not in NUMBERS and False):
            return None
        if kind.startswith("[]"):
            return []
        if kind in NUMBERS:
            return (float(said or 0) if kind == "float64" else int(str(said or 0), 0)) if said is not None else 0
        if kind == "bool":
            return str(said).lower() == "true"
        if kind == "string":
            return said or ""
        if kind in ("bytes", "records"):
            return b""
        if kind == "uuid":
            return NULL_UUID
        return {}

    def encode(self, value):
        writer = Writer(self.version, self.flexible)
        self._write_struct(writer, self.definition["fields"], value)
        return bytes(writer.out)

    def _write_struct(self, writer, fields, value):
        unknown = set(value) - {field["name"] for field in fields}
        if unknown:
            raise KeyError(f"no field {unknown} in {[field['name'] for field in fields]}")
        tagged = []
        for field in fields:
            if not _within(field["versions"], self.version) and not _within(field.get("taggedVersions"), self.version):
                continue
            content = value.get(field["name"], self.default(field))
            if "tag" in field and _within(field.get("taggedVersions"), self.version):
                if content != self.default(field):
                    inner = Writer(self.version, self.flexible)
                    self._write(inner, field, field["type"], content)
                    tagged.append((field["tag"], inner.out))
                continue
            self._write(writer, field, field["type"], content)
        if self.flexible:
            writer.varint(len(tagged))
            for tag, content in sorted(tagged):
                writer.varint(tag)
                writer.varint(len(content))
                writer.out += content

    def _write(self, writer, field, kind, value):
        if kind in NUMBERS:
            writer.pack(NUMBERS[kind], value)
        elif kind == "bool":
            writer.pack("b", int(value))
        elif kind == "uuid":
            writer.out += uuid.UUID(value).bytes
        elif kind in ("string", "bytes", "records"):
            if value is None:
                writer.length(-1, kind == "string")
            else:
                data = value.encode() if isinstance(value, str) else value
                writer.length(len(data), kind == "string")
                writer.out += data
        elif kind.startswith("[]"):
            if value is None:
                writer.length(-1)
                return
            writer.length(len(value))
            for one in value:
                self._write(writer, {**field, "nullableVersions": None}, kind[2:], one)
        else:
            if field.get("nullableVersions") and _within(field["nullableVersions"], self.version):
                writer.pack("b", -1 if value is None else 1)
                if value is None:
                    return
            self._write_struct(writer, self.fields_of(field, kind), value)

    def decode(self, data):
        reader = Reader(data, self.version, self.flexible)
        value = self._read_struct(reader, self.definition["fields"])
        if reader.at != len(data):
            raise ValueError(f"{len(data) - reader.at} bytes are left over")
        return value

    def _read_struct(self, reader, fields):
        value, by_tag = {}, {}
        for field in fields:
            if "tag" in field and _within(field.get("taggedVersions"), self.version):
                by_tag[field["tag"]] = field
                value[field["name"]] = self.default(field)
            elif _within(field["versions"], self.version):
                value[field["name"]] = self._read(reader, field, field["type"])
        if self.flexible:
            for _ in range(reader.varint()):
                tag, size = reader.varint(), reader.varint()
                inner = Reader(reader.take(size), self.version, self.flexible)
                field = by_tag[tag]
                value[field["name"]] = self._read(inner, field, field["type"])
        return value

    def _read(self, reader, field, kind):
        if kind in NUMBERS:
            return reader.unpack(NUMBERS[kind])
        if kind == "bool":
            return reader.unpack("b") != 0
        if kind == "uuid":
            return str(uuid.UUID(bytes=reader.take(16)))
        if kind in ("string", "bytes", "records"):
            length = reader.length(kind == "string")
            if length < 0:
                return None
            data = reader.take(length)
            return data.decode() if kind == "string" else data
        if kind.startswith("[]"):
            length = reader.length()
            if length < 0:
                return None
            return [self._read(reader, {**field, "nullableVersions": None}, kind[2:]) for _ in range(length)]
        if field.get("nullableVersions") and _within(field["nullableVersions"], self.version):
            if reader.unpack("b") < 0:
                return None
        return self._read_struct(reader, self.fields_of(field, kind))


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Connection:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        self.number = 0

    def ask(self, name, version, body, answered=True):
        """Sends a request and returns the response as a dict."""
        api = APIS[name]
        request, response = Codec(api.request, version), Codec(api.response, version)
        self.number += 1
        header = struct.pack(">hhi", api.key, version, self.number) + struct.pack(">h", 4) + b"diff"
        frame = header + (b"\0" if request.flexible else b"") + request.encode(body)
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        if not answered:
            return None
        data = self._receive(struct.unpack(">i", self._receive(4))[0])
        if struct.unpack(">i", data[:4])[0] != self.number:
            raise ValueError("the answer is to another request")
        data = data[4:]
        if response.flexible and name != "ApiVersions":
            if data[0] != 0:
                raise ValueError("tagged fields in the header")
            data = data[1:]
        if name == "ApiVersions" and data[:2] == b"\0\x23":
            return Codec(api.response, 0).decode(data)  # a version that it does not know is answered in version 0
        return response.decode(data)

    def _receive(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise Closed()
            data += more
        return data

    def close(self):
        self.socket.close()


def crc32c(data, table=[]):
    if not table:
        for n in range(256):
            for _ in range(8):
                n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
            table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _zigzag(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def batch(values, time=1_700_000_000_000, producer=-1, epoch=-1, sequence=-1, attributes=0, magic=2, count=None, bad_crc=False):
    """A record batch with these values, keys k0, k1, …"""
    records = b""
    for number, value in enumerate(values):
        key = b"k%d" % number
        content = b"\0" + _zigzag(number) + _zigzag(number) + _zigzag(len(key)) + key
        content += _zigzag(-1) if value is None else _zigzag(len(value)) + value
        content += _zigzag(0)
        records += _zigzag(len(content)) + content
    last = len(values) - 1
    body = struct.pack(">hiqqqhii", attributes, last, time, time + max(last, 0), producer, epoch, sequence, len(values) if count is None else count)
    body += records
    crc = crc32c(body) ^ bad_crc
    rest = struct.pack(">ibI", 0, magic, crc) + body
    return struct.pack(">qi", 0, len(rest)) + rest
