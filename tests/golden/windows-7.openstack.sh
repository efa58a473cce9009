#!/bin/sh
# seven: uploads this machine's disks to OpenStack.
# Needs the openstack client, and its variables (openrc).
#
# Arguments, which can be left out: NAME
#   NAME      the image's name; seven by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 1 ] || { echo "Arguments, which can be left out: NAME" >&2; exit 2; }
name=${1:-seven}
case $name in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
openstack image create \
    --disk-format qcow2 \
    --container-format bare \
    --file /images/seven.qcow2 \
    --min-ram 2048 \
    --property hw_architecture=x86_64 \
    --property hw_machine_type=q35 \
    --property hw_firmware_type=bios \
    --property hw_disk_bus=virtio \
    --property hw_cpu_sockets=1 \
    --property hw_video_model=vga \
    --property os_type=windows \
    --property hw_vif_model=virtio \
    --property hw_rng_model=virtio \
    --property hw_pointer_model=usbtablet \
    --property hw_time_hpet=false \
    "$name"

# A server of it (the words in capitals are yours):
#   openstack flavor create --vcpus 2 --ram 2048 --disk GIB FLAVOR
#   openstack port create --network NETWORK --mac-address 52:54:00:d7:a4:4e PORT0
#   openstack server create --image NAME --flavor FLAVOR --port PORT0 SERVER
