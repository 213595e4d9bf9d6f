#!/bin/sh
# Makes docs/terminal.svg: a terminal in which real commands were typed.
#
#     docs/make-terminal-picture.sh [OSYNC]    OSYNC: the program, target/release/osync unless named
#
# Needs script (util-linux) for a terminal, and awk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
osync=$(realpath "${1:-$here/../target/release/osync}")
work=$(mktemp -d /tmp/osync.XXXX)
trap 'rm -rf "$work"' EXIT
HOME=$work/home/me
export HOME LOGFILE="$work/log" PATH="$work/bin:$PATH" PAGER=cat
mkdir -p "$work/bin" "$HOME/docs/letters" "$HOME/docs/2025" "$work/mnt/disk/docs"
ln -s "$osync" "$work/bin/osync"
cd "$HOME"
cat >docs.conf <<EOF
INSTANCE_ID="docs"
INITIATOR_SYNC_DIR="$HOME/docs"
TARGET_SYNC_DIR="$work/mnt/disk/docs"
EOF

# What was there before the picture begins.
head -c 48000 /dev/urandom >docs/letters/bank.odt
head -c 2500000 /dev/urandom >docs/2025/holiday.jpg
echo "buy milk" >docs/todo.txt
osync docs.conf --silent

# Types a command: the prompt, the command, and what a terminal shows of it. Paths are those of
# the reader's machine.
typed() {
    printf '\033[32m$\033[0m \033[1m%s\033[0m\n' "$1"
    script -qec "stty cols 100; $1" /dev/null </dev/null || true
    echo
}

disk=$work/mnt/disk/docs
{
    typed "mv docs/2025 docs/archive; rm docs/letters/bank.odt; echo buy bread >$disk/todo.txt"
    typed 'osync docs.conf --no-prefix --non-interactive'
    typed 'osync history docs.conf --run 2'
    typed 'osync restore docs.conf letters/bank.odt'
    # the disk is unplugged, and its directory is empty
    rm -r "$disk"
    mkdir "$disk"
    typed 'osync docs.conf --no-prefix --non-interactive'
} | sed "s|$work||g" | awk -f "$here/terminal-picture.awk" >"$here/terminal.svg"
