"""GRUB 2 for UEFI, installed into an image file without mounting anything.

As `grub-install` does it: modules go to /boot/grub, a `core.efi` that finds them goes to the EFI
system partition, under the distribution's name and (`--removable`) where every firmware looks.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from imgconv.builder import esp, grub
from imgconv.builder.layout import Layout
from imgconv.builder.recipe import Recipe
from imgconv.errors import ImgconvError

PACKAGES: Final = ("grub-efi-amd64-bin", "grub2-common")
#: What `configure_script` makes in the guest for `install`.
ARTIFACTS: Final = ("/boot/grub/x86_64-efi/core.efi",)

# The second is the UEFI specification's name (2.10, 3.5.1.1).
_PLACES: Final = ("EFI/debian/grubx64.efi", "EFI/BOOT/BOOTX64.EFI")


def configure_script(recipe: Recipe, disk: Layout) -> str:
    """Return shell lines that run inside the guest's tree as root and set GRUB up."""
    return textwrap.dedent(f"""\
        modules=/usr/lib/grub/x86_64-efi
        target=/boot/grub/x86_64-efi
        mkdir -p $target /boot/efi
        cp $modules/*.mod $modules/*.lst $target/
        printf '%s\\n' 'search.fs_uuid {disk.root.uuid} root' \\
            'set prefix=($root)/boot/grub' > $target/load.cfg
        grub-mkimage -O x86_64-efi -d $modules -o $target/core.efi -c $target/load.cfg \\
            -p /boot/grub part_{grub.PARTMAPS[disk.table]} fat \\
            {grub.FILESYSTEMS[recipe.filesystem]} search_fs_uuid
        """)


def install(image: Path, artifacts: Path, disk: Layout) -> None:
    """Write GRUB into the raw disk `image`; `artifacts` holds core.efi."""
    if disk.esp is None:
        raise ImgconvError("grub-efi needs an EFI system partition",
                           hint='the recipe needs partition_table = "gpt"')
    esp.write(image, disk.esp, dict.fromkeys(_PLACES, artifacts / "core.efi"), artifacts / "esp")
