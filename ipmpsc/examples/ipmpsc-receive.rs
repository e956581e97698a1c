//! Makes a ring at a path and prints every line that `ipmpsc-send` sends to it.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use ipmpsc::{Receiver, SharedRingBuffer};

/// The ring takes lines up to this many bytes, the eight of the string's length included.
const RING_BYTES: u64 = 32 * 1024;

/// Print the lines that ipmpsc-send sends.
#[derive(Parser)]
#[command(name = "ipmpsc-receive", version)]
struct Args {
    /// File of the ring; made new, in place of one that is already there
    map_file: PathBuf,

    /// Borrow each line from the ring instead of copying it out
    #[arg(long)]
    zero_copy: bool,
}

fn main() -> ExitCode {
    match receive(&Args::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("ipmpsc-receive: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints lines until something fails; nobody tells a receiver that the last sender has gone,
/// because another may come.
fn receive(args: &Args) -> Result<Infallible, Box<dyn Error>> {
    let mut receiver = Receiver::new(create(&args.map_file)?);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Ready!  Now run `cargo run --example ipmpsc-send -- {}` in another terminal.",
        args.map_file.display()
    )?;

    loop {
        // Declared first, so that it outlives the line borrowed from it: its drop frees the space.
        let mut context;
        let received = if args.zero_copy {
            context = receiver.zero_copy_context();
            context.recv::<&str>().map(Cow::Borrowed)
        } else {
            receiver.recv::<String>().map(Cow::Owned)
        };
        match received {
            Ok(line) => writeln!(out, "received {line:?}")?,
            // Such a message has left the ring, so the next one is as good as any.
            Err(ipmpsc::Error::Decode(error)) => {
                eprintln!("ipmpsc-receive: skipped a message that is not a string: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn create(path: &Path) -> Result<SharedRingBuffer, String> {
    SharedRingBuffer::options()
        .capacity(RING_BYTES)
        .create(path)
        .map_err(|error| format!("cannot make a ring at {}: {error}", path.display()))
}
