"""Where Windows keeps what belongs to drivers: folders below the system root.

Constants only: those that write a driver and those that prove it share nothing else.
"""

from __future__ import annotations

from typing import Final

#: The driver store: one folder a package.
FILE_REPOSITORY: Final = "System32/DriverStore/FileRepository"

#: The catalogs that verify drivers (the subsystem DRIVER_ACTION_VERIFY of the SDK).
CATALOGS: Final = "System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"

#: Where drivers are loaded from that do not stay in the driver store.
DRIVERS: Final = "System32/drivers"
