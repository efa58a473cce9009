#!/bin/sh
# windows: starts the machine that imgconv proved this guest able to run on.
#
# Further arguments go to QEMU. Variables:
#   IMGCONV_ACCEL=kvm|tcg       hardware acceleration or emulation
#   IMGCONV_DISPLAY=gtk|vnc=:1  the screen (whatever -display takes); none by default
# The guest's serial console is on this terminal: Ctrl-A X ends the machine, Ctrl-A C
# switches between the console and QEMU's monitor.
set -eu
accel=${IMGCONV_ACCEL:-kvm}
display=${IMGCONV_DISPLAY:-none}
case $accel in
    kvm) cpu=host,hv_relaxed,hv_vapic,hv_spinlocks=0x1fff,hv_time,hv_vpindex,hv_runtime,hv_synic,hv_stimer,hv_frequencies,hv_tlbflush,hv_ipi ;;
    *) cpu=max,la57=off ;;
esac
exec qemu-system-x86_64 \
    -name guest=windows \
    -nodefaults \
    -no-user-config \
    -machine q35,hpet=off \
    -accel "$accel" \
    -cpu "$cpu" \
    -smp cpus=2,sockets=1 \
    -m size=4096M \
    -rtc base=localtime,driftfix=slew \
    -boot strict=on \
    -device virtio-scsi-pci,id=scsi0 \
    -blockdev '{"driver": "qcow2", "node-name": "disk0", "file": {"driver": "file", "filename": "/images/w.qcow2", "discard": "unmap"}, "discard": "unmap"}' \
    -device scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk0,bootindex=1 \
    -netdev user,id=net0 \
    -device virtio-net-pci,netdev=net0,mac=52:54:00:cc:c9:19,romfile= \
    -vga std \
    -device qemu-xhci,id=usb \
    -device usb-tablet,bus=usb.0 \
    -display "$display" \
    -serial mon:stdio \
    "$@"
