# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Makes way for an osync of this machine that speaks with the one at the other end. Expects
# core.sh.

# make_way PROGRAM VERSION: if there is such a program and it speaks this version, it takes the
# place of the shell, and the answer is 'peer' with status 100. Else the shell goes on, and
# $peer is the version that it speaks; empty: none.
make_way() {
  peer=
  decode "$1" && command -v "$datum" >/dev/null 2>&1 || return 0
  peer=$("$datum" serve --protocol </dev/null 2>/dev/null) || peer=
  case $peer in
    "$2") ;;
    *[!0-9]* | '' | ??????*) peer= && return ;;
    *) return ;;
  esac
  printf '\n%s 0 begin\npeer\n%s 0 end 100\n' "$mark" "$mark"
  exec "$datum" serve
}
