# SPDX-License-Identifier: MIT
#
# Device models for machines without the device; for the Makefile, which defines BUILD, WARN, Q and V.
# `vgpu` is what runs beside QEMU, `vgpu-san` the same with ASan and UBSan, for its tests.
MODEL_SRC   := $(wildcard tests/models/*.c)
MODEL_HDR   := $(wildcard tests/models/*.h)
MODEL_FLAGS := -std=gnu11 -g -I. $(WARN)
MODEL_CC    ?= gcc

.PHONY: models
models: $(BUILD)/models/vgpu $(BUILD)/models/vgpu-san

$(BUILD)/models/vgpu: $(MODEL_SRC) $(MODEL_HDR) tests/models/models.mk
	@mkdir -p $(@D)
	$(if $(V),,@echo "  MODEL   $@")
	$(Q)$(MODEL_CC) $(MODEL_FLAGS) -O2 -D_FORTIFY_SOURCE=2 -o $@ $(MODEL_SRC)

$(BUILD)/models/vgpu-san: $(MODEL_SRC) $(MODEL_HDR) tests/models/models.mk
	@mkdir -p $(@D)
	$(if $(V),,@echo "  MODEL   $@")
	$(Q)$(MODEL_CC) $(MODEL_FLAGS) -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
		-fno-sanitize-recover=all -o $@ $(MODEL_SRC)
