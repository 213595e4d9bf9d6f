# shellcheck shell=sh disable=SC2154 # variables shared with core.sh and prepare.sh
# Listing whole trees. Expects core.sh, prepare.sh, look.sh.

# A private directory for what is too big for a variable and too small for the replica.
make_scratch() {
  [ -z "$scratch" ] || return 0
  mkdir -m 700 "${TMPDIR:-/tmp}/osync.$mark" || return 1
  scratch=${TMPDIR:-/tmp}/osync.$mark
}

# list: everything below the current directory, one record a line on standard output. What
# does not fit a line (a line end in a path or in a link's target) goes to $odd, each
# record ended by NUL. '!' before a record: it is there and cannot be read. $walk is -L
# or -P, $deref says the same to stat; the arguments are expressions of find that are always true.
list() {
  case $style in
    gnu)
      find "$walk" . -path ./.osync_workdir -prune -o "$@" \
        \( -path "*$nl*" -o -lname "*$nl*" \) \
        \( \( -type f ! -perm -444 ! -readable -o \
        -type d ! -perm -555 ! \( -readable -executable \) \) -fprintf "$odd" "!$record\\0" -o \
        -fprintf "$odd" "$record\\0" \) -o \
        \( -type f ! -perm -444 ! -readable -o \
        -type d ! -perm -555 ! \( -readable -executable \) \) -printf "!$record\\n" -o \
        -printf "$record\\n"
      ;;
    *)
      case $style in
        stat) set -- "$@" ! -type l ! -path "*$nl*" -exec stat ${deref:+"$deref"} -c "$facts/%n" {} + ;;
        bsd) set -- "$@" ! -type l ! -path "*$nl*" -exec stat ${deref:+"$deref"} -f "$facts/%N" {} + ;;
      esac
      find "$walk" . -path ./.osync_workdir -prune -o "$@"
      ;;
  esac
}

# What else a find without -printf cannot tell in one go, to $odd.
list_odd() {
  [ "$style" != gnu ] || return 0
  find "$walk" . -path ./.osync_workdir -prune -o "$@" \
    \( -type l -o -path "*$nl*" \) -exec sh -c "$describe_many" "$style" "$facts" "$deref" {} + \
    >"$odd" 2>/dev/null
  find "$walk" . -path ./.osync_workdir -prune -o "$@" \
    \( -type f ! -perm -444 -o -type d ! -perm -555 \) -exec sh -c "$describe_closed" sh {} + \
    >>"$odd" 2>/dev/null
}

# For another sh that find starts: its arguments are names, the first our way of looking.
# shellcheck disable=SC2016
describe_many='
facts=$1 deref=$2
shift 2
for name do
  deep=$deref
  [ -e "$name" ] || deep=
  case $0 in
    stat) line=$(stat ${deep:+"$deep"} -c "$facts" "$name" 2>/dev/null) ;;
    *) line=$(stat ${deep:+"$deep"} -f "$facts" "$name" 2>/dev/null) ;;
  esac
  [ -n "$line" ] || continue
  printf "%s/%s//" "$line" "$name"
  [ -n "$deep" ] || [ ! -L "$name" ] || readlink -n "$name" 2>/dev/null
  printf "\000"
done'
# The same for many at once, of which none is a link or has a line end in its name.
# shellcheck disable=SC2016
describe_plain='
facts=$1 deref=$2
shift 2
case $0 in
  stat) stat ${deref:+"$deref"} -c "$facts/%n" "$@" ;;
  *) stat ${deref:+"$deref"} -f "$facts/%N" "$@" ;;
esac 2>/dev/null | sed "s|\$|//|" | tr "\\n" "\\000"'
# shellcheck disable=SC2016
describe_closed='
for name do
  if [ -f "$name" ] && [ -r "$name" ]; then continue; fi
  if [ -d "$name" ] && [ -r "$name" ] && [ -x "$name" ]; then continue; fi
  printf "!/%s\000" "$name"
done'

# choose_links LINKS: find follows those that count as what they point at, if it notices
# circles, as POSIX asks for; BusyBox's does not. Else what lies behind links is asked for
# afterwards ('below behind').
choose_links() {
  set_links "${1-}"
  case ${1-}:$style in
    follow:stat) as -P ;;
    follow:*) as -L ;;
    behind:*) set_links dirs && as -P && as=-H ;;
    *) as -P ;;
  esac
  walk=$as
}

# scan LINKS WRITE KINDS SPACES (see attributes.sh): the data are the cache's path (or nothing), the checksum of what the
# other end has of it, user ids behind 'u', group ids behind 'g', then what need not be
# entered: names behind '=' or '%', paths behind '>'.
#
# The whole tree is always listed. Where both ends have the listing of the last run, only
# what differs from it is sent; the checksum of the new one shows whether that worked.
do_scan() {
  choose_links "$1"
  write=$2 kinds=$3 spaces=$4
  datum && cache=$datum && datum && known=$datum || return 1
  owners='' prunes=0
  set --
  while next_line; do
    case $line in
      u* | g*) owners="$owners $line" && continue ;;
      '>'*) decode "${line#>}" && test=-path ;;
      .) break ;;
      *) decode "$line" && test=-name ;;
    esac
    if [ $# -eq 0 ]; then set -- \( -type d \(; else set -- "$@" -o; fi
    set -- "$@" "$test" "$datum"
    prunes=1
  done
  [ "$prunes" -eq 0 ] || set -- "$@" \) -prune -o -type d -o ! -type d \)
  make_scratch 2>&1 && enter '' || return 1
  odd=$scratch/odd
  printf '' >"$odd"
  if [ -n "$cache" ] && room_for_cache; then
    list "$@" 2>"$scratch/errors" | sort >"$new"
    send_listing
  else
    echo '#full'
    list "$@" 2>"$scratch/errors"
  fi
  list_odd "$@"
  say_owners "$owners"
  sed 's/^/?/' "$scratch/errors"
  echo '#odd'
  cat "$odd"
  [ "$kinds" != none ] || return 0
  echo '#attributes'
  choose "$kinds" "$spaces"
  tell "$walk" . -path ./.osync_workdir -prune -o "$@"
  told
}

