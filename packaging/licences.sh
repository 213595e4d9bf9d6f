#!/bin/sh
# Prints the licences of everything that is compiled into osync, for packages: they have to go
# along with the binary.
#
#     packaging/licences.sh [FEATURES]     features of cargo, for example bundled
set -eu
cd "$(dirname "$0")/.."
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src

cat <<'HEAD'
osync is compiled together with the libraries below. Beside them it holds

- SQLite (https://sqlite.org), which is in the public domain;
- libssh2 (https://libssh2.org), under the 3-clause BSD licence;
- with the feature "bundled": OpenSSL (https://openssl.org), under the Apache License 2.0, and
  zlib (https://zlib.net), under the zlib licence.

HEAD

# The texts that lie in a directory. Where one may choose, that of MIT is the shortest.
texts() {
    find "$1" -maxdepth 3 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' \
        -o -iname 'unlicense*' \) ! -name '*.rs' | sort >"$list"
    case $2 in
    *AND*) cat "$list" ;;
    *) grep -i '/[^/]*mit[^/]*$' "$list" || cat "$list" ;;
    esac
}

fail() {
    echo "packaging/licences.sh: $*" >&2
    exit 1
}

list=$(mktemp)
trap 'rm -f "$list"' EXIT
rustc -vV >"$list" || fail "there is no rustc"
host=$(sed -n 's/^host: //p' "$list")
# taken before it is read: the status of a pipe is that of its last command
tree=$(cargo tree --locked --quiet --edges normal,build --target "$host" \
    ${1:+--features "$1"} --prefix none --format '{p}|{l}') || fail "cargo tree has failed"
printf '%s\n' "$tree" | sed 's/ (proc-macro)//; s/ (\*)//' | sort -u |
    while IFS='|' read -r package licence; do
        name=${package%% *}
        version=${package##* v}
        [ "$name" != osync ] || continue
        printf '%s\n%s %s: %s\n\n' \
            "------------------------------------------------------------------------" \
            "$name" "$version" "$licence"
        set -- "$registry"/*/"$name-$version"
        [ -d "$1" ] || fail "the sources of $name $version are not in $registry"
        texts "$1" "$licence" | while read -r text; do
            cat "$text"
            echo
        done
    done
