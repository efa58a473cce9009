#!/bin/sh
# old: uploads this machine's disks to OpenStack.
# the disk stays on ide: its virtio drivers are not proven
# the network card is an e1000: the guest has no virtio-net driver
# Needs the openstack client, and its variables (openrc).
#
# Arguments, which can be left out: NAME
#   NAME      the image's name; old by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 1 ] || { echo "Arguments, which can be left out: NAME" >&2; exit 2; }
name=${1:-old}
case $name in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
openstack image create \
    --disk-format vmdk \
    --container-format bare \
    --file /images/a.vmdk \
    --min-ram 2048 \
    --property hw_architecture=x86_64 \
    --property hw_machine_type=pc \
    --property hw_firmware_type=bios \
    --property hw_disk_bus=ide \
    --property hw_cpu_sockets=1 \
    --property hw_video_model=vga \
    --property os_type=linux \
    --property hw_vif_model=e1000 \
    --property hw_time_hpet=true \
    "$name"
openstack image create \
    --disk-format raw \
    --container-format bare \
    --file /images/b.raw \
    "$name"-disk1
openstack image create \
    --disk-format raw \
    --container-format bare \
    --file /images/c.raw \
    "$name"-disk2

# A server of it (the words in capitals are yours):
#   openstack flavor create --vcpus 2 --ram 2048 --disk GIB FLAVOR
#   openstack port create --network NETWORK --mac-address 52:54:00:cb:7a:e0 PORT0
#   openstack server create --image NAME --flavor FLAVOR --port PORT0 SERVER
#   openstack volume create --image NAME-disk1 --size GIB NAME-disk1
#   openstack server add volume SERVER NAME-disk1
#   openstack volume create --image NAME-disk2 --size GIB NAME-disk2
#   openstack server add volume SERVER NAME-disk2
