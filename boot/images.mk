# SPDX-License-Identifier: MIT
#
# `make media`: the boot medium as ISO, raw disk and qcow2. For the Makefile, after boot.mk. The ISO is hybrid:
# as a disk it has an MBR and a GPT, whose backup only has to be moved to the end of a rounded-up disk.
# Both are written by scripts/plumblib/media.py: no qemu-img needed, and the same bytes every time.
PLUMB_RAW := $(BUILD)/plumb.raw
PLUMB_QCOW2 := $(BUILD)/plumb.qcow2

.PHONY: media
media: $(BUILD)/plumb.iso $(PLUMB_RAW) $(PLUMB_QCOW2)

$(PLUMB_RAW): $(BUILD)/plumb.iso scripts/plumblib/media.py
	@echo "  RAW     $@"
	$(Q)$(PYTHON) scripts/plumblib/media.py $< $@

$(PLUMB_QCOW2): $(PLUMB_RAW) scripts/plumblib/media.py
	@echo "  QCOW2   $@"
	$(Q)$(PYTHON) scripts/plumblib/media.py --qcow2 $< $@
