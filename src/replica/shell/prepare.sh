# shellcheck shell=sh disable=SC2154,SC2034,SC2088 # variables shared with core.sh
# Finds the replica, and what this machine's tools can do. Expects core.sh.

# $record is one line of a listing by GNU find: kind, mode, owner, group, device, inode,
# links, size, times; then the path behind a slash, and a link's target behind two.
record='%y %m %U %G %D %i %n %s %T@ %C@ %B@/%P//%l'

# Which way of looking at files works here; and whether stat has to tell when directories
# were made ($births), because what looks at files does not know. Only GNU's stat does.
find_style() {
  births=''
  choose_style
  [ "$style" = gnu ] || [ "$style" = stat ] || return 0
  case $(stat -c '%W|%w|' . 2>/dev/null) in [1-9]*'|'[12]*-*:*'|') ;; *) return 0 ;; esac
  [ "$style" = stat ] || case $(find . -maxdepth 0 -printf %B@) in [1-9]*) return 0 ;; esac
  births=yes
}

choose_style() {
  style=none
  # shellcheck disable=SC2185 # it finds nothing
  case $(find --version 2>/dev/null) in
    *GNU*)
      # others that know -printf print something else, or at another time
      case $(find . -maxdepth 0 \( -readable -o -executable -o -lname . -o -type d \) -printf "$record" 2>/dev/null) in
        'd '[0-7]*' '*' '*' '*' '*' '*' '*' '*.*' '*.*' '*///)
          style=gnu
          return
          ;;
      esac
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
    if [ "$2" != create ]; then
      # ssh://host/srv/x is srv/x in the login directory; somebody may have meant /srv/x
      case $1 in
        /* | '~' | '~/'*) ;;
        *) [ ! -d "/$1" ] || { echo missing-here && return 1; } ;;
      esac
      echo missing
      return 1
    fi
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

# What POSIX gives and the scripts use. One that is missing is named; nothing is guessed
# from its missing answer.
missing_tools() {
  missing=
  for name in cat chmod chown cp date dd env find id ln ls mkdir mv printf rm rmdir sort touch tr wc; do
    command -v "$name" >/dev/null 2>&1 || missing="$missing $name"
  done
  checker="cksum"
  command -v cksum >/dev/null 2>&1 || checker=sha256sum
  command -v "$checker" >/dev/null 2>&1 || missing="$missing cksum"
  # a program is asked where this shell cannot be believed (at)
  [ -n "$sure" ] || [ -n "$(env pwd -P 2>/dev/null)" ] || missing="$missing pwd"
}

# Whether the file system keeps owners and modes: where a mount gives all files the same, they
# say nothing of who may write, and cannot be set. FAT, exFAT, NTFS, SMB, FUSE.
keeps_modes() {
  case $(stat -f -c %t . 2>/dev/null) in
    4d44 | 2011bab0 | 7366746e | 5346544e | ff534d42 | fe534d42 | 65735546) return 1 ;;
  esac
}

# inspect NAME: the directory we are in, which is NAME below the root, and what is in it: all
# must be real, belong to us or to root, and be writable by nobody else. What is ours and
# only too open is closed ($closed), in a run that may write. Says what is wrong.
inspect() {
  if [ -n "$modeless" ]; then
    bad=$(find . ! -name . -prune ! -type f ! -type d -print)
  elif [ "$may_write" = write ]; then
    # the directory first: then nobody can exchange what is in it
    if [ -n "$(find . -prune -user "$uid" \( -perm -020 -o -perm -002 \) -print)" ]; then
      chmod go-w . 2>/dev/null && closed="${closed:+$closed, }$1"
    fi
    if [ -n "$(find . ! -name . -prune -user "$uid" \( -type f -o -type d \) \( -perm -020 -o -perm -002 \) -print)" ]; then
      find . ! -name . -prune -user "$uid" \( -type f -o -type d \) \( -perm -020 -o -perm -002 \) \
        -exec chmod go-w {} + 2>/dev/null && closed="${closed:+$closed, }what is in $1"
    fi
    bad=$(find . ! -name . -prune \( ! -type f ! -type d -o ! -user "$uid" ! -user 0 -o \
      -perm -020 -o -perm -002 \) -print -o -name . \( ! -user "$uid" ! -user 0 -o \
      -perm -020 -o -perm -002 \) -print)
  else
    bad=$(find . ! -name . -prune \( ! -type f ! -type d -o ! -user "$uid" ! -user 0 -o \
      ! -user "$uid" \( -perm -020 -o -perm -002 \) \) -print -o -name . \( ! -user "$uid" ! -user 0 -o \
      ! -user "$uid" \( -perm -020 -o -perm -002 \) \) -print)
  fi
  [ -n "$bad" ] || return 0
  bad=${bad%%"$nl"*}
  if [ -L "$bad" ]; then
    wrong='is a symbolic link'
  elif [ ! -f "$bad" ] && [ ! -d "$bad" ]; then
    wrong='is neither a file nor a directory'
  elif [ -n "$(find "$bad" -prune ! -user "$uid" ! -user 0 -print)" ]; then
    wrong='belongs to another user'
  else
    wrong='can be written by others'
  fi
  echo "$1${bad#.} $wrong"
  return 1
}

# inspect_work: the work directory and its state directory, if they are there.
inspect_work() {
  is_there .osync_workdir || return 0
  if [ -L .osync_workdir ]; then
    echo '.osync_workdir is a symbolic link'
    return 1
  fi
  enter .osync_workdir || { echo '.osync_workdir cannot be entered, or is no directory' && return 1; }
  inspect .osync_workdir || return 1
  [ -d ./state ] || return 0
  enter .osync_workdir/state || { echo '.osync_workdir/state cannot be entered' && return 1; }
  inspect .osync_workdir/state
}

# hello PATH RSYNC CREATE WRITE SUDO: the first answer. A refusal is one word on the last
# line.
hello() {
  missing_tools
  [ -z "$missing" ] || { echo "$missing" && echo tools && return 1; }
  home=$HOME may_write=$4 closed=''
  if [ "$5" = sudo ] || [ -z "$home" ]; then home=$PWD; fi
  uid=$(id -u)
  [ -n "$uid" ] || { echo 'id -u says nothing' && return 1; }
  decode "$1" && go "$datum" "$3" "$4" || return 1
  decode "$2"
  rsync=no
  if command -v "$datum" >/dev/null 2>&1; then rsync=yes; fi
  sha256=no
  for name in sha256sum shasum sha256 openssl; do
    if command -v "$name" >/dev/null 2>&1; then sha256=yes; fi
  done
  find_style
  modeless=
  keeps_modes || modeless=yes
  free_space
  file_system
  if [ -n "${peer-}" ]; then echo "peer $peer"; fi
  printf '%s\n' "created $created" "free $free" "uid $uid" "now $(date +%s)" "rsync $rsync" "sha256 $sha256" "checker $checker" "style $style" "filesystem $file_system"
  if ! strange=$(inspect_work && echo "closed $closed"); then
    printf '%s\n' "$strange" strange
    return 1
  fi
  case $strange in
    'closed '?*) printf '%s\n' "$strange" ;;
  esac
  enter '' || { echo unreadable && return 1; }
  if [ -d .osync_workdir ]; then
    echo 'workdir yes'
    enter .osync_workdir || { echo unreadable && return 1; }
    if [ -n "$(ls -A ./backup 2>/dev/null)$(ls -A ./deleted 2>/dev/null)" ]; then
      echo 'kept yes'
    fi
    [ ! -d ./replaced ] || echo 'replaced yes'
    if [ -f ./identity ]; then
      {
        IFS= read -r line || :
        printf 'identity %s\n' "$line"
        while IFS= read -r line; do
          case $line in 'run '*) printf '%s\n' "$line" ;; esac
        done
      } <./identity
    elif [ -e ./identity ]; then
      echo 'identity '
    fi
    enter ''
  fi
  printf 'root\n%s' "$root"
}

# greet ARGUMENTS: frames the first answer like any other.
greet() {
  printf '\n%s %s begin\n' "$mark" 0
  hello "$@"
  printf '\n%s %s end %s\n' "$mark" 0 "$?"
}
