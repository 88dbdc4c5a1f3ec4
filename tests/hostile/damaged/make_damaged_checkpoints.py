#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a corpus of damaged checkpoints, one fault each, and legal oddities that must load.

usage: make_damaged_checkpoints.py FOLDER

FOLDER/manifest.json lists the cases: {"name", "open": "file", "folder" or "config", "path", "expect", "says"}. "expect" is the
kind of CheckpointError, or "ok"; "says" is text the message must have. The same cases come out every time.
"""

import json
import os
import pathlib
import struct
import sys

VOCAB, POSITIONS, WIDTH = 3, 2, 4
JSON_FAULT = "InvalidHeaderDeserialization"
MIB = 1024 * 1024


def floats(count):
    return struct.pack(f"<{count}f", *(0.25 * i for i in range(count)))


WTE, WPE = floats(VOCAB * WIDTH), floats(POSITIONS * WIDTH)


def entry(begin, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def model_header(wte="wte.weight", wpe="wpe.weight"):
    return {wte: entry(0, 48, "F32", [VOCAB, WIDTH]), wpe: entry(48, 80, "F32", [POSITIONS, WIDTH])}


def encode(value):
    return (value if isinstance(value, bytes) else
            value.encode() if isinstance(value, str) else json.dumps(value).encode())


def tensors_file(header, data=b"", length=None):
    header = encode(header)
    return struct.pack("<Q", len(header) if length is None else length) + header + data


MODEL = tensors_file(model_header(), WTE + WPE)
CONFIG = {"model_type": "gpt2", "vocab_size": VOCAB, "n_positions": POSITIONS, "n_embd": WIDTH}


class Corpus:

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.cases = []

    def _case(self, name, kind, expect, says):
        path = self.folder / f"{len(self.cases):03}"
        assert name not in {case["name"] for case in self.cases}, name
        self.cases.append({"name": name, "open": kind, "path": path.name, "expect": expect, "says": says})
        return path

    def path(self, name, expect, says=""):
        """A case that is a path, to be made by the caller."""
        return self._case(name, "file", expect, says)

    def file(self, name, expect, content, says=""):
        self.path(name, expect, says).write_bytes(content)

    def header(self, name, expect, header, data=b"", says=""):
        self.file(name, expect, tensors_file(header, data), says)

    def tensor(self, name, expect, text, data=b"12345678", says=""):
        """A file with one tensor "a", given as JSON text."""
        self.header(name, expect, '{"a":' + text + "}", data, says)

    def folder_case(self, name, expect, files, says="", kind="folder"):
        path = self._case(name, kind, expect, says)
        path.mkdir()
        for file, content in files.items():
            target = path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(encode(content))
        return path

    def config(self, name, expect, config, says="", tables=None):
        """A config that is read as a whole if `tables` is given, which is what becomes of the tables then."""
        files = {"config.json": config, "model.safetensors": MODEL}
        self.folder_case("config: " + name, tables or expect, files, "" if tables else says)
        if tables:
            self.folder_case("whole config: " + name, expect, files, says, "config")

    def model(self, name, expect, header, data=WTE + WPE, says=""):
        files = {"config.json": CONFIG, "model.safetensors": tensors_file(header, data)}
        self.folder_case("model: " + name, expect, files, says)

    def index(self, name, expect, index, shards=None, says=""):
        files = {"config.json": CONFIG, "model.safetensors.index.json": index}
        files.update({"shard": MODEL} if shards is None else shards)
        return self.folder_case("index: " + name, expect, files, says)


def sizes_and_lengths(corpus):
    header_end = len(MODEL) - 80
    for size in range(8):
        corpus.file(f"cut to {size} bytes", "HeaderTooSmall", MODEL[:size])
    for size in [8, 9, 16, header_end // 2, header_end - 1]:
        corpus.file(f"cut to {size} bytes, inside the header", "InvalidHeaderLength", MODEL[:size])
    for size in [header_end, header_end + 1, header_end + 48, len(MODEL) - 1]:
        corpus.file(f"cut to {size} bytes, inside the data", "MetadataIncompleteBuffer", MODEL[:size])
    for count in [1, 8, 4096]:
        corpus.file(f"{count} bytes after the data", "MetadataIncompleteBuffer", MODEL + bytes(count))
    for length in [3, 4, 1000, 99_999_999, 100_000_000]:
        corpus.file(f"header length {length} in a file of 10 bytes", "InvalidHeaderLength",
                    tensors_file("{}", length=length))
    for name, length in [("10^8 + 1", 100_000_001), ("2^31", 2**31), ("2^32 + 2", 2**32 + 2),
                         ("2^63 - 1", 2**63 - 1), ("2^63", 2**63), ("2^64 - 8", 2**64 - 8),
                         ("2^64 - 1", 2**64 - 1)]:
        corpus.file(f"header length {name}", "HeaderTooLarge", tensors_file("{}", length=length))
    corpus.file("header length big-endian", "HeaderTooLarge", struct.pack(">Q", 2) + b"{}")
    corpus.file("header length 0", JSON_FAULT, tensors_file(""))
    corpus.file("header length 1 too short", JSON_FAULT, tensors_file("{}", length=1))
    path = corpus.path("zeros as far as 100,000,008 bytes, all of them header", JSON_FAULT)
    path.write_bytes(struct.pack("<Q", 100_000_000))
    os.truncate(path, 100_000_008)
    for name, magic, says in foreign_files():
        corpus.file(name, "HeaderTooLarge" if magic[4:8] != bytes(4) else "InvalidHeaderLength", magic, says)
        corpus.index(name, "IndexInvalid", magic, says=says)


def header_text(corpus):
    tensor = '{"dtype":"U8","shape":[2,4],"data_offsets":[0,8]}'
    good = '{"__metadata__":{"format":"pt"},"a":' + tensor + "}"
    for size in range(len(good)):
        corpus.header(f"header cut to {size} characters", JSON_FAULT, good[:size], b"12345678")
    for name, data in [("lone continuation", b"\x80"), ("0xFF", b"\xff"), ("overlong slash", b"\xc0\xaf"),
                       ("overlong, three bytes", b"\xe0\x80\xaf"), ("surrogate", b"\xed\xa0\x80"),
                       ("beyond U+10FFFF", b"\xf4\x90\x80\x80"), ("five bytes", b"\xf8\x88\x80\x80\x80"),
                       ("cut off", b"\xe2\x82"), ("Latin-1", b"caf\xe9")]:
        corpus.header(f"UTF-8 in a name: {name}", "InvalidHeader",
                      b'{"' + data + b'":' + tensor.encode() + b"}", b"12345678")
        corpus.header(f"UTF-8 after the object: {name}", "InvalidHeader", b"{}" + data)
    corpus.header("UTF-16", "InvalidHeader", "{}".encode("utf-16"))
    for name, text in [
        ("byte order mark", "\ufeff{}"), ("NUL after", "{}\0"), ("NULs as padding", "{}\0\0\0\0\0\0"),
        ("NUL before", "\0{}"), ("NUL inside", '{"a"\0:1}'), ("NUL in a string", '{"a\0":1}'),
        ("NUL between members", "{\0}"), ("comment", "{}//x"), ("block comment", "/* */{}"),
        ("hash comment", "{}#"), ("comma after", "{},"), ("trailing comma", '{"a":' + tensor + ",}"),
        ("leading comma", '{,"a":' + tensor + "}"), ("letter after", "{}x"), ("second object", "{}{}"),
        ("bracket after", "{}]"), ("form feed", "{}\f"), ("vertical tab", "\v{}"),
        ("no-break space", "\u00a0{}"), ("line separator", "{}\u2028"), ("single quotes", "{'a':1}"),
        ("bare key", "{a:1}"), ("no colon", '{"a" 1}'), ("two colons", '{"a"::1}'), ("array", "[]"),
        ("array of object", "[{}]"), ("null", "null"), ("true", "true"), ("number", "1"), ("string", '"{}"'),
        ("spaces only", "        "), ("letter", "x"), ("tab in a string", '{"\t":1}'),
        ("newline in a string", '{"\n":1}'), ("bad escape", '{"\\x":1}'), ("short escape", '{"\\u12":1}'),
        ("lone high surrogate", '{"\\ud800":1}'), ("lone low surrogate", '{"\\udc00":1}'),
        ("surrogates swapped", '{"\\udc00\\ud800":1}'), ("True", '{"a":True}'), ("None", '{"a":None}'),
        ("undefined", '{"a":undefined}'), ("leading zero", '{"a":01}'), ("plus", '{"a":+1}'),
        ("hex", '{"a":0x1}'), ("bare point", '{"a":.5}'), ("point after", '{"a":5.}'),
        ("bare exponent", '{"a":1e}'), ("minus alone", '{"a":-}'), ("underscore", '{"a":1_0}')
    ]:
        corpus.header(f"JSON: {name}", JSON_FAULT, text, b"")
    for literal in ["NaN", "Infinity", "-Infinity"]:
        corpus.header(f"JSON: {literal}", JSON_FAULT, '{"a":' + literal + "}",
                      says=f"{literal.strip('-')} for a is no JSON value")
        corpus.tensor(f"JSON: {literal} in an unknown field", JSON_FAULT,
                      tensor[:-1] + ',"x":' + literal + "}", says="is no JSON value")
    corpus.tensor("JSON: number overflow in an unknown field", JSON_FAULT, tensor[:-1] + ',"x":1e999}',
                  says="overflows a double")

    for depth, expect in [(127 - 2, "ok"), (127 - 1, JSON_FAULT), (10_000, JSON_FAULT),
                          (5_000_000, JSON_FAULT)]:
        corpus.tensor(f"nesting of {depth} arrays in a field", expect,
                      tensor[:-1] + ',"x":' + "[" * depth + "]" * depth + "}")
    for depth in [128, 1_000_000]:
        corpus.header(f"nesting of {depth} objects", JSON_FAULT, '{"a":' * depth + "1" + "}" * depth)
        corpus.header(f"nesting of {depth} arrays that never end", JSON_FAULT, "[" * depth)


def duplicates(corpus):
    tensor = '{"dtype":"U8","shape":[8],"data_offsets":[0,8]}'
    body = '"dtype":"U8","shape":[8],"data_offsets":[0,8]'
    twice = "twice in one object"
    corpus.header("duplicate tensor", JSON_FAULT, '{"a":' + tensor + ',"a":' + tensor + "}", b"12345678",
                  twice)
    corpus.header("duplicate tensor, other content", JSON_FAULT,
                  '{"a":' + tensor + ',"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}}', b"12345678",
                  twice)
    corpus.header("duplicate tensor, escaped", JSON_FAULT, '{"a":' + tensor + ',"\\u0061":' + tensor + "}",
                  b"12345678", twice)
    corpus.header("duplicate tensor, escaped surrogates", JSON_FAULT,
                  '{"\U0001f600":' + tensor + ',"\\ud83d\\ude00":' + tensor + "}", b"12345678", twice)
    corpus.header("duplicate tensor, empty name", JSON_FAULT, '{"":' + tensor + ',"":' + tensor + "}",
                  b"12345678", twice)
    corpus.header(
        "duplicate tensor, empty tensors", JSON_FAULT,
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b"", twice)
    corpus.header(
        "duplicate tensor, far apart", JSON_FAULT,
        "{" + ",".join(f'"{i % 999}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
                       for i in range(1000)) + "}", b"", twice)
    corpus.header("duplicate metadata", JSON_FAULT, '{"__metadata__":{},"__metadata__":{}}', b"", twice)
    corpus.header("duplicate metadata, null", JSON_FAULT, '{"__metadata__":null,"__metadata__":null}', b"",
                  twice)
    corpus.header("duplicate metadata, escaped", JSON_FAULT, '{"__metadata__":{},"\\u005f_metadata__":{}}',
                  b"", twice)
    corpus.header("duplicate metadata key", JSON_FAULT, '{"__metadata__":{"a":"1","a":"1"}}', b"", twice)
    corpus.header("duplicate metadata key, escaped", JSON_FAULT, '{"__metadata__":{"a/b":"1","a\\/b":"2"}}',
                  b"", twice)
    corpus.tensor("duplicate dtype", JSON_FAULT, '{"dtype":"U8",' + body + "}", says=twice)
    corpus.tensor("duplicate dtype, escaped", JSON_FAULT, '{"d\\u0074ype":"U8",' + body + "}", says=twice)
    corpus.tensor("duplicate shape", JSON_FAULT, '{"shape":[],' + body + "}", says=twice)
    corpus.tensor("duplicate data_offsets", JSON_FAULT, '{"data_offsets":[0,8],' + body + "}")
    corpus.tensor("duplicate unknown field", JSON_FAULT, "{" + body + ',"x":1,"x":1}', says=twice)
    corpus.tensor("duplicate deep in an unknown field", JSON_FAULT,
                  "{" + body + ',"x":[{"y":{"z":1,"z":2}}]}', says=twice)


def entries(corpus):
    numbers = [("a fraction", "37.9"), ("a whole fraction", "8.0"), ("negative", "-37"), ("minus zero", "-0"),
               ("true", "true"), ("false", "false"), ("a string", '"8"'), ("an exponent", "1e2"),
               ("a negative exponent", "80e-1"), ("null", "null"), ("an array", "[8]"), ("an object", "{}"),
               ("2^64", "18446744073709551616"), ("10^30", "1" + "0" * 30), ("beyond a double", "1e400")]
    for name, number in numbers:
        corpus.tensor(f"shape holds {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[' + number + '],"data_offsets":[0,8]}')
        corpus.tensor(f"shape ends with {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[8,' + number + '],"data_offsets":[0,8]}')
        corpus.tensor(f"offsets begin with {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[8],"data_offsets":[' + number + ",8]}")
        corpus.tensor(f"offsets end with {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[8],"data_offsets":[0,' + number + "]}")
    for name, value in [("null", "null"), ("a number", "8"), ("a string", '"8"'), ("an object", "{}"),
                        ("true", "true")]:
        corpus.tensor(f"shape is {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":' + value + ',"data_offsets":[0,8]}')
        corpus.tensor(f"data_offsets is {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[8],"data_offsets":' + value + "}")
    for name, value in [("null", "null"), ("a number", "8"), ("an array", '["U8"]'),
                        ("an object", '{"U8":1}'), ("true", "true"), ("empty", '""'), ("lower case", '"u8"'),
                        ("padded", '"U8 "'), ("NUL after", '"U8\\u0000"'), ("of PyTorch", '"float32"'),
                        ("of numpy", '"<f4"'), ("F8", '"F8"'), ("U4", '"U4"'), ("F128", '"F128"'),
                        ("C128", '"C128"'), ("F8_E4M3FN", '"F8_E4M3FN"')]:
        corpus.tensor(f"dtype is {name}", JSON_FAULT,
                      '{"dtype":' + value + ',"shape":[8],"data_offsets":[0,8]}')
    for name, value in [("none", "[]"), ("one", "[8]"), ("three", "[0,8,8]"), ("nested", "[[0,8]]")]:
        corpus.tensor(f"offsets: {name}", JSON_FAULT,
                      '{"dtype":"U8","shape":[8],"data_offsets":' + value + "}")
    corpus.tensor("offsets: a million", JSON_FAULT,
                  '{"dtype":"U8","shape":[8],"data_offsets":[' + "0," * 1_000_000 + "0]}")
    corpus.tensor("no dtype", JSON_FAULT, '{"shape":[8],"data_offsets":[0,8]}', says="a: has no dtype")
    corpus.tensor("no shape", JSON_FAULT, '{"dtype":"U8","data_offsets":[0,8]}', says="a: has no shape")
    corpus.tensor("no data_offsets", JSON_FAULT, '{"dtype":"U8","shape":[8]}', says="a: has no data_offsets")
    corpus.tensor("no fields", JSON_FAULT, "{}")
    for name, text in [("null", "null"), ("a number", "1"), ("a string", '"U8"'), ("true", "true"),
                       ("an array", '["U8",[8],[0,8]]')]:
        corpus.tensor(f"the tensor is {name}", JSON_FAULT, text)
    for name, text in [("a number", "1"), ("a string", '"pt"'), ("true", "true"),
                       ("an array", '["format","pt"]'), ("of numbers", '{"a":1}'), ("of null", '{"a":null}'),
                       ("of objects", '{"a":{}}'), ("of arrays", '{"a":["b"]}')]:
        corpus.header(f"the metadata is {name}", JSON_FAULT, '{"__metadata__":' + text + "}")
    corpus.header("NUL in a tensor's name", "InvalidTensorName",
                  '{"wte\\u0000.weight":' + json.dumps(entry(0, 8)) + "}", b"12345678")
    corpus.header("legal: NUL in a metadata key", "ok", '{"__metadata__":{"a\\u0000":"b"}}')
    corpus.header("legal: NUL in a metadata value", "ok", '{"__metadata__":{"a":"\\u0000"}}')
    corpus.tensor("1,025 dimensions", JSON_FAULT,
                  '{"dtype":"U8","shape":[' + "1," * 1024 + '8],"data_offsets":[0,8]}')
    corpus.tensor("four million dimensions", JSON_FAULT,
                  '{"dtype":"U8","shape":[' + "1," * 4_000_000 + '8],"data_offsets":[0,8]}')
    corpus.header("100,001 metadata entries", JSON_FAULT,
                  {"__metadata__": {str(i): ""
                                    for i in range(100_001)}})
    corpus.header("a million metadata entries", JSON_FAULT,
                  {"__metadata__": {str(i): ""
                                    for i in range(1_000_000)}})


def layout(corpus):

    def tensors(name, expect, *offsets, data=16, says=""):
        header = {
            f"t{i}": {"dtype": "U8", "shape": [max(0, end - begin)], "data_offsets": [begin, end]}
            for i, (begin, end) in enumerate(offsets)
        }
        corpus.header(f"layout: {name}", expect, header, bytes(data), says)

    tensors("hole at the start", "InvalidOffset", (1, 16), says="hole")
    tensors("hole in the middle", "InvalidOffset", (0, 8), (9, 16), says="hole")
    tensors("hole of an empty tensor", "InvalidOffset", (0, 8), (9, 9), (8, 16))
    tensors("empty tensor inside another", "InvalidOffset", (0, 16), (8, 8))
    tensors("empty tensor after the end", "InvalidOffset", (0, 16), (17, 17))
    tensors("hole at the end", "MetadataIncompleteBuffer", (0, 15))
    tensors("no tensor but data", "MetadataIncompleteBuffer")
    tensors("beyond the end", "MetadataIncompleteBuffer", (0, 17))
    tensors("far beyond the end", "MetadataIncompleteBuffer", (0, 2**40))
    tensors("data but no bytes", "MetadataIncompleteBuffer", (0, 16), data=0)
    tensors("overlap by one byte", "InvalidOffset", (0, 9), (8, 16), says="overlap")
    tensors("same place twice", "InvalidOffset", (0, 16), (0, 16))
    tensors("one inside another", "InvalidOffset", (0, 16), (4, 8))
    tensors("same begin", "InvalidOffset", (0, 8), (0, 16))
    tensors("backwards", "InvalidOffset", (16, 0))
    tensors("backwards after another", "InvalidOffset", (0, 16), (16, 8), says="end before they begin")
    tensors("begin at 2^64 - 1", "InvalidOffset", (2**64 - 1, 2**64 - 1))
    tensors("out of order with a hole", "InvalidOffset", (9, 16), (0, 8))

    def shape(name, expect, dtype, dims, end=16):
        corpus.header(f"shape: {name}", expect,
                      {"a": {"dtype": dtype, "shape": dims, "data_offsets": [0, end]}}, bytes(16))

    shape("one too many", "TensorInvalidInfo", "U8", [17])
    shape("one too few", "TensorInvalidInfo", "U8", [15])
    shape("scalar", "TensorInvalidInfo", "U8", [])
    shape("zero", "TensorInvalidInfo", "U8", [0])
    shape("zero somewhere", "TensorInvalidInfo", "U8", [4, 0, 4])
    shape("offsets to 2^64 - 1", "TensorInvalidInfo", "U8", [16], end=2**64 - 1)
    shape("product overflows", "ValidationOverflow", "U8", [2**32, 2**32])
    shape("product overflows to the right size", "ValidationOverflow", "U8",
          [2**32 + 1, 2**32 - 1, 2**63, 2, 16])
    shape("product overflows before a zero", "ValidationOverflow", "U8", [2**32, 2**32, 0])
    shape("bits overflow", "ValidationOverflow", "U8", [2**61])
    shape("bits overflow to the right size", "ValidationOverflow", "U8", [2**61 + 16])
    shape("bits overflow for F64", "ValidationOverflow", "F64", [2**58 + 2])
    shape("bits overflow for F4", "ValidationOverflow", "F4", [2**62 + 32])
    shape("2^64 - 1", "ValidationOverflow", "U8", [2**64 - 1])
    shape("largest size that does not overflow", "TensorInvalidInfo", "U8", [2**61 - 1])
    shape("a third of a byte", "MisalignedSlice", "F4", [31])
    shape("F4 scalar", "MisalignedSlice", "F4", [])
    shape("F6_E2M3 of 3", "MisalignedSlice", "F6_E2M3", [3])
    shape("F6_E3M2 of 2", "MisalignedSlice", "F6_E3M2", [2])
    shape("F6_E3M2 of another size", "TensorInvalidInfo", "F6_E3M2", [24])
    widths = {
        "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
        "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
        "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64
    }
    for dtype, width in widths.items():
        corpus.tensor(f"{dtype} of its size", "ok", json.dumps(entry(0, width, dtype, [8])), bytes(width))
        corpus.tensor(f"{dtype} of another size", "TensorInvalidInfo",
                      json.dumps(entry(0, width, dtype, [16])), bytes(width))


def legal_files(corpus):
    tensor = '{"dtype":"U8","shape":[8],"data_offsets":[0,8]}'
    corpus.header("legal: no tensors", "ok", "{}")
    corpus.header("legal: whitespace around", "ok", " \t\r\n{ \n} \t ")
    corpus.header("legal: null metadata", "ok", '{"__metadata__":null}')
    corpus.header("legal: empty metadata", "ok", '{"__metadata__":{}}')
    corpus.header("legal: metadata last", "ok", '{"a":' + tensor + ',"__metadata__":{"format":"pt"}}',
                  b"12345678")
    corpus.header("legal: name like the metadata's", "ok", '{"__metadata":' + tensor + "}", b"12345678")
    corpus.header("legal: empty name", "ok", '{"":' + tensor + "}", b"12345678")
    corpus.header("legal: same key in several objects", "ok",
                  '{"__metadata__":{"shape":"a","dtype":"b"},"shape":' + tensor + "}", b"12345678")
    corpus.header("legal: names that differ in normalisation only", "ok",
                  {"\u00e9": entry(0, 4), "e\u0301": entry(4, 8)}, b"12345678")
    corpus.tensor("legal: escaped field names", "ok",
                  '{"d\\u0074ype":"\\u00558","sh\\u0061pe":[8],"data\\u005foffsets":[0,8]}')
    corpus.tensor(
        "legal: unknown fields", "ok",
        '{"x":null,"dtype":"U8","y":[1.5,-1,{"z":[]}],"shape":[8],"data_offsets":[0,8],"w":{"dtype":1}}')
    corpus.tensor("legal: fields in another order", "ok", '{"data_offsets":[0,8],"shape":[8],"dtype":"U8"}')
    corpus.tensor("legal: scalar", "ok", '{"dtype":"U64","shape":[],"data_offsets":[0,8]}')
    corpus.tensor("legal: 1,024 dimensions", "ok",
                  '{"dtype":"U8","shape":[' + "1," * 1023 + '8],"data_offsets":[0,8]}')
    corpus.tensor("legal: large dimension and a zero", "ok",
                  '{"dtype":"U8","shape":[4611686018427387904,0],"data_offsets":[0,0]}', b"")
    corpus.tensor("legal: zero before an overflow", "ok",
                  '{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}', b"")
    corpus.header("legal: data in another order than the header", "ok", {"b": entry(4, 8), "a": entry(0, 4)},
                  b"12345678")
    corpus.header(
        "legal: empty tensors on every boundary", "ok", {
            "e2": entry(8, 8), "b": entry(4, 8), "e0": entry(0, 0), "e1": entry(4, 4), "a": entry(0, 4),
            "e3": entry(8, 8)
        }, b"12345678")
    corpus.header("legal: unaligned data", "ok", {"a": entry(0, 1), "b": entry(1, 9, "F64", [1])},
                  b"123456789")
    corpus.header("legal: unaligned header", "ok", '{"a":' + json.dumps(entry(0, 8, "F64", [1])) + "}   ",
                  b"12345678")
    corpus.header("legal: 20,000 tensors", "ok",
                  {f"layer.{i}.weight": entry(i, i + 1)
                   for i in range(20_000)}, bytes(20_000))
    corpus.header("legal: 20,000 tensors in reverse", "ok",
                  {f"layer.{i}.weight": entry(i, i + 1)
                   for i in reversed(range(20_000))}, bytes(20_000))
    corpus.header("legal: 100,000 empty tensors", "ok", {f"{i}": entry(0, 0) for i in range(100_000)})
    corpus.header("legal: a name of 4 MiB", "ok", {"n" * 4 * MIB: entry(0, 8)}, b"12345678")
    corpus.header("a name of 4 MiB in a message", "TensorInvalidInfo",
                  {"n" * 4 * MIB: entry(0, 7, "U8", [8])}, b"1234567")
    corpus.header("control characters in a message", "TensorInvalidInfo",
                  {"\n\r\x1b[31m": entry(0, 7, "U8", [8])}, b"1234567", "\\n\\r\\u001b[31m")


def paths(corpus):
    corpus.path("there is no file", "IoError")
    corpus.path("a folder for a file", "IoError").mkdir()
    os.mkfifo(corpus.path("a FIFO", "IoError"))
    corpus.path("a link to a FIFO", "IoError").symlink_to(corpus.cases[-2]["path"])
    corpus.path("a link that leads nowhere", "IoError").symlink_to("nowhere")
    path = corpus.path("a link to itself", "IoError")
    path.symlink_to(path.name)
    corpus.path("a link to a device", "IoError").symlink_to("/dev/null")
    corpus.path("a link to an endless device", "IoError").symlink_to("/dev/zero")
    corpus.file("legal: a file to link to", "ok", MODEL)
    corpus.path("legal: a link to a file", "ok").symlink_to(corpus.cases[-2]["path"])
    corpus.path("legal: a link to a link", "ok").symlink_to(corpus.cases[-2]["path"])


def tables_with(field):
    """What becomes of the tables beside a bad field: they ask for those that they need."""
    needed = ["vocab_size", "n_positions", "n_embd", "hidden_size", "max_position_embeddings", "model_type"]
    return None if field in needed else "ok"


def foreign_files():
    """What stands in place of files where something has gone wrong: name, the first bytes, text of the message."""
    return [("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
            ("an HTML page", b"<!DOCTYPE html><html></html>", "download the file again"),
            ("an HTML page after blanks", b"\n  <html></html>", "download the file again"),
            ("a GGUF file", b"GGUF\x03\x00\x00\x00" + bytes(60), "llama.cpp"),
            ("a pickle", b"\x80\x02}q\x00X\x05\x00" + bytes(60), "with PyTorch"),
            ("a zip file", b"PK\x03\x04" + bytes(60), "zip archive"),
            ("a zip file of PyTorch", b"PK\x03\x04\x00\x00\x08\x08" + bytes(60), "zip archive")]


def configs(corpus):
    bad = "ConfigInvalid"
    for field in ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"]:
        for value in [
                "3.5", "3.0", "3e0", '"3"', "true", "-1", "0", "1e30", "1e999", "[3]", "{}",
                "9223372036854775808", "2" * 100
        ]:
            text = json.dumps({key: value for key, value in CONFIG.items() if key != field})
            corpus.config(f"{field} = {value[:20]}", bad, text[:-1] + f', "{field}": {value}}}',
                          says=f"{field}: ", tables=tables_with(field) if value != "1e999" else None)
        if field != "n_inner":
            corpus.config(f"{field} = null", bad, {**CONFIG, field: None}, says=f"{field}: null",
                          tables=tables_with(field))
    for field, value in [("hidden_size", 5), ("max_position_embeddings", 3), ("hidden_size", "4"),
                         ("embd_pdrop", -0.1), ("embd_pdrop", 1.1), ("attn_pdrop", "0.1"),
                         ("resid_pdrop", None), ("resid_pdrop", True), ("layer_norm_epsilon", -1),
                         ("initializer_range", "x"), ("use_cache", 1), ("use_cache", "true"),
                         ("activation_function", None), ("activation_function", 1), ("summary_activation", 1),
                         ("eos_token_id", [1, 2]), ("eos_token_id", -1), ("pad_token_id", -1),
                         ("bos_token_id", 1.5), ("model_type", "bert"), ("model_type", "GPT2"),
                         ("model_type", None), ("model_type", 2)]:
        corpus.config(f"{field} = {json.dumps(value)}", bad, {**CONFIG, field: value}, says=f"{field}: ",
                      tables=tables_with(field))
    corpus.config("num_attention_heads against n_head", bad,
                  {**CONFIG, "n_head": 1, "num_attention_heads": 2}, says="num_attention_heads: 2", tables="ok")
    corpus.config("num_hidden_layers against n_layer", bad, {**CONFIG, "n_layer": 1, "num_hidden_layers": 2},
                  says="num_hidden_layers: 2", tables="ok")
    negative = {"vocab_size": VOCAB, "n_positions": POSITIONS, "hidden_size": -1}
    corpus.config("a field under its other name", bad, negative, says="hidden_size: -1 is less than 1")
    for name, begin, says in foreign_files():
        corpus.config(name, bad, begin, says=says)
    good = json.dumps(CONFIG)
    for name, text in [("empty", ""), ("spaces", "  \n"), ("cut off", good[:-1]), ("null", "null"),
                       ("array", "[]"), ("string", '"gpt2"'), ("number", "7"), ("NUL after", good + "\0"),
                       ("byte order mark", "\ufeff" + good), ("comment", "// gpt2\n" + good),
                       ("trailing comma", good[:-1] + ",}"), ("two objects", good + good),
                       ("single quotes", good.replace('"', "'")),
                       ("duplicate field", good[:-1] + ', "n_embd": 4}'),
                       ("duplicate field, escaped", good[:-1] + ', "n_\\u0065mbd": 4}'),
                       ("duplicate in an unknown field", good[:-1] + ', "x": {"a": 1, "a": 1}}'),
                       ("UTF-16", good.encode("utf-16")),
                       ("UTF-8 is bad", good[:-1].encode() + b', "x": "\xff"}'),
                       ("nesting", good[:-1] + ', "x": ' + "[" * 200 + "]" * 200 + "}"),
                       ("nesting without end", "[" * 2_000_000),
                       ("overflow in an unknown field", good[:-1] + ', "x": [1e999]}'),
                       ("larger than 4 MiB", good + " " * 4 * MIB), ("YAML", "n_embd: 4\n"),
                       ("zeros", bytes(4096))]:
        corpus.config(name, bad, text)
    for literal in ["NaN", "Infinity", "-Infinity"]:
        corpus.config(f"layer_norm_epsilon is {literal}", bad,
                      good[:-1] + f', "layer_norm_epsilon": {literal}}}',
                      says=f"{literal.strip('-')} for layer_norm_epsilon is no JSON value")
        corpus.config(f"{literal} in an unknown field", bad, good[:-1] + f', "x": [{literal}]}}',
                      says="is no JSON value")

    corpus.config("legal: unknown fields", "ok",
                  {**CONFIG, "architectures": ["GPT2Model"], "dtype": "float32", "x": {"y": [None]}})
    corpus.config(
        "legal: nulls", "ok",
        {**CONFIG, "n_inner": None, "summary_activation": None, "pad_token_id": None, "bos_token_id": None})
    corpus.config("legal: aliases", "ok",
                  {"vocab_size": VOCAB, "hidden_size": WIDTH, "max_position_embeddings": POSITIONS})
    corpus.config("legal: aliases that agree", "ok",
                  {**CONFIG, "hidden_size": WIDTH, "max_position_embeddings": POSITIONS})
    corpus.config("legal: n_ctx alone", "ok", {"vocab_size": VOCAB, "n_embd": WIDTH, "n_ctx": POSITIONS})
    corpus.config("legal: n_ctx beside n_positions", "ok", {**CONFIG, "n_ctx": "anything"})
    corpus.config("legal: integers for probabilities", "ok", {**CONFIG, "embd_pdrop": 0, "attn_pdrop": 1})
    corpus.config("legal: n_head does not divide n_embd", "ok", {**CONFIG, "n_head": 3})
    corpus.config("legal: 4 MiB of zeros in an unknown field", "ok",
                  good[:-1] + ', "x": [0' + ",0" * (2 * MIB - 100) + "]}")
    corpus.folder_case("config: missing", "IoError", {"model.safetensors": MODEL}, "config.json")
    (corpus.folder_case("config: a folder", "IoError", {"model.safetensors": MODEL}) / "config.json").mkdir()
    os.mkfifo(corpus.folder_case("config: a FIFO", "IoError", {"model.safetensors": MODEL}) / "config.json")
    path = corpus.folder_case("config: legal: a link", "ok", {"model.safetensors": MODEL, "blobs/1": CONFIG})
    (path / "config.json").symlink_to("blobs/1")


def models(corpus):
    corpus.model("legal: plain", "ok", model_header())
    corpus.model("legal: prefixed", "ok", model_header("transformer.wte.weight", "transformer.wpe.weight"))
    corpus.model("one prefixed", "TensorNotFound", model_header("transformer.wte.weight"), says="another prefix")
    for prefix in ["model.", "_orig_mod.transformer.", "module.", "transformer.transformer."]:
        corpus.model(f"legal: prefix {prefix}", "ok", model_header(f"{prefix}wte.weight", f"{prefix}wpe.weight"))
    extra = {
        "lm_head.weight": entry(80, 88), "h.0.attn.bias": entry(88, 92, "BOOL", [1, 1, 2, 2]),
        "x": entry(92, 92, "F4", [0])
    }
    corpus.model("legal: other tensors", "ok", {**model_header(), **extra}, WTE + WPE + bytes(12))
    corpus.model("legal: header of odd length", "ok",
                 json.dumps(model_header()) + " " * (8 - len(json.dumps(model_header())) % 8 + 3))
    for dtype, code in [("F64", "d"), ("F16", "e")]:
        size = struct.calcsize(code)
        header = {
            "wte.weight": entry(0, 12 * size, dtype, [3, 4]),
            "wpe.weight": entry(12 * size, 20 * size, dtype, [2, 4])
        }
        corpus.model(f"legal: {dtype}", "ok", header, struct.pack(f"<20{code}", *range(20)))
    header = {"wte.weight": entry(0, 24, "BF16", [3, 4]), "wpe.weight": entry(24, 40, "BF16", [2, 4])}
    corpus.model("legal: BF16", "ok", header, bytes(40))

    both = {**model_header(), "transformer.wte.weight": entry(80, 128, "F32", [3, 4])}
    corpus.model("wte under both names", "AmbiguousTensor", both, WTE + WPE + WTE)
    both = {**model_header(), "transformer.wpe.weight": entry(80, 112, "F32", [2, 4])}
    corpus.model("wpe under both names", "AmbiguousTensor", both, WTE + WPE + WPE)
    corpus.model("no wte", "TensorNotFound", {"wpe.weight": entry(0, 32, "F32", [2, 4])}, WPE, "wte.weight")
    corpus.model("no wpe", "TensorNotFound", {"wte.weight": entry(0, 48, "F32", [3, 4])}, WTE, "wpe.weight")
    for name in [
            "Wte.weight", "wte", "wte.weight ", "model.wte.weight", "transformer.transformer.wte.weight",
            "wte.weight.weight"
    ]:
        corpus.model(f"wte called {name!r}", "TensorNotFound", model_header(name))
    for dtype, width in [("I8", 1), ("U8", 1), ("BOOL", 1), ("I16", 2), ("U16", 2), ("I32", 4), ("U32", 4),
                         ("I64", 8), ("U64", 8), ("C64", 8), ("F8_E4M3", 1), ("F8_E5M2", 1)]:
        header = {
            "wte.weight": entry(0, 12 * width, dtype, [3, 4]),
            "wpe.weight": entry(12 * width, 12 * width + 32, "F32", [2, 4])
        }
        corpus.model(f"wte of {dtype}", "UnexpectedDType", header,
                     bytes(12 * width) + WPE, "expected F64, F32, F16 or BF16")
    for shape in [[4, 3], [12], [1, 12], [12, 1], [3, 4, 1], [1, 3, 4], [3, 2, 2], [2, 6]]:
        header = {"wte.weight": entry(0, 48, "F32", shape), "wpe.weight": entry(48, 80, "F32", [2, 4])}
        corpus.model(f"wte of shape {shape}", "UnexpectedShape", header,
                     says="expected [vocab_size, n_embd] = [3, 4]")
    for shape in [[4, 2], [8], [1, 8], [2, 2, 2], [2, 4, 1]]:
        header = {"wte.weight": entry(0, 48, "F32", [3, 4]), "wpe.weight": entry(48, 80, "F32", shape)}
        corpus.model(f"wpe of shape {shape}", "UnexpectedShape", header,
                     says="expected [n_positions, n_embd] = [2, 4]")
    corpus.model("wte empty", "UnexpectedShape",
                 {"wte.weight": entry(0, 0, "F32", [0, 4]), "wpe.weight": entry(0, 32, "F32", [2, 4])}, WPE)
    corpus.model("wte a scalar", "UnexpectedShape",
                 {"wte.weight": entry(0, 4, "F32", []), "wpe.weight": entry(4, 36, "F32", [2, 4])}, bytes(36))
    for field, value in [("vocab_size", 4), ("n_positions", 3), ("n_embd", 5), ("vocab_size", 2**63 - 1),
                         ("n_embd", 2**62)]:
        corpus.config(f"{field} = {value} against the tables", "UnexpectedShape", {**CONFIG, field: value})
    corpus.model("damaged", "MetadataIncompleteBuffer", model_header(), WTE + WPE[:-1])
    corpus.model("damaged elsewhere than in the tables", "TensorInvalidInfo",
                 {**model_header(), "x": entry(80, 81, "U8", [2])}, WTE + WPE + b"1")

    corpus.folder_case("model: missing", "IoError", {"config.json": CONFIG},
                       "neither model.safetensors nor model.safetensors.index.json")
    corpus.folder_case("model: only one of PyTorch", "IoError",
                       {"config.json": CONFIG, "pytorch_model.bin": "x"}, "but pytorch_model.bin, which is not read")
    tied = model_header("lm_head.weight", "transformer.wpe.weight")
    corpus.model("legal: tied, under the head's name", "ok", tied)
    alias = {"__metadata__": {"format": "pt", "transformer.wte.weight": "lm_head.weight"}}
    corpus.model("legal: tied, under the head's name, with the alias", "ok", {**alias, **tied})
    corpus.model("legal: tied, wrapped", "ok",
                 model_header("_orig_mod.lm_head.weight", "_orig_mod.transformer.wpe.weight"))
    corpus.model("tied, wpe elsewhere", "TensorNotFound", model_header("lm_head.weight", "model.wpe.weight"),
                 says="another prefix")
    corpus.folder_case(
        "model: untied, without wte", "TensorNotFound", {
            "config.json": {**CONFIG, "tie_word_embeddings": False},
            "model.safetensors": tensors_file(tied, WTE + WPE)
        }, "because config.json has tie_word_embeddings = false")
    cache = {"models--org--name/refs/main": "0123abc\n", "models--org--name/snapshots/0123abc/config.json": CONFIG,
             "models--org--name/snapshots/0123abc/model.safetensors": MODEL}
    for name, expect, reference, says in [("legal: of the Hugging Face cache", "ok", "0123abc\n", ""),
                                          ("leads out of the cache", "IoError", "../0123abc", "no name of a snapshot"),
                                          ("is not there", "IoError", "4567", "snapshots (0123abc)"),
                                          ("is empty", "IoError", "", "no name of a snapshot")]:
        path = corpus.folder_case(f"entry: {name}", expect, {**cache, "models--org--name/refs/main": reference}, says)
        corpus.cases[-1]["path"] += "/models--org--name"
    corpus.folder_case("model: legal: by the file's path", "ok", {"config.json": CONFIG, "model.safetensors": MODEL})
    corpus.cases[-1]["path"] += "/model.safetensors"
    corpus.folder_case("model: empty file", "HeaderTooSmall",
                       {"config.json": CONFIG, "model.safetensors": b""})
    os.mkfifo(corpus.folder_case("model: a FIFO", "IoError", {"config.json": CONFIG}) / "model.safetensors")
    (corpus.folder_case("model: a folder", "IoError", {"config.json": CONFIG}) / "model.safetensors").mkdir()
    path = corpus.folder_case("model: a link that leads nowhere", "IoError",
                              {"config.json": CONFIG, "model.safetensors.index.json": "{}"})
    (path / "model.safetensors").symlink_to("nowhere")
    path = corpus.folder_case("model: legal: a link", "ok", {"config.json": CONFIG, "blobs/1": MODEL})
    (path / "model.safetensors").symlink_to("blobs/1")
    corpus.folder_case(
        "model: legal: wins over the index", "ok",
        {"config.json": CONFIG, "model.safetensors": MODEL, "model.safetensors.index.json": "nonsense"})


def indexes(corpus):
    bad = "IndexInvalid"
    both = {"wte.weight": "shard", "wpe.weight": "shard"}
    good = json.dumps({"metadata": {"total_size": 80}, "weight_map": both})

    corpus.index("legal: plain", "ok", good)
    corpus.index("legal: without metadata", "ok", {"weight_map": both})
    corpus.index("legal: metadata of any kind", "ok",
                 {"metadata": {"total_size": 80.0, "weight_map": {"a": ["/etc/passwd"]}}, "weight_map": both})
    corpus.index("legal: other tensors in shards that are not there", "ok",
                 {"weight_map": {**both, "h.0.ln_1.weight": "missing"}})
    corpus.index("legal: a name with dots", "ok",
                 {"weight_map": {"wte.weight": "..shard..", "wpe.weight": "..."}},
                 {"..shard..": MODEL, "...": MODEL})
    corpus.index("legal: a folder below", "ok", {"weight_map": {"wte.weight": "a/b", "wpe.weight": "a/c"}},
                 {"a/b": MODEL, "a/c": MODEL})
    corpus.index("legal: two shards", "ok",
                 {"weight_map": {"model.wte.weight": "a", "model.wpe.weight": "b"}}, {
                     "a": tensors_file({"model.wte.weight": entry(0, 48, "F32", [3, 4])}, WTE),
                     "b": tensors_file({"model.wpe.weight": entry(0, 32, "F32", [2, 4])}, WPE)
                 })
    head = {"lm_head.weight": "a", "transformer.wpe.weight": "b"}
    head_shards = {
        "a": tensors_file({"lm_head.weight": entry(0, 48, "F32", [3, 4])}, WTE),
        "b": tensors_file({"transformer.wpe.weight": entry(0, 32, "F32", [2, 4])}, WPE)
    }
    corpus.index("legal: tied, under the head's name", "ok", {"weight_map": head}, head_shards)
    path = corpus.index("untied, without wte", "TensorNotFound", {"weight_map": head}, head_shards,
                        "because config.json has tie_word_embeddings = false")
    (path / "config.json").write_bytes(encode({**CONFIG, "tie_word_embeddings": False}))
    path = corpus.index("legal: a shard that is a link out of the folder", "ok", good, {})
    (corpus.folder / "blob").write_bytes(MODEL)
    (path / "shard").symlink_to("../blob")
    corpus.index("legal: 20,000 lines", "ok",
                 {"weight_map": {**both, **{f"h.{i}": f"shard-{i}"
                                            for i in range(20_000)}}})

    for name, text in [
        ("empty", ""), ("cut off", good[:-1]), ("null", "null"), ("array", "[]"),
        ("array of object", "[" + good + "]"), ("number", "1"), ("string", '"a"'),
        ("NUL after", good + "\0"), ("byte order mark", "\ufeff" + good), ("two objects", good + good),
        ("comment", good + "//"), ("trailing comma", good[:-1] + ",}"),
        ("UTF-8 is bad", good[:-1].encode() + b', "x": "\xff"}'), ("NaN", good[:-1] + ', "x": NaN}'),
        ("overflow", good[:-1] + ', "x": 1e999}'),
        ("nesting", good[:-1] + ', "x": ' + "[" * 200 + "]" * 200 + "}"),
        ("duplicate weight_map", good[:-1] + ', "weight_map": {}}'), ("no weight_map", "{}"),
        ("weight_map in metadata only", {"metadata": {"weight_map": both}}),
        ("weight_map is null", {"weight_map": None}), ("weight_map is an array", {"weight_map": ["shard"]}),
        ("weight_map is a string", {"weight_map": "shard"}), ("weight_map is a number", {"weight_map": 1}),
        ("a tensor twice",
         '{"weight_map": {"wte.weight": "shard", "wte.weight": "shard", "wpe.weight": "shard"}}'),
        ("a tensor twice, escaped",
         '{"weight_map": {"wte.weight": "shard", "wpe.weight": "shard", "wt\\u0065.weight": "shard"}}'),
        ("ten million brackets", "[" * 10_000_000)
    ]:
        corpus.index(name, bad, text)
    for value in [None, 1, True, ["shard"], {"file": "shard"}]:
        corpus.index(f"the shard is {json.dumps(value)}", bad, {"weight_map": {**both, "wte.weight": value}},
                     says="wte.weight: ")

    for shard in [
            "", ".", "..", "../shard", "../../../../etc/passwd", "/etc/passwd", "/", "//shard", "./shard",
            "a/../shard", "a/./b", "a/..", "a//b", "shard/", "..\\shard", "C:\\shard", "\\\\server\\shard",
            "a\\b", "shard\0", "\0", "shard\0.safetensors", "a\nb", "\x7f"
    ]:
        corpus.index(f"shard called {shard!r}", bad, {"weight_map": {**both, "wte.weight": shard}},
                     says="wte.weight: ")
    for shard in ["", "../shard", "/etc/passwd", "a\\b", "shard\0"]:
        corpus.index(f"another tensor's shard called {shard!r}", bad,
                     {"weight_map": {**both, "h.0.ln_1.weight": shard}})

    corpus.index("wte missing", "TensorNotFound", {"weight_map": {"wpe.weight": "shard"}}, says="wte.weight")
    corpus.index("empty weight_map", "TensorNotFound", {"weight_map": {}})
    corpus.index("wte under both names", "AmbiguousTensor",
                 {"weight_map": {**both, "transformer.wte.weight": "shard"}})
    corpus.index("wpe under both names", "AmbiguousTensor",
                 {"weight_map": {**both, "transformer.wpe.weight": "shard"}})
    corpus.index("the shard does not exist", "IoError", good, {}, "shard")
    corpus.index("the shard does not hold the tensor", "TensorNotFound", good, {"shard": tensors_file("{}")},
                 "shard: wte.weight")
    corpus.index("the shard has the tensor under its other name", "TensorNotFound", good,
                 {"shard": tensors_file(model_header("transformer.wte.weight"), WTE + WPE)})
    corpus.index("the shard is damaged", "InvalidHeaderLength", good, {"shard": MODEL[:50]})
    corpus.index("the shard is the index", "HeaderTooLarge",
                 {"weight_map": {"wte.weight": "model.safetensors.index.json", "wpe.weight": "shard"}})
    os.mkfifo(corpus.index("the shard is a FIFO", "IoError", good, {}) / "shard")
    (corpus.index("the shard is a folder", "IoError", good, {}) / "shard").mkdir()
    (corpus.index("the shard is a link that leads nowhere", "IoError", good, {}) /
     "shard").symlink_to("nowhere")
    path = corpus.folder_case("index: a FIFO", "IoError", {"config.json": CONFIG})
    os.mkfifo(path / "model.safetensors.index.json")
    path = corpus.folder_case("index: a link that leads nowhere", "IoError", {"config.json": CONFIG})
    (path / "model.safetensors.index.json").symlink_to("nowhere")
    path = corpus.index("larger than 100,000,000 bytes", bad, "{}")
    os.truncate(path / "model.safetensors.index.json", 100_000_001)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpus = Corpus(sys.argv[1])
    corpus.folder.mkdir(parents=True, exist_ok=True)
    for part in [
            sizes_and_lengths, header_text, duplicates, entries, layout, legal_files, paths, configs, models,
            indexes
    ]:
        part(corpus)
    (corpus.folder / "manifest.json").write_text(json.dumps(corpus.cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
