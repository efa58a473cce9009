"""The libguestfs appliance: the only file that imports guestfs.

One appliance serves a whole conversion. The guest's filesystems and programs live and run only in
there; it has no network.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from imgconv.errors import GuestFileMissing, HostileInput, ImgconvError
from imgconv.guest import new_files
from imgconv.guest.hive_edits import carry_out
from imgconv.guest.protocols import CONFIG_LIMIT, NAMES_LIMIT
from imgconv.guest.watchdog import ApplianceGone, Limits, Watchdog
from imgconv.model import (
    DeleteRegistryKey,
    Image,
    Mount,
    PatchDevice,
    RegistryValue,
    SetRegistry,
    WriteFile,
    target,
)
from imgconv.signals import deferred

log = logging.getLogger(__name__)

#: A message to the appliance holds at most 4 MiB (GUESTFS_MESSAGE_MAX), its header included.
_CHUNK = 2 << 20

#: Mount points whose absence does not hinder a conversion; a guest has them or not.
_DISPENSABLE = ("/home", "/srv", "/opt", "/media", "/mnt", "/data", "/tmp")  # noqa: S108


#: A folder whose own blocks are larger holds more names than are worth transferring, in bytes.
_FOLDER_LIMIT = 4 << 20

#: guestfs' errors end with that of the system call, whose number the binding does not tell. By
#: these a filesystem says that it is damaged, and not that something is not there.
_DAMAGED = tuple(os.strerror(number) for number in (errno.EIO, errno.EUCLEAN, errno.EBADMSG))
_NO_SPACE = os.strerror(errno.ENOSPC)

#: What a failing command of the guest prints becomes part of the message: this many characters.
_LONGEST_MESSAGE = 2000


class _NoName(HostileInput):
    """A path or name that no file of a guest can have: it holds a NUL or is no text."""


class Appliance:
    """Implements `Guest` for the guest whose filesystems are mounted with `mount`."""

    def __init__(self, handle: Any, watchdog: Watchdog) -> None:  # noqa: ANN401  it has no types
        self._handle = handle
        self._watchdog = watchdog

    def call(self, method: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        """Call guestfs' `method`.

        Raises ImgconvError with guestfs' own words, HostileInput for names that cannot be, and
        ApplianceGone when the appliance died or exceeded its time.
        """
        try:
            return self._invoke(method, *args, **kwargs)
        except RuntimeError as error:
            raise self._explained(error) from error

    def _try(self, method: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        """Like `call`, but None when the guest has no such thing."""
        try:
            return self._invoke(method, *args, **kwargs)
        except _NoName:
            return None
        except RuntimeError as error:
            if str(error).endswith(_DAMAGED):
                raise self._explained(error) from error
            log.debug("%s%r: %s", method, args, error)
            return None

    @staticmethod
    def _explained(error: RuntimeError) -> ImgconvError:
        said = str(error)
        if len(said) > _LONGEST_MESSAGE:
            said = f"{said[:_LONGEST_MESSAGE]}..."
        if _NO_SPACE in said:
            return ImgconvError(f"a filesystem of the guest has no space left: {said}",
                                hint="start the guest where it ran, and make room in it")
        hint = ("repair the guest's filesystem with fsck" if said.endswith(_DAMAGED)
                else "run again with -v to see what it did")
        return ImgconvError(f"the libguestfs appliance says: {said}", hint=hint)

    def _invoke(self, method: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        """Python's signal handlers also run inside the callbacks for libguestfs' events, where what
        they raise is lost (and SystemExit ends the process on the spot): they wait. The watchdog
        sees to it that they do not wait for long."""
        what = method
        if method == "command" and isinstance(args[0], list):
            what = shlex.join(args[0])[:200]
        with self._watchdog.watching(method, what), deferred():
            try:
                return getattr(self._handle, method)(*args, **kwargs)
            except UnicodeDecodeError as error:
                raise HostileInput("the guest has names that are not in UTF-8") from error
            except ValueError as error:  # the binding's, of a NUL or a lone surrogate
                raise _NoName(f"the guest names a file that cannot be: {error}") from error
            except RuntimeError as error:
                if self._watchdog.reason is not None:
                    raise self._watchdog.reason from error
                if method != "launch" and not self._handle.is_ready():
                    raise ApplianceGone(
                        f"the libguestfs appliance died ({what}): its QEMU crashed or was killed",
                        hint="is this host short of memory? dmesg tells") from error
                raise

    # --- Reader ---------------------------------------------------------------------------------

    def size(self, path: str) -> int | None:
        status = self._try("statns", path)
        if status is None or not stat.S_ISREG(status["st_mode"]):
            return None
        return int(status["st_size"])

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        size = self.size(path)
        if size is None:
            raise GuestFileMissing(f"the guest has no file {path}")
        if size > limit:
            raise HostileInput(f"the guest's {path} is {size:,} bytes large, "
                               f"more than such a file can be ({limit:,})")
        # Messages are four to ten times quicker than a stream, which is what read_file makes of it.
        return b"".join(self.call("pread", path, min(_CHUNK, size - start), start)
                        for start in range(0, size, _CHUNK))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        if self.size(path) is None:
            raise GuestFileMissing(f"the guest has no file {path}")
        return bytes(self.call("pread", path, size, offset))

    def names(self, path: str) -> tuple[str, ...]:
        status = self._try("statns", path)
        if status is None or not stat.S_ISDIR(status["st_mode"]):
            return ()
        names = self._try("ls", path) or () if status["st_size"] <= _FOLDER_LIMIT else None
        if names is None or len(names) > NAMES_LIMIT:
            raise HostileInput(f"the guest's folder {path} holds more than {NAMES_LIMIT:,} names")
        return tuple(sorted(names))

    def is_dir(self, path: str) -> bool:
        return bool(self._try("is_dir", path, followsymlinks=True))

    def find(self, path: str) -> str | None:
        if self._try("statns", path) is not None:  # quicker by far than to look into every folder
            return path
        found = self._try("case_sensitive_path", path)
        return found if found is not None and self._try("statns", found) is not None else None

    def read_device(self, device: str, offset: int, size: int) -> bytes:
        return bytes(self.call("pread_device", device, size, offset))

    def device_size(self, device: str) -> int:
        return int(self.call("blockdev_getsize64", device))

    # --- Guest ----------------------------------------------------------------------------------

    def write(self, path: str, content: bytes, mode: int) -> None:
        new = self.size(path) is None
        if new:
            self.call("mkdir_p", path.rpartition("/")[0] or "/")
        self.call("write", path, content[:_CHUNK])
        self.append(path, content[_CHUNK:])
        if new:
            self.call("chmod", mode, path)

    def create(self, files: Sequence[WriteFile]) -> None:
        rights = cache(self._rights)
        protected = []
        for file in files:
            if rights(self._folder_above(file.path)) is None:
                self.write(file.path, file.content, file.mode)
            else:
                protected.append(file)
        if protected:
            with os.fdopen(os.memfd_create("new files"), "wb") as archive:
                new_files.write(archive, protected, rights)
                archive.flush()
                self.call("tar_in", f"/proc/self/fd/{archive.fileno()}", "/", xattrs=True)

    def _folder_above(self, path: str) -> str:
        """The nearest folder above `path` that is there."""
        while path:
            path = path.rpartition("/")[0]
            if self.is_dir(path or "/"):
                break
        return path or "/"

    def _rights(self, folder: str) -> bytes | None:
        """The security descriptor of a folder of an NTFS filesystem, None of any other path."""
        found = self._try("getxattr", folder, new_files.ATTRIBUTE)
        return bytes(found) if found is not None else None

    def append(self, path: str, content: bytes) -> None:
        for start in range(0, len(content), _CHUNK):
            self.call("write_append", path, content[start:start + _CHUNK])

    def patch_device(self, patch: PatchDevice) -> None:
        self.call("umount_all")
        if self.read_device(patch.device, patch.offset, len(patch.before)) != patch.before:
            raise ImgconvError(f"{target(patch)} has changed since it was looked at",
                               hint="run imgconv again")
        self.call("pwrite_device", patch.device, patch.after, patch.offset)

    def edit_registry(self, hive: str, edits: Sequence[SetRegistry | DeleteRegistryKey]) -> None:
        try:
            self.call("hivex_open", hive, write=True)
            try:
                carry_out(_OpenHive(self), edits)
                self.call("hivex_commit", None)
            finally:
                self._try("hivex_close")
        except ApplianceGone:
            raise
        except ImgconvError as error:
            raise ImgconvError(f"the registry hive {hive} cannot be edited: {error.message}",
                               hint=error.hint) from error

    def run(self, argv: tuple[str, ...]) -> str:
        return str(self.call("command", list(argv)))

    # --- mounting -------------------------------------------------------------------------------

    def mount(self, mounts: Sequence[Mount], *, writable: bool) -> None:
        """Mount the guest as it would itself, parents first. Raises ImgconvError."""
        if all(mount.path != "/" for mount in mounts):
            for mount in mounts:  # the drives of a Windows, beside each other
                self._try("mkmountpoint", mount.path)
        for mount in sorted(mounts, key=lambda mount: mount.path.count("/") if
                            mount.path != "/" else -1):
            try:
                self.call("mount" if writable else "mount_ro", mount.device, self._real(mount.path))
            except ApplianceGone:
                raise
            except ImgconvError as error:
                if not mount.path.startswith(_DISPENSABLE):
                    raise ImgconvError(
                        f"{mount.device} cannot be mounted at {mount.path}: {error.message}",
                        hint="start the guest once and shut it down cleanly, or repair it with fsck"
                    ) from error
                log.warning("%s is left unmounted: %s", mount.path, error.message)

    def _real(self, path: str) -> str:
        """`path` without symbolic links, which the appliance's mount would follow out of the
        guest's root, over its own folders."""
        return path if path == "/" else str(self._try("realpath", path) or path)

    def reread(self, mounts: Sequence[Mount]) -> None:
        """Unmount, forget every cached block and mount read-only, so that what is read next is
        what is on the disk. Raises ImgconvError."""
        self.call("umount_all")
        self.call("sync")
        self.call("drop_caches", 3)
        self.mount(mounts, writable=False)

    def close(self) -> None:
        """Unmount and stop the appliance in order, so that every write has reached the disk."""
        self.call("umount_all")
        self.call("shutdown")


