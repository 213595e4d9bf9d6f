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

list=$(mktemp)
trap 'rm -f "$list"' EXIT
cargo tree --locked --quiet --edges normal,build --target "$(rustc -vV | sed -n 's/^host: //p')" \
    ${1:+--features "$1"} --prefix none --format '{p}|{l}' |
    sed 's/ (proc-macro)//; s/ (\*)//' | sort -u |
    while IFS='|' read -r package licence; do
        name=${package%% *}
        version=${package##* v}
        [ "$name" != osync ] || continue
        printf '%s\n%s %s: %s\n\n' \
            "------------------------------------------------------------------------" \
            "$name" "$version" "$licence"
        for directory in "$registry"/*/"$name-$version"; do
            [ -d "$directory" ] || continue
            texts "$directory" "$licence" | while read -r text; do
                cat "$text"
                echo
            done
        done
    done
