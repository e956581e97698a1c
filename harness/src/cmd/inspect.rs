//! What is in a ring's file, as text for people or as JSON lines. The reading is done in
//! `ring_file`, the wording in `ring_text`.
//!
//! The listing is the answer and goes to stdout, as do all JSON lines; what is wrong with the ring
//! goes to stderr. Exit codes: 0 shown, 1 the ring is corrupt (the first contradiction is named by
//! its offset in the file), 2 there is no ring of this format at the path, 130 `tail` interrupted.

use std::{
    io::{self, BufWriter, Write, stderr, stdout},
    path::Path,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    args::Options,
    child::INTERRUPTED,
    ring_file::{Header, Life, Record, RingFile, Slot, State, Step, Trouble},
    ring_text::{
        RECORD_HEAD, SLOT_HEAD, header_row, header_text, plain, plural, record_row, record_text,
        slot_row, slot_text,
    },
    session::Ending,
    sys::Deadline,
};

/// How long `tail` rests between two looks: after something came, and at most.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(32);

/// Prints header, senders and records.
pub(crate) fn inspect(options: &Options, path: &Path, records: u64, bytes: u32) -> Result<Ending> {
    let mut out = Out::new(options.json);
    let shown = RingFile::open(path).map_err(Stop::Ring).and_then(|ring| {
        let header = ring.header()?;
        out.header(path, &header)?;
        out.all_records(&ring, records, bytes)
    });
    out.end(path, shown)
}

/// Prints records as they come. It looks at the ring every few milliseconds and leaves no trace
/// there, so what is sent and received between two looks is missed; it says how many bytes.
pub(crate) fn tail(options: &Options, path: &Path, bytes: u32) -> Result<Ending> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Relaxed)).context("watch for Ctrl-C")?;
    let until = options.duration.map(Deadline::after);
    let mut out = Out::new(options.json);
    let shown = RingFile::open(path).map_err(Stop::Ring).and_then(|ring| {
        let why = follow(&ring, &mut out, bytes, until)?;
        out.why_ended(why)
    });
    match out.end(path, shown)? {
        Ending::Passed if INTERRUPTED.load(Relaxed) => Ok(Ending::Interrupted),
        ending => Ok(ending),
    }
}

/// Follows the ring until there is a reason to stop, which it returns.
fn follow(
    ring: &RingFile,
    out: &mut Out,
    bytes: u32,
    until: Option<Deadline>,
) -> Result<&'static str, Stop> {
    let mut position = ring.head()?;
    let mut rest = REST_MIN;
    loop {
        // Asked for first, so that what was sent before is still shown.
        let closed = ring.is_closed()?;
        let removed = ring.is_removed();
        let before = position;
        let mut walk = ring.walk(position, bytes as usize)?;
        while let Some(step) = walk.step()? {
            match step {
                // Waited for, unless its sender is dead and will never be done.
                Step::Record(record) if is_in_writing(ring, &record) => break,
                Step::Record(record) if record.state == State::Pad => {}
                Step::Record(record) => out.record(ring, &record)?,
                Step::Passed(bytes) => out.passed(bytes)?,
            }
            position = walk.position;
            if INTERRUPTED.load(Relaxed) {
                break;
            }
        }
        out.flush()?;
        if INTERRUPTED.load(Relaxed) {
            return Ok("interrupted");
        }
        if closed {
            return Ok("another ring has replaced this one");
        }
        if removed {
            return Ok("the ring's file has been removed");
        }
        if until.is_some_and(|until| until.left().is_zero()) {
            return Ok("the time is over");
        }
        rest = if position == before { (2 * rest).min(REST_MAX) } else { REST_MIN };
        thread::sleep(until.map_or(rest, |until| rest.min(until.left())));
    }
}

fn is_in_writing(ring: &RingFile, record: &Record) -> bool {
    record.state == State::Busy && ring.life(record.owner) != Life::Gone
}

/// Why no more is shown.
enum Stop {
    Ring(Trouble),
    /// Whoever read the listing, like head, has seen enough.
    Output,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Ring(trouble)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Stop {
        Stop::Output
    }
}

/// Stdout, for people or for programs.
struct Out {
    out: BufWriter<io::Stdout>,
    json: bool,
}

