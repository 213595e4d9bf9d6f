# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# What the file system can do, found out by trying. Expects core.sh, prepare.sh, look.sh and
# lock.sh.

# abilities: lines of a word and what was found, then 'records' and, each ended by NUL, the
# records of one file: with mode 600; with mode 751, owner 1 and group 1 (of root's) and a time
# of long ago; and under another name.
do_abilities() {
  make_work || return 1
  # what a run that was killed left behind
  rm -rf ./trials
  mkdir_closed ./trials 2>&1 && cd -P ./trials && [ "$PWD" = "$base/.osync_workdir/trials" ] || return 1
  set +f
  try_names && try_kinds && try_metadata
  tried=$?
  set -f
  enter_work && rm -rf ./trials
  return "$tried"
}

made() {
  { true >"./$1"; } 2>/dev/null
}

# is_listed NAME: whether the directory has just this spelling.
is_listed() {
  for name in ./* ./.*; do
    [ "$name" != "./$1" ] || return 0
  done
  return 1
}

# holds WORD NAME...: whether entries can have just these names.
holds() {
  word=$1 found=yes
  shift
  for wanted in "$@"; do
    { made "$wanted" && is_listed "$wanted"; } || found=no
  done
  echo "$word $found"
}

try_names() {
  made Plain || { echo 'cannot make a file in the work directory' && return 1; }
  if [ ! -e ./pLAIN ]; then
    echo 'case distinct'
  elif is_listed Plain; then
    echo 'case folded'
  else
    echo 'case rewritten'
  fi
  try_forms
  if one_inode Plain pLAIN && one_inode "$composed" "$decomposed"; then echo 'inodes one'; fi
  holds bytes "$(printf 'byte\377')"
  holds ends dot. 'space '
  holds devicenames con com1.txt
  try_suspects
  try_lengths
}

# A letter in its two forms, and another decomposed one.
try_forms() {
  composed=$(printf '\303\251') decomposed=$(printf 'e\314\201') other=$(printf 'o\314\210')
  if ! made "$composed" || ! made "$other"; then
    echo 'forms distinct'
  elif ! is_listed "$composed" && is_listed "$decomposed"; then
    echo 'forms decomposed'
  elif ! is_listed "$other" && is_listed "$(printf '\303\266')"; then
    echo 'forms composed'
  elif [ -e "./$decomposed" ]; then
    echo 'forms folded'
  else
    echo 'forms distinct'
  fi
}

# one_inode SPELLING SPELLING: whether they have one inode number, if they are one entry.
one_inode() {
  [ -e "./$1" ] && [ -e "./$2" ] || return 0
  one=$(ls -di "./$1" 2>/dev/null) two=$(ls -di "./$2" 2>/dev/null)
  [ "${one%%./*}" = "${two%%./*}" ]
}

# What file systems of Windows refuse, as octal numbers.
try_suspects() {
  suspects='1 2 3 4 5 6 7 10 11 12 13 14 15 16 17 20 21 22 23 24 25 26 27 30 31 32 33 34 35 36 37
42 52 72 74 76 77 134 174 177'
  all=
  for code in $suspects; do all="$all\\0$code"; done
  wanted=$(printf '%b.' "$all")
  if made "$wanted" && is_listed "$wanted"; then return 0; fi
  for code in $suspects; do
    wanted=$(printf '%b' "x\\0${code}y")
    { made "$wanted" && is_listed "$wanted"; } || echo "refused $code"
  done
}

try_lengths() {
  fits=1 above=256 length=255
  while [ $((fits + 1)) -lt "$above" ]; do
    wanted=$(printf "%0${length}d" 0)
    if made "$wanted" && is_listed "$wanted"; then fits=$length; else above=$length; fi
    length=$(((fits + above) / 2))
  done
  echo "longest $fits"
  [ "$fits" -eq 255 ] || return 0
  five=$composed$composed$composed$composed$composed wanted=
  while [ "$length" -gt 0 ]; do
    wanted=$wanted$five length=$((length - 5))
  done
  holds units "$wanted"
}

try_kinds() {
  { ln -s there ./link && [ -L ./link ]; } 2>/dev/null && echo 'symlinks yes'
  { ln ./Plain ./second && [ -f ./second ]; } 2>/dev/null && echo 'hardlinks yes'
  { mkfifo ./fifo && [ -p ./fifo ]; } 2>/dev/null && echo 'fifos yes'
  return 0
}

try_metadata() {
  echo "uid $(id -u)"
  made metadata || return 1
  chmod 600 ./metadata 2>/dev/null
  first=$(describe_as -P ./metadata | tr '\000' '\001')
  chmod 751 ./metadata 2>/dev/null
  [ "$(id -u)" -ne 0 ] || chown 1:1 ./metadata 2>/dev/null
  if TZ=UTC0 touch -d '2017-07-14T02:40:01.123456789Z' ./metadata 2>/dev/null; then
    echo 'touched fine'
  elif TZ=UTC0 touch -t 201707140240.01 ./metadata 2>/dev/null; then
    echo 'touched seconds'
  fi
  echo records
  printf '%s' "$first" | tr '\001' '\000'
  describe_as -P ./metadata
  mv -f ./metadata ./renamed 2>/dev/null && describe_as -P ./renamed
}
