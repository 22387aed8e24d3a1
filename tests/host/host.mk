# SPDX-License-Identifier: MIT
# Unit tests and fuzzers of the pure code, on the host. Each names what it tests in a line
# "// link: kernel/lib/crc.c …" near its top.
HOST_ALL   := $(wildcard tests/models/*.[ch] kernel/*/*.[ch] kernel/*.[ch] drivers/*/*.[ch] drivers/*/*/*.[ch] boot/*.[ch] boot/*/*.[ch] tests/host/*.h tests/host/*/*.h tests/harness/hist.[ch])
HOST_WARN  := -Wall -Wextra -Wshadow -Wno-unused-function -Wstrict-prototypes -Wvla -Wundef -Werror
HOST_FLAGS := -std=gnu11 -O1 -g -I. -DPLUMB_HOST $(HOST_WARN) -fno-omit-frame-pointer -fno-sanitize-recover=all
HOST_UNITS := $(patsubst tests/host/unit/%.c,$(BUILD)/host/unit/%,$(wildcard tests/host/unit/*_test.c))
HOST_FUZZERS := $(patsubst tests/host/fuzz/%.c,$(BUILD)/host/fuzz/%,$(wildcard tests/host/fuzz/*_fuzz.c))
host_link   = $$(sed -n 's|^.*// link: *||p' $<)

host-units: $(HOST_UNITS)
host-fuzzers: $(HOST_FUZZERS)

$(BUILD)/host/unit/%: tests/host/unit/%.c $(HOST_ALL)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  HOST    $<")
	$(Q)gcc $(HOST_FLAGS) -fsanitize=address,undefined -o $@ $< $(host_link)

$(BUILD)/host/fuzz/%: tests/host/fuzz/%.c $(HOST_ALL)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  FUZZ    $<")
	$(Q)clang $(HOST_FLAGS) -fsanitize=fuzzer,address,undefined -o $@ $< $(host_link)
