//! Part of scripts that stand for ssh and run the remote command on this machine.

/// Leaves the host and the remote command in the arguments.
pub const SKIP_SSH_OPTIONS: &str = r"while :; do
    case $1 in
        -[opilFJ]) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
";
