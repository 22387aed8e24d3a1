# SPDX-License-Identifier: MIT
# make, make run-qemu, make test, make iso, make bench: `make help`
MAKEFLAGS += --no-builtin-rules
BUILD   ?= build
CC      ?= gcc
ifeq ($(origin CC),default)
CC      := gcc
endif
LD      := ld
NASM    := nasm
PYTHON  := /usr/bin/python3
VERSION := 0.1.0
GIT     := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo +)
Q       := $(if $(V),,@)
SAN     ?=
SABOTAGE ?=

# What scripts/plumb takes from the environment
export MACHINE BOOT SMP MEM QEMU ACCEL QEMU_ARGS PLUMB LOG BUILD V

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Werror
CFLAGS := -std=gnu11 $(if $(findstring clang,$(CC)),-Oz,-Os) -g -I. -I$(BUILD)/include $(WARN) -ffreestanding -fno-pic -fno-stack-protector \
	-fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-strict-aliasing \
	-mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fcf-protection=none -MMD -MP \
	-ffunction-sections -fdata-sections -fno-jump-tables \
	$(if $(findstring clang,$(CC)),-mstack-alignment=8,-mpreferred-stack-boundary=3 -fno-guess-branch-probability) \
	$(if $(SAN),-fsanitize=undefined -fno-sanitize=alignment) $(if $(SABOTAGE),-DPLUMB_SABOTAGE)
LDFLAGS := -nostdlib -static -no-pie --no-dynamic-linker -z max-page-size=64 --build-id=none -T linker.ld \
	--gc-sections --fatal-warnings --no-warn-rwx-segments --no-warn-execstack

GUEST_TESTS := harness boot apic ioapic pci msi ir iommu dma perf vgpu mdev selftest
SRC := $(sort $(wildcard kernel/*.c kernel/*/*.c boot/handoff.c drivers/*/*.c drivers/*/*/*.c) \
	$(foreach d,$(GUEST_TESTS),$(wildcard tests/$(d)/*.c)))
ASM := boot/entry.asm kernel/cpu/vectors.asm kernel/cpu/trampoline.asm
OBJ := $(SRC:%.c=$(BUILD)/obj/%.o) $(ASM:%.asm=$(BUILD)/obj/%.o)

.PHONY: all kernel iso images run-qemu test bench lab second-opinion clean help setup host-units host-fuzzers FORCE
all: setup
	$(Q)$(MAKE) --no-print-directory images

help:
	@echo "make            build/kernel.elf, build/plumb.efi, build/plumb.iso"
	@echo "make run-qemu   boot it: MACHINE= BOOT=uefi|uboot|pvh|bios SMP= MEM= ACCEL=kvm|tcg PLUMB='only=apic.*' …"
	@echo "make lab        a KVM + VFIO + IOMMU host inside QEMU, plumb as its guest: LAB=GLOB"
	@echo "make test       everything that CI runs"
	@echo "make second-opinion  apic.* and ioapic.* in Bochs"
	@echo "make bench      plumb beside a stock Debian Linux on the same devices, as ratios"
	@echo "scripts/plumb -h  the same and more, by hand"

setup:
	$(Q)scripts/plumb setup --for run

kernel: $(BUILD)/kernel.elf
iso: all

# The image without the look at what is installed; tests/all.py builds its variants with it.
images: $(BUILD)/kernel.elf $(BUILD)/plumb.efi $(BUILD)/plumb.iso

$(BUILD)/kernel.elf: $(BUILD)/kernel.debug.elf
	$(Q)objcopy --strip-all $< $@

$(BUILD)/kernel.debug.elf: $(OBJ) linker.ld
	@echo "  LD      $@"
	$(Q)$(LD) $(LDFLAGS) -o $@ $(OBJ)

# What is timed beside other people's drivers is compiled as they are; all else is small.
$(BUILD)/obj/drivers/iommu/pgtable/%.o $(BUILD)/obj/drivers/iommu/vtd/%.o: CFLAGS += -O2 -falign-functions=1 -falign-loops=1

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $<")
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: %.asm
	@mkdir -p $(@D)
	$(if $(V),,@echo "  NASM    $<")
	$(Q)$(NASM) -f elf64 -g -F dwarf -Werror -o $@ $<

# Everything is rebuilt when the compiler or its flags change, the version file when the commit does.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(LDFLAGS)' > $@

$(BUILD)/obj/tests/harness/runner.o: $(BUILD)/include/kernel/version.h
$(BUILD)/include/kernel/version.h: FORCE
	@mkdir -p $(@D)
	@printf '#define PLUMB_VERSION "%s"\n#define PLUMB_GIT "%s"\n' '$(VERSION)' '$(GIT)' | cmp -s - $@ || \
	 printf '#define PLUMB_VERSION "%s"\n#define PLUMB_GIT "%s"\n' '$(VERSION)' '$(GIT)' > $@

include boot/boot.mk
include boot/images.mk
include tests/host/host.mk
include tests/models/models.mk
-include $(OBJ:.o=.d)

run-qemu: all
	$(Q)$(MAKE) --no-print-directory -s $(BUILD)/models/vgpu
	$(Q)scripts/plumb run

bench: images
	$(Q)scripts/plumb setup --for bench
	$(Q)scripts/plumb bench -o $(BUILD)/bench.md -o $(BUILD)/bench.json

test:
	$(Q)scripts/plumb setup --for test
	$(Q)$(PYTHON) tests/all.py

# A Linux host with KVM, VFIO and an IOMMU inside QEMU, and plumb as its guest: docs/lab.md
lab:
	$(Q)scripts/plumb setup --for lab
	$(Q)$(MAKE) --no-print-directory images models
	$(Q)scripts/plumb lab $(if $(LAB),-k '$(LAB)')

# apic.* and ioapic.* in Bochs: docs/second-opinion.md
second-opinion:
	$(Q)scripts/plumb setup --for opinion
	$(Q)$(MAKE) --no-print-directory images
	$(Q)$(PYTHON) tests/host/bochs/run.py

clean:
	rm -rf $(BUILD)/plumb.raw $(BUILD)/plumb.qcow2 $(BUILD)/obj $(BUILD)/efi $(BUILD)/iso $(BUILD)/models $(BUILD)/include $(BUILD)/host $(BUILD)/flags $(BUILD)/*.elf $(BUILD)/*.efi $(BUILD)/*.iso
