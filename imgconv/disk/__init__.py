"""Disk images on the host: recognise, lock, lay an overlay over, commit or export.

An image goes through these in this order: `formats.open_image`, `lock.locked`,
`overlay.workspace` and `overlay.create`, then `commit.commit` (in place) or `commit.export`
(a copy). What a commit was interrupted at, `recovery.recover` completes before anything else, and
`undo.undo` takes a commit back. Images are hostile: QEMU is always told the format, never left to
probe it.
"""
