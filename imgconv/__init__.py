"""imgconv: make legacy virtual machine disks boot from virtio, offline, undamaged and proven."""

__version__ = "0.1.0"
