"""Reads a JSON list of YAML documents in base64, prints a JSON list of what PyYAML makes of each."""
import base64
import datetime
import json
import math
import struct
import sys

import yaml


def text(value):
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError:
        return "surrogates"
    if any(c < 0x20 or c > 0x7E or c in b',:[]{}"' for c in raw):
        return "0x" + raw.hex()
    return '"' + value + '"'


def describe(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool " + str(value).lower()
    if isinstance(value, int):
        return "int %d" % value
    if isinstance(value, float):
        return "float nan" if math.isnan(value) else "float " + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "str " + text(value)
    if isinstance(value, bytes):
        return "bytes " + base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.datetime)):
        return "time"
    if isinstance(value, list):
        return "[" + ", ".join(describe(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(describe(k) + ": " + describe(v) for k, v in value.items())) + "}"
    return "unknown " + type(value).__name__


def load(document):
    try:
        return describe(yaml.safe_load(base64.b64decode(document)))
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, KeyError, IndexError):
        return "error"


json.dump([load(document) for document in json.load(sys.stdin)], sys.stdout)
