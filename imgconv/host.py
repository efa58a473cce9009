"""What this host can do (KVM, emulators, firmware, the appliance), and what mends the rest.

Facts (`kvm_usable`, `emulator`, `ovmf`, `find_virtio_win`) are for the rest of imgconv; `checks`
turns them into the rows of `imgconv doctor`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from imgconv.errors import ImgconvError
from imgconv.run import run
from imgconv.windows import payload_find

KVM_DEVICE = Path("/dev/kvm")
TRY_SECONDS = 20.0
TEMPORARY_SPACE = 2 * 1024**3

# QEMU's docs/interop/firmware.json: a descriptor hides one of the same name in a later folder.
FIRMWARE_DIRS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))

# virt is the only machine of aarch64 that can run under KVM on any board.
KVM_MACHINES = {"x86_64": "pc", "i386": "pc", "i686": "pc", "aarch64": "virt"}


class Level(StrEnum):
    """OK; WARNING: imgconv works, but slower or not for every guest; MISSING: it does not work."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of `imgconv doctor`; `remedy` is a command to paste, "" where there is none."""

    name: str
    level: Level
    detail: str
    remedy: str = ""


# --- KVM ----------------------------------------------------------------------------------------


class Kvm(NamedTuple):
    """Whether QEMU and the appliance can use KVM, and a sentence on why not ("" when usable)."""

    usable: bool
    reason: str


def kvm_usable() -> Kvm:
    """Whether KVM works here, found by starting a virtual machine with it.

    Neither /dev/kvm nor its ioctls tell: in some nested clouds a machine can be created, but QEMU
    aborts when it copies the processor's registers (`kvm_buf_set_msrs: Assertion`), and
    libguestfs with it. Where this is False, libguestfs needs `force_tcg` and QEMU `-accel tcg`.

    What QEMU did is remembered until the host boots again, because each abort may leave a core
    dump; takes some 50 ms when it is tried, and at most TRY_SECONDS.
    """
    arch = platform.machine()
    qemu = emulator(arch)
    if qemu is None:
        return Kvm(False, f"qemu-system-{arch} is not installed")
    if not KVM_DEVICE.exists():
        return Kvm(False, f"{KVM_DEVICE} does not exist")
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return Kvm(False, f"{KVM_DEVICE} may not be opened by this user")
    key = _kvm_key(qemu)
    known = _recall(key)
    if known is not None:
        return known
    # The monitor's `quit` is obeyed once all devices exist and before the guest runs.
    argv = [str(qemu), "-machine", KVM_MACHINES.get(arch, "none"), "-cpu", "host", "-accel", "kvm",
            "-S", "-display", "none", "-nodefaults", "-no-user-config", "-monitor", "stdio"]
    try:
        result = run(argv, check=False, timeout=TRY_SECONDS, stdin="quit\n",
                     cwd=Path(tempfile.gettempdir()))
    except ImgconvError as error:  # a busy host is no reason to do without KVM until it reboots
        return Kvm(False, error.message)
    found = Kvm(True, "")
    if result.status != 0:
        found = Kvm(False, f"QEMU does not start with KVM: {_why(result.stderr, result.status)}")
    _remember(key, found)
    return found


def _why(stderr: str, status: int) -> str:
    """QEMU's first line that is no warning, without the program's name and file:line."""
    for line in stderr.splitlines():
        if "warning:" not in line and line.strip():
            return line.split(": ", 1)[-1].removeprefix("error: ").strip()
    return f"status {status}"


def _kvm_key(qemu: Path) -> list[str | int]:
    """What the answer depends on: another boot, QEMU or user may get another one."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return [boot, str(qemu), qemu.stat().st_mtime_ns, os.getuid()]


def _cache_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "imgconv", "kvm.json")


def _recall(key: list[str | int]) -> Kvm | None:
    """The remembered answer for `key`; a damaged or foreign file counts as none."""
    try:
        match json.loads(_cache_file().read_text()):
            case {"key": found, "usable": bool(usable), "reason": str(reason)} if found == key:
                return Kvm(usable, reason)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: this user has no home
        pass
    return None


def _remember(key: list[str | int], kvm: Kvm) -> None:
    """Replace the remembered answer in one step; a host where this fails just tries each time."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"key": key, **kvm._asdict()}))
        partial.replace(path)


# --- programs and files ---------------------------------------------------------------------------


