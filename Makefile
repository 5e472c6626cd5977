# Routelet. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# What is run one after the other must be: two cargos would wait for each other anyway.
.NOTPARALLEL:

# sudo and su drop these from PATH; the programs are there all the same.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

CARGO ?= cargo
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE_DIR := $(TARGET_DIR)/$(HOST)/release
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
LAB := $(RELEASE_DIR)/lab
# `make demo DATASTORE=kubernetes` runs the lab on a real kube-apiserver instead of a directory of manifests.
DATASTORE ?= file
ifneq ($(DATASTORE),file)
LAB_FLAGS := --datastore $(DATASTORE)
NEEDS_API := kube-assets
endif
WITH_API = $(if $(NEEDS_API),KUBEBUILDER_ASSETS=$$(scripts/kube-assets))
IMAGE := $(TARGET_DIR)/routelet-image.tar
# What the lab tests find the binaries, the image and the API server by.
E2E_ENV = export KUBEBUILDER_ASSETS=$$(scripts/kube-assets) ROUTELET_BIN_DIR=$(RELEASE_DIR) ROUTELET_IMAGE=$(IMAGE);
# The same binaries, wherever they are built: no path of this machine is in them.
STATIC := -C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=/src --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
say = printf '\n==> %s\n' "$(1)"

.PHONY: help demo demo-ipip lab lab-down build image kube-assets crds test fmt lint doc unit e2e deny deps rust root

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-17s %s\n", $$1, $$2 }'

demo: root rust deps build $(NEEDS_API) ## the main job for real: build a lab, attach pods, check every path, remove it (as root)
	@$(call say,demo)
	@$(WITH_API) $(LAB) demo $(LAB_FLAGS)

demo-ipip: root rust deps build ## the demo with IPIP between the subnets, under user-mode Linux where the kernel has none
	@$(call say,demo with IPIP)
	@$(LAB) demo --ipip CrossSubnet

lab: root rust deps build $(NEEDS_API) ## the same lab, left up to play with (as root)
	@$(WITH_API) $(LAB) up $(LAB_FLAGS)

lab-down: root rust ## remove every trace of that lab (as root)
	@[ -x $(LAB) ] || { [ ! -e /run/routelet-lab/routelet ] && exit 0; $(MAKE) build; }
	@[ ! -x $(LAB) ] || $(LAB) down

build: rust ## every binary, optimised and static
	@$(call say,build (static release binaries))
	@RUSTFLAGS="$(STATIC)" $(CARGO) build --release --locked --workspace --bins --target $(HOST)
	@for name in routelet routelet-cni routectl; do \
	    if ldd $(RELEASE_DIR)/$$name 2>&1 | grep -q '=>'; then echo "$$name is not static"; exit 1; fi; \
	done
	@echo "The binaries are in $(RELEASE_DIR)"

image: build ## the container image, an OCI tar for `ctr image import`, `kind load image-archive`, `docker load`
	@$(call say,image)
	@scripts/image $(RELEASE_DIR) $(IMAGE)

kube-assets: ## etcd, kube-apiserver and kubectl for the tests, built once from Debian's sources
	@$(call say,kube-assets)
	@scripts/kube-assets

crds: rust ## write manifests/crds anew from the Rust types
	@$(CARGO) run --quiet --package datastore --bin gen-crds --locked

test: root rust deps kube-assets fmt lint doc unit e2e deny ## every check: what .ci/run calls (as root, for the lab)
	@$(call say,every check passed)

fmt: rust ## is the code formatted?
	@$(call say,fmt)
	@$(CARGO) fmt --all --check

lint: rust ## clippy; a warning is an error
	@$(call say,clippy)
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings

doc: rust ## do the docs build? a warning is an error
	@$(call say,doc)
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

ifeq ($(NEXTEST),yes)
unit: rust ## unit tests
	@$(call say,unit tests)
	@export KUBEBUILDER_ASSETS=$$(scripts/kube-assets); $(CARGO) nextest run --workspace --locked -E 'not (package(e2e) & kind(test))'
	@$(CARGO) test --workspace --doc --locked --quiet

e2e: root rust deps kube-assets image ## lab tests: the binaries that ship, in network namespaces (as root)
	@$(call say,lab tests)
	@$(E2E_ENV) $(CARGO) nextest run --workspace --locked --no-tests fail -E 'package(e2e) & kind(test)'
else
unit: rust
	@$(call say,unit tests)
	@export KUBEBUILDER_ASSETS=$$(scripts/kube-assets); $(CARGO) test --workspace --exclude e2e --locked
	@$(CARGO) test --package e2e --lib --bins --locked

e2e: root rust deps kube-assets image
	@$(call say,lab tests)
	@$(E2E_ENV) $(CARGO) test --package e2e --test '*' --locked
endif

deny: rust ## licences, bans and sources, by cargo-deny where it is installed (a test checks the licences anyway)
	@$(call say,licences)
	@if command -v cargo-deny >/dev/null; then \
	    $(CARGO) deny --all-features check licenses bans sources; \
	else \
	    echo "cargo-deny is not installed: skipped (the test no_gpl_code_ships has checked the licences)"; \
	fi

deps: ## install the Debian packages that are missing (as root)
	@scripts/deps.sh

rust:
	@command -v $(CARGO) >/dev/null && command -v rustc >/dev/null || { \
	    echo "Rust is missing: install it with \`curl https://sh.rustup.rs -sSf | sh\` (see https://rustup.rs)"; exit 1; }

root:
	@[ "$$(id -u)" = 0 ] || { \
	    echo "This needs root to make network namespaces: run it as root, as \`sudo make $(firstword $(MAKECMDGOALS))\`"; exit 1; }
