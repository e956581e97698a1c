//! What the user sees while things run: a bar with an ETA on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Says on stderr what is going on. No colour anywhere, so NO_COLOR has nothing to switch off.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    verbose: bool,
    bar: ProgressBar,
}

impl Progress {
    /// Quiet says nothing but results; verbose says each step.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Progress {
        Progress { quiet, verbose, bar: ProgressBar::hidden() }
    }

    /// Begins a phase of so many steps.
    pub(crate) fn begin(&mut self, phase: &str, steps: u64) {
        self.bar = ProgressBar::hidden();
        if self.quiet {
            return;
        }
        if std::io::stderr().is_terminal() {
            self.bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let template = "{prefix} {wide_bar} {pos}/{len} {msg} ETA {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_prefix(phase.to_owned());
        } else {
            eprintln!("{phase}: {steps} runs");
        }
    }

    /// A step starts.
    pub(crate) fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.verbose {
            self.say(what);
        }
    }

    /// A step has ended.
    pub(crate) fn stepped(&self) {
        self.bar.inc(1);
    }

    /// The phase has ended.
    pub(crate) fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    /// A line that stays, unless quiet.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.insist(line);
        }
    }

    /// A line that stays.
    pub(crate) fn insist(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
