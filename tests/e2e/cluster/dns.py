"""DNS of the test cluster: A records of Services under cluster.local, asked of the API server twice a second.

Answers what the operator's pods ask for (cluster IPs, headless Services, host names of pods); every other name does not
exist. Nothing is forwarded: the node has no way out. Usage: dns.py KUBECONFIG ADDRESS. Standard library only.
"""

import base64
import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.request
from pathlib import Path

ZONE = "svc.cluster.local"
Records = dict[str, list[str]]


class Api:
    """The API server of a kubeconfig that we wrote ourselves, read-only."""

    def __init__(self, kubeconfig: str) -> None:
        text = Path(kubeconfig).read_text()
        self.server = re.findall(r'server: "([^"]+)"', text)[0]
        self.token = re.findall(r'token: "([^"]+)"', text)[0]
        authority = base64.b64decode(re.findall(r"certificate-authority-data: ([^}\s]+)", text)[0]).decode()
        self.tls = ssl.create_default_context(cadata=authority)

    def items(self, path: str) -> list[dict]:
        """All objects of a collection."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as response:
            return json.load(response)["items"]


def records_of(services: list[dict], slices: list[dict]) -> Records:
    """Names and their addresses: the cluster IP, or for headless Services the ready endpoints."""
    records: Records = {}
    headless = set()
    for service in services:
        name = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
        address = service["spec"].get("clusterIP")
        if address == "None":
            headless.add(name)
        elif address:
            records[f"{name}.{ZONE}"] = [address]
    for piece in slices:
        metadata = piece["metadata"]
        name = f"{metadata.get('labels', {}).get('kubernetes.io/service-name')}.{metadata['namespace']}"
        for endpoint in piece.get("endpoints") or [] if name in headless else []:
            if endpoint.get("conditions", {}).get("ready") is False:
                continue
            records.setdefault(f"{name}.{ZONE}", []).extend(endpoint["addresses"])
            if endpoint.get("hostname"):
                records.setdefault(f"{endpoint['hostname']}.{name}.{ZONE}", []).extend(endpoint["addresses"])
    return records


def answer(query: bytes, records: Records) -> bytes:
    """The response to one question: addresses, no data for other types, or no such name."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin1"))
        at += query[at] + 1
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    found = records.get(".".join(labels).lower())
    addresses = found if found and kind == 1 else []
    flags = 0x8580 if found is not None else 0x8583
    response = query[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0) + query[12 : at + 5]
    for address in addresses:
        response += struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
    return response


def main() -> None:
    """Answer for ever."""
    api, records = Api(sys.argv[1]), {}

    def refresh() -> None:
        nonlocal records
        while True:
            try:
                services = api.items("/api/v1/services")
                records = records_of(services, api.items("/apis/discovery.k8s.io/v1/endpointslices"))
            except OSError as error:  # the API server may be away; what we know stays true
                print("refresh:", error, flush=True)
            time.sleep(0.5)

    threading.Thread(target=refresh, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((sys.argv[2], 53))
        while True:
            query, client = server.recvfrom(4096)
            try:
                server.sendto(answer(query, records), client)
            except (IndexError, struct.error) as error:
                print("not a question:", error, flush=True)


if __name__ == "__main__":
    main()