def emulator(arch: str) -> Path | None:
    """QEMU's system emulator for `arch` (x86_64, i386, aarch64...), or None.

    A 32-bit x86 guest runs on the 64-bit emulator, which every distribution has. RHEL has one
    emulator only, of its own architecture and outside PATH.
    """
    name = "x86_64" if arch in ("i386", "i486", "i586", "i686") else arch
    rhel = "/usr/libexec/qemu-kvm" if name == platform.machine() else ""
    found = shutil.which(f"qemu-system-{name}") or shutil.which(rhel)
    return Path(found) if found else None


def ovmf(arch: str, *, secure_boot: bool = False) -> tuple[Path, Path] | None:
    """The UEFI firmware for `arch` as (code, template of the variables), both raw; or None.

    With `secure_boot` the variables have the vendors' keys enrolled, and x86 needs a q35 machine
    with `smm=on`. Found through QEMU's firmware descriptors, which Debian, Ubuntu, Fedora, RHEL,
    openSUSE and Arch install along with the firmware (docs/interop/firmware.json in QEMU).
    """
    for descriptor in _firmware_descriptors():
        match descriptor:
            case {"interface-types": interfaces, "features": features, "targets": targets,
                  "mapping": {"device": "flash",
                              "executable": {"filename": str(code), "format": "raw"},
                              "nvram-template": {"filename": str(variables), "format": "raw"}}}:
                secure = "secure-boot" in features and "enrolled-keys" in features
                if ("uefi" in interfaces and any(t.get("architecture") == arch for t in targets)
                        and (secure if secure_boot else "secure-boot" not in features)
                        and Path(code).exists() and Path(variables).exists()):
                    return Path(code), Path(variables)
    return None


def _firmware_descriptors() -> Iterator[object]:
    """All descriptors, in the order of preference that their names give."""
    paths: dict[str, Path] = {}
    for folder in reversed(FIRMWARE_DIRS):
        paths.update({path.name: path for path in folder.glob("*.json")})
    for _, path in sorted(paths.items()):
        with contextlib.suppress(OSError, ValueError):  # an empty file hides the one it overrides
            yield json.loads(path.read_text())


def find_virtio_win() -> Path | None:
    """The virtio-win ISO or folder that is used when `--drivers` is not given, or None."""
    return payload_find.find()


# --- doctor ---------------------------------------------------------------------------------------


def checks() -> tuple[Check, ...]:
    """Everything that imgconv needs of this host, or would like; tries KVM."""
    native = platform.machine()
    other = "aarch64" if native == "x86_64" else "x86_64"
    return (
        _check_guestfs(),
        _check_nbd(),
        _check_kernel(),
        _check_kvm(),
        _check_program("qemu-img", shutil.which("qemu-img"), "", "qemu-utils", "qemu-img"),
        _check_program(f"qemu for {native}", emulator(native), "",
                       *EMULATOR_PACKAGES.get(native, ("qemu-system", "qemu-kvm"))),
        _check_program(f"qemu for {other}", emulator(other),
                       f"{other} guests cannot be booted here", *EMULATOR_PACKAGES[other]),
        _check_firmware("x86_64", "ovmf", "edk2-ovmf"),
        _check_firmware("aarch64", "qemu-efi-aarch64", "edk2-aarch64"),
        _check_program("mmdebstrap", shutil.which("mmdebstrap"),
                       "imgconv demo cannot build its guest", "mmdebstrap", "mmdebstrap"),
        _check_virtio_win(),
        *(_check_space(folder) for folder in _working_folders()),
    )


EMULATOR_PACKAGES = {"x86_64": ("qemu-system-x86", "qemu-system-x86-core"),
                     "aarch64": ("qemu-system-arm", "qemu-system-aarch64-core")}


def _as_root(command: str) -> str:
    return command if os.geteuid() == 0 else f"sudo {command}"


def _install(debian: str, fedora: str) -> str:
    """The command that installs a package, by its name in either family of distributions."""
    if shutil.which("apt-get"):
        return _as_root(f"apt-get install --no-install-recommends {debian}")
    return _as_root(f"dnf install {fedora}")


def _check_guestfs() -> Check:
    name = "libguestfs binding"
    try:
        version = importlib.import_module("guestfs").GuestFS(python_return_dict=True).version()
    except (ImportError, OSError) as error:
        return Check(name, Level.MISSING, str(error),
                     _install("python3-guestfs", "python3-libguestfs"))
    return Check(name, Level.OK, "{major}.{minor}.{release}".format_map(version))


