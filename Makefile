# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors

BUILD   := build
CC      := gcc
NASM    := nasm
IMAGE   := $(BUILD)/bulkhead.elf
FOLDERS := $(filter-out build,$(patsubst %/,%,$(sort $(dir $(wildcard */*.c)))))

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

WARNINGS := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef \
            -Wimplicit-fallthrough -Wno-unused-parameter
CFLAGS   := -std=gnu17 -O2 -g -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone \
            -mgeneral-regs-only -fstack-protector-strong -mstack-protector-guard=global \
            -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-strict-aliasing \
            -fcf-protection=none -ffunction-sections -fdata-sections -I. -I$(BUILD) $(WARNINGS)
LDFLAGS  := -nostdlib -static -no-pie -Wl,-T,linker.ld -Wl,-z,max-page-size=4096 \
            -Wl,--build-id=none -Wl,--gc-sections -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments

C_SOURCES   := $(filter-out core/offsets.c,$(sort $(wildcard $(FOLDERS:%=%/*.c))))
ASM_SOURCES := $(sort $(wildcard $(FOLDERS:%=%/*.asm)))
OBJECTS     := $(C_SOURCES:%.c=$(BUILD)/%.o) $(ASM_SOURCES:%.asm=$(BUILD)/%.asm.o) $(BUILD)/font.o

all: $(IMAGE)

# The offsets of C structs that assembly needs are generated from C.
$(BUILD)/offsets.s: core/offsets.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -MT $@ -MF $(BUILD)/offsets.d -S -o $@ $<
$(BUILD)/offsets.inc: $(BUILD)/offsets.s
	sed -n 's/.*=> \([A-Za-z0-9_]*\) \$$*\([0-9-]*\).*/%define \1 \2/p' $< > $@

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# What no exit runs through that comes often is built for size.
SMALL := boot/% loader/% monitor/% drivers/% core/config core/dump core/features core/guest_port core/insn \
         core/lifecycle core/log core/main core/mitigations core/panic core/port core/screen core/smp core/vcpu_state core/vm \
         devices/acpi_pm devices/chipset devices/pit devices/rtc lib/edit_distance lib/format mm/frame mm/host_space mm/pool \
         svm/probe svm/state vmx/capability vmx/state
$(filter $(SMALL:%=$(BUILD)/%.o),$(OBJECTS)): CFLAGS += -Os

# What most exits run through does without frames: backtraces leave it out.
HOT := vmx/fast svm/fast devices/% core/access core/cpuid core/msr core/vcpu_run mm/guest_walk svm/events vmx/interrupt
$(filter $(HOT:%=$(BUILD)/%.o),$(OBJECTS)): CFLAGS += -fomit-frame-pointer

$(BUILD)/%.asm.o: %.asm $(BUILD)/offsets.inc core/mitigations.inc Makefile
	@mkdir -p $(@D)
	$(NASM) -f elf64 -Werror -I$(BUILD)/ -o $@ $<

# The framebuffer's glyphs; GRUB's font comes with grub-common.
$(BUILD)/font.c: scripts/font $(wildcard /usr/share/grub/ascii.pf2)
	@mkdir -p $(@D)
	scripts/font /usr/share/grub/ascii.pf2 > $@
$(BUILD)/font.o: $(BUILD)/font.c
	$(CC) $(CFLAGS) -c -o $@ $<

# The symbol table for backtraces is made from a first link and put into the second; the two
# agree in every address, as it comes last in the image.
$(IMAGE): $(OBJECTS) linker.ld scripts/symbols
	@mkdir -p $(BUILD)/core
	@echo 'const char bulkhead_version[] = "$(VERSION)";' > $(BUILD)/version.c
	$(CC) $(CFLAGS) -Wno-missing-prototypes -c -o $(BUILD)/version.o $(BUILD)/version.c
	scripts/symbols /dev/null > $(BUILD)/symbols.c
	$(CC) $(CFLAGS) -c -o $(BUILD)/symbols.o $(BUILD)/symbols.c
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@.pass1 $(OBJECTS) $(BUILD)/version.o $(BUILD)/symbols.o
	nm -n $@.pass1 | scripts/symbols - > $(BUILD)/symbols.c
	$(CC) $(CFLAGS) -c -o $(BUILD)/symbols.o $(BUILD)/symbols.c
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(OBJECTS) $(BUILD)/version.o $(BUILD)/symbols.o

# ---- unit tests: pure code on the host, under sanitizers -----------------------------------
# tests/unit/test_X.c is a cmocka program; it is linked with everything that builds on the host.
HOST        := $(BUILD)/host
HOST_CFLAGS := -std=gnu17 -O1 -g -I. -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer -Wall -Wextra -Werror -Wno-unused-parameter
PURE_SOURCES := $(wildcard devices/*.c loader/*.c monitor/*.c) boot/multiboot2.c core/config.c \
                core/insn.c core/mitigations.c core/run_queue.c core/statistics.c core/vcpu_state.c lib/edit_distance.c mm/frame.c mm/guest_walk.c mm/page_table.c drivers/acpi.c drivers/uart_name.c
PURE_OBJECTS := $(PURE_SOURCES:%.c=$(HOST)/%.o)
UNIT_TESTS   := $(patsubst tests/unit/%.c,$(HOST)/%,$(sort $(wildcard tests/unit/test_*.c)))

$(HOST)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -MMD -MP -c -o $@ $<
$(HOST)/libpure.a: $(PURE_OBJECTS)
	rm -f $@ && ar rcs $@ $^
$(HOST)/test_%: tests/unit/test_%.c $(HOST)/libpure.a
	$(CC) $(HOST_CFLAGS) -MMD -MP -o $@ $< $(HOST)/libpure.a -lcmocka -lZydis

unit: $(UNIT_TESTS)
	@for t in $(UNIT_TESTS) tests/unit/test_*.py; do $$t || exit 1; done

# ---- fuzzing ---------------------------------------------------------------------------------
# Every tests/fuzz/fuzz_X.c runs briefly on fixed inputs (fuzz-smoke, a part of `make test`), or
# with libFuzzer for FUZZ_SECONDS each (fuzz; needs clang). What it finds is kept in build/fuzz/.
FUZZ         := $(BUILD)/fuzz
FUZZ_SECONDS ?= 10
FUZZ_CFLAGS  := $(filter-out -Werror,$(HOST_CFLAGS)) -fsanitize=fuzzer-no-link
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

$(HOST)/fuzz_%: tests/fuzz/fuzz_%.c $(HOST)/tests/fuzz/driver.o $(HOST)/libpure.a
	$(CC) $(HOST_CFLAGS) -MMD -MP -o $@ $< $(HOST)/tests/fuzz/driver.o $(HOST)/libpure.a

$(FUZZ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	clang $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<
$(FUZZ)/libpure.a: $(PURE_SOURCES:%.c=$(FUZZ)/%.o)
	rm -f $@ && ar rcs $@ $^
$(FUZZ)/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ)/libpure.a
	clang $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^

fuzz-smoke: $(FUZZ_TARGETS:%=$(HOST)/%)
	@for t in $^; do $$t || exit 1; done

fuzz: $(FUZZ_TARGETS:%=$(FUZZ)/%)
	@for t in $^; do mkdir -p $$t.corpus; \
	    $$t -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$t. $$t.corpus || exit 1; done

clean:
	rm -rf $(BUILD)

.PHONY: all unit fuzz fuzz-smoke clean
.SECONDARY:
-include $(OBJECTS:.o=.d) $(PURE_OBJECTS:.o=.d) $(wildcard $(HOST)/*.d) \
         $(PURE_SOURCES:%.c=$(FUZZ)/%.d) $(BUILD)/offsets.d

# ---- images, runs, guests and tests ---------------------------------------------------------
TENANTS   ?= guests/demo/tenants.conf
OUT       ?= $(BUILD)/bulkhead.iso
EMU       ?=
# docs/testing.md tells why Bochs does without.
HVCMDLINE ?= console=com1,115200 $(if $(filter bochs,$(EMU)),without=virtual-interrupt-delivery)
FIRMWARE  ?= bios
CPUS      ?= 2
MEM       ?= 1024
TESTS     ?=

install-dependencies:
	@scripts/install-dependencies

guests: | install-dependencies
	@$(MAKE) --no-print-directory -f guests/Makefile

# A configuration under guests/ names files that are built; any other brings its own.
image: $(IMAGE) $(if $(filter guests/%,$(TENANTS)),guests)
	scripts/image --tenants $(TENANTS) --out $(OUT) --cmdline '$(HVCMDLINE)' --files $(BUILD)/guests

run: | install-dependencies
	@$(MAKE) --no-print-directory image
	scripts/run $(OUT) --firmware $(FIRMWARE) --cpus $(CPUS) --memory $(MEM) \
	    $(if $(EMU),--emulator $(EMU)) $(if $(CPU_MODEL),--cpu-model $(CPU_MODEL))

# TESTS="name ..." runs only those system tests.
$(BUILD)/promtool:
	scripts/fetch-file prometheus usr/bin/promtool $@

test test-long: | install-dependencies
	@$(MAKE) --no-print-directory all guests $(BUILD)/promtool $(HOST)/count.so
	@tests/run $(if $(filter test-long,$@),--long) $(TESTS)

# Counts instructions in QEMU.
$(HOST)/count.so: tests/plugin/count.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -O2 -shared -fPIC -fvisibility=hidden -Wall -Wextra -Werror -o $@ $<

bench: | install-dependencies
	@$(MAKE) --no-print-directory all guests $(HOST)/count.so
	@tests/bench

lint: | install-dependencies
	@scripts/check-includes
	@scripts/check-style

.PHONY: install-dependencies guests image run test test-long bench lint
