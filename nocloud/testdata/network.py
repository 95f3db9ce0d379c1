# Reads a list of network-configs, as JSON, as cloud-init does, whose packages are in the folder that is the argument, in a VM with
# a card eth0 with the address 00:50:56:ab:cd:ef. Prints for each the addresses that the interfaces get, with their prefixes, and the
# name servers and search domains, and the routes, once by networkd and once by netplan; or what is wrong, be it
# with these or with ifupdown's file.
import copy
import json
import logging
import os
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
from cloudinit import distros  # first, or they import each other in a circle
from cloudinit.distros.networking import LinuxNetworking
from cloudinit.net import eni, netplan, networkd
from cloudinit.net.network_state import parse_net_config_data

import yaml

logging.disable()
sys.stderr = open(os.devnull, "w")


class Networking(LinuxNetworking):
    def get_interfaces_by_mac(self):
        return {"00:50:56:ab:cd:ef": "eth0"}

    def settle(self, *, exists=None):
        pass


def values(text, key):
    return [value for line in text.splitlines() if line.startswith(key + "=") for value in line[len(key) + 1 :].split()]


def by_networkd(config):
    files = networkd.Renderer({})._render_content(parse_net_config_data(config, skip_broken=False))
    text = "\n".join(files[name] for name in sorted(files))
    return {"Addresses": values(text, "Address"), "DNS": values(text, "DNS") + values(text, "Domains"), "Routes": values(text, "Destination")}


def by_netplan(config):
    renderer = netplan.Renderer({"netplan_path": "netplan.yaml", "postcmds": False})
    with tempfile.TemporaryDirectory() as folder:
        renderer.render_network_state(parse_net_config_data(config, skip_broken=False, renderer=renderer), target=folder)
        with open(os.path.join(folder, "netplan.yaml")) as f:
            devices = yaml.safe_load(f)["network"].get("ethernets", {})
    found = {"Addresses": [], "DNS": [], "Routes": []}
    for name in sorted(devices):
        found["Addresses"] += devices[name].get("addresses", [])
        found["Routes"] += [route["to"] for route in devices[name].get("routes", [])]
        found["DNS"] += devices[name].get("nameservers", {}).get("addresses", []) + devices[name].get("nameservers", {}).get("search", [])
    return found


results = []
for text in json.load(sys.stdin):
    result = {}
    try:
        config = yaml.safe_load(text)
        Networking().wait_for_physdevs(config)
        result["Networkd"] = by_networkd(copy.deepcopy(config))
        result["Netplan"] = by_netplan(copy.deepcopy(config))
        eni.Renderer({})._render_interfaces(parse_net_config_data(copy.deepcopy(config), skip_broken=False))
    except Exception as e:
        result["Problem"] = repr(e)
    results.append(result)
json.dump(results, sys.stdout)
