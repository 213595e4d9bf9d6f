//! The pieces of script that the control shell learns, as they travel.

/// One piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Core,
    Prepare,
    Peer,
    Lock,
    Look,
    List,
    Attributes,
    Apply,
    Flush,
    Clean,
    Wake,
    Hook,
    Abilities,
}

impl Piece {
    fn text(self) -> &'static str {
        match self {
            Piece::Core => include_str!("core.sh"),
            Piece::Prepare => include_str!("prepare.sh"),
            Piece::Peer => include_str!("peer.sh"),
            Piece::Lock => include_str!("lock.sh"),
            Piece::Look => include_str!("look.sh"),
            Piece::List => include_str!("list.sh"),
            Piece::Attributes => include_str!("attributes.sh"),
            Piece::Apply => include_str!("apply.sh"),
            Piece::Flush => include_str!("flush.sh"),
            Piece::Clean => include_str!("clean.sh"),
            Piece::Wake => include_str!("wake.sh"),
            Piece::Hook => include_str!("hook.sh"),
            Piece::Abilities => include_str!("abilities.sh"),
        }
    }

    /// The piece without what only readers need: on a thin line every byte counts.
    pub fn compact(self) -> String {
        let mut out = String::new();
        for line in self.text().lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Piece; 13] = [
        Piece::Core,
        Piece::Prepare,
        Piece::Peer,
        Piece::Lock,
        Piece::Look,
        Piece::List,
        Piece::Attributes,
        Piece::Apply,
        Piece::Flush,
        Piece::Clean,
        Piece::Wake,
        Piece::Hook,
        Piece::Abilities,
    ];

    #[test]
    fn every_shell_here_can_read_every_piece() {
        for shell in [&["sh"][..], &["dash"], &["busybox", "sh"], &["bash", "--posix"]] {
            for piece in ALL {
                let mut child = match std::process::Command::new(shell[0])
                    .args(&shell[1..])
                    .arg("-n")
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                {
                    Ok(child) => child,
                    Err(cause) => {
                        eprintln!("not tried with {shell:?}: {cause}");
                        continue;
                    }
                };
                std::io::Write::write_all(
                    &mut child.stdin.take().unwrap(),
                    piece.compact().as_bytes(),
                )
                .unwrap();
                assert!(child.wait().unwrap().success(), "{piece:?} in {shell:?}");
            }
        }
    }

    #[test]
    fn no_line_of_a_piece_means_something_only_with_its_indentation() {
        for piece in ALL {
            let text = piece.text();
            assert!(!text.contains("<<-") && !text.contains('\t'), "{piece:?}");
            assert!(text.is_ascii(), "{piece:?}");
        }
    }
}