class _OpenHive:
    """The hive that is open in the appliance, there can be one."""

    def __init__(self, appliance: Appliance) -> None:
        self._call = appliance.call

    def root(self) -> int:
        return int(self._call("hivex_root"))

    def child(self, key: int, name: str) -> int:
        return int(self._call("hivex_node_get_child", key, name))

    def add(self, key: int, name: str) -> int:
        return int(self._call("hivex_node_add_child", key, name))

    def set(self, key: int, value: RegistryValue) -> None:
        self._call("hivex_node_set_value", key, value.name, value.type, value.data)

    def delete(self, key: int) -> None:
        self._call("hivex_node_delete_child", key)


@contextmanager
def launch(images: Sequence[Image], *, writable: bool, tcg: bool,
           progress: Callable[[float], None] | None = None,
           limits: Limits | None = None) -> Iterator[Appliance]:
    """Start an appliance with the disks of one guest, in order; it ends with the context.

    `writable` is for overlays; otherwise libguestfs keeps what a mount writes (the replay of a
    journal) in an overlay of its own. `tcg` does without KVM. `limits` are those of the
    environment unless given. Raises ImgconvError when the appliance does not start.
    """
    try:
        import guestfs
    except ImportError as error:
        raise ImgconvError(
            "the Python binding of libguestfs is not installed for this Python",
            hint="apt install python3-guestfs, and use a virtual environment made from "
                 "/usr/bin/python3 with --system-site-packages (scripts/imgconv does both)"
        ) from error
    overlays = [image.path for image in images] if writable else []
    with Watchdog(limits or Limits.from_environment(), overlays) as watchdog:
        handle = guestfs.GuestFS(python_return_dict=True)
        try:
            _listen(handle, guestfs, progress)
            _configure(handle, images, watchdog.token, writable=writable, tcg=tcg)
            appliance = Appliance(handle, watchdog)
            _start(appliance)
            yield appliance
            appliance.close()
        except BaseException:
            watchdog.end()  # nobody wants what it has not written yet, so nobody waits for that
            raise
        finally:
            with watchdog.watching("close", "ending the appliance"), deferred():
                handle.close()


