#!/bin/sh
# xp: uploads this machine's disks to OpenStack.
# the disk stays on ide: its virtio drivers are not proven
# the network card is an e1000: the guest has no virtio-net driver
# Needs the openstack client, and its variables (openrc).
#
# Arguments, which can be left out: NAME
#   NAME      the image's name; xp by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 1 ] || { echo "Arguments, which can be left out: NAME" >&2; exit 2; }
name=${1:-xp}
case $name in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
openstack image create \
    --disk-format qcow2 \
    --container-format bare \
    --file /images/xp.qcow2 \
    --min-ram 2048 \
    --property hw_architecture=x86_64 \
    --property hw_machine_type=pc \
    --property hw_firmware_type=bios \
    --property hw_disk_bus=ide \
    --property hw_cpu_sockets=1 \
    --property hw_video_model=vga \
    --property os_type=windows \
    --property hw_vif_model=e1000 \
    --property hw_pointer_model=usbtablet \
    --property hw_time_hpet=false \
    "$name"

# A server of it (the words in capitals are yours):
#   openstack flavor create --vcpus 2 --ram 2048 --disk GIB FLAVOR
#   openstack port create --network NETWORK --mac-address 52:54:00:0b:b4:f0 PORT0
#   openstack server create --image NAME --flavor FLAVOR --port PORT0 SERVER
