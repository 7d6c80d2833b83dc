//! The progress of a replay, for a person at a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lc_hunt::ledger::Ledger;

/// One line that says how far the run is. Without a terminal it shows nothing.
pub struct Progress(ProgressBar);

impl Progress {
    /// Starts the line if it is wanted and standard error is a terminal.
    pub fn start(wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(
            "{spinner} {human_pos} of {human_len} packets settled, {per_sec}, {elapsed}",
        ) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// Shows a new state.
    pub fn show(&self, ledger: &Ledger) {
        self.0.set_length(ledger.captured());
        self.0.set_position(ledger.settled());
    }

    /// Removes the line.
    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}
