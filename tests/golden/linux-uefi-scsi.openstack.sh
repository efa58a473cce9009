#!/bin/sh
# db: uploads this machine's disks to OpenStack.
# Needs the openstack client, and its variables (openrc).
#
# Arguments, which can be left out: NAME
#   NAME      the image's name; db by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 1 ] || { echo "Arguments, which can be left out: NAME" >&2; exit 2; }
name=${1:-db}
case $name in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
openstack image create \
    --disk-format qcow2 \
    --container-format bare \
    --file /images/db.qcow2 \
    --min-ram 2048 \
    --property hw_architecture=x86_64 \
    --property hw_machine_type=q35 \
    --property hw_firmware_type=uefi \
    --property hw_disk_bus=scsi \
    --property hw_cpu_sockets=1 \
    --property hw_video_model=vga \
    --property os_type=linux \
    --property hw_scsi_model=virtio-scsi \
    --property hw_vif_model=virtio \
    --property os_secure_boot=disabled \
    --property hw_rng_model=virtio \
    --property hw_time_hpet=true \
    "$name"

# A server of it (the words in capitals are yours):
#   openstack flavor create --vcpus 2 --ram 2048 --disk GIB FLAVOR
#   openstack port create --network NETWORK --mac-address 52:54:00:67:01:7f PORT0
#   openstack server create --image NAME --flavor FLAVOR --port PORT0 SERVER
