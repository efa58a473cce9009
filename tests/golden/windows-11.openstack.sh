#!/bin/sh
# win: uploads this machine's disks to OpenStack.
# Needs the openstack client, and its variables (openrc).
#
# Arguments, which can be left out: NAME
#   NAME      the image's name; win by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 1 ] || { echo "Arguments, which can be left out: NAME" >&2; exit 2; }
name=${1:-win}
case $name in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
openstack image create \
    --disk-format qcow2 \
    --container-format bare \
    --file /images/win.qcow2 \
    --min-ram 4096 \
    --property hw_architecture=x86_64 \
    --property hw_machine_type=q35 \
    --property hw_firmware_type=uefi \
    --property hw_disk_bus=virtio \
    --property hw_cpu_sockets=1 \
    --property hw_video_model=vga \
    --property os_type=windows \
    --property hw_vif_model=virtio \
    --property os_secure_boot=required \
    --property hw_tpm_version=2.0 \
    --property hw_tpm_model=tpm-crb \
    --property hw_rng_model=virtio \
    --property hw_pointer_model=usbtablet \
    --property hw_time_hpet=false \
    "$name"

# A server of it (the words in capitals are yours):
#   openstack flavor create --vcpus 2 --ram 4096 --disk GIB FLAVOR
#   openstack port create --network NETWORK --mac-address 52:54:00:30:db:c7 PORT0
#   openstack server create --image NAME --flavor FLAVOR --port PORT0 SERVER
