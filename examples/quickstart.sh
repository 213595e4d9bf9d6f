#!/bin/sh
# osync in two minutes: builds it, makes two small replicas in a temporary directory,
# brings them in step, changes both sides, brings them in step again, and shows what
# happened. Leaves nothing behind but target/.
set -eu
cd "$(dirname "$0")/.."
repository=$(pwd)
PATH=$PATH:${HOME:-/root}/.cargo/bin
export PATH

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}
[ -t 1 ] || say() {
    printf '\n== %s\n' "$*"
}

missing_packages() {
    command -v rsync >/dev/null 2>&1 || echo rsync
    command -v ssh >/dev/null 2>&1 || echo openssh-client
    command -v cc >/dev/null 2>&1 || echo gcc libc6-dev
    command -v pkg-config >/dev/null 2>&1 || echo pkg-config
    pkg-config --exists openssl 2>/dev/null || echo libssl-dev
}

# apt-get as root, or through a sudo that asks nothing.
install_packages() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" -eq 0 ]; then
        as_root="env"
    elif sudo -n true 2>/dev/null; then
        as_root="sudo -n env"
    else
        return 1
    fi
    # shellcheck disable=SC2086 # as_root is a command, $@ package names
    $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

missing=$(missing_packages | tr '\n' ' ')
if [ -n "$missing" ]; then
    say "Installing $missing"
    # shellcheck disable=SC2086 # a list of package names
    install_packages $missing </dev/null || {
        echo "quickstart.sh: please install these first: $missing" >&2
        exit 1
    }
fi
command -v cargo >/dev/null 2>&1 || {
    echo "quickstart.sh: there is no cargo. Rust 1.88 or later is needed; see https://rustup.rs" >&2
    exit 1
}

say "Building osync"
cargo build --release --locked
osync=${CARGO_TARGET_DIR:-$repository/target}/release/osync

place=$(mktemp -d "${TMPDIR:-/tmp}/osync-quickstart.XXXXXX")
trap 'rm -rf "$place"' EXIT
trap 'exit 1' HUP INT TERM
here=$place/laptop
there=$place/server
# Any configuration key may come from the environment in quicksync mode.
LOGFILE=$place/osync.log
export LOGFILE

sync() {
    # 2 means "done, with warnings"
    "$osync" --initiator="$here" --target="$there" --instance-id=quickstart "$@" || [ $? -eq 2 ]
}

show() {
    for replica in "$here" "$there"; do
        echo "$replica"
        (
            cd "$replica"
            find . -path ./.osync_workdir -prune -o -type f -print | LC_ALL=C sort |
                while IFS= read -r file; do
                    printf '    %-28s %s\n' "$file" "$(head -n 1 "$file")"
                done
        )
    done
}

say "Two replicas: one holds files, the other is empty"
mkdir -p "$here/letters" "$here/photos" "$there"
echo "Dear Ada, the draft" >"$here/letters/ada.txt"
echo "Dear Bob, the draft" >"$here/letters/bob.txt"
echo "milk, bread" >"$here/shopping.txt"
echo "a picture of the sea" >"$here/photos/sea.jpg"
show

say "First run: everything goes to the other side"
sync
show

say "Now both sides change"
echo "  letters/ada.txt: edited on both sides (a conflict; the later edit wins)"
echo "Dear Ada, as edited on the laptop" >"$here/letters/ada.txt"
sleep 1 # so that one edit is the later one on file systems that count in seconds
echo "Dear Ada, as edited on the server" >"$there/letters/ada.txt"
echo "  shopping.txt: deleted on the server"
rm "$there/shopping.txt"
echo "  photos/sea.jpg: moved to photos/summer/ on the laptop"
mkdir "$here/photos/summer"
mv "$here/photos/sea.jpg" "$here/photos/summer/sea.jpg"
echo "  letters/carol.txt: written on the server"
echo "Dear Carol" >"$there/letters/carol.txt"

say "Second run, with --summary and --log-conflicts"
sync --summary --log-conflicts
show

say "Nothing is lost: what was overwritten or deleted is kept in .osync_workdir"
(
    cd "$place"
    find . -path '*/.osync_workdir/backup/*' -type f -o -path '*/.osync_workdir/deleted/*' -type f |
        LC_ALL=C sort | while IFS= read -r file; do
        printf '    %s: %s\n' "$file" "$(head -n 1 "$file")"
    done
)
