#!/usr/bin/env python3
# A driver for vmw-cloudinit-metadata: VMs named web-1, web-2 … get their address from their number.
import json, sys

print('{"vmw-cloudinit-driver": 1}', flush=True)
for line in sys.stdin:
    vm = json.loads(line)
    answer = {"id": vm["id"], "error": "not-found"}
    role, _, number = vm["name"].rpartition("-")
    if role == "web" and number.isdecimal() and 1 <= int(number) <= 200:
        network = {"address": "192.168.1.%d/24" % int(number), "gateway": "192.168.1.254"}
        answer = {"id": vm["id"], "instance": {"metadata": {"hostname": vm["name"]}, "network": network}}
    print(json.dumps(answer), flush=True)
