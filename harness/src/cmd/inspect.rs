//! What is in a ring's file, as text for people or as JSON lines. Only prints: the reading is done
//! in `ring_file`.
//!
//! The listing is the answer and goes to stdout, as do all JSON lines; what is wrong with the ring
//! goes to stderr. Exit codes: 0 shown, 1 the ring is corrupt (the first contradiction is named by
//! its offset in the file), 2 there is no ring of this format at the path, 130 `tail` interrupted.
//!
//! Bytes of messages reach the terminal as hexadecimal digits, or as a quoted string with every
//! character that is not plain text escaped; never as they are.

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
    ring_file::{Header, Life, Owner, Receiver, Record, RingFile, Slot, State, Step, Trouble},
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
        out.header(path, &ring, &header)?;
        out.all_records(&ring, &header, records, bytes)
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

    fn header(&mut self, path: &Path, ring: &RingFile, header: &Header) -> Result<(), Stop> {
        self.line(|| header_row(ring, header), || header_text(path, ring, header))?;
        let attached = |slot: &&Slot| slot.life != Life::Gone || slot.senders != 0;
        let slots: Vec<&Slot> = header.slots.iter().filter(attached).collect();
        if !self.json && !slots.is_empty() {
            writeln!(self.out, "\n slot  generation  senders  blocked    process  is")?;
        }
        for slot in slots {
            self.line(|| slot_row(header, slot), || slot_text(header, slot))?;
        }
        Ok(())
    }

    /// Shows so many records and counts all.
    fn all_records(
        &mut self,
        ring: &RingFile,
        header: &Header,
        limit: u64,
        bytes: u32,
    ) -> Result<(), Stop> {
        let (mut count, mut messages, mut passed) = (0, 0, 0);
        let mut walk = ring.walk(header.head, bytes as usize)?;
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
            let (shown, what) = (count.min(limit), plural(count, "record"));
            let messages = plural(messages, "message");
            let gone = match passed {
                0 => String::new(),
                _ => format!("; {passed} more bytes were received during the look"),
            };
            format!("\n{what}, {shown} shown; {messages}{gone}")
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

const RECORD_HEAD: &str = "    position      offset  state         bytes  by      payload";

fn header_text(path: &Path, ring: &RingFile, header: &Header) -> String {
    let Header { head, tail, claimed, received, discarded, .. } = *header;
    let living = || header.slots.iter().filter(|slot| slot.life == Life::Alive);
    let senders: u64 = living().map(|slot| u64::from(slot.senders)).sum();
    let blocked: u64 = living().map(|slot| u64::from(slot.blocked)).sum();
    let wanted = if header.space_wanted { "space is waited for" } else { "no space is waited for" };
    let closed = if header.closed { "yes: another ring has replaced this one" } else { "no" };
    let claim = match header.claim {
        None => "free".into(),
        Some(owner) => match ring.life(owner) {
            Life::Gone => {
                format!("left held by {}, who is dead; the next sender frees it", by(owner))
            }
            life => format!("held by {}, {}", by(owner), word(life)),
        },
    };
    let lines = [
        ("ring", plain(&path.to_string_lossy())),
        ("format", format!("1, id {}", id(header))),
        ("capacity", format!("{} bytes, messages of up to {}", ring.capacity, ring.message_max())),
        (
            "used",
            format!("{} bytes, {} at most so far; head {head}, tail {tail}", tail - head, {
                header.high_water.max(tail - head)
            }),
        ),
        (
            "messages",
            format!(
                "{} sent, {received} received; {} discarded",
                claimed.saturating_sub(discarded),
                plural(discarded, "record")
            ),
        ),
        (
            "recoveries",
            format!(
                "{}: {} and {} taken from dead processes",
                header.takeovers.saturating_add(header.reclaimed),
                plural(header.takeovers, "claim"),
                plural(header.reclaimed, "record")
            ),
        ),
        ("receiver", receiver_text(ring, header)),
        (
            "senders",
            format!(
                "{senders} alive in at most {} processes, {blocked} blocked, {wanted}; {} attached \
                 so far",
                ring.slot_count - 1,
                header.attaches
            ),
        ),
        ("claim", claim),
        ("closed", closed.into()),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<11} {value}"));
    lines.join("\n")
}

fn receiver_text(ring: &RingFile, header: &Header) -> String {
    let owner = match header.receiver {
        Receiver::Never => return "none was ever attached".into(),
        Receiver::Left => return "has left".into(),
        Receiver::Attached(owner) => owner,
    };
    let asleep = if header.receiver_sleeps { "asleep or about to" } else { "awake" };
    match ring.life(owner) {
        Life::Gone => format!("{}, dead", by(owner)),
        life => format!("{}, {}, {asleep}", by(owner), word(life)),
    }
}

fn header_row(ring: &RingFile, header: &Header) -> Value {
    let living = || header.slots.iter().filter(|slot| slot.life == Life::Alive);
    let receiver = match header.receiver {
        Receiver::Never => json!({ "state": "never attached" }),
        Receiver::Left => json!({ "state": "left" }),
        Receiver::Attached(owner) => json!({
            "state": word(ring.life(owner)),
            "slot": owner.slot,
            "generation": owner.generation,
            "sleeps": header.receiver_sleeps,
        }),
    };
    let claim = header.claim.map(|owner| {
        json!({
            "state": word(ring.life(owner)),
            "slot": owner.slot,
            "generation": owner.generation,
        })
    });
    json!({
        "row": "ring",
        "version": 1,
        "id": id(header),
        "capacity": ring.capacity,
        "message_max": ring.message_max(),
        "slots": ring.slot_count,
        "head": header.head,
        "tail": header.tail,
        "used": header.tail - header.head,
        "high_water": header.high_water.max(header.tail - header.head),
        "sent": header.claimed.saturating_sub(header.discarded),
        "received": header.received,
        "discarded": header.discarded,
        "recoveries": header.takeovers.saturating_add(header.reclaimed),
        "takeovers": header.takeovers,
        "reclaimed": header.reclaimed,
        "attaches": header.attaches,
        "senders": living().map(|slot| u64::from(slot.senders)).sum::<u64>(),
        "blocked_senders": living().map(|slot| u64::from(slot.blocked)).sum::<u64>(),
        "space_wanted": header.space_wanted,
        "receiver": receiver,
        "claim": claim,
        "closed": header.closed,
    })
}

fn slot_text(header: &Header, slot: &Slot) -> String {
    let Slot { number, generation, senders, blocked, pid, life } = slot;
    let life = word(*life);
    let role = if receives(header, slot) { ", the receiver" } else { "" };
    format!(" {number:>4}  {generation:>10}  {senders:>7}  {blocked:>7}  {pid:>9}  {life}{role}")
}

fn slot_row(header: &Header, slot: &Slot) -> Value {
    json!({
        "row": "slot",
        "slot": slot.number,
        "generation": slot.generation,
        "senders": slot.senders,
        "blocked": slot.blocked,
        "pid": slot.pid,
        "state": word(slot.life),
        "receives": receives(header, slot),
    })
}

fn receives(header: &Header, slot: &Slot) -> bool {
    let owner = Owner { slot: slot.number, generation: slot.generation as u16 };
    header.receiver == Receiver::Attached(owner)
}

fn record_text(record: &Record, state: &str) -> String {
    let Record { position, offset, len, owner, .. } = record;
    let payload = if record.state == State::Ready { payload_text(record) } else { String::new() };
    let line = format!(
        "{position:>12}  {offset:>10}  {state:<10}  {len:>7}  {:<6}  {payload}",
        by_short(*owner)
    );
    line.trim_end().to_owned()
}

fn record_row(record: &Record, state: &str) -> Value {
    json!({
        "row": "record",
        "position": record.position,
        "offset": record.offset,
        "state": state,
        "bytes": record.len,
        "slot": record.owner.slot,
        "generation": record.owner.generation,
        "payload": (record.state == State::Ready).then(|| hex(&record.payload, "")),
    })
}

fn word(life: Life) -> &'static str {
    match life {
        Life::Alive => "alive",
        Life::Gone => "dead",
        Life::Unknown => "unknown",
    }
}

