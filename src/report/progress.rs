//! What moves on a terminal while a run scans and transfers, and how it is drawn there (spec 6,
//! "Progress").

use super::TransferProgress;
use super::words::{grouped, took};
use crate::config::Flags;
use crate::tree::path::escape;
use crate::tree::{Pair, Side};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use rustix::termios::tcgetwinsize;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How often the display moves.
const TICK: Duration = Duration::from_millis(200);
/// A rate is what has moved within this time.
const WINDOW: Duration = Duration::from_secs(10);
/// A rate over less time than this means nothing: what lay in buffers has "moved" at once.
const SETTLED: Duration = Duration::from_secs(1);
/// How many cells a bar may have: fewer show nothing, more tell no more.
const BAR: std::ops::RangeInclusive<usize> = 8..=40;

/// The display at the foot of a terminal.
pub(super) struct ProgressDisplay {
    target: Option<ProgressDrawTarget>,
    bar: ProgressBar,
    view: Arc<Mutex<View>>,
    is_showing: bool,
}

/// What is shown. It becomes lines at each drawing: the terminal may have another width by then,
/// and a rate sinks while nothing moves.
#[derive(Debug, Default)]
enum View {
    #[default]
    Nothing,
    Scan(Pair<u64>),
    Compare {
        done: u64,
        all: u64,
    },
    Transfer {
        sides: Pair<Direction>,
        /// The file that was begun last.
        file: Vec<u8>,
    },
}

/// One direction of the transfers.
#[derive(Debug, Default)]
struct Direction {
    so_far: TransferProgress,
    pace: Pace,
}

/// How quickly bytes move: the bytes done at some moments within [`WINDOW`].
#[derive(Debug, Default)]
struct Pace(VecDeque<(Instant, u64)>);

impl ProgressDisplay {
    /// A display on standard output, if somebody may look at it.
    pub(super) fn for_flags(flags: &Flags) -> Option<ProgressDisplay> {
        let hidden = flags.silent || flags.non_interactive || flags.errors_only;
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        (!hidden && !dumb && std::io::stdout().is_terminal()).then(|| {
            ProgressDisplay::on(ProgressDrawTarget::term_like_with_hz(Box::new(Tty::default()), 10))
        })
    }

    /// A display on the given target.
    pub(super) fn on(target: ProgressDrawTarget) -> ProgressDisplay {
        let view = Arc::new(Mutex::new(View::default()));
        let shown = Arc::clone(&view);
        let lines = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            let turn = state.elapsed().as_millis() / TICK.as_millis();
            // the text goes to a buffer, which takes everything
            let _ = out.write_str(&lock(&shown).lines(columns(), turn, Instant::now()));
        };
        // the template is a constant with one key
        let style = ProgressStyle::with_template("{lines}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("lines", lines);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style);
        ProgressDisplay { target: Some(target), bar, view, is_showing: false }
    }

    /// Whether anything is displayed now.
    pub(super) fn is_showing(&self) -> bool {
        self.is_showing
    }

