"""The part of KubeVirt's API (kubevirt.io/v1) that the manifests use, and a strict check of it.

Written from the types of kubevirt.io/api/core/v1 as they were in 2026; it is not the validator of
KubeVirt's own CustomResourceDefinition, which cannot be had without a cluster, and it knows less:
a field that is not here is refused although KubeVirt may have it.

A schema is a type, a set of values, a pattern, a list of one schema, or a dict from field to
schema, where the key REQUIRED names the fields that must be there.
"""

from __future__ import annotations

import re
from typing import Any

REQUIRED = "\0required"

LABEL = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAC = re.compile("([0-9a-f]{2}:){5}[0-9a-f]{2}")

_EMPTY: dict[str, Any] = {}
_STATE = {"enabled": bool}

_TIMERS = {
    "hpet": {"present": bool, "tickPolicy": {"delay", "catchup", "merge", "discard"}},
    "kvm": {"present": bool},
    "pit": {"present": bool, "tickPolicy": {"delay", "catchup", "discard"}},
    "rtc": {"present": bool, "tickPolicy": {"delay", "catchup"}, "track": {"guest", "wall"}},
    "hyperv": {"present": bool},
}
_HYPERV = {
    **dict.fromkeys(("relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies",
                     "reenlightenment", "ipi", "evmcs"), _STATE),
    "spinlocks": {"enabled": bool, "spinlocks": int},
    "synictimer": {"enabled": bool, "direct": _STATE},
    "tlbflush": {"enabled": bool, "direct": _STATE, "extended": _STATE},
}
_DEVICES = {
    "useVirtioTransitional": bool,
    "disks": [{REQUIRED: ("name",), "name": LABEL, "bootOrder": int,
               "disk": {"bus": {"virtio", "sata", "scsi", "usb"}, "readonly": bool}}],
    "interfaces": [{REQUIRED: ("name",), "name": LABEL,
                    "model": {"e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio"},
                    "bridge": _EMPTY, "masquerade": _EMPTY, "macAddress": _MAC}],
    "inputs": [{REQUIRED: ("name", "type"), "name": str, "type": {"tablet", "keyboard"},
                "bus": {"usb", "virtio"}}],
    "autoattachPodInterface": bool,
    "autoattachMemBalloon": bool,
    "rng": _EMPTY,
    "tpm": {"enabled": bool, "persistent": bool},
}
_DOMAIN = {
    REQUIRED: ("devices",),
    "cpu": {"model": str, "sockets": int, "cores": int, "threads": int},
    "memory": {"guest": re.compile("[1-9][0-9]*Mi")},
    "machine": {REQUIRED: ("type",), "type": str},
    "firmware": {"bootloader": {"bios": {"useSerial": bool},
                                "efi": {"secureBoot": bool, "persistent": bool}}},
    "features": {"acpi": _STATE, "apic": _STATE, "smm": _STATE, "hyperv": _HYPERV},
    "clock": {"utc": {"offsetSeconds": int}, "timezone": str, "timer": _TIMERS},
    "devices": _DEVICES,
}
VIRTUAL_MACHINE = {
    REQUIRED: ("apiVersion", "kind", "metadata", "spec"),
    "apiVersion": {"kubevirt.io/v1"},
    "kind": {"VirtualMachine"},
    "metadata": {REQUIRED: ("name",), "name": LABEL},
    "spec": {
        REQUIRED: ("template",),
        "runStrategy": {"Always", "Halted", "Manual", "RerunOnFailure", "Once"},
        "template": {
            REQUIRED: ("spec",),
            "metadata": {"labels": {"kubevirt.io/vm": LABEL}},
            "spec": {
                REQUIRED: ("domain",),
                "architecture": {"amd64", "arm64", "s390x"},
                "domain": _DOMAIN,
                "networks": [{REQUIRED: ("name",), "name": LABEL, "pod": _EMPTY,
                              "multus": {REQUIRED: ("networkName",), "networkName": LABEL}}],
                "volumes": [{REQUIRED: ("name",), "name": LABEL, "persistentVolumeClaim": {
                    REQUIRED: ("claimName",), "claimName": LABEL, "readOnly": bool}}],
            },
        },
    },
}


def problems(value: object, schema: Any = VIRTUAL_MACHINE,  # noqa: ANN401 - see above
             where: str = "") -> list[str]:
    """What is wrong with a manifest, each with its place."""
    match schema:
        case dict():
            if not isinstance(value, dict):
                return [f"{where} is no object"]
            found = [f"{where}.{name} is missing" for name in schema.get(REQUIRED, ())
                     if name not in value]
            for key, inner in value.items():
                found += (problems(inner, schema[key], f"{where}.{key}") if key in schema
                          else [f"{where}.{key} is unknown"])
            return found
        case [inner]:
            if not isinstance(value, list):
                return [f"{where} is no list"]
            return [problem for n, item in enumerate(value)
                    for problem in problems(item, inner, f"{where}[{n}]")]
        case set():
            good = value in schema
        case re.Pattern():
            good = isinstance(value, str) and schema.fullmatch(value) is not None
        case _:
            good = type(value) is schema
    return [] if good else [f"{where} is {value!r}"]


def references(manifest: Any) -> list[str]:  # noqa: ANN401 - whatever YAML came
    """What KubeVirt's admission asks for besides: names that lead somewhere, one choice of each."""
    spec = manifest["spec"]["template"]["spec"]
    devices = spec["domain"]["devices"]
    found = []
    if [d["name"] for d in devices["disks"]] != [v["name"] for v in spec["volumes"]]:
        found.append("disks and volumes differ")
    interfaces = devices.get("interfaces", [])
    networks = spec.get("networks", [])
    if [i["name"] for i in interfaces] != [n["name"] for n in networks]:
        found.append("interfaces and networks differ")
    if sum("pod" in network for network in networks) > 1:
        found.append("more than one pod network")
    for interface, network in zip(interfaces, networks, strict=False):
        if ("masquerade" in interface) + ("bridge" in interface) != 1:
            found.append(f"{interface['name']} has not one binding")
        if ("pod" in network) + ("multus" in network) != 1:
            found.append(f"{network['name']} has not one source")
        if "masquerade" in interface and "pod" not in network:
            found.append("masquerade works on the pod network only")
    domain = spec["domain"]
    efi = domain["firmware"]["bootloader"].get("efi", {})
    if efi.get("secureBoot", bool(efi)) and not domain["features"].get("smm", {}).get("enabled"):
        found.append("Secure Boot needs SMM")
    spinlocks = domain["features"].get("hyperv", {}).get("spinlocks", {}).get("spinlocks", 4096)
    if spinlocks < 4096:
        found.append("too few spinlocks")
    return found
