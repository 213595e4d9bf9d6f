# Renames the state files of an older version on a remote replica. Arguments: the state
# directory and the task, both in octal, then "rename" or "say". What was done comes out
# in lines that begin with "osync: ".
decode() {
    decoded=$(printf '%b.' "$1")
    decoded=${decoded%.}
}
decode "$1"
dir=$decoded
decode "$2"
id=$decoded
way=$3
# shellcheck disable=SC2088 # not to be expanded: it is what the path begins with
case $dir in
    '~/'*) dir=$HOME/${dir#??} ;;
    -*) dir=./$dir ;;
esac
[ -d "$dir" ] || exit 0
cd "$dir" || exit 1
status=0
for pair in master:initiator slave:target; do
    for old in "${pair%%:*}"-*-"$id"; do
        [ -e "$old" ] || continue
        new=${pair#*:}-${old#*-}
        if [ -e "$new" ]; then
            printf 'osync: %s stays: %s is there already\n' "$old" "$new"
        elif [ "$way" = say ] || mv -- "$old" "$new"; then
            printf 'osync: %s is %s now\n' "$old" "$new"
        else
            status=1
        fi
    done
done
exit $status
