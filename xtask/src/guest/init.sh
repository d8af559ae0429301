#!/bin/bash
# The first process of a guest: prepares the system, runs one command, hands its output and results to the host.
#
# The host listens on three ports: 1 gets standard output, 2 standard error, 3 what happens ("ready", files,
# "status"). A port carries no end of file, so a marker that only this boot knows ends the first two.

export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

fail() {
    echo "guest: $*" >/dev/console
    poweroff -f
    sleep 60
}

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# All namespaces share this queue: with 1,000, two bursts at once lose packets before anybody sees them.
echo 20000 > /proc/sys/net/core/netdev_max_backlog
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
hostname guest
ip link set lo up

modprobe -a virtio_pci virtio_console 2>/dev/null
# Two scenarios that load these for the first time at the same moment make the kernel refuse one of them.
modprobe -a veth nf_tables nft_ct nfnetlink_queue 2>/dev/null
for _ in {1..200}; do
    [ -c /dev/vport0p3 ] && break
    sleep 0.05
done
[ -c /dev/vport0p3 ] || fail "the kernel shows no port to the host"
exec 3>/dev/vport0p3

. /xtask/environment
marker=$(</xtask/marker)
mkfifo /xtask/out /xtask/err
{ cat; printf %s "$marker"; } </xtask/out >/dev/vport0p1 3>&- &
{ cat; printf %s "$marker"; } </xtask/err >/dev/vport0p2 3>&- &
mkdir -p /results /tmp
cd /root || fail "no /root"

echo ready >&3
# Not in the background: there it, and all it starts, would ignore SIGINT.
bash /xtask/command </dev/null >/xtask/out 2>/xtask/err 3>&-
status=$?

cd /results || fail "the command removed /results"
find . -type f | while read -r file; do
    printf 'file %s %s\n' "$(stat -c %s "$file")" "${file#./}" >&3
    cat "$file" >&3
done
echo "status $status" >&3
# The host ends the guest when it has everything.
while :; do sleep 60; done