    /// Runs `print` with the display out of the way. `print` leaves nothing in a buffer.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.is_showing { self.bar.suspend(print) } else { print() }
    }

    /// This many entries have been seen on a side.
    pub(super) fn scanning(&mut self, side: Side, count: u64) {
        {
            let mut view = lock(&self.view);
            if !matches!(*view, View::Scan(_)) {
                *view = View::Scan(Pair::default());
            }
            if let View::Scan(seen) = &mut *view {
                seen[side] = count;
            }
        }
        self.show();
    }

    /// So many files have been compared, of so many.
    pub(super) fn comparing(&mut self, done: u64, all: u64) {
        *lock(&self.view) = View::Compare { done, all };
        self.show();
    }

    /// Transfers have come this far; a file may have been begun.
    pub(super) fn transferring(&mut self, now: &Pair<TransferProgress>, begun: Option<&[u8]>) {
        {
            let mut view = lock(&self.view);
            if !matches!(*view, View::Transfer { .. }) {
                *view = View::Transfer { sides: Pair::default(), file: Vec::new() };
            }
            if let View::Transfer { sides, file } = &mut *view {
                for (side, so_far) in now.iter() {
                    sides[side].so_far = *so_far;
                    sides[side].pace.moved(Instant::now(), so_far.bytes);
                }
                if let Some(begun) = begun {
                    file.clear();
                    file.extend_from_slice(begun);
                }
            }
        }
        self.show();
    }

    fn show(&mut self) {
        if let Some(target) = self.target.take() {
            self.bar.set_draw_target(target);
        }
        if !self.is_showing {
            self.is_showing = true;
            self.bar.reset();
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Takes the display away.
    pub(super) fn quiet(&mut self) {
        if std::mem::take(&mut self.is_showing) {
            self.bar.disable_steady_tick();
            *lock(&self.view) = View::Nothing;
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.quiet();
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// Lines that fit so many columns. ASCII but for names: a console without UTF-8 shows it.
    fn lines(&self, columns: usize, turn: u128, now: Instant) -> String {
        let mark = ["|", "/", "-", "\\"][usize::try_from(turn % 4).unwrap_or_default()];
        match self {
            View::Nothing => String::new(),
            View::Scan(seen) => {
                let (initiator, target) = (grouped(seen.initiator), grouped(seen.target));
                fitting(
                    columns,
                    [
                        format!("{mark} Scanning: initiator {initiator}, target {target}"),
                        format!("{mark} Scanning: {initiator} / {target}"),
                    ],
                )
            }
            View::Compare { done, all } => fitting(
                columns,
                [format!("{mark} Comparing: {} of {} files", grouped(*done), grouped(*all))],
            ),
            View::Transfer { sides, file } => {
                let mut lines: Vec<String> = sides
                    .iter()
                    .filter(|(_, direction)| direction.so_far.files_total > 0)
                    .map(|(side, direction)| direction.line(side, columns, now))
                    .collect();
                let is_done = sides.iter().all(|(_, direction)| direction.is_done());
                if !file.is_empty() && !is_done {
                    lines.push(format!("{mark} {}", end_of(&escape(file), columns - 2)));
                }
                lines.join("\n")
            }
        }
    }
}

impl Direction {
    fn is_done(&self) -> bool {
        let TransferProgress { files, files_total, bytes, bytes_total } = self.so_far;
        files >= files_total && bytes >= bytes_total
    }

    /// The fuller line where there is room for it; the narrower the terminal is, the more is
    /// left out.
    fn line(&self, side: Side, columns: usize, now: Instant) -> String {
        let TransferProgress { files, files_total, .. } = self.so_far;
        let name = format!("{} {side}", side.arrow());
        let percent = format!("{:>3}%", self.percent());
        let files = format!("{files}/{files_total} files");
        let bytes = amounts(&self.so_far);
        let pace = self.pace_and_rest(now);
        let full = format!("{files} {bytes} {pace}");
        let bar = |text: &str| {
            let taken = name.len().max(12) + percent.len() + text.trim_end().len() + 5;
            let cells = columns.saturating_sub(taken).min(*BAR.end());
            (cells >= *BAR.start()).then(|| {
                let done = (cells * usize::try_from(self.percent()).unwrap_or(100) / 100).max(1);
                let head = if done < cells { ">" } else { "" };
                let line = "=".repeat(done - head.len()) + head;
                format!("{name:<12} {percent} [{line:<cells$}] {text}").trim_end().to_owned()
            })
        };
        let without_bar = |text: &str| format!("{name} {percent} {text}").trim_end().to_owned();
        let fits = |line: &String| line.len() <= columns;
        [
            bar(&full),
            bar(&format!("{files} {pace}")),
            Some(without_bar(&full)).filter(fits),
            Some(without_bar(&format!("{files} {bytes}"))).filter(fits),
            Some(without_bar(&files)).filter(fits),
        ]
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_else(|| cut(&without_bar(""), columns))
    }

    /// By bytes, or by files where there are no bytes. 100 only when all is done.
    fn percent(&self) -> u64 {
        let TransferProgress { files, files_total, bytes, bytes_total } = self.so_far;
        let (done, all) = if bytes_total > 0 { (bytes, bytes_total) } else { (files, files_total) };
        let percent = u128::from(done.min(all)) * 100 / u128::from(all.max(1));
        let percent = u64::try_from(percent).unwrap_or(100);
        if self.is_done() { 100 } else { percent.min(99) }
    }

    /// `3.1 MiB/s 12 s left`, or nothing while nothing is known.
    fn pace_and_rest(&self, now: Instant) -> String {
        if self.is_done() {
            return "done".to_owned();
        }
        let Some(rate) = self.pace.rate(now).filter(|rate| *rate > 0) else { return String::new() };
        let rest = self.so_far.bytes_total.saturating_sub(self.so_far.bytes);
        let seconds = Duration::from_secs(rest.div_ceil(rate));
        let left = match seconds.as_secs() {
            seconds @ 0..100 => format!("{seconds} s"),
            _ => took(seconds),
        };
        let (number, unit) = scaled(rate, rate);
        format!("{number} {unit}/s {left} left")
    }
}

impl Pace {
    fn moved(&mut self, now: Instant, bytes: u64) {
        // four a second are enough to know a rate
        let is_close = |(at, _): &(Instant, u64)| {
            now.saturating_duration_since(*at) < Duration::from_millis(250)
        };
        if self.0.len() < 2 || !self.0.back().is_some_and(is_close) {
            self.0.push_back((now, bytes));
        }
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// Bytes a second.
    fn rate(&self, now: Instant) -> Option<u64> {
        let ((since, before), (_, bytes)) = (self.0.front()?, self.0.back()?);
        let time = now.saturating_duration_since(*since);
        let moved = u128::from(bytes.saturating_sub(*before));
        let rate = moved * 1000 / time.as_millis().max(1);
        (time >= SETTLED).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// Bytes, done of all, in the unit of the whole.
fn amounts(progress: &TransferProgress) -> String {
    let (done, _) = scaled(progress.bytes, progress.bytes_total);
    let (all, unit) = scaled(progress.bytes_total, progress.bytes_total);
    format!("{done}/{all} {unit}")
}

/// A number of bytes in the unit that suits `whole`.
fn scaled(bytes: u64, whole: u64) -> (String, &'static str) {
    let step = (1..UNITS.len()).take_while(|n| whole >> (10 * n) > 0).count();
    #[allow(clippy::cast_precision_loss)] // shown with one digit after the point
    let number = bytes as f64 / (1_u64 << (10 * step)) as f64;
    let digits = usize::from(step > 0);
    (format!("{number:.digits$}"), UNITS[step])
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The first of some lines that fits; if none does, what there is room for of the last.
fn fitting<const N: usize>(columns: usize, lines: [String; N]) -> String {
    let fits = lines.iter().find(|line| line.len() <= columns);
    fits.cloned()
        .unwrap_or_else(|| lines.last().map_or_else(String::new, |line| cut(line, columns)))
}

/// The beginning of a line of ASCII.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// The end of a name, with its beginning left out where it is too long.
fn end_of(name: &str, columns: usize) -> String {
    const LEFT_OUT: &str = "...";
    if name.width() <= columns {
        return name.to_owned();
    }
    let mut room = columns.saturating_sub(LEFT_OUT.len());
    let mut from = name.len();
    for (at, c) in name.char_indices().rev() {
        let Some(rest) = room.checked_sub(c.width().unwrap_or(0)) else { break };
        (room, from) = (rest, at);
    }
    cut(LEFT_OUT, columns) + &name[from..]
}

/// Columns left free at the right: the terminal writes `^C` there when it is typed. In a
/// full line that would wrap, and the next drawing would miss a line.
const MARGIN: u16 = 4;

/// Standard output as the terminal that indicatif draws on. A drawing goes out in one piece.
///
/// The cursor is moved here, not by indicatif: a terminal that has become narrower has wrapped
/// the lines that stand on it, and only the rows they take now tell how far up the last drawing
/// begins.
#[derive(Debug, Default)]
struct Tty {
    drawing: Mutex<Drawing>,
}

#[derive(Debug, Default)]
struct Drawing {
    /// What is to be shown from the next flush on.
    text: String,
    /// Where the cursor stands in its line.
    column: usize,
    /// The widths of the lines that stand on the terminal.
    lines: Vec<usize>,
}

impl Drawing {
    /// Adds text, broken at the width given: indicatif fills the last line up and counts on a
    /// terminal that wraps there.
    fn write(&mut self, text: &str, width: usize) {
        for c in text.chars() {
            let wide = c.width().unwrap_or(0);
            if c == '\r' {
                continue;
            }
            if c == '\n' {
                self.column = 0;
            } else if self.column + wide > width {
                self.text.push('\n');
                self.column = wide;
            } else {
                self.column += wide;
            }
            self.text.push(c);
        }
    }

    /// What puts the new text in the place of the old one, on a terminal of so many columns.
    ///
    /// What is below is erased from behind the new text: a terminal that is told to erase all from
    /// its first column and row on (tmux) puts what stood there into its history.
    fn replace(&mut self, columns: usize) -> String {
        let rows: usize =
            self.lines.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        let mut out = "\r".to_owned();
        if rows > 1 {
            out.push_str(&format!("\x1b[{}A", rows - 1));
        }
        let text = std::mem::take(&mut self.text);
        self.column = 0;
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        self.lines = match text.trim().is_empty() {
            true => Vec::new(),
            false => lines.iter().map(|line| line.width()).collect(),
        };
        out.push_str(match (self.lines.is_empty(), rows) {
            (true, 0 | 1) => "\x1b[2K",
            (true, _) => "\x1b[2K\x1b[1B\x1b[J\x1b[1A",
            (false, _) => "",
        });
        if !self.lines.is_empty() {
            out.push_str(&lines.join("\x1b[K\r\n"));
            out.push_str("\x1b[J");
        }
        out
    }
}

impl Tty {
    fn drawing(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows and columns; a usual size where the terminal does not know its own.
fn size() -> (u16, u16) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// How many columns a line may have.
fn columns() -> usize {
    usize::from(size().1.saturating_sub(MARGIN).max(8))
}

impl TermLike for Tty {
    fn width(&self) -> u16 {
        u16::try_from(columns()).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        size().0
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
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawing().write(text, columns());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = self.drawing().replace(usize::from(size().1));
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;

    const FAR: TransferProgress = TransferProgress {
        files: 123_456,
        files_total: 654_321,
        bytes: 123 << 30,
        bytes_total: 999 << 30,
    };

    /// A terminal that keeps everything it is given.
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

    fn display() -> (ProgressDisplay, Paper) {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(paper.clone()), 250);
        (ProgressDisplay::on(target), paper)
    }

    fn transfer(
        so_far: TransferProgress,
        file: &str,
        bytes_before: &[(u64, u64)],
    ) -> (View, Instant) {
        let start = Instant::now();
        let mut direction = Direction { so_far, pace: Pace::default() };
        for (seconds, bytes) in bytes_before {
            direction.pace.moved(start + Duration::from_secs(*seconds), *bytes);
        }
        let sides = Pair::new(Direction::default(), direction);
        (View::Transfer { sides, file: file.as_bytes().to_vec() }, start)
    }

    #[test]
    fn amounts_share_the_unit_of_the_whole() {
        for (bytes, bytes_total, shown) in [
            (0, 0, "0/0 B"),
            (5, 1023, "5/1023 B"),
            (512, 1024, "0.5/1.0 KiB"),
            (1 << 60, u64::MAX, "1.0/16.0 EiB"),
        ] {
            let progress = TransferProgress { files: 1, files_total: 2, bytes, bytes_total };
            assert_eq!(amounts(&progress), shown);
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_bar_is_empty_room() {
        let name = "some/where/a long name with ümläuts and 漢字 in it, which goes on and on.txt";
        let (view, start) = transfer(FAR, name, &[(0, 0), (3, 100 << 30), (5, 123 << 30)]);
        let scan = View::Scan(Pair::new(12_345_678, 12_345_678));
        for columns in 8..200 {
            for view in [&view, &scan, &View::Compare { done: 1_234_567, all: 1_234_567 }] {
                for line in view.lines(columns, 0, start + Duration::from_secs(6)).split('\n') {
                    assert!(line.width() <= columns, "{columns}: {line:?}");
                    assert!(!line.contains("[]") && !line.contains("[ "), "{columns}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn what_matters_most_is_told_at_any_width() {
        let (view, start) = transfer(FAR, "dir/file", &[(0, 0), (5, 123 << 30)]);
        for (columns, shown) in [
            (32, ">> target  12%\n| dir/file"),
            (36, ">> target  12% 123456/654321 files\n| dir/file"),
            (56, ">> target  12% 123456/654321 files 123.0/999.0 GiB\n| dir/file"),
            (
                76,
                ">> target     12% [>              ] 123456/654321 files 24.6 GiB/s 36 s left\n| dir/file",
            ),
            (
                100,
                ">> target     12% [=>                     ] 123456/654321 files 123.0/999.0 GiB \
                 24.6 GiB/s 36 s left\n| dir/file",
            ),
        ] {
            assert_eq!(view.lines(columns, 0, start + Duration::from_secs(5)), shown, "{columns}");
        }
    }

    #[test]
    fn a_rate_waits_until_it_is_known_and_sinks_when_nothing_moves() {
        let (view, start) = transfer(FAR, "", &[(0, 50 << 30)]);
        let at = |view: &View, seconds| view.lines(200, 0, start + Duration::from_secs(seconds));
        assert!(!at(&view, 0).contains("/s"), "{}", at(&view, 0));
        assert!(!at(&view, 9).contains("/s"), "nothing has moved: {}", at(&view, 9));
        // what was there before the first look is no rate
        let (view, start) = transfer(FAR, "", &[(0, 100 << 30), (1, 101 << 30)]);
        let at = |view: &View, seconds| view.lines(200, 0, start + Duration::from_secs(seconds));
        assert!(at(&view, 1).contains(" 1.0 GiB/s"), "{}", at(&view, 1));
        assert!(at(&view, 4).contains(" 256.0 MiB/s"), "{}", at(&view, 4));
        // what is long past does not count
        let before: Vec<(u64, u64)> = (0..100).map(|n| (n, n.min(50) << 30)).collect();
        let (view, start) = transfer(FAR, "", &before);
        let line = view.lines(200, 0, start + Duration::from_secs(99));
        assert!(!line.contains("/s"), "{line}");
    }

    #[test]
    fn a_hundred_percent_is_for_what_is_done() {
        let percent = |files, bytes, bytes_total| {
            let so_far = TransferProgress { files, files_total: 3, bytes, bytes_total };
            Direction { so_far, pace: Pace::default() }.percent()
        };
        assert_eq!([percent(0, 0, 10), percent(1, 5, 10)], [0, 50]);
        assert_eq!([percent(2, 10, 10), percent(3, 10, 10)], [99, 100]);
        assert_eq!([percent(1, 0, 0), percent(3, 0, 0)], [33, 100], "empty files");
        let (view, start) =
            transfer(TransferProgress { files: 654_321, bytes: 999 << 30, ..FAR }, "x", &[]);
        let line = view.lines(80, 0, start);
        assert!(line.contains("100% [====") && line.ends_with(" done"), "{line}");
    }

    #[test]
    fn names_keep_their_end() {
        for (name, columns, shown) in [
            ("a/b", 3, "a/b"),
            ("a/bc", 3, "..."),
            ("dir/file", 7, "...file"),
            ("dir/漢字", 7, "...漢字"),
            ("dir/漢字", 6, "...字"),
            ("abc", 1, "."),
        ] {
            assert_eq!(end_of(name, columns), shown);
        }
    }

    #[test]
    fn a_scan_shows_what_both_sides_have_seen() {
        let (mut progress, paper) = display();
        progress.scanning(Side::Initiator, 1200);
        progress.scanning(Side::Target, 34);
        progress.bar.force_draw();
        let text = paper.take();
        assert!(text.contains("Scanning: initiator 1,200, target 34"), "{text}");
    }

    #[test]
    fn a_transfer_makes_way_for_lines_of_the_log_and_goes_away() {
        let (mut progress, paper) = display();
        progress.transferring(&Pair::new(TransferProgress::default(), FAR), Some(b"dir/file"));
        progress.bar.force_draw();
        let text = paper.take();
        assert!(text.contains(">> target") && !text.contains("<< initiator"), "{text}");
        assert!(text.contains("dir/file"), "{text}");
        progress.aside(|| paper.add("a line of the log\n").unwrap());
        assert!(paper.take().contains("<clear>a line of the log\n"));
        progress.quiet();
        progress.aside(|| paper.add("alone\n").unwrap());
        assert!(paper.take().ends_with("alone\n"));
        progress.scanning(Side::Initiator, 7);
        progress.bar.force_draw();
        assert!(paper.take().contains("Scanning"), "it comes again");
    }
}

#[cfg(test)]
mod tty_tests {
    use super::*;

    #[test]
    fn lines_wrap_before_the_edge_and_only_when_they_go_on() {
        let mut drawing = Drawing::default();
        drawing.write("abc", 4);
        drawing.write(" ", 4);
        assert_eq!(drawing.text, "abc ", "a full line does not wrap by itself");
        drawing.write("defgh", 4);
        assert_eq!(drawing.text, "abc \ndefg\nh");
        let mut wide = Drawing::default();
        wide.write("a漢字b", 4);
        assert_eq!(wide.text, "a漢\n字b");
    }

    #[test]
    fn a_drawing_goes_where_the_last_one_stands_by_now() {
        let mut drawing = Drawing::default();
        let mut draw = |text: &str, columns| {
            drawing.write(text, 40);
            drawing.replace(columns)
        };
        assert_eq!(draw("one line        \ntwo", 80), "\rone line\x1b[K\r\ntwo\x1b[J");
        assert_eq!(draw("x", 80), "\r\x1b[1Ax\x1b[J");
        assert_eq!(draw("12345678 12345678", 80), "\r12345678 12345678\x1b[J");
        // the terminal has wrapped it into three rows
        assert_eq!(draw("ab", 8), "\r\x1b[2Aab\x1b[J");
        assert_eq!(draw("", 8), "\r\x1b[2K");
        assert_eq!(draw("", 8), "\r\x1b[2K", "nothing stands there any more");
        assert_eq!(draw("one\ntwo", 8), "\rone\x1b[K\r\ntwo\x1b[J");
        assert_eq!(draw("", 8), "\r\x1b[1A\x1b[2K\x1b[1B\x1b[J\x1b[1A", "never from the top");
    }
}
