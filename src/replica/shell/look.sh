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
    signed
    nanos_of "$first" "$rest"
    echo "$kind $inode $size $secs.$nanos"
  done
}

# toybox prints seconds before 1970 as a number of 64 bits without a sign, which is too large for
# the shell to count with: it is taken apart.
signed() {
  case $secs in
    1844674?????????????)
      low=${secs#??????????}
      secs=-$(((1844674407 - ${secs%??????????}) * 10000000000 + 13709551616 - 1$low))
      ;;
  esac
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

# When a directory was made: its device and inode, then that in seconds, and as a date.
birth='=%d %i %W %w'

# The status tells whether all were there to be described.
describe_as() {
  as "$1"
  shift
  [ -z "$births" ] || find ${as:+"$as"} "$@" -maxdepth 0 -type d \
    -exec stat ${deref:+"$deref"} -c "$birth" {} + 2>/dev/null | tr '\n' '\000'
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
  set --
  while next_line; do
    case $line in
      '>'*)
        digest_many "$@"
        set --
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .)
        digest_many "$@"
        return 0
        ;;
      *)
        entry "$line" || return 1
        if is_ordinary; then
          set -- "$@" "./$datum"
        else
          digest_many "$@"
          set --
          digest_one
        fi
        if [ $# -ge 100 ]; then
          digest_many "$@"
          set --
        fi
        ;;
    esac
  done
  return 1
}

# give_way: from now on this shell and what it starts let others go first, as far as that can be done.
do_give_way() {
  renice -n 19 -p $$ >/dev/null 2>&1
  ionice -c 3 -p $$ >/dev/null 2>&1
  return 0
}

# Whether one call may make the digest of $datum together with others: its name does not
# disturb the lines of the answer.
is_ordinary() {
  case $why:$sort:$datum in
    :sha256:*"$nl"*) return 1 ;;
    :sha256:*) [ -f "./$datum" ] && { [ ! -L "./$datum" ] || follows "./$datum"; } ;;
    *) return 1 ;;
  esac
}

# digest_many NAME...: the digests of ordinary files, in one call. If that does not give one for
# each, all are asked for one by one.
digest_many() {
  [ $# -gt 0 ] || return 0
  # names may hold anything, so they are left out: the digest comes first or alone
  sums=$(sum_of "$@" 2>/dev/null | sed 's/^\\//; s/[^0-9a-f].*//')
  # shellcheck disable=SC2086 # digests, or what is none
  if are_sums "$#" $sums; then
    printf '%s\n' "$sums"
    return 0
  fi
  for datum; do
    datum=${datum#./}
    digest_one
  done
}

# are_sums COUNT SUM...
are_sums() {
  [ $# -eq $(($1 + 1)) ] || return 1
  shift
  for sum; do
    [ ${#sum} -eq 64 ] || return 1
  done
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
    sha256sum "$@"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$@"
  elif command -v sha256 >/dev/null 2>&1; then
    sha256 -q "$@"
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r "$@"
  else
    echo 'no program for SHA-256 is installed (sha256sum, shasum, sha256 or openssl)'
    return 1
  fi
}
