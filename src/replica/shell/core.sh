# shellcheck shell=sh disable=SC2154 # $mark is set by a line before this
# The control shell's ground: framing, names, directories. Sent first, once a run.
#
# Everything that is a name comes as data on standard input, one a line, and is only ever
# used inside quotes; the few words of a request are ours. No name is shell text, an
# option or a pattern. Needs a POSIX shell, nothing else.
LC_ALL=C
export LC_ALL
unset CDPATH
set -f
nl='
'
root='' base='' held='' scratch=''
# What symbolic links count as: 'plain', themselves; 'dirs', those to directories as the
# directories (KEEP_DIRLINKS); 'follow', all as what they point at (COPY_SYMLINKS).
links=plain

# set_links WORD: a word that is none of those follows nothing.
set_links() {
  case ${1-} in
    dirs | follow) links=$1 ;;
    *) links=plain ;;
  esac
}

# Requests and data come on descriptor 3, so that no command can eat them.
next_line() {
  IFS= read -r line <&3
}

# Reads one line of data into $datum; fails at the end of the list. A name stands as it is
# behind '=', or, if it holds a line end, behind '%' in the form of printf's %b.
datum() {
  next_line && decode "$line"
}

decode() {
  case $1 in
    =*) datum=${1#=} ;;
    %*)
      datum=$(printf '%b.' "${1#%}")
      datum=${datum%.}
      ;;
    *) return 1 ;;
  esac
}

# Like 'decode', for what must be the name of one entry.
entry() {
  decode "$1" || return 1
  case $datum in */* | ..) return 1 ;; esac
}

# Goes to a directory of the replica, and nowhere if a link is on the way there.
enter() {
  cd -P "$root" 2>/dev/null && [ "$PWD" = "$root" ] || return 1
  [ -n "$1" ] || return 0
  cd -P "./$1" 2>/dev/null && [ "$PWD" = "$base/$1" ]
}

# The same only to look: also through links, where these count as directories.
enter_to_look() {
  if [ "$links" = plain ]; then
    enter "$1"
    return
  fi
  cd -P "$root" 2>/dev/null && [ "$PWD" = "$root" ] || return 1
  [ -z "$1" ] || cd -P "./$1" 2>/dev/null || return 1
}

# Why that failed: 'gone' (nothing, or no directory, is there), 'link' (one that counts as
# a directory, but nothing is changed behind it), or 'denied'. It is only asked behind a
# failure, of 'enter' or, with 'look', of 'enter_to_look'.
why_not() {
  rest=$1/ through=
  if [ "${2-}" = look ] && [ "$links" != plain ]; then through=yes; fi
  cd -P "$root" 2>/dev/null || { why=denied && return; }
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    rest=${rest#*/}
    if [ ! -d "./$part" ] || { [ -L "./$part" ] && [ -z "$through" ]; }; then
      why=gone
      if [ "$links" != plain ] && [ -d "./$part" ]; then why='link'; fi
      [ -x . ] || why=denied
      return
    fi
    cd -P "./$part" 2>/dev/null || { why=denied && return; }
  done
  why=gone
}

enter_or_why() {
  why=
  enter "$1" || why_not "$1"
  [ -z "$why" ]
}

look_or_why() {
  why=
  enter_to_look "$1" || why_not "$1" look
  [ -z "$why" ]
}

# follows NAME: whether it is a link that counts as what it points at.
follows() {
  [ -L "$1" ] || return 1
  case $links in
    dirs) [ -d "$1" ] ;;
    follow) [ -e "$1" ] ;;
    *) return 1 ;;
  esac
}

is_there() {
  [ -e "./$1" ] || [ -L "./$1" ]
}

# Adds a piece of script to what this shell knows.
do_load() {
  text=
  while next_line && [ "$line" != "$mark" ]; do
    text="$text$line$nl"
  done
  eval "$text"
}

# Only what this run made is taken away, and only if it is still that. This happens
# however the connection ends.
leave() {
  trap '' HUP INT TERM PIPE
  [ -z "$scratch" ] || rm -rf "$scratch" >/dev/null 2>&1
  [ -z "$held" ] || drop_lock >/dev/null 2>&1
}

drop_lock() {
  cd -P "$base/.osync_workdir" && [ "$PWD" = "$base/.osync_workdir" ] || return 1
  if [ "$(cat lock 2>/dev/null)" = "$held" ]; then
    rm -f lock.by && rm -f lock || return 1
  fi
  held=
}

do_unlock() {
  [ -z "$held" ] || drop_lock 2>&1
}

# Requests begin with the mark of this connection; anything else on the line is noise.
serve() {
  trap leave EXIT
  trap 'exit 1' HUP INT TERM PIPE
  exec 3<&0 </dev/null
  while next_line; do
    case $line in
      "$mark "*) ;;
      *) continue ;;
    esac
    # shellcheck disable=SC2086 # our own words, without names among them
    set -- $line
    frame=$2
    asked=$3
    case $asked in '' | *[!a-z_]*) continue ;; esac
    shift 3
    printf '\n%s %s begin\n' "$mark" "$frame"
    "do_$asked" "$@"
    printf '\n%s %s end %s\n' "$mark" "$frame" "$?"
  done
}
