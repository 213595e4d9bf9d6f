# shellcheck shell=sh disable=SC2154 # variables shared with core.sh, look.sh, apply.sh
# Access control lists and extended attributes. Expects core.sh, look.sh.
#
# They are told as getfacl and getfattr print them, behind '#acl' and '#xattr'; what those
# complained about stands behind '#error', and '#end' tells that all was said.

# choose KINDS SPACES: what to tell, as far as the tools are there. KINDS is acl, xattr, both
# or none, SPACES user or all.
choose() {
  with_acl='' with_xattr='' spaces='^user\.'
  case $2 in all) spaces='^(user|trusted|security)\.' ;; esac
  case $1 in
    acl | both)
      if getfacl -nspE -- . >/dev/null 2>&1 && command -v setfacl >/dev/null 2>&1; then
        with_acl=yes
      else
        echo '#none acl'
      fi
      ;;
  esac
  case $1 in
    xattr | both)
      if getfattr -d -e hex -m "$spaces" --absolute-names -- . >/dev/null 2>&1 \
        && command -v setfattr >/dev/null 2>&1; then
        with_xattr=yes
      else
        echo '#none xattr'
      fi
      ;;
  esac
}

# tell ARGUMENTS...: of all that find finds with these. What is complained about travels by
# a pipe: a full disk loses nothing of it.
tell() {
  {
    words=$(tell_all "$@" 2>&1 >&4 4>&-)
    status=$?
  } 4>&1
  if [ "$status" -ne 0 ] && [ -z "$words" ]; then
    words="a program that reads ACLs or attributes ended with status $status"
  fi
  complained=$complained${words:+$words$nl}
}
complained=

tell_all() {
  worst=0
  if [ -n "$with_acl" ]; then
    echo '#acl'
    find "$@" ! -type l -exec getfacl -nspE -- {} + || worst=$?
  fi
  if [ -n "$with_xattr" ]; then
    echo '#xattr'
    find "$@" -type l -exec getfattr -h -d -e hex -m "$spaces" --absolute-names -- {} + || worst=$?
    # also one that is a link, where find was told to follow it
    find "$@" ! -type l -exec getfattr -d -e hex -m "$spaces" --absolute-names -- {} + || worst=$?
  fi
  return "$worst"
}

told() {
  ifs=$IFS IFS=$nl
  for line in $complained; do printf '#error %s\n' "$line"; done
  IFS=$ifs complained=
  echo '#end'
}

# attributes KINDS SPACES one|below LINKS: the data are directories behind '>' and names in
# them. '#dir' begins each directory.
do_attributes() {
  choose "$1" "$2"
  choose_links "$4"
  deep=$3
  set --
  why=
  while next_line; do
    case $line in
      '>'*)
        tell_named "$@"
        set --
        decode "${line#>}"
        look_or_why "$datum"
        echo '#dir'
        ;;
      .)
        tell_named "$@"
        told
        return 0
        ;;
      *)
        entry "$line" || return 1
        if [ -n "$why" ]; then
          :
        elif [ -z "$walk" ] && follows "./$datum"; then
          walk=-H
          tell_named "./$datum"
          walk=
        elif is_there "$datum"; then
          set -- "$@" "./$datum"
        fi
        if [ $# -ge 100 ]; then
          tell_named "$@"
          set --
        fi
        ;;
    esac
  done
  return 1
}

tell_named() {
  [ $# -gt 0 ] || return 0
  case $deep in
    one) tell ${walk:+"$walk"} "$@" -maxdepth 0 ;;
    *) tell ${walk:+"$walk"} "$@" ;;
  esac
}

# numbers: names of users behind 'u', of groups behind 'g'; a line for each: its number
# here, or '-'.
do_numbers() {
  while next_line; do
    number=
    case $line in
      .) return 0 ;;
      u*) decode "${line#u}" && number=$(id -u "$datum" 2>/dev/null) ;;
      g*) decode "${line#g}" && number_of_group "$datum" ;;
    esac
    echo "${number:--}"
  done
  return 1
}

number_of_group() {
  if command -v getent >/dev/null 2>&1; then
    number=$(getent group "$1")
    number=${number#*:*:}
    number=${number%%:*}
    return
  fi
  while IFS=: read -r name _ number _; do
    [ "$name" != "$1" ] || return 0
  done </etc/group
  number=
}

# attr: $access and $default are what setfacl --set takes, '-' for a default list that goes,
# nothing for what stays. The further name holds names of extended attributes that go, each
# on a line behind '-', then what setfattr --restore takes.
act_attr() {
  check
  through_links "$not_through"
  doing='set its ACL or extended attributes'
  if [ -n "$access" ]; then
    safely setfacl -n "--set=$access" --
  fi
  case $default in
    '') ;;
    -) safely setfacl -k -- ;;
    *) safely setfacl -n -d "--set=$default" -- ;;
  esac
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i todo=\$t_$i"
    if [ -n "$answer" ] || [ -z "$todo" ]; then continue; fi
    if ! words=$(change_named "./$name" 2>&1); then
      failed "$doing" "$words"
      eval "r_$i=\$answer"
    fi
  done
}

# change_named NAME: who may not write a file may not change its attributes. (Of root's
# none is like that.)
change_named() {
  change_all "$1"
}

change_all() {
  rest=$todo
  while :; do
    case $rest in
      -*)
        gone=${rest%%"$nl"*}
        rest=${rest#*"$nl"}
        words=$(setfattr -h -x "${gone#-}" -- "$1" 2>&1) || case $words in
          *'No such attribute'*) ;;
          *) echo "$words" && return 1 ;;
        esac
        ;;
      *) break ;;
    esac
  done
  [ -n "$rest" ] || return 0
  if ! is_of_one; then
    echo 'these attributes are not those of one entry'
    return 1
  fi
  # the name behind '# file:' is that of a link, if it is one
  case $1 in
    */.) printf '%s\n' "$rest" | setfattr --restore=- ;;
    *) printf '%s\n' "$rest" | setfattr -h --restore=- ;;
  esac
}

# is_of_one: whether $rest is about one entry of this directory: setfattr goes wherever a
# '# file:' leads, and knows octal escapes for a slash and a dot, too.
is_of_one() {
  first_line=${rest%%"$nl"*}
  case ${first_line#'# file: ./'} in
    "$first_line" | */* | *'\057'* | . | .. | *'\056'*) return 1 ;;
  esac
  case ${rest#*"$nl"} in '#'* | *"$nl#"* | "$nl"* | *"$nl$nl"*) return 1 ;; esac
}
