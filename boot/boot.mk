# SPDX-License-Identifier: MIT
#
# $(BUILD)/plumb.efi and $(BUILD)/plumb.iso, for the Makefile, which defines BUILD, CC, LD, Q, V and WARN and
# makes $(BUILD)/kernel.elf and $(BUILD)/flags. Debian packages: gnu-efi grub-pc-bin grub-common xorriso
# mtools dosfstools.

# ---- the UEFI program: stock GNU-EFI start-up code and link script, none of its library ----
EFI_INC ?= /usr/include/efi
EFI_LIB ?= /usr/lib
EFI_SRC := boot/efi/loader.c boot/efi/elf.c boot/efi/convert.c \
	kernel/lib/fmt.c kernel/lib/string.c kernel/lib/strlcpy.c
EFI_OBJ := $(EFI_SRC:%.c=$(BUILD)/efi/%.o)
EFI_CFLAGS := -std=gnu11 -O2 -g -I. -isystem $(EFI_INC) -isystem $(EFI_INC)/x86_64 -DGNU_EFI_USE_MS_ABI \
	$(WARN) -ffreestanding -fpic -fshort-wchar -fno-stack-protector -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -mno-red-zone -mgeneral-regs-only -fcf-protection=none -MMD -MP

$(BUILD)/efi/%.o: %.c boot/boot.mk $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $< (EFI)")
	$(Q)$(CC) $(EFI_CFLAGS) -c -o $@ $<

$(BUILD)/efi/plumb.so: $(EFI_OBJ)
	$(Q)$(LD) -nostdlib -shared -Bsymbolic -znocombreloc --no-undefined -T $(EFI_LIB)/elf_x86_64_efi.lds \
		-o $@ $(EFI_LIB)/crt0-efi-x86_64.o $^ -L$(EFI_LIB) -lgnuefi

# By name, as GNU-EFI does: any section that its link script does not know would be dropped here.
$(BUILD)/plumb.efi: $(BUILD)/efi/plumb.so
	@echo "  EFI     $@"
	$(Q)objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j '.rel' -j '.rela' -j '.rel.*' \
		-j '.rela.*' -j .reloc --target=efi-app-x86_64 $< $@

-include $(EFI_OBJ:.o=.d)

# ---- the hybrid image ----
# BIOS: GRUB in an El Torito image and, on a disk or a USB stick, started by boot_hybrid.img in the MBR.
# UEFI: one FAT file system, El Torito image and EFI system partition at once.
ISO := $(BUILD)/iso
GRUB_LIB ?= /usr/lib/grub/i386-pc
GRUB_MODULES := multiboot2 serial terminal iorw sleep halt
# Two builds of one commit give the same bytes; mtools, mkfs.vfat and xorriso read this.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),1767225600)
$(ISO)/esp.img $(BUILD)/plumb.iso: export SOURCE_DATE_EPOCH := $(SOURCE_DATE_EPOCH)

# Only what reads the medium is in the core image, which is LZMA: unpacking more of it takes half a
# minute where firmware runs in an instruction emulator (a nested KVM without VMX). The other modules
# and what they depend on lie on the medium as they are.
$(ISO)/eltorito.img: boot/iso/grub.cfg boot/boot.mk
	@mkdir -p $(@D)
	$(Q){ for m in $(GRUB_MODULES); do echo "insmod $$m"; done; sed '/^#/d' $<; } > $(ISO)/grub.cfg
	$(Q)grub-mkimage -O i386-pc-eltorito -d $(GRUB_LIB) -c $(ISO)/grub.cfg -p /boot/grub -o $@ biosdisk iso9660

$(ISO)/modules: $(GRUB_LIB)/moddep.lst boot/boot.mk
	@mkdir -p $(@D)
	$(Q)awk -v want="$(GRUB_MODULES)" '{ m = $$1; sub(":", "", m); $$1 = ""; dep[m] = $$0 } \
		END { n = split(want, q); for (i = 1; i <= n; i++) if (!seen[q[i]]++) { print q[i]; \
		k = split(dep[q[i]], d); for (j = 1; j <= k; j++) q[++n] = d[j] } }' $< > $@

# As large as what is in it and 256 KiB, in whole MiB.
$(ISO)/esp.img: $(BUILD)/plumb.efi $(BUILD)/kernel.elf boot/iso/plumb.cfg
	@mkdir -p $(@D) && rm -f $@
	$(Q)size=$$(cat $^ | wc -c) && PATH=$$PATH:/usr/sbin:/sbin mkfs.vfat -C -F 12 -n PLUMB --invariant $@ \
		$$(( (size + 256 * 1024 + 1024 * 1024 - 1) / (1024 * 1024) * 1024 )) > /dev/null
	$(Q)mmd -i $@ ::/EFI ::/EFI/BOOT ::/plumb
	$(Q)mcopy -i $@ $(BUILD)/plumb.efi ::/EFI/BOOT/BOOTX64.EFI
	$(Q)mcopy -i $@ $(BUILD)/kernel.elf ::/plumb/kernel.elf
	$(Q)mcopy -i $@ boot/iso/plumb.cfg ::/plumb.cfg

$(BUILD)/plumb.iso: $(ISO)/eltorito.img $(ISO)/modules $(ISO)/esp.img $(BUILD)/kernel.elf boot/iso/plumb.cfg
	@echo "  ISO     $@"
	$(Q)rm -rf $(ISO)/root && mkdir -p $(ISO)/root/boot/grub/i386-pc $(ISO)/root/plumb
	$(Q)cp $(ISO)/eltorito.img $(ISO)/root/boot/
	$(Q)sed 's|.*|$(GRUB_LIB)/&.mod|' $(ISO)/modules | xargs cp -t $(ISO)/root/boot/grub/i386-pc \
		$(GRUB_LIB)/moddep.lst
	$(Q)cp $(BUILD)/kernel.elf $(ISO)/root/plumb/
	$(Q)cp boot/iso/plumb.cfg $(ISO)/root/
	$(Q)find $(ISO)/root -exec touch -d @$$SOURCE_DATE_EPOCH {} +
	$(Q)xorriso -as mkisofs -o $@ -V PLUMB -r -J \
		-b boot/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info \
		--grub2-mbr $(GRUB_LIB)/boot_hybrid.img \
		-eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot \
		-append_partition 2 0xef $(ISO)/esp.img -appended_part_as_gpt $(ISO)/root \
		2> $(ISO)/xorriso.log || { cat $(ISO)/xorriso.log >&2; rm -f $@; exit 1; }
