#!/bin/sh
# legacy: starts the machine that imgconv proved this guest able to run on.
# the disk stays on ide: kernel 2.4 has no virtio
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
    -name guest=legacy \
    -nodefaults \
    -no-user-config \
    -machine pc \
    -accel "$accel" \
    -cpu "$cpu" \
    -smp cpus=1,sockets=1 \
    -m size=512M \
    -rtc base=utc \
    -boot strict=on \
    -blockdev '{"driver": "vmdk", "node-name": "disk0", "file": {"driver": "file", "filename": "/images/a.vmdk", "discard": "unmap"}, "discard": "unmap"}' \
    -device ide-hd,bus=ide.0,unit=0,drive=disk0,bootindex=1 \
    -blockdev '{"driver": "raw", "node-name": "disk1", "file": {"driver": "file", "filename": "/images/b.raw", "discard": "unmap"}, "discard": "unmap"}' \
    -device ide-hd,bus=ide.0,unit=1,drive=disk1 \
    -blockdev '{"driver": "raw", "node-name": "disk2", "file": {"driver": "file", "filename": "/images/c.raw", "discard": "unmap"}, "discard": "unmap"}' \
    -device ide-hd,bus=ide.1,unit=0,drive=disk2 \
    -netdev tap,id=net0 \
    -device e1000,netdev=net0,romfile= \
    -vga std \
    -display "$display" \
    -serial mon:stdio \
    "$@"