fn by(owner: Owner) -> String {
    format!("slot {} in generation {}", owner.slot, owner.generation)
}

fn by_short(owner: Owner) -> String {
    format!("{}.{}", owner.slot, owner.generation)
}

fn id(header: &Header) -> String {
    format!("{:016x}{:016x}", header.id[0], header.id[1])
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The beginning of a payload, as a quoted string if it is text.
fn payload_text(record: &Record) -> String {
    let shown = &record.payload;
    let cut = record.len > shown.len() as u64;
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The cut may go through a character.
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let text = text.filter(|text| text.chars().all(is_text));
    let shown = text.map_or_else(|| hex(shown, " "), |text| format!("{text:?}"));
    if cut { format!("{shown} ...") } else { shown }
}

/// Whether a string of such characters is better read quoted than in hexadecimal.
fn is_text(character: char) -> bool {
    matches!(character, '"' | '\'' | '\\' | '\t' | '\n' | '\r')
        || character.escape_debug().eq([character])
}

fn hex(bytes: &[u8], between: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(between)
}

/// A path whose characters do nothing to a terminal.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], len: u64) -> String {
        let owner = Owner { slot: 1, generation: 1 };
        let (state, payload) = (State::Ready, bytes.to_vec());
        payload_text(&Record { position: 0, offset: 8192, state, len, owner, payload })
    }

    #[test]
    fn text_is_quoted_and_everything_else_is_hexadecimal() {
        assert_eq!(shown(b"a \"b\"\n", 6), r#""a \"b\"\n""#);
        assert_eq!(shown("grün".as_bytes(), 5), "\"grün\"");
        assert_eq!(shown(b"", 0), "\"\"");
        assert_eq!(shown(b"\0\x01\xff", 3), "00 01 ff");
        assert_eq!(shown(b"ab", 9), "\"ab\" ...");
        assert_eq!(shown(&"gr\u{fc}n".as_bytes()[..3], 5), "\"gr\" ...", "cut inside a letter");
    }

    #[test]
    fn nothing_in_a_payload_moves_the_cursor_or_the_reading_direction() {
        let escape = "\x1b[2J".as_bytes();
        assert_eq!(shown(escape, 4), "1b 5b 32 4a");
        for bad in ["\u{202e}abc", "\u{9b}2J", "\u{7f}", "\u{200b}", "\u{2028}", "\r\n\x07"] {
            let text = shown(bad.as_bytes(), bad.len() as u64);
            assert!(text.bytes().all(|byte| (32..127).contains(&byte)), "{bad:?}: {text}");
        }
        assert_eq!(plain("/tmp/\x1b[31m"), "/tmp/\\u{1b}[31m");
    }
}
