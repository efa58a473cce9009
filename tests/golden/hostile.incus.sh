#!/bin/sh
# it's $(touch pwned), `id` --> ]]>: makes this machine in Incus; run it on Incus' server.
# first?$(touch pwned)?[2J -- -->?kind: Pod
# The first disk is copied (in $TMPDIR, then into the pool).
#
# Arguments, which can be left out: NAME POOL NETWORK
#   NAME      the instance's name; it-s-touch-pwned-id by default
#   POOL      the storage pool; default by default
#   NETWORK   the network; incusbr0 by default
set -eu

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
esac
[ $# -le 3 ] || { echo "Arguments, which can be left out: NAME POOL NETWORK" >&2; exit 2; }
name=${1:-it-s-touch-pwned-id}
case $name in
    '' | -* | *[!A-Za-z0-9-]*)
        echo "this is no NAME: $name" >&2
        exit 2
        ;;
esac
pool=${2:-default}
case $pool in
    '' | -* | *[!A-Za-z0-9_.-]*)
        echo "this is no POOL: $pool" >&2
        exit 2
        ;;
esac
network=${3:-incusbr0}
case $network in
    '' | -* | *[!A-Za-z0-9_.:-]*)
        echo "this is no NETWORK: $network" >&2
        exit 2
        ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/imgconv.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM
printf 'architecture: x86_64\ncreation_date: %s\nproperties:\n  os: Linux\n  description: it-s-touch-pwned-id\n' "$(date +%s)" >"$work/metadata.yaml"
tar -C "$work" -cf "$work/metadata.tar" metadata.yaml
qemu-img convert -f raw -O qcow2 -- \
    '/images/a b=c'"'"'d$(touch pwned)`id`;&<>--%.raw' "$work/disk.qcow2"
size=$(qemu-img info -- "$work/disk.qcow2" |
    sed -n 's/^virtual size:.*(\([0-9]*\) bytes).*/\1/p')
incus image import "$work/metadata.tar" "$work/disk.qcow2" --alias "imgconv-$name"
incus init "imgconv-$name" "$name" \
    --vm \
    --storage "$pool" \
    -c limits.cpu=2 \
    -c limits.memory=2048MiB \
    -c security.secureboot=false \
    -c security.csm=true \
    -d root,size="$size"B,io.bus=virtio-blk,boot.priority=10 || {
    incus image delete "imgconv-$name"
    exit 1
}
incus image delete "imgconv-$name"
incus config device add "$name" eth0 nic network="$network" hwaddr=52:54:00:92:25:32
echo "instance $name is there: incus start $name --console"
