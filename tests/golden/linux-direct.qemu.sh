#!/bin/sh
# web: starts the machine that imgconv proved this guest able to run on.
#
# Further arguments go to QEMU. Variables:
#   IMGCONV_ACCEL=kvm|tcg       hardware acceleration or emulation
#   IMGCONV_DISPLAY=gtk|vnc=:1  the screen (whatever -display takes); none by default
# The guest's serial console is on this terminal: Ctrl-A X ends the machine, Ctrl-A C
# switches between the console and QEMU's monitor.
set -eu
accel=${IMGCONV_ACCEL:-tcg}
display=${IMGCONV_DISPLAY:-none}
case $accel in
    kvm) cpu=host ;;
    *) cpu=max,la57=off ;;
esac
exec qemu-system-x86_64 \
    -name guest=web \
    -nodefaults \
    -no-user-config \
    -machine q35 \
    -accel "$accel" \
    -cpu "$cpu" \
    -smp cpus=2,sockets=1 \
    -m size=2048M \
    -rtc base=utc \
    -boot strict=on \
    -kernel /images/web.qcow2.vmlinuz \
    -initrd /images/web.qcow2.initrd \
    -append 'root=UUID=1234 ro console=ttyS0' \
    -blockdev '{"driver": "qcow2", "node-name": "disk0", "file": {"driver": "file", "filename": "/images/web.qcow2", "discard": "unmap"}, "discard": "unmap"}' \
    -device virtio-blk-pci,drive=disk0,bootindex=1 \
    -netdev user,id=net0 \
    -device virtio-net-pci,netdev=net0,mac=52:54:00:57:44:ce,romfile= \
    -device virtio-rng-pci \
    -device virtio-balloon-pci \
    -vga std \
    -display "$display" \
    -serial mon:stdio \
    "$@"
