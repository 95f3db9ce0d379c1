# Reads user-data from standard input as cloud-init does, whose packages are in the folder that is the argument. Prints
# its parts, and the cloud-config that it merges them to, as JSON.
import base64
import email
import json
import os
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
from cloudinit import handlers, helpers, user_data, util
from cloudinit.handlers.cloud_config import CloudConfigPartHandler

import yaml

data = sys.stdin.buffer.read()
with tempfile.TemporaryDirectory() as folder:
    paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
    merged = os.path.join(folder, "merged")
    paths.get_ipath = lambda name=None: merged
    message = user_data.UserDataProcessor(paths).process(data)
    handler = CloudConfigPartHandler(paths)
    handler.handle_part(None, handlers.CONTENT_START, None, None, None, {})
    parts = []
    for part in message.walk():
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        payload = util.fully_decoded_payload(part)
        if isinstance(payload, str):
            raw = payload.encode("utf-8", "surrogateescape")
        else:
            raw = payload
        parts.append({"Type": kind, "Data": base64.b64encode(raw).decode()})
        if kind == "text/cloud-config":
            handler.handle_part(None, kind, part.get_filename(), payload, "always", dict(part))
    handler.handle_part(None, handlers.CONTENT_END, None, None, None, {})
    config = None
    if os.path.exists(merged):
        with open(merged) as f:
            config = yaml.safe_load(f)

# What Python's own parser makes of it, without cloud-init.
plain = [
    base64.b64encode(p.get_payload(decode=True)).decode()
    for p in email.message_from_bytes(data).walk()
    if not p.is_multipart()
]
json.dump({"Parts": parts, "Config": config, "Plain": plain}, sys.stdout)
