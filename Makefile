# Two commands matter: `make up` runs Darkbloom on this machine, `make test` proves it.
# Kept to what GNU Make 3.81 (macOS) and a POSIX shell understand.

SHELL := /bin/sh
# A cargo that rustup installed a minute ago is not on the PATH of the shell that is still open; target/tools holds
# what scripts/prepare.sh could not install for the whole system.
# (Recipes say `exec`, because make 3.81 looks plain commands up in the PATH that it was started with.)
PATH := $(CURDIR)/target/tools/bin:$(HOME)/.cargo/bin:$(PATH)
export PATH

PROMPT ?= In one sentence, what is a private cloud?
export PROMPT
DARKBLOOM := $(or $(CARGO_TARGET_DIR),target)/release/darkbloom

.DEFAULT_GOAL := help
.PHONY: help prepare build up smoke test

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

prepare: ## Installs the system packages that the build needs, saying which and why
	@sh scripts/prepare.sh

# Everything at once and in the profile that the tests use, so that the tests compile none of it again.
build: prepare ## Builds every binary
	exec cargo build --release --workspace --locked

up: build ## Starts a pool on this machine, answers a first prompt, keeps serving; PROMPT="..." asks something else
	$(DARKBLOOM) up --prompt "$$PROMPT"

smoke: build ## The way of `up`, but ends after the answer, and fails if there was none
	$(DARKBLOOM) up --prompt "$$PROMPT" --exit-after-answer

test: prepare ## Runs every check and test: `cargo xtask ci`
	exec cargo xtask ci
