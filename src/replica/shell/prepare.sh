# shellcheck shell=sh disable=SC2154,SC2034,SC2088 # variables shared with core.sh
# Finds the replica, and what this machine's tools can do. Expects core.sh.

# $record is one line of a listing by GNU find: kind, mode, owner, group, device, inode,
# links, size, times; then the path behind a slash, and a link's target behind two.
record='%y %m %U %G %D %i %n %s %T@ %C@ %B@/%P//%l'

# Which way of looking at files works here.
find_style() {
  style=none
  case $(find . -maxdepth 0 -printf "$record" 2>/dev/null) in
    'd '[0-7]*' '*' '*' '*' '*' '*' '*' '*.*' '*.*' '*///)
      style=gnu
      return
      ;;
  esac
  case $(stat -c '%f %u %g %d %i %h %s %Y' . 2>/dev/null) in
    4???' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '*[0-9])
      style=stat
      return
      ;;
  esac
  case $(stat -f '%p %u %g %d %i %l %z %m' . 2>/dev/null) in
    4????' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '[0-9]*' '*[0-9]) style=bsd ;;
  esac
}

# KiB free for this user: the word before the percentage, because a file system's name
# may hold spaces. df may be kept from its list of mounts, by a restricted key's cage for
# one: then its first word is '-', or stat is asked, where it can tell.
free_space() {
  free='?' before=''
  # shellcheck disable=SC2046 # split into words on purpose
  for word in $(df -P -k . 2>/dev/null | tail -n 1); do
    case $word in
      [0-9]*%) free=$before && return ;;
      -) [ -z "$before" ] || { free=$before && return; } ;;
    esac
    before=$word
  done
  blocks=$(stat -f -c '%a %S' . 2>/dev/null)
  case $blocks in
    *[!0-9\ ]* | ' '* | *' ' | *' '*' '*) ;;
    *' '*) free=$((${blocks% *} * ${blocks#* } / 1024)) ;;
  esac
}

# What tells the file system from another: its device, and what else can be told.
file_system() {
  case $style in
    gnu) device=$(find . -maxdepth 0 -printf '%D %F' 2>/dev/null) ;;
    stat) device=$(stat -c %d . 2>/dev/null) ;;
    *) device=$(stat -f %d . 2>/dev/null) ;;
  esac
  volume=
  [ "$style" = bsd ] || volume=$(stat -f -c '%i %t' . 2>/dev/null)
  file_system=$device${volume:+" $volume"}
}

# go PATH: resolves it once, like the login shell would.
go() {
  start=$PWD
  case $1 in
    /*) place=$1 ;;
    '~') place=$home ;;
    '~/'*) place=$home/${1#'~/'} ;;
    *) place=$home/$1 ;;
  esac
  created=0
  if [ -L "$place" ] && [ ! -e "$place" ]; then echo dangling && return 1; fi
  if [ ! -e "$place" ]; then
    [ "$2" = create ] || { echo missing && return 1; }
    mkdir -p "$place" 2>&1 || { echo uncreatable && return 1; }
    created=1
  fi
  [ -d "$place" ] || { echo nodir && return 1; }
  cd -P "$place" 2>/dev/null || { echo unreadable && return 1; }
  root=$PWD
  base=${root%/}
  [ -r . ] || { echo unreadable && return 1; }
  if [ "$3" = write ] && [ ! -w . ]; then
    echo unwritable
    return 1
  fi
}

# hello PATH RSYNC CREATE WRITE SUDO: the first answer. A refusal is one word on the last
# line.
hello() {
  home=$HOME
  if [ "$5" = sudo ] || [ -z "$home" ]; then home=$PWD; fi
  decode "$1" && go "$datum" "$3" "$4" || return 1
  decode "$2"
  rsync=no
  if command -v "$datum" >/dev/null 2>&1; then rsync=yes; fi
  sha256=no
  for name in sha256sum shasum sha256 openssl; do
    if command -v "$name" >/dev/null 2>&1; then sha256=yes; fi
  done
  find_style
  free_space
  file_system
  printf '%s\n' "created $created" "free $free" "uid $(id -u)" "now $(date +%s)" "rsync $rsync" "sha256 $sha256" "style $style" "filesystem $file_system"
  if [ -L .osync_workdir ]; then
    echo 'workdir link'
  elif [ -d .osync_workdir ]; then
    echo 'workdir yes'
    if [ -n "$(find .osync_workdir/backup .osync_workdir/deleted ! -type d 2>/dev/null | head -n 1)" ]; then
      echo 'kept yes'
    fi
    if [ -e .osync_workdir/identity ] || [ -L .osync_workdir/identity ]; then
      if [ -f .osync_workdir/identity ] && [ ! -L .osync_workdir/identity ]; then
        printf 'identity %s\n' "$(head -n 1 .osync_workdir/identity 2>/dev/null)"
      else
        echo 'identity '
      fi
    fi
  fi
  printf 'root\n%s' "$root"
}

# greet ARGUMENTS: frames the first answer like any other.
greet() {
  printf '\n%s %s begin\n' "$mark" 0
  hello "$@"
  printf '\n%s %s end %s\n' "$mark" 0 "$?"
}
