#!/bin/sh
# Everything that must hold before a change goes in: format, lints, shell scripts, tests.
#
#   tests/run.sh            all of it
#   tests/run.sh ARGS…      the same, with ARGS handed to `cargo test`
#
# As root on Debian (or a relative of it) it installs the packages that are missing. As
# anybody else it names them and stops, because a test that cannot run is not a test
# that passed.
set -eu
exec </dev/null
cd "$(dirname "$0")/.."

# One line for each thing the tests use: how to see that it is there, and its package.
needs() {
    cat <<'NEEDS'
command cc          gcc
command pkg-config  pkg-config
library openssl     libssl-dev
command rsync       rsync
command ssh         openssh-client
command sshd        openssh-server
command busybox     busybox
command shellcheck  shellcheck
command setfacl     acl
command setfattr    attr
command sudo        sudo
command setpriv     util-linux
command openssl     openssl
command ps          procps
command mkfs.vfat   dosfstools
command mkfs.ext4   e2fsprogs
command mkfs.xfs    xfsprogs
command mkfs.btrfs  btrfs-progs
command systemd-analyze systemd
NEEDS
}

PATH=$PATH:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin
export PATH

# What only a few tests use, which say "skipped: why" where it is missing: it is installed if
# that can be.
wishes() {
    cat <<'WISHES'
command mkfs.exfat  exfatprogs
command mount.exfat-fuse exfat-fuse
command ntfs-3g     ntfs-3g
command toybox      toybox
userland lobase     lobase
userland chimerautils chimerautils
command mandoc      mandoc
command mksh        mksh
command yash        yash
command tcsh        tcsh
command fish        fish
command zsh         zsh
WISHES
}

# Of those lines on standard input, the packages that are not there.
missing_packages() {
    while read -r kind name package; do
        case $kind in
        command) command -v "$name" >/dev/null 2>&1 || echo "$package" ;;
        userland) ls -d /usr/lib*/"$name" >/dev/null 2>&1 || echo "$package" ;;
        library) pkg-config --exists "$name" 2>/dev/null || echo "$package" ;;
        esac
    done
}

one_line() {
    tr '\n' ' '
}

missing=$(needs | missing_packages | one_line)
wished=$(wishes | missing_packages | one_line)
if [ -n "$missing" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "== installing: $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # a list of package names
    apt-get install -q -y --no-install-recommends $missing
    missing=$(needs | missing_packages | one_line)
fi
if [ -n "$wished" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "== installing, if that can be: $wished"
    export DEBIAN_FRONTEND=noninteractive
    # one by one: of a list with a name that is not known, nothing is installed
    for package in $wished; do
        apt-get install -q -y --no-install-recommends "$package" || :
    done
fi
if [ -n "$missing" ]; then
    echo "tests/run.sh: these packages are missing: $missing" >&2
    echo "As root: apt-get install $missing" >&2
    exit 1
fi
if ! command -v cargo >/dev/null 2>&1; then
    echo "tests/run.sh: there is no cargo. Rust 1.88 or later is needed; see https://rustup.rs" >&2
    exit 1
fi

# The checks before the tests do not stop the tests: whoever reads the result wants to
# see all of it. They decide the exit status all the same.
failed=
check() {
    what=$1
    shift
    echo "== $what"
    if ! "$@"; then
        failed="$failed
  $what"
    fi
}

shell_files() {
    # what lies in tests/data is somebody else's, as it was found
    find . \( -path ./target -o -path ./.git -o -path ./tests/data \) -prune -o -type f \
        \( -name '*.sh' -o -path './.ci/*' -o -path './examples/init.d/*' \
        -o -path './examples/openrc/*' \) -print
}

# The program alone is built for that, and not the tests. What is skipped is not promised there:
# that renamed directories are followed without times of birth.
as_on_another_unix() {
    built=${CARGO_TARGET_DIR:-target}
    cargo build --locked --features portable && mkdir -p "$built/portable" &&
        cp "$built/debug/osync" "$built/portable/osync" || return
    # shellcheck disable=SC2086 # a command and its option
    OSYNC_UNDER_TEST=$(realpath "$built/portable/osync") $default cargo test --locked --test it -- \
        local:: moves:: locks:: --skip replica_suite:: --skip moves::directories_ \
        --skip moves::a_chain_of_moves_heals --skip moves::a_kind_changes_below
}

check "cargo fmt --check" cargo fmt --all --check
check "cargo clippy" cargo clippy --locked --all-targets -- -D warnings
echo "== shellcheck"
shell_files | sort | {
    verdict=0
    while read -r file; do
        shellcheck -s sh "$file" || verdict=1
    done
    exit "$verdict"
} || failed="$failed
  shellcheck"

if [ -n "$failed" ]; then
    echo "== these checks failed (see above); the tests run all the same:$failed" >&2
fi
echo "== cargo test"
# Whoever starts us in the background, or by nohup, may have us ignore these; the tests send them.
default=
if env --default-signal=INT,QUIT,HUP true 2>/dev/null; then
    default="env --default-signal=INT,QUIT,HUP"
fi
# Tests wait for disks, timers and other processes about two thirds of their time.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) * 3))}
export RUST_TEST_THREADS
status=0
# shellcheck disable=SC2086 # a command and its option
$default cargo test --locked "$@" || status=$?
if [ $# -eq 0 ]; then
    echo "== cargo test, of an osync as on a Unix that is not Linux (docs/other-unixes.md)"
    as_on_another_unix || status=1
fi
[ -z "$failed" ] || status=1
exit "$status"
