# Reads a list of network-configs, as JSON, as cloud-init does, whose packages are in the folder that is the argument. Prints a list
# of the addresses that the interfaces of each get, with their prefixes, or of what is wrong.
import json
import logging
import sys

sys.path.insert(0, sys.argv[1])
from cloudinit.net.network_state import parse_net_config_data
from cloudinit.net.networkd import Renderer

import yaml

logging.disable()
results = []
for text in json.load(sys.stdin):
    try:
        state = parse_net_config_data(yaml.safe_load(text), skip_broken=False)
        files = Renderer({})._render_content(state)
        lines = [line for name in sorted(files) for line in files[name].splitlines()]
        results.append([line[len("Address="):] for line in lines if line.startswith("Address=")])
    except Exception as e:
        results.append(["error: %r" % e])
json.dump(results, sys.stdout)
