# shellcheck shell=sh disable=SC2154
# Looking at single paths. Expects core.sh and prepare.sh.

# look NAME...: a line for each of these entries of the current directory, which all are
# there: kind, inode, size (files only), time of modification.
look() {
  if [ "$links" = plain ]; then
    look_as -P "$@"
    return
  fi
  for name in "$@"; do
    if follows "$name"; then look_as -H "$name"; else look_as -P "$name"; fi
  done
}

# look_as -P|-H NAME...: as links, or as what links point at.
look_as() {
  as "$1"
  shift
  case $style in
    gnu)
      find ${as:+"$as"} "$@" -maxdepth 0 \( -type f -printf '%y %i %s %T@\n' -o -printf '%y %i - %T@\n' \) \
        2>/dev/null
      ;;
    stat) stat ${deref:+"$deref"} -c '%f %i %s %Y %y' "$@" 2>/dev/null | look_normal ;;
    bsd) stat ${deref:+"$deref"} -f '%Xp %i %z %m %Fm' "$@" 2>/dev/null | look_normal ;;
  esac
}

# as -P|-H|-L: find's option, and the one of stat that means the same. Following nothing is
# what both do without: not every find knows -P.
as() {
  as=$1 deref=
  if [ "$as" = -P ]; then as=; else deref=-L; fi
}

look_normal() {
  while read -r kind inode size secs first rest; do
    kind_of "$kind"
    [ "$kind" = f ] || size=-
    nanos_of "$first" "$rest"
    echo "$kind $inode $size $secs.$nanos"
  done
}

# The first hexadecimal digit of a raw mode is the kind.
kind_of() {
  case $1 in
    8??? | 8????) kind=f ;;
    4??? | 4????) kind=d ;;
    [aA]??? | [aA]????) kind=l ;;
    1??? | 1????) kind=p ;;
    [cC]??? | [cC]????) kind=s ;;
    2??? | 2????) kind=c ;;
    6??? | 6????) kind=b ;;
    *) kind=f ;;
  esac
}

# The digits behind the first dot of '2024-01-01 12:00:00.123456789 +0000' or
# '1704110400.123456789'; zero where the tool tells whole seconds only.
nanos_of() {
  case "$1 $2" in
    *.*)
      nanos="$1 $2"
      nanos=${nanos#*.}
      nanos=${nanos%% *}
      ;;
    *) nanos=000000000 ;;
  esac
}

# describe NAME...: a full record for each of these, ended by NUL: as in a listing. In no
# order.
describe() {
  if [ "$links" = plain ]; then
    describe_as -P "$@"
  else
    some=0
    describe_some -P "$@" || some=1
    describe_some -H "$@" || some=1
    return "$some"
  fi
}

# Of these names only those that are looked at in this way.
describe_some() {
  how=$1 left=$(($# - 1))
  shift
  while [ "$left" -gt 0 ]; do
    name=$1 left=$((left - 1)) its=-P
    shift
    if follows "$name"; then its=-H; fi
    [ "$its" != "$how" ] || set -- "$@" "$name"
  done
  [ $# -eq 0 ] || describe_as "$how" "$@"
}

# The status tells whether all were there to be described.
describe_as() {
  as "$1"
  shift
  case $style in
    gnu) find ${as:+"$as"} "$@" -maxdepth 0 -printf '%y %m %U %G %D %i %n %s %T@ %C@ %B@/%p//%l\0' 2>/dev/null ;;
    *)
      missed=0
      for name in "$@"; do
        told=$(facts "$name") || missed=1
        [ -n "$told" ] || { missed=1 && continue; }
        target=.
        if [ -z "$deref" ] && [ -L "$name" ]; then
          target=$(readlink -n "$name" 2>/dev/null && echo .) || { missed=1 && continue; }
        fi
        printf '%s/%s//%s\000' "$told" "$name" "${target%.}"
      done
      return "$missed"
      ;;
  esac
}

# The numbers of an entry on one line, for the stat of this machine.
facts=
case $style in
  stat) facts='%f %u %g %d %i %h %s %Y %Z %t %T|%y|%z|' ;;
  bsd) facts='%Xp %u %g %d %i %l %z %m %c %Hr %Lr|%Fm|%Fc|%FB' ;;
esac

facts() {
  case $style in
    stat) stat ${deref:+"$deref"} -c "$facts" "$1" 2>/dev/null ;;
    bsd) stat ${deref:+"$deref"} -f "$facts" "$1" 2>/dev/null ;;
  esac
}

# stat LINKS: the data are directories (behind '>') and names of entries. Each directory
# begins with a record '>', or '!' and why it cannot be entered. Of each name in it there
# is its record, or '-' and the name where nothing is.
do_stat() {
  set_links "${1-}"
  set --
  why=
  while next_line; do
    case $line in
      '>'*)
        describe_or_say "$@"
        set --
        decode "${line#>}"
        look_or_why "$datum"
        if [ -z "$why" ]; then printf '>\000'; else printf '!%s\000' "$why"; fi
        ;;
      .)
        describe_or_say "$@"
        return 0
        ;;
      *)
        entry "$line" || return 1
        if [ -n "$why" ]; then
          :
        elif is_there "$datum"; then
          set -- "$@" "./$datum"
        else
          printf '%s\000' "-$datum"
        fi
        if [ $# -ge 100 ]; then
          describe_or_say "$@"
          set --
        fi
        ;;
    esac
  done
  return 1
}

describe_or_say() {
  [ $# -gt 0 ] || return 0
  describe "$@" && return 0
  for name in "$@"; do
    name=${name#./}
    is_there "$name" || printf '%s\000' "-$name"
  done
}

# digest LINKS sha256|cksum: the same data, regular files; a line for each: its digest (of
# cksum, two numbers), or '-' and why not.
do_digest() {
  set_links "${1-}"
  sort=${2-} why=
  while next_line; do
    case $line in
      '>'*)
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .) return 0 ;;
      *)
        entry "$line" || return 1
        digest_one
        ;;
    esac
  done
  return 1
}

digest_one() {
  if [ -n "$why" ]; then
    echo "- $why"
  elif [ ! -f "./$datum" ] || { [ -L "./$datum" ] && ! follows "./$datum"; }; then
    if is_there "$datum"; then echo '- other'; else echo '- gone'; fi
  elif [ "$sort" = cksum ]; then
    if sum=$({ cksum <"./$datum"; } 2>&1); then
      echo "$sum"
    else
      echo "- ${sum##*: }"
    fi
  elif sum=$(sum_of "./$datum" 2>&1); then
    # names may hold anything, so they are left out: the digest comes first or alone
    sum=${sum#\\}
    echo "${sum%%[!0-9a-f]*}"
  else
    echo "- ${sum##*: }"
  fi
}

sum_of() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1"
  elif command -v sha256 >/dev/null 2>&1; then
    sha256 -q "$1"
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r "$1"
  else
    echo 'no program for SHA-256 is installed (sha256sum, shasum, sha256 or openssl)'
    return 1
  fi
}
