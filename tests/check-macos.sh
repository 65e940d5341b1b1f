#!/usr/bin/env bash
# Checks that everything compiles for macOS, on a machine that is none: `cargo check`, or with --clippy
# its lints, nothing linked and nothing run.
#
# Needed: a rustc, cargo and (for --clippy) clippy of one version, 1.95 or later, with the standard
# library's source beside them, from which it is checked. rustup has it as the component rust-src, Debian
# as packages of its newer suites (rustc cargo rust-src rust-clippy), which also work unpacked into a
# directory and run there with chroot. No Apple SDK is needed: what build scripts would compile of C and
# C++ is left empty.
set -euo pipefail
cd "$(dirname "$0")/.."

command=check
lints=()
if [ "${1-}" = --clippy ]; then
    command=clippy
    lints=(-- -D warnings)
    shift
fi
target=${1-aarch64-apple-darwin}

source=$(rustc --print sysroot)/lib/rustlib/src/rust/library
if ! [ -f "$source/Cargo.lock" ]; then
    printf '%s: the standard library'\''s source is not there (rustup component add rust-src)\n' "$source" >&2
    exit 1
fi

tools=$(mktemp -d)
trap 'rm -r "$tools"' EXIT
cat >"$tools/cc" <<'CC'
#!/bin/sh
# Makes an empty object of whatever it is given; what asks about the target is asked of the host.
case " $* " in *' -E '*) exec cc "$@" ;; esac
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then : >"$2"; fi
    shift
done
CC
cat >"$tools/ar" <<'AR'
#!/bin/sh
for word; do
    case $word in *.a) : >"$word" ;; esac
done
AR
chmod +x "$tools/cc" "$tools/ar"

name=${target//-/_}
env "CC_$name=$tools/cc" "CXX_$name=$tools/cc" "AR_$name=$tools/ar" "RANLIB_$name=true" \
    SDKROOT="$tools" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/macos}" \
    RUSTC_BOOTSTRAP=1 \
    cargo "$command" --locked --workspace -Zbuild-std=std,panic_abort --target "$target" "${lints[@]}"
