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
vars=/images/w.qcow2.secure.vars.fd
if [ ! -e "$vars" ]; then
    cat -- /usr/share/OVMF/OVMF_VARS_4M.fd >"$vars.new"
    mv -- "$vars.new" "$vars"
fi
tpm=/images/w.qcow2.tpm
if command -v swtpm >/dev/null; then
    mkdir -p -- "$tpm"
    chmod 700 -- "$tpm"
    exec 9<"$tpm"
    pid=$(cat -- "$tpm/pid" 2>/dev/null) || pid=none
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != swtpm ]; then
        rm -f -- "$tpm/socket"
        swtpm socket --tpm2 --tpmstate dir=/proc/self/fd/9 \
            --ctrl type=unixio,path=/proc/self/fd/9/socket \
            --pid file=/proc/self/fd/9/pid --terminate --daemon
    fi
    set -- -chardev socket,id=tpm,path=/proc/self/fd/9/socket \
        -tpmdev emulator,id=tpm,chardev=tpm -device tpm-crb,tpmdev=tpm "$@"
else
    echo 'This machine has no TPM, because swtpm is not installed. Windows starts' \
        'without one, but its updates and BitLocker ask for it.' >&2
fi
exec qemu-system-x86_64 \
    -name guest=windows \
    -nodefaults \
    -no-user-config \
    -machine q35,hpet=off,smm=on,pflash0=code,pflash1=vars \
    -global driver=cfi.pflash01,property=secure,value=on \
    -blockdev '{"driver": "raw", "node-name": "code", "read-only": true, "file": {"driver": "file", "filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "read-only": true}}' \
    -blockdev '{"driver": "raw", "node-name": "vars", "file": {"driver": "file", "filename": "/images/w.qcow2.secure.vars.fd"}}' \
    -accel "$accel" \
    -cpu "$cpu" \
    -smp cpus=2,sockets=1 \
    -m size=4096M \
    -rtc base=localtime,driftfix=slew \
    -boot strict=on \
    -blockdev '{"driver": "qcow2", "node-name": "disk0", "file": {"driver": "file", "filename": "/images/w.qcow2", "discard": "unmap"}, "discard": "unmap"}' \
    -device virtio-blk-pci,drive=disk0,bootindex=1 \
    -netdev user,id=net0 \
    -device virtio-net-pci,netdev=net0,mac=52:54:00:cc:c9:19,romfile= \
    -vga std \
    -device qemu-xhci,id=usb \
    -device usb-tablet,bus=usb.0 \
    -display "$display" \
    -serial mon:stdio \
    "$@"