room_for_cache() {
  new=$scratch/list
  [ "$write" = write ] || return 0
  [ -d "${cache%/*}" ] || (umask 077 && mkdir -p "${cache%/*}") 2>/dev/null || return 1
  new=$cache.new.$$
  # what a shell that was killed has left
  rm -f "$cache".new.*
  # it names private files
  (umask 077 && printf '' >"$new") 2>/dev/null
}

send_listing() {
  sum=$(cksum <"$new")
  if [ -n "$known" ] && [ -f "$cache" ] && [ "$(cksum <"$cache")" = "$known" ] \
    && can_compare; then
    echo '#changes'
    [ "$sum" = "$known" ] || compare
  else
    echo '#full'
    cat "$new"
  fi
  echo "#sum $sum"
  if [ "$write" = write ]; then mv -f "$new" "$cache"; else rm -f "$new"; fi
}

# diff keeps both files in memory: that is no good for long listings on a small machine.
can_compare() {
  if command -v comm >/dev/null 2>&1; then
    compare() { comm -3 "$cache" "$new"; }
  elif command -v diff >/dev/null 2>&1 && [ "${sum#* }" -lt 60000000 ]; then
    compare() { diff "$cache" "$new"; }
  else
    return 1
  fi
}

# The names of owners, as far as this machine knows them.
say_owners() {
  # shellcheck disable=SC2086 # our own words
  for owner in $1; do
    name=
    case $owner in
      u*) name_of passwd "${owner#u}" ;;
      g*) name_of group "${owner#g}" ;;
    esac
    echo "#owner $owner $name"
  done
}

name_of() {
  if command -v getent >/dev/null 2>&1; then
    name=$(getent "$1" "$2")
    name=${name%%:*}
    return
  fi
  while IFS=: read -r name _ number _; do
    [ "$number" != "$2" ] || return 0
  done <"/etc/$1"
  name=
  [ "$1" = group ] || name=$(id -un "$2" 2>/dev/null)
}

do_owners() {
  owners=
  while next_line && [ "$line" != . ]; do owners="$owners $line"; done
  say_owners "$owners"
}

# below LINKS: the data are directories behind '>' and names in them. For each name a record
# '>' (or '!' and why its directory cannot be entered), then the records of it and of all
# below it, then one behind '?' for each complaint. 'behind': of links to directories, where
# the record of the entry itself may be that of the link.
do_below() {
  make_scratch 2>&1 || return 1
  choose_links "$1"
  why=
  while next_line; do
    case $line in
      '>'*)
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .) return 0 ;;
      *)
        entry "$line" || return 1
        if [ -n "$why" ]; then
          printf '!%s\000' "$why"
        else
          printf '>\000'
          if is_there "$datum"; then tree_of "./$datum"; fi
        fi
        ;;
    esac
  done
  return 1
}

# A record whose path begins with the name that find was given.
named='%y %m %U %G %D %i %n %s %T@ %C@ %B@/%p//%l'

tree_of() {
  case $style in
    gnu)
      find "$walk" "$1" \( -type f ! -perm -444 ! -readable -o \
        -type d ! -perm -555 ! \( -readable -executable \) \) -printf "!$named\\0" -o \
        -printf "$named\\0" 2>"$scratch/errors"
      ;;
    *)
      case $walk in
        # the name itself may be a link that stands for what is behind it
        -H) find -H "$1" -exec sh -c "$describe_many" "$style" "$facts" "$deref" {} + ;;
        *)
          find "$walk" "$1" ! -type l ! -path "*$nl*" \
            -exec sh -c "$describe_plain" "$style" "$facts" "$deref" {} +
          find "$walk" "$1" \( -type l -o -path "*$nl*" \) \
            -exec sh -c "$describe_many" "$style" "$facts" "$deref" {} + 2>/dev/null
          ;;
      esac 2>"$scratch/errors"
      find "$walk" "$1" \( -type f ! -perm -444 -o -type d ! -perm -555 \) \
        -exec sh -c "$describe_closed" sh {} + 2>/dev/null
      ;;
  esac
  while IFS= read -r line; do printf '?%s\000' "$line"; done <"$scratch/errors"
}

# devices LINKS: names of device nodes; a line 'MAJOR MINOR' in hexadecimal for each.
do_devices() {
  set_links "${1-}"
  why=
  while next_line; do
    case $line in
      '>'*)
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .) return 0 ;;
      *)
        entry "$line" || return 1
        numbers='' deref=
        if follows "./$datum"; then deref=-L; fi
        [ -n "$why" ] || numbers=$(stat ${deref:+"$deref"} -c '%t %T' "./$datum" 2>/dev/null)
        echo "${numbers:-0 0}"
        ;;
    esac
  done
  return 1
}
