//! What was read of a ring, as lines for people and as JSON rows. Reads nothing.
//!
//! Bytes of messages become hexadecimal digits, or a quoted string with every character that is
//! not plain text escaped: whatever a ring holds, it does nothing to a terminal.

use std::path::Path;

use serde_json::{Value, json};

use crate::ring_file::{Header, Life, Owner, Receiver, Record, Slot, State};

/// Names the columns of `slot_text`.
pub(crate) const SLOT_HEAD: &str = " slot  generation  senders  blocked    process  is";
/// Names the columns of `record_text`.
pub(crate) const RECORD_HEAD: &str =
    "    position      offset  state         bytes  by      payload";

/// Everything before the slots, a line each.
pub(crate) fn header_text(path: &Path, header: &Header) -> String {
    let lines = [
        ("ring", plain(&path.to_string_lossy())),
        ("format", format!("1, id {}", id(header))),
        ("capacity", capacity(header)),
        ("used", used(header)),
        ("messages", messages(header)),
        ("recoveries", recoveries(header)),
        ("receiver", receiver(header)),
        ("senders", senders(header)),
        ("claim", claim(header)),
        ("closed", if header.closed { "yes, replaced by another ring" } else { "no" }.into()),
    ];
    lines.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
}

fn capacity(header: &Header) -> String {
    format!("{} bytes, messages of up to {}", header.capacity, header.message_max())
}

fn used(header: &Header) -> String {
    let Header { head, tail, .. } = header;
    let (used, most) = (header.used, most_used(header));
    format!("{used} bytes, {most} at most so far; head {head}, tail {tail}")
}

fn most_used(header: &Header) -> u64 {
    header.high_water.max(header.used)
}

fn messages(header: &Header) -> String {
    let discarded = plural(header.discarded, "record");
    format!("{} sent, {} received; {discarded} discarded", header.sent(), header.received)
}

fn recoveries(header: &Header) -> String {
    let claims = plural(header.takeovers, "claim");
    let records = plural(header.reclaimed, "record");
    format!("{}: {claims} and {records} taken from dead processes", header.recoveries())
}

fn receiver(header: &Header) -> String {
    match header.receiver {
        Receiver::Never => "none was ever attached".into(),
        Receiver::Left => "has left".into(),
        Receiver::Attached(owner, Life::Gone) => format!("{}, dead", by(owner)),
        Receiver::Attached(owner, life) => {
            let asleep = if header.receiver_sleeps { "asleep or about to be" } else { "awake" };
            format!("{}, {}, {asleep}", by(owner), word(life))
        }
    }
}

fn senders(header: &Header) -> String {
    let (senders, blocked) = header.senders();
    let most = header.slot_count - 1;
    let wanted = if header.space_wanted { "wanted" } else { "not wanted" };
    let attaches = header.attaches;
    format!(
        "{senders} alive, {blocked} blocked, space {wanted}; {attaches} attached so far, from at \
         most {most} processes at a time"
    )
}

fn claim(header: &Header) -> String {
    match header.claim {
        None => "free".into(),
        Some((owner, Life::Gone)) => {
            format!("left by {}, who is dead; the next sender frees it", by(owner))
        }
        Some((owner, life)) => format!("held by {}, {}", by(owner), word(life)),
    }
}

/// The same for programs.
pub(crate) fn header_row(header: &Header) -> Value {
    let receiver = match header.receiver {
        Receiver::Never => json!({ "state": "never attached" }),
        Receiver::Left => json!({ "state": "left" }),
        Receiver::Attached(owner, life) => json!({
            "state": word(life),
            "slot": owner.slot,
            "generation": owner.generation,
            "sleeps": header.receiver_sleeps,
        }),
    };
    let claim = header.claim.map(|(owner, life)| {
        json!({ "state": word(life), "slot": owner.slot, "generation": owner.generation })
    });
    let (senders, blocked) = header.senders();
    json!({
        "row": "ring",
        "version": 1,
        "id": id(header),
        "capacity": header.capacity,
        "message_max": header.message_max(),
        "slots": header.slot_count,
        "head": header.head,
        "tail": header.tail,
        "used": header.used,
        "high_water": most_used(header),
        "sent": header.sent(),
        "received": header.received,
        "discarded": header.discarded,
        "recoveries": header.recoveries(),
        "takeovers": header.takeovers,
        "reclaimed": header.reclaimed,
        "attaches": header.attaches,
        "senders": senders,
        "blocked_senders": blocked,
        "space_wanted": header.space_wanted,
        "receiver": receiver,
        "claim": claim,
        "closed": header.closed,
    })
}

/// A slot under `SLOT_HEAD`.
pub(crate) fn slot_text(header: &Header, slot: &Slot) -> String {
    let Slot { number, generation, senders, blocked, pid, life } = slot;
    let life = word(*life);
    let role = if receives(header, slot) { ", the receiver" } else { "" };
    format!(" {number:>4}  {generation:>10}  {senders:>7}  {blocked:>7}  {pid:>9}  {life}{role}")
}

/// A slot for programs.
pub(crate) fn slot_row(header: &Header, slot: &Slot) -> Value {
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
    matches!(header.receiver, Receiver::Attached(receiver, _) if receiver == owner)
}

/// A record under `RECORD_HEAD`; `state` is what it is, in a word.
pub(crate) fn record_text(record: &Record, state: &str) -> String {
    let Record { position, offset, len, owner, .. } = record;
    let payload = if record.state == State::Ready { payload_text(record) } else { String::new() };
    let line = format!(
        "{position:>12}  {offset:>10}  {state:<10}  {len:>7}  {:<6}  {payload}",
        by_short(*owner)
    );
    line.trim_end().to_owned()
}

/// A record for programs.
pub(crate) fn record_row(record: &Record, state: &str) -> Value {
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

/// So many of these.
pub(crate) fn plural(count: u64, what: &str) -> String {
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
pub(crate) fn plain(text: &str) -> String {
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
