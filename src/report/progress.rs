//! What moves on a terminal while a run scans and transfers (spec 6, "Progress").

use super::TransferProgress;
use super::tty::Tty;
use crate::config::Output;
use crate::tree::{Pair, Side};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// How often the display moves.
const TICK: Duration = Duration::from_millis(200);
/// ASCII only: a console without UTF-8 shows it as well.
const SCAN: &str = "{spinner} Scanning: {msg}";
const COMPARE: &str = "{spinner} Comparing: {msg}";
const TRANSFER: &str = "{prefix:<12} [{wide_bar}] {msg} {binary_bytes_per_sec:>12} {eta:>4}";
const DONE: &str = "{prefix:<12} [{wide_bar}] {msg} done";

/// The display at the foot of a terminal.
pub(super) struct Progress {
    area: MultiProgress,
    showing: Showing,
}

enum Showing {
    Nothing,
    Scan { bar: ProgressBar, seen: Pair<u64> },
    Compare(ProgressBar),
    Transfer(Pair<Option<ProgressBar>>),
}

impl Progress {
    /// A display on standard output, if somebody may look at it.
    pub(super) fn for_output(output: &Output) -> Option<Progress> {
        let hidden = output.silent || output.non_interactive || output.errors_only;
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        (!hidden && !dumb && std::io::stdout().is_terminal()).then(|| {
            Progress::on(ProgressDrawTarget::term_like_with_hz(Box::new(Tty::default()), 10))
        })
    }

    /// A display on the given target.
    pub(super) fn on(target: ProgressDrawTarget) -> Progress {
        Progress { area: MultiProgress::with_draw_target(target), showing: Showing::Nothing }
    }

    /// Whether anything is displayed now.
    pub(super) fn is_showing(&self) -> bool {
        !matches!(self.showing, Showing::Nothing)
    }