impl Out {
    fn new(json: bool) -> Out {
        Out { out: BufWriter::new(stdout()), json }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.out.flush()?)
    }

    /// As JSON or, if there is one, as text.
    fn line(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Stop> {
        let line = if self.json { json().to_string() } else { text() };
        Ok(writeln!(self.out, "{line}")?)
    }

    fn header(&mut self, path: &Path, header: &Header) -> Result<(), Stop> {
        self.line(|| header_row(header), || header_text(path, header))?;
        let attached = |slot: &&Slot| slot.life != Life::Gone || slot.senders != 0;
        let slots: Vec<&Slot> = header.slots.iter().filter(attached).collect();
        if !self.json && !slots.is_empty() {
            writeln!(self.out, "\n{SLOT_HEAD}")?;
        }
        for slot in slots {
            self.line(|| slot_row(header, slot), || slot_text(header, slot))?;
        }
        Ok(())
    }

    /// Shows so many records and counts all that are there now, which is a little after the header.
    fn all_records(&mut self, ring: &RingFile, limit: u64, bytes: u32) -> Result<(), Stop> {
        let (mut count, mut messages, mut passed) = (0, 0, 0);
        let mut walk = ring.walk(ring.head()?, bytes as usize)?;
        loop {
            match walk.step()? {
                Some(Step::Record(record)) => {
                    if count == 0 && limit > 0 && !self.json {
                        writeln!(self.out, "\n{RECORD_HEAD}")?;
                    }
                    if count < limit {
                        self.record(ring, &record)?;
                    }
                    count += 1;
                    messages += u64::from(record.state == State::Ready);
                }
                Some(Step::Passed(bytes)) => passed += bytes,
                None => break,
            }
        }
        let json = || {
            json!({
                "row": "records",
                "records": count,
                "messages": messages,
                "passed_bytes": passed,
            })
        };
        self.line(json, || {
            let gone = match passed {
                0 => String::new(),
                _ => format!("; {passed} more bytes were received during the look"),
            };
            let (records, shown) = (plural(count, "record"), count.min(limit));
            format!("\n{records}, {messages} of them messages; {shown} shown{gone}")
        })
    }

    fn record(&mut self, ring: &RingFile, record: &Record) -> Result<(), Stop> {
        let state = match record.state {
            State::Ready => "message",
            State::Pad => "unused",
            State::Skip => "given up",
            State::Busy if is_in_writing(ring, record) => "in writing",
            State::Busy => "abandoned",
        };
        self.line(|| record_row(record, state), || record_text(record, state))
    }

    fn passed(&mut self, bytes: u64) -> Result<(), Stop> {
        let json = || json!({ "row": "missed", "bytes": bytes });
        self.line(json, || format!("  missed {bytes} bytes, received between two looks"))
    }

    fn why_ended(&mut self, why: &str) -> Result<(), Stop> {
        self.line(|| json!({ "row": "end", "why": why }), || format!("  end: {why}"))
    }

    /// Says what went wrong, if anything, and how that ends.
    fn end(&mut self, path: &Path, shown: Result<(), Stop>) -> Result<Ending> {
        let shown = shown.and_then(|()| self.flush());
        let (ending, offset, what) = match shown {
            Ok(()) | Err(Stop::Output) => return Ok(Ending::Passed),
            Err(Stop::Ring(Trouble::Corrupt(corrupt))) => {
                (Ending::Broken, Some(corrupt.offset), corrupt.what)
            }
            Err(Stop::Ring(Trouble::NoRing(what))) => (Ending::Usage, None, what),
        };
        if self.json {
            let row = if offset.is_some() { "corrupt" } else { "no_ring" };
            let line = json!({ "row": row, "offset": offset, "what": what });
            // The exit code says it as well, should nobody read this.
            let _ = writeln!(self.out, "{line}");
        }
        // What is on stdout comes first where both are one terminal.
        let _ = self.out.flush();
        let path = plain(&path.to_string_lossy());
        let what = match offset {
            Some(offset) => format!("{path} is corrupt at offset {offset}: {what}"),
            None => format!("{path}: {what}"),
        };
        let _ = writeln!(stderr(), "harness: {what}");
        Ok(ending)
    }
}
