#!/bin/sh
# SPDX-License-Identifier: MIT
# The lab's host starts here, as process 1. What it is to do comes by the shared folder.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /var/tmp
exec >/dev/console 2>&1
share=$(sed -n 's/.*lab=\([^ ]*\).*/\1/p' /proc/cmdline)
modprobe 9pnet_virtio
modprobe 9p
mkdir -p "$share"
if mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 lab "$share"; then
	cd "$share" && sh ./agent.sh
else
	echo "lab: no shared folder"
fi
sync
poweroff -f