    /// Runs `print` with the display out of the way. `print` leaves nothing in a buffer.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.is_showing() { self.area.suspend(print) } else { print() }
    }

    /// This many entries have been seen on a side.
    pub(super) fn scanning(&mut self, side: Side, count: u64) {
        if !matches!(self.showing, Showing::Scan { .. }) {
            self.quiet();
            let bar = self.area.add(ProgressBar::new_spinner().with_style(style(SCAN)));
            bar.enable_steady_tick(TICK);
            self.showing = Showing::Scan { bar, seen: Pair::new(0, 0) };
        }
        if let Showing::Scan { bar, seen } = &mut self.showing {
            seen[side] = count;
            bar.set_message(format!("initiator {}, target {}", seen.initiator, seen.target));
        }
    }

    /// So many files have been compared, of so many.
    pub(super) fn comparing(&mut self, done: u64, all: u64) {
        if !matches!(self.showing, Showing::Compare(_)) {
            self.quiet();
            let bar = self.area.add(ProgressBar::new_spinner().with_style(style(COMPARE)));
            bar.enable_steady_tick(TICK);
            self.showing = Showing::Compare(bar);
        }
        if let Showing::Compare(bar) = &self.showing {
            bar.set_message(format!("{done} of {all} files"));
        }
    }

    /// Transfers have come this far.
    pub(super) fn transferring(&mut self, now: &Pair<TransferProgress>) {
        if !matches!(self.showing, Showing::Transfer(_)) {
            self.quiet();
            self.showing = Showing::Transfer(Pair::default());
        }
        let Showing::Transfer(bars) = &mut self.showing else { return };
        for (side, progress) in now.iter().filter(|(_, progress)| progress.files_total > 0) {
            let bar = bars[side].get_or_insert_with(|| {
                let bar = ProgressBar::new(0).with_style(style(TRANSFER));
                let bar = self.area.add(bar.with_prefix(format!("{} {side}", side.arrow())));
                bar.enable_steady_tick(TICK);
                bar
            });
            bar.set_length(progress.bytes_total.max(1));
            bar.set_position(progress.bytes);
            bar.set_message(amounts(progress));
            if progress.files >= progress.files_total && progress.bytes >= progress.bytes_total {
                bar.set_style(style(DONE)); // a rate would only sink from now on
            }
        }
    }

    /// Takes the display away.
    pub(super) fn quiet(&mut self) {
        match std::mem::replace(&mut self.showing, Showing::Nothing) {
            Showing::Nothing => {}
            Showing::Scan { bar, .. } | Showing::Compare(bar) => bar.finish_and_clear(),
            Showing::Transfer(bars) => {
                bars.iter()
                    .filter_map(|(_, bar)| bar.as_ref())
                    .for_each(ProgressBar::finish_and_clear);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.quiet();
    }
}

/// Files and bytes, done of all.
fn amounts(progress: &TransferProgress) -> String {
    let TransferProgress { files, files_total, bytes, bytes_total } = *progress;
    let step = (1..UNITS.len()).take_while(|n| bytes_total >> (10 * n) > 0).count();
    #[allow(clippy::cast_precision_loss)] // shown with one digit after the point
    let scaled = |bytes: u64| bytes as f64 / (1_u64 << (10 * step)) as f64;
    let digits = usize::from(step > 0);
    let (done, all, unit) = (scaled(bytes), scaled(bytes_total), UNITS[step]);
    format!("{files}/{files_total} files {done:.digits$}/{all:.digits$} {unit}")
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The templates are constants; should one be wrong, a plain bar is shown.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal of 80 columns that keeps everything it is given.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl Paper {
        fn add(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn take(&self) -> String {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.add(text)?;
            self.add("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.add(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            self.add("<clear>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn display() -> (Progress, Paper) {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(paper.clone()), 250);
        (Progress::on(target), paper)
    }

    #[test]
    fn amounts_share_the_unit_of_the_whole() {
        for (bytes, bytes_total, shown) in [
            (0, 0, "1/2 files 0/0 B"),
            (5, 1023, "1/2 files 5/1023 B"),
            (512, 1024, "1/2 files 0.5/1.0 KiB"),
            (1 << 60, u64::MAX, "1/2 files 1.0/16.0 EiB"),
        ] {
            let progress = TransferProgress { files: 1, files_total: 2, bytes, bytes_total };
            assert_eq!(amounts(&progress), shown);
        }
    }

    #[test]
    fn a_scan_shows_what_both_sides_have_seen() {
        let (mut progress, paper) = display();
        progress.scanning(Side::Initiator, 1200);
        progress.scanning(Side::Target, 34);
        if let Showing::Scan { bar, .. } = &progress.showing {
            bar.force_draw();
        }
        assert!(paper.take().contains("Scanning: initiator 1200, target 34"));
    }

    #[test]
    fn a_transfer_fits_eighty_columns_and_goes_away() {
        let (mut progress, paper) = display();
        let far = TransferProgress {
            files: 123_456,
            files_total: 654_321,
            bytes: 123 << 30,
            bytes_total: 999 << 30,
        };
        progress.transferring(&Pair::new(TransferProgress::default(), far));
        let Showing::Transfer(bars) = &progress.showing else { panic!("nothing shown") };
        assert!(bars.initiator.is_none(), "nothing goes there");
        bars.target.as_ref().unwrap().force_draw();
        let text = paper.take();
        let line = text.rsplit("<clear>").next().unwrap();
        assert!(line.contains(">> target") && line.contains("123456/654321 files"), "{line}");
        assert!(line.contains("123.0/999.0 GiB"), "{line}");
        assert!(line.trim_end().len() <= 80, "{line:?}");

        progress.aside(|| paper.add("a line of the log\n").unwrap());
        assert!(paper.take().contains("<clear>a line of the log\n"));
        progress.quiet();
        progress.aside(|| paper.add("alone\n").unwrap());
        assert!(paper.take().ends_with("alone\n"));
    }
}