def version() -> str:
    """libguestfs' version, or why there is none."""
    try:
        import guestfs

        found = guestfs.GuestFS(python_return_dict=True).version()
    except (ImportError, RuntimeError) as error:
        return f"unusable: {error}"
    return f"{found['major']}.{found['minor']}.{found['release']}"


def _configure(handle: Any, images: Sequence[Image], token: str, *, writable: bool,  # noqa: ANN401
               tcg: bool) -> None:
    handle.set_program("imgconv")
    handle.set_backend("direct")
    handle.set_backend_settings(["force_tcg"] if tcg else [])
    # The kernel's command line is part of QEMU's, by which the watchdog finds it.
    handle.set_append(" ".join(filter(None, (handle.get_append(), token))))
    handle.set_network(False)
    handle.set_autosync(True)
    # Emulated, a second processor makes nothing faster (measured) and now and then hangs the start.
    handle.set_smp(1 if tcg else min(4, os.cpu_count() or 1))
    for image in images:
        handle.add_drive_opts(str(image.path), format=image.format, readonly=not writable,
                              cachemode="unsafe")


def _start(appliance: Appliance) -> None:
    try:
        appliance.call("launch")
    except ApplianceGone:
        raise
    except ImgconvError as error:
        raise ImgconvError(f"the libguestfs appliance did not start: {error.__cause__}",
                           hint="imgconv doctor shows what this host lacks; "
                                "-v shows what QEMU said") from error


def _listen(handle: Any, guestfs: Any, progress: Callable[[float], None] | None) -> None:  # noqa: ANN401
    """Send guestfs' own messages to the log, and its launch progress to `progress`."""
    def message(event: int, _handle: int, text: str, _values: Sequence[int]) -> None:
        log.debug("guestfs: %s", text.rstrip())

    def bar(event: int, _handle: int, _text: str, values: Sequence[int]) -> None:
        _proc, _serial, position, total = values
        if progress is not None and total:
            progress(position / total)

    handle.set_event_callback(message, guestfs.EVENT_TRACE | guestfs.EVENT_LIBRARY
                              | guestfs.EVENT_WARNING)
    handle.set_event_callback(bar, guestfs.EVENT_PROGRESS)
    # Last, because without a callback a trace goes to stderr.
    handle.set_trace(log.isEnabledFor(logging.DEBUG))
