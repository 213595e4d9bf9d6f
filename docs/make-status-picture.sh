#!/bin/sh
# Makes docs/status-page.png: the page of `osync status --html`, from real runs of real tasks.
#
#     docs/make-status-picture.sh [OSYNC]      OSYNC: the program, target/release/osync unless named
#
# Needs Chromium (on Debian: apt-get install chromium) and about a minute.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
osync=$(realpath "${1:-$here/../target/release/osync}")
work=$(mktemp -d /tmp/osync.XXXX)
trap 'rm -rf "$work"' EXIT
HOME=$work/home
export HOME
mkdir -p "$work/etc" "$HOME"
cd "$work"

task() { # NAME LINES
    mkdir -p "$1/home" "$1/disk"
    cat > "etc/$1.conf" <<EOF
INSTANCE_ID=$1
INITIATOR_SYNC_DIR="$work/$1/home"
TARGET_SYNC_DIR="$work/$1/disk"
LOGFILE="$work/$1.log"
$2
EOF
}

run() { # NAME…: failures are part of the picture
    for name in "$@"; do "$osync" "etc/$name.conf" --silent || true; done
}

task documents ""
task photos ""
task mail "MINIMUM_SPACE=999999999999"
task music ""
task websites ""
task projects ""

# twenty days of changes, more or less of them
for day in $(seq 20); do
    for name in documents photos mail music websites; do
        size=$(((day * 37 + ${#name} * 53) % 29 + 3))
        head -c $((size * 41000)) /dev/urandom > "$name/home/file-$day"
        [ $((day % 4)) = 0 ] && rm -f "$name/home/file-$((day - 3))"
        [ $((day % 5)) = 0 ] && mv "$name/home/file-$((day - 1))" "$name/home/moved-$day"
    done
    run documents photos mail music websites
done

# both sides of a document are edited
echo draft > documents/home/offer.odt
run documents
echo "by me" > documents/home/offer.odt
echo "by her" > documents/disk/offer.odt
run documents

# the disk with the photos is unplugged
mv photos/disk photos/unplugged
run photos photos photos

"$osync" status "$work/etc" --html "$work/page.html" || true
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" \
    --window-size=1280,1230 --screenshot="$work/page.png" "file://$work/page.html" 2> /dev/null
mv "$work/page.png" "$here/status-page.png"
