#!/bin/sh
# files: makes this machine in Proxmox VE; run it there, as root.
# The disks are copied. Nothing is started: qm start VMID does.
#
# Arguments, which can be left out: VMID STORAGE BRIDGE
#   VMID      the machine's number; the next free one by default
#   STORAGE   where its disks are copied to; local-lvm by default
#   BRIDGE    the bridge for its network; vmbr0 by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 3 ] || { echo "Arguments, which can be left out: VMID STORAGE BRIDGE" >&2; exit 2; }
vmid=${1:-$(pvesh get /cluster/nextid)}
case $vmid in
    '' | -* | *[!0-9]*)
        echo "this is no VMID: $vmid" >&2
        exit 2
        ;;
esac
storage=${2:-local-lvm}
case $storage in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no STORAGE: $storage" >&2
        exit 2
        ;;
esac
bridge=${3:-vmbr0}
case $bridge in
    '' | -* | *[!A-Za-z0-9_.:-]*)
        echo "this is no BRIDGE: $bridge" >&2
        exit 2
        ;;
esac
qm create "$vmid" \
    --name files \
    --ostype l26 \
    --machine q35 \
    --bios seabios \
    --cpu host \
    --sockets 1 \
    --cores 2 \
    --memory 2048 \
    --balloon 2048 \
    --localtime 0 \
    --tdf 0 \
    --tablet 0 \
    --scsihw virtio-scsi-pci \
    --serial0 socket \
    --vga std \
    --boot order=virtio0 \
    --rng0 source=/dev/urandom \
    --virtio0 "$storage":0,import-from=/images/files.qcow2,discard=on \
    --virtio1 "$storage":0,import-from=/images/data.raw,discard=on \
    --net0 virtio=52:54:00:37:C4:6D,bridge="$bridge"
echo "machine $vmid is there: qm start $vmid"
