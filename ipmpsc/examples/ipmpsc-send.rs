//! Sends each line of standard input to the ring that `ipmpsc-receive` made.

use std::{
    error::Error,
    io::{self, BufRead},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use ipmpsc::{Sender, SharedRingBuffer};

/// Send lines of standard input to ipmpsc-receive.
#[derive(Parser)]
#[command(name = "ipmpsc-send", version)]
struct Args {
    /// File of the ring, which ipmpsc-receive makes
    map_file: PathBuf,
}

fn main() -> ExitCode {
    match send_lines(&Args::parse().map_file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipmpsc-send: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends every line with the newline at its end, if it has one: the last line may not.
fn send_lines(path: &Path) -> Result<(), Box<dyn Error>> {
    let sender = Sender::new(open(path)?);
    println!("Ready!  Enter some lines of text to send them to the receiver.");

    let mut input = io::stdin().lock();
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        sender.send(&line)?;
        line.clear();
    }
    Ok(())
}

fn open(path: &Path) -> Result<SharedRingBuffer, String> {
    SharedRingBuffer::options().open(path).map_err(|error| {
        let shown = path.display();
        match error {
            ipmpsc::Error::Io(cause) if cause.kind() == io::ErrorKind::NotFound => format!(
                "there is no ring at {shown}; start the receiver first:\n    \
                 cargo run --example ipmpsc-receive -- {shown}"
            ),
            other => format!("cannot open the ring at {shown}: {other}"),
        }
    })
}
