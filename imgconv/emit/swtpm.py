"""A TPM for the machine: the part of a script that starts swtpm, and hands it to QEMU."""

from __future__ import annotations

import shlex
from pathlib import Path

from imgconv.model import Machine

#: The file descriptor that the script opens the TPM's folder as.
_FD = 9


def state_path(machine: Machine) -> Path:
    """The folder with what the TPM remembers, BitLocker's keys among it."""
    disk = machine.disks[0].path
    return disk.with_name(disk.name + ".tpm")


def script(machine: Machine) -> str:
    """Shell commands that start the TPM and put QEMU's options for it into the arguments.

    Without swtpm they say so, and the machine has no TPM. swtpm ends with QEMU; one that waits for
    a QEMU that did not start is used again. Both know the folder as a file descriptor, because
    swtpm's options cannot hold a comma, and a socket's path no more than 107 bytes.
    """
    folder = f"/proc/self/fd/{_FD}"
    return "\n".join([
        f"tpm={shlex.quote(str(state_path(machine)))}",
        "if command -v swtpm >/dev/null; then",
        '    mkdir -p -- "$tpm"',
        '    chmod 700 -- "$tpm"',
        f'    exec {_FD}<"$tpm"',
        '    pid=$(cat -- "$tpm/pid" 2>/dev/null) || pid=none',
        '    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != swtpm ]; then',
        '        rm -f -- "$tpm/socket"',
        f"        swtpm socket --tpm2 --tpmstate dir={folder} \\",
        f"            --ctrl type=unixio,path={folder}/socket \\",
        f"            --pid file={folder}/pid --terminate --daemon",
        "    fi",
        f"    set -- -chardev socket,id=tpm,path={folder}/socket \\",
        '        -tpmdev emulator,id=tpm,chardev=tpm -device tpm-crb,tpmdev=tpm "$@"',
        "else",
        "    echo 'This machine has no TPM, because swtpm is not installed. Windows starts' \\",
        "        'without one, but its updates and BitLocker ask for it.' >&2",
        "fi",
    ])
