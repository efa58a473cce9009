#!/bin/sh
# legacy: starts the machine that imgconv proved this guest able to run on.
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
    kvm) cpu=host ;;
    *) cpu=max,la57=off ;;
esac
vars=/images/legacy.qcow2.vars.fd
if [ ! -e "$vars" ]; then
    cat -- /usr/share/OVMF/OVMF_VARS_4M.fd >"$vars.new"
    mv -- "$vars.new" "$vars"
fi
exec qemu-system-x86_64 \
    -name guest=legacy \
    -nodefaults \
    -no-user-config \
    -machine q35,pflash0=code,pflash1=vars \
    -blockdev '{"driver": "raw", "node-name": "code", "read-only": true, "file": {"driver": "file", "filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "read-only": true}}' \
    -blockdev '{"driver": "raw", "node-name": "vars", "file": {"driver": "file", "filename": "/images/legacy.qcow2.vars.fd"}}' \
    -accel "$accel" \
    -cpu "$cpu" \
    -smp cpus=2,sockets=1 \
    -m size=2048M \
    -rtc base=localtime \
    -boot strict=on \
    -device virtio-scsi-pci,id=scsi0 \
    -blockdev '{"driver": "qcow2", "node-name": "disk0", "file": {"driver": "file", "filename": "/images/legacy.qcow2", "discard": "unmap"}, "discard": "unmap"}' \
    -device scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk0,bootindex=1 \
    -netdev bridge,br=br0,id=net0 \
    -device e1000e,netdev=net0,mac=52:54:00:01:02:03,romfile= \
    -device virtio-rng-pci \
    -device virtio-balloon-pci \
    -vga std \
    -display "$display" \
    -serial mon:stdio \
    "$@"