def _check_nbd() -> Check:
    name = "libnbd binding"
    try:
        version = importlib.import_module("nbd").NBD().get_version()
    except (ImportError, OSError) as error:
        return Check(name, Level.MISSING, str(error),
                     _install("python3-libnbd", "python3-libnbd"))
    return Check(name, Level.OK, version)


def _check_kernel() -> Check:
    """supermin copies the host's newest kernel into the appliance, as the user who runs it."""
    name = "appliance kernel"
    kernels = [path for path, version in _kernels() if Path("/lib/modules", version).is_dir()]
    if not kernels:
        package = "linux-image-" + {"x86_64": "amd64", "aarch64": "arm64"}.get(
            platform.machine(), platform.machine())
        return Check(name, Level.MISSING, "there is no kernel with its modules in /boot",
                     _install(package, "kernel-core"))
    readable = [path for path in kernels if os.access(path, os.R_OK)]
    if not readable:  # Ubuntu: https://bugs.launchpad.net/ubuntu/+source/linux/+bug/759725
        return Check(name, Level.MISSING, f"{kernels[-1]} may be read by root only",
                     "sudo chmod 0644 " + " ".join(map(str, kernels)))
    return Check(name, Level.OK, str(readable[-1]))


def _kernels() -> list[tuple[Path, str]]:
    """The installed kernels and their versions, from both places where distributions put them."""
    boot = [(path, path.name.removeprefix("vmlinuz-")) for path in Path("/boot").glob("vmlinuz-*")]
    lib = [(path, path.parent.name) for path in Path("/lib/modules").glob("*/vmlinuz")]
    return sorted(boot) + sorted(lib)


def _check_kvm() -> Check:
    kvm = kvm_usable()
    if kvm.usable:
        return Check("KVM", Level.OK, "works")
    remedy = ""
    flags = Path("/proc/cpuinfo").read_text().split()
    if not KVM_DEVICE.exists() and ("vmx" in flags or "svm" in flags):
        remedy = _as_root("modprobe kvm_intel" if "vmx" in flags else "modprobe kvm_amd")
    elif KVM_DEVICE.exists() and not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        remedy = "sudo usermod -aG kvm $USER  # then log in again"
    return Check("KVM", Level.WARNING,
                 f"unusable: {kvm.reason}. Everything runs emulated (force_tcg), which is slower",
                 remedy)


def _check_program(name: str, found: str | Path | None, without: str, debian: str,
                   fedora: str) -> Check:
    """`without` says what cannot be done without the program; "" means that nothing can."""
    if found:
        return Check(name, Level.OK, str(found))
    return Check(name, Level.WARNING if without else Level.MISSING, without or "not installed",
                 _install(debian, fedora))


def _check_firmware(arch: str, debian: str, fedora: str) -> Check:
    found = ovmf(arch)
    return _check_program(f"UEFI for {arch}", found[0] if found else None,
                          f"{arch} guests with UEFI cannot be booted here", debian, fedora)


def _check_virtio_win() -> Check:
    found = find_virtio_win()
    if found and found.exists():
        return Check("virtio-win drivers", Level.OK, str(found))
    if found:
        return Check("virtio-win drivers", Level.WARNING,
                     f"{found}, which $VIRTIO_WIN names, does not exist", "unset VIRTIO_WIN")
    return Check("virtio-win drivers", Level.WARNING,
                 "not found: Windows guests need them",
                 "scripts/fetch-virtio-win  # or: imgconv drivers import virtio-win.iso")


def _working_folders() -> tuple[Path, ...]:
    """Where imgconv and libguestfs (its appliance, some 300 MiB) put their temporary files."""
    appliance = os.environ.get("LIBGUESTFS_CACHEDIR") or os.environ.get("TMPDIR")
    appliance = appliance or "/var/tmp"  # noqa: S108 - libguestfs' own default, made safely by it
    return tuple(dict.fromkeys((Path(tempfile.gettempdir()), Path(appliance))))


def _check_space(folder: Path) -> Check:
    name = f"space in {folder}"
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, Level.MISSING, str(error), f"mkdir -p {folder}")
    detail = f"{free / 1024**3:.1f} GiB free"
    if free < TEMPORARY_SPACE:
        return Check(name, Level.WARNING, f"{detail}, 2 GiB are recommended",
                     "export TMPDIR=/a/folder/with/space")
    return Check(name, Level.OK, detail)
