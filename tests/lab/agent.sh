# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# The lab's agent: process 1's only child, in the shared folder. For each scenario of ./plan it does what that
# scenario's folder says and leaves there what came of it. Whatever goes wrong in one, the next one runs.
#
#   NAME/setup.sh during.sh after.sh   what to do on the host, with the functions below
#   NAME/guest.sh                      the guest's QEMU; absent: no guest
#   NAME/deadline                      its seconds
#   NAME/serial.log qemu.txt kvm.txt host.log status setup.txt during.txt after.txt   what came of it

word() { echo "lab: $(cut -d' ' -f1 /proc/uptime) $*" > /dev/console; }

# take 0000:00:04.0: away from its driver, to vfio-pci
take() {
	modprobe vfio-pci && modprobe vfio_iommu_type1 || return
	local dev=/sys/bus/pci/devices/$1
	[ -e "$dev" ] || { echo "no device $1"; return 1; }
	echo vfio-pci > "$dev/driver_override"
	[ ! -e "$dev/driver" ] || echo "$1" > "$dev/driver/unbind"
	echo "$1" > /sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "$dev/driver")")" = vfio-pci ] || { echo "vfio-pci did not take $1"; return 1; }
}

# give 0000:00:04.0: back
give() {
	local dev=/sys/bus/pci/devices/$1
	[ ! -e "$dev/driver" ] || echo "$1" > "$dev/driver/unbind"
	echo > "$dev/driver_override"
}

# vfs 0000:02:00.0 2: so many virtual functions, by the device's own driver; nobody drives them. The physical
# function is up: what its driver sets then (GPIE of an 82576) is what makes their causes messages.
vfs() {
	local dev=/sys/bus/pci/devices/$1 net
	[ -e "$dev/driver" ] || { modprobe igb; echo "$1" > /sys/bus/pci/drivers_probe; }
	[ "$2" = 0 ] || echo 0 > "$dev/sriov_drivers_autoprobe"
	for net in "$dev"/net/*; do
		ip link set "${net##*/}" up
	done
	echo "$2" > "$dev/sriov_numvfs"
}

# mdev mtty-2 UUID: one more mediated device of a type
mdev() {
	local kind
	modprobe vfio_iommu_type1 || return
	kind=$(find /sys/devices/virtual -path "*/mdev_supported_types/$1" | head -n 1)
	[ -n "$kind" ] || { echo "no mdev type $1"; return 1; }
	[ -e "/sys/bus/mdev/devices/$2" ] || echo "$2" > "$kind/create"
	[ -e "/sys/bus/mdev/devices/$2" ]
}

unmdev() { [ ! -e "/sys/bus/mdev/devices/$1" ] || echo 1 > "/sys/bus/mdev/devices/$1/remove"; }

# await N PATTERN: until the guest's report has a line like that, N seconds at most
await() {
	local end=$(($(cut -d. -f1 /proc/uptime) + $1))
	until grep -q "$2" /tmp/serial; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || { echo "no line $2 within $1 s"; return 1; }
		sleep 0.1
	done
}

# remapped 0000:00:04.0: what the guest's device sends, the host has through its IOMMU's table
remapped() {
	for _ in $(seq 100); do
		if grep -q "IR-PCI-MSIX*-$1 .*vfio-msi" /proc/interrupts; then return; fi
		sleep 0.1
	done
	echo "no remapped interrupt of $1: $(grep "$1" /proc/interrupts)"
	return 1
}

step() {
	[ -s "$1.sh" ] || return 0
	# shellcheck disable=SC1090
	(set -e; . "./$1.sh") > "$1.txt" 2>&1
	echo $? > "$1.status"
}

# What KVM did last, should a guest shut down (SVM exit 0x7f: a triple fault) or its VMCB be refused (-1): kvm.txt.
watch() {
	local t=/sys/kernel/tracing event
	[ -e $t/trace ] || mount -t tracefs tracefs $t || return
	echo 512 > $t/buffer_size_kb
	for event in kvm_exit kvm_inj_virq kvm_inj_exception kvm_apic_accept_irq kvm_msi_set_irq; do
		echo 1 > $t/events/kvm/$event/enable
	done
	echo 'traceoff if exit_reason == 0x7f || exit_reason == 0xffffffff' > $t/events/kvm/kvm_exit/trigger
}

guest() {
	local copy deadline
	deadline=$(cat deadline)
	echo > /sys/kernel/tracing/trace
	echo 1 > /sys/kernel/tracing/tracing_on
	: > /tmp/serial
	timeout -s KILL "$deadline" sh ./guest.sh > qemu.txt 2>&1 < /dev/null &
	export GUEST=$!
	tail -f /tmp/serial > serial.log &
	copy=$!
	step during
	wait "$GUEST"
	echo $? > status
	kill "$copy"
	cat /tmp/serial > serial.log
	[ "$(cat /sys/kernel/tracing/tracing_on)" = 1 ] || tail -n 400 /sys/kernel/tracing/trace > kvm.txt
}

groups() {
	local path
	for path in /sys/kernel/iommu_groups/*/devices/*; do
		path=${path#/sys/kernel/iommu_groups/}
		echo "${path%%/*} ${path##*/}"
	done
}

# "0000:00:04.0 0x1234 0x11e8 0x00ff00 START-END-FLAGS …", as the kernel placed them
resources() {
	local dev
	for dev in /sys/bus/pci/devices/*; do
		echo "${dev##*/} $(cat "$dev/vendor" "$dev/device" "$dev/class" | tr '\n' ' ')$(tr ' ' - < "$dev/resource" | tr '\n' ' ')"
	done
}

scenario() {
	cd "$1" || return
	word "begin $1"
	dmesg -c > /dev/null
	step setup
	if [ "$(cat setup.status 2> /dev/null || echo 0)" = 0 ] && [ -e guest.sh ]; then
		guest
	fi
	step after
	dmesg -c > host.log
	cat /proc/interrupts > interrupts.txt
	cd ..
	word "end $1"
}

modprobe kvm-amd
watch
dmesg > boot.log
uname -r > release.txt
groups > groups.txt
lspci -D -nn > lspci.txt
lspci -D -vvv -xxxx > lspci-v.txt
word up
while read -r name; do
	scenario "$name"
done < plan
word "done"
