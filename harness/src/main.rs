//! Does this channel keep its promises, and which IPC transport should I use? Two questions, one
//! program, answered on the user's own machine. The commands are in `cmd`; here are their dispatch
//! and the exit code.
#![deny(unsafe_code)]

mod args;
mod checks;
mod child;
mod cmd;
mod coverage;
mod emulation;
mod folder;
mod jobs;
mod journal;
mod leaks;
mod ledger;
mod machine;
mod nemesis;
mod order;
mod payload;
mod plan;
mod probes;
mod profile;
mod progress;
mod protocol;
mod record;
mod regression;
mod report;
mod ring_file;
mod ring_text;
mod scenario;
mod sequences;
mod session;
mod shrink;
mod sizes;
mod stats;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sweep;
mod sys;
mod transports;
mod verifier;

use std::process::ExitCode;

use args::Stop;
use session::Ending;

fn main() -> ExitCode {
    let ending = match args::parse(std::env::args_os()) {
        Ok((order, options)) => cmd::run(order, options).unwrap_or_else(|error| {
            eprintln!("harness: {error:#}");
            Ending::Internal
        }),
        Err(Stop::Answer(text)) => {
            print!("{text}");
            Ending::Passed
        }
        Err(Stop::Mistake(line)) => {
            eprintln!("harness: {line}");
            Ending::Usage
        }
    };
    ExitCode::from(ending as u8)
}
