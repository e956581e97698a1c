//! `inspect` and `tail`: rings made by the crate, and what the harness reads in their files.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use ipmpsc::{Options, Receiver, Sender, SharedRingBuffer};
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{await_true, json_lines, signal, stderr};

/// Where the data of a ring with the default number of slots begin.
const DATA: u64 = 8192;
/// Names a ring to the child of `the_dead_leave_their_slot_and_their_record`.
const RING: &str = "HARNESS_TEST_RING";

struct Ring {
    folder: TempDir,
    ring: SharedRingBuffer,
}

impl Ring {
    /// Takes messages of up to so many bytes.
    fn new(capacity: u64) -> Ring {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let ring = Options::new()
            .capacity(capacity)
            .create(folder.path().join("ring"))
            .expect("the folder is writable");
        Ring { folder, ring }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ring")
    }

    fn sender(&self) -> Sender {
        Sender::new(self.ring.clone())
    }

    /// What inspect says, after comparing it with what the ring itself says.
    fn look(&self) -> Look {
        self.look_by(&self.path())
    }

    fn look_by(&self, path: &Path) -> Look {
        let look = Look::at(path);
        let stats = self.ring.stats();
        let ring = &look.ring;
        for (name, value) in [
            ("capacity", stats.capacity),
            ("message_max", self.ring.max_message_len()),
            ("slots", u64::from(self.ring.max_senders()) + 1),
            ("used", stats.used),
            ("high_water", stats.high_water),
            ("sent", stats.sent),
            ("received", stats.received),
            ("senders", stats.senders.into()),
            ("blocked_senders", stats.blocked_senders.into()),
            ("recoveries", stats.recoveries),
            ("discarded", stats.discarded),
        ] {
            assert_eq!(ring[name], value, "{name}: {ring}, {stats:?}");
        }
        assert_eq!(ring["closed"], stats.closed, "{ring}");
        assert_eq!(ring["receiver"]["state"] == "alive", stats.receiver_alive, "{ring}");
        look
    }
}

/// The rows of `inspect --json`.
struct Look {
    ring: Value,
    slots: Vec<Value>,
    records: Vec<Value>,
    count: Value,
}

impl Look {
    fn at(path: &Path) -> Look {
        let output = inspect(path, "--json --records 1000000 --bytes 100000");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
        let all = |row: &str| rows.iter().filter(|&line| line["row"] == row).cloned().collect();
        let ring = rows[0].clone();
        assert_eq!(ring["row"], "ring");
        let count = rows.last().expect("there are rows").clone();
        assert_eq!(count["row"], "records");
        Look { ring, slots: all("slot"), records: all("record"), count }
    }

    fn states(&self) -> Vec<&str> {
        self.records.iter().filter_map(|record| record["state"].as_str()).collect()
    }

    /// Payloads of the messages.
    fn messages(&self) -> Vec<Vec<u8>> {
        self.records.iter().filter_map(payload).collect()
    }
}

fn payload(record: &Value) -> Option<Vec<u8>> {
    let digits = record["payload"].as_str()?;
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    Some((0..digits.len()).step_by(2).map(byte).collect())
}

fn inspect(path: &Path, words: &str) -> Output {
    command("inspect", path, words).output().expect("the harness starts")
}

fn command(name: &str, path: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.arg(name).arg(path).args(words.split_whitespace()).stdin(Stdio::null());
    command
}

#[test]
fn an_empty_ring_and_a_full_one_are_as_the_ring_says() {
    let ring = Ring::new(1000);
    let look = ring.look();
    assert_eq!(look.ring["receiver"]["state"], "never attached");
    assert!(look.slots.is_empty() && look.records.is_empty());
    let sender = ring.sender();
    let mut sent = Vec::new();
    while sender.try_send_bytes(&[sent.len() as u8; 41]).expect("the ring is sound") {
        sent.push(vec![sent.len() as u8; 41]);
    }
    let look = ring.look();
    assert!(sent.len() > 15);
    assert_eq!(look.messages(), sent);
    assert_eq!(look.slots.len(), 1);
    assert_eq!(look.slots[0]["pid"], std::process::id());
    assert_eq!(look.count["messages"], sent.len());
}

#[test]
fn wrapped_rings_show_what_was_not_yet_received_lap_after_lap() {
    let ring = Ring::new(200);
    let (sender, mut receiver) = (ring.sender(), Receiver::new(ring.ring.clone()));
    let (mut waiting, mut pads) = (std::collections::VecDeque::new(), 0);
    for number in 0..60_usize {
        let message = vec![number as u8; 7 * number % 90];
        while !sender.try_send_bytes(&message).expect("the ring is sound") {
            let got = receiver.try_recv_bytes().expect("the ring is sound").expect("it is full");
            assert_eq!(Some(got.to_vec()), waiting.pop_front());
        }
        waiting.push_back(message);
        let look = ring.look();
        assert_eq!(look.messages(), waiting.iter().cloned().collect::<Vec<_>>());
        pads += look.states().iter().filter(|&&state| state == "unused").count();
    }
    assert!(pads > 0, "no pad was seen");
    drop(receiver);
    assert_eq!(ring.look().ring["receiver"]["state"], "left");
}

#[test]
fn unfinished_shortened_and_given_up_records_are_told_apart() {
    let ring = Ring::new(10_000);
    let sender = ring.sender();
    sender.send_batch(&[1_u32, 2, 3]).expect("there is room");
    drop(sender.reserve(30).expect("there is room"));
    let mut short = sender.reserve(100).expect("there is room");
    std::io::Write::write_all(&mut short, b"short").expect("there is room");
    short.commit().expect("the ring is sound");
    let open = sender.reserve(64).expect("there is room");
    let look = ring.look();
    let start = ["message", "message", "message", "given up", "message", "unused"];
    assert_eq!(look.states()[..6], start);
    assert_eq!(look.states()[6..], ["in writing"]);
    assert_eq!(look.messages()[3], b"short");
    assert_eq!(look.records[6]["payload"], Value::Null);
    drop(open);
    assert_eq!(ring.look().states()[6..], ["given up"]);
    let mut receiver = Receiver::new(ring.ring.clone());
    while receiver.try_recv_bytes().expect("the ring is sound").is_some() {}
    let look = ring.look().ring;
    assert_eq!((&look["discarded"], &look["reclaimed"]), (&2.into(), &0.into()));
}

#[test]
fn a_sender_that_left_a_record_behind_has_abandoned_it() {
    let ring = Ring::new(1000);
    let other = Options::new().open(ring.path()).expect("it was just made");
    let sender = Sender::new(other);
    std::mem::forget(sender.reserve(8).expect("there is room"));
    assert_eq!(ring.look().states(), ["in writing"]);
    drop(sender);
    assert_eq!(ring.look().states(), ["abandoned"]);
    // Its slot is taken again; the record stays the first one's.
    let other = Sender::new(Options::new().open(ring.path()).expect("it was just made"));
    let look = ring.look();
    assert_eq!((look.slots[0]["generation"].clone(), look.states()), (2.into(), vec!["abandoned"]));
    drop(other);
    let receiver = Receiver::new(ring.ring.clone());
    await_true("the record is recovered", || {
        let nothing = receiver.recv_timeout::<u8>(Duration::from_millis(1));
        assert_eq!(nothing.expect("the ring is sound"), None);
        ring.ring.stats().discarded == 1
    });
    let look = ring.look();
    assert_eq!((look.ring["recoveries"].clone(), look.states().len()), (1.into(), 0));
}

#[test]
fn the_dead_leave_their_slot_and_their_record() {
    let ring = Ring::new(1000);
    let mut child = Command::new(std::env::current_exe().expect("a program knows its path"))
        .args(["--exact", "inspect::the_child", "--ignored", "--nocapture"])
        .env(RING, ring.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("this program starts");
    await_true("the child's second record", || ring.ring.stats().used > 16);
    let look = ring.look();
    assert_eq!(look.states(), ["message", "in writing"]);
    assert_eq!(look.slots[0]["state"], "alive");
    child.kill().expect("it waits for us");
    child.wait().expect("it was killed");
    let look = ring.look();
    assert_eq!(look.states(), ["message", "abandoned"]);
    assert_eq!(look.slots[0]["state"], "dead");
    assert_eq!(look.slots[0]["pid"], child.id());
    assert_eq!(look.slots[0]["senders"], 1);
    assert_eq!(look.ring["senders"], 0);
    let text = inspect(&ring.path(), "");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("  dead\n") && text.contains("  abandoned  "), "{text}");
}

#[test]
#[ignore = "the child of another test"]
fn the_child() {
    let path = std::env::var_os(RING).expect("the parent names the ring");
    let sender = Sender::new(Options::new().open(path).expect("the parent made it"));
    sender.send_bytes(b"last word").expect("there is room");
    let _reservation = sender.reserve(100).expect("there is room");
    // Until the parent kills this process, or is gone.
    let _ = std::io::stdin().lines().next();
}

#[test]
fn a_claim_left_by_the_dead_is_shown_until_it_is_taken_over() {
    let ring = Ring::new(1000);
    let file = File::options().write(true).open(ring.path()).expect("the file is ours");
    // Slot 5 in generation 1, which nobody has.
    file.write_all_at(&0x0001_0051_u64.to_le_bytes(), 128).expect("the file is ours");
    let look = ring.look().ring;
    assert_eq!((&look["claim"]["slot"], &look["claim"]["state"]), (&5.into(), &"dead".into()));
    ring.sender().send_bytes(b"after").expect("there is room");
    let look = ring.look();
    assert_eq!((&look.ring["claim"], &look.ring["takeovers"]), (&Value::Null, &1.into()));
    assert_eq!((&look.ring["reclaimed"], &look.ring["attaches"]), (&0.into(), &1.into()));
}

#[test]
fn blocked_senders_are_counted() {
    let ring = Ring::new(100);
    let sender = ring.sender();
    while sender.try_send_bytes(&[0; 20]).expect("the ring is sound") {}
    thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send_bytes(&[1; 20]));
        await_true("a blocked sender", || ring.ring.stats().blocked_senders == 1);
        let look = ring.look();
        assert_eq!(look.slots[0]["blocked"], 1);
        let mut receiver = Receiver::new(ring.ring.clone());
        while receiver.try_recv_bytes().expect("the ring is sound").is_some() {}
        blocked.join().expect("no panic").expect("there is room");
    });
}

#[test]
fn a_replaced_ring_and_one_without_a_name_can_be_read() {
    let ring = Ring::new(100);
    let old = ring.folder.path().join("old");
    fs::hard_link(ring.path(), &old).expect("one file system");
    let new = Options::new().create(ring.path()).expect("it may be replaced");
    assert_eq!(ring.look_by(&old).ring["closed"], true);
    assert_eq!(Look::at(&ring.path()).ring["capacity"], new.capacity());
    let anonymous = Options::new().anonymous().expect("Linux has them");
    Sender::new(anonymous.clone()).send_bytes(b"hello").expect("there is room");
    let file = anonymous.try_clone_file().expect("one more descriptor");
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    assert_eq!(Look::at(Path::new(&path)).messages(), [b"hello"]);
}

#[test]
fn payloads_reach_the_terminal_as_harmless_text_or_digits() {
    let ring = Ring::new(10_000);
    let sender = ring.sender();
    for message in [b"plain text".as_slice(), b"\x1b]0;owned\x07", b"", &[b'x'; 99]] {
        sender.send_bytes(message).expect("there is room");
    }
    let output = inspect(&ring.path(), "--records 3");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\"plain text\"") && text.contains("1b 5d 30 3b 6f"), "{text}");
    assert!(
        text.contains("4 records, 4 of them messages; 3 shown") && !text.contains("xxx"),
        "{text}"
    );
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
}

#[test]
fn what_is_no_ring_is_named_with_exit_2() {
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let ring = Ring::new(100);
    let sound = fs::read(ring.path()).expect("readable");
    let changed = |name: &str, offset: usize, bytes: &[u8]| {
        let mut copy = sound.clone();
        copy[offset..offset + bytes.len()].copy_from_slice(bytes);
        fs::write(at(name), copy).expect("the folder is writable");
    };
    let magic: Vec<u8> = sound[..8].iter().rev().copied().collect();
    changed("swapped", 0, &magic);
    changed("version", 8, &[2]);
    changed("forming", 0, &[0; 8]);
    fs::write(at("text"), "a text that is long enough").expect("the folder is writable");
    File::create(at("empty")).expect("the folder is writable");
    fs::create_dir(at("folder")).expect("the folder is writable");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).expect("a FIFO");
    let before = at("before");
    let before = before.to_str().expect("an ordinary name");
    let _before = ipmpsc_0_5_1::SharedRingBuffer::create(before, 1000).expect("writable");
    for (name, why) in [
        ("missing", "No such file"),
        ("folder", "not a regular file"),
        ("fifo", "not a regular file"),
        ("empty", "0 bytes"),
        ("text", "at offset 0"),
        ("swapped", "byte order"),
        ("version", "format 2 (offset 8)"),
        ("forming", "still being made"),
        ("before", "a ring of 0.5 has none"),
    ] {
        for command_name in ["inspect", "tail"] {
            let output = command(command_name, &at(name), "").output().expect("it starts");
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{name}: {text}");
            assert!(text.contains(why) && text.lines().count() == 1, "{name}: {text}");
            assert!(output.stdout.is_empty(), "{name}");
        }
    }
}

/// A ring with a pad, a batch, a message that wraps and an abandoned record in it, all words of
/// the header in use, and its bytes.
fn busy_ring() -> (Ring, Vec<u8>) {
    let ring = Ring::new(400);
    let (sender, mut receiver) = (ring.sender(), Receiver::new(ring.ring.clone()));
    for _ in 0..2 {
        sender.send_bytes(&[7; 120]).expect("there is room");
        receiver.recv_bytes().expect("it was just sent");
    }
    for len in [30, 40, 70, 50] {
        sender.send_bytes(&vec![8; len]).expect("there is room");
    }
    sender.send_batch(&[1_u64, 2]).expect("there is room");
    std::mem::forget(sender.reserve(20).expect("there is room"));
    drop((sender, receiver));
    let bytes = fs::read(ring.path()).expect("readable");
    (ring, bytes)
}

/// Inspects these bytes as a file; both forms must agree on how it ends.
fn inspect_bytes(folder: &TempDir, bytes: &[u8]) -> (i32, String) {
    let path = folder.path().join("planted");
    fs::write(&path, bytes).expect("the folder is writable");
    let human = inspect(&path, "");
    let json = inspect(&path, "--json");
    let code = human.status.code().expect("no signal ends it");
    assert_eq!(json.status.code(), Some(code), "{}", stderr(&json));
    assert_eq!(stderr(&human), stderr(&json));
    let rows = json_lines(&String::from_utf8_lossy(&json.stdout));
    assert_eq!(rows.iter().any(|row| row["row"] == "corrupt"), code == 1);
    (code, stderr(&human))
}

#[test]
fn every_planted_contradiction_is_named_by_its_offset() {
    let (ring, sound) = busy_ring();
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    assert_eq!(inspect_bytes(&folder, &sound), (0, String::new()));
    let records = Look::at(&ring.path()).records;
    let pad = records.iter().position(|record| record["state"] == "unused");
    let (pad, last) = (pad.expect("the ring's end is unused"), records.len() - 1);
    assert!(1 < pad && pad < last, "{records:?}");
    let at = |record: usize| records[record]["offset"].as_u64().expect("a number");
    let end = |record: usize| at(record) + 8 + records[record]["bytes"].as_u64().expect("a number");
    let tail = end(last).next_multiple_of(8);
    let word = |offset: u64| {
        let bytes = sound[offset as usize..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    let largest = u64::from(u32::MAX) << 32;
    for (offset, value) in [
        (16, 0),
        (16, 17),
        (16, word(16) + 8),
        (16, u64::MAX - 7),
        (40, 1),
        (128, 2),
        (128, 0xffff_fff1),
        (136, word(136) + 1),
        (136, 1 << 63),
        (144, word(256) + word(16) + 1),
        (160, word(16) + 1),
        (184, 2),
        (184, 1 << 32),
        (192, 4),
        (192, word(136)),
        (200, 1),
        (248, 1),
        (256, 1 << 63),
        (256, word(256) + 4),
        (256, word(136) + 8),
        (264, 3),
        (264, 0xfff1),
        (296, 9),
        (384, 4),
        (1016, 1 << 56),
        (8184, 5),
        (at(0), 0),
        (at(0), word(at(0)) & !0xf),
        (at(0), word(at(0)) | 0xf),
        (at(0), word(at(0)) | 0xfff0),
        (at(1), word(at(1)) | largest),
        (at(pad), word(at(pad)) + (8 << 32)),
        (at(last), word(at(last)) + (8 << 32)),
        (tail, 2),
        (tail, 0x77),
    ] {
        let mut copy = sound.clone();
        copy[offset as usize..][..8].copy_from_slice(&value.to_le_bytes());
        let (code, text) = inspect_bytes(&folder, &copy);
        let planted = format!("{value:#x} at {offset}: {text}");
        assert_eq!(code, 1, "{planted}");
        // A word in a gap is named by the byte in it.
        let bytes = offset..offset + 8;
        let named = |offset| text.contains(&format!("is corrupt at offset {offset}: "));
        assert!(bytes.into_iter().any(named), "{planted}");
    }
    // Half a word of its own, which no 8 bytes above can plant alone.
    for count in [0_u32, 1, 4096, 600, 3] {
        let mut copy = sound.clone();
        copy[12..16].copy_from_slice(&count.to_le_bytes());
        let (code, text) = inspect_bytes(&folder, &copy);
        assert!(code == 1 && text.contains(" offset 1"), "{count} slots: {text}");
    }
}

/// A large ring whose last lap began by a turn that the receiver has not passed, and goes on behind
/// it, after so many of its messages.
fn turned_ring(mut seen: impl FnMut(&Ring, &[usize])) -> Ring {
    // 4 MiB with the record's header and the word behind it.
    let ring = Ring::new((4 << 20) - 16);
    let (mut sender, mut receiver) = (ring.sender(), Receiver::new(ring.ring.clone()));
    sender.set_spin(ipmpsc::Spin::Never);
    for _ in 0..8 {
        sender.send_bytes(&[7; 1 << 16]).expect("there is room");
        receiver.recv_bytes().expect("it was just sent");
    }
    let mut waiting = Vec::new();
    for len in [1 << 16; 20].into_iter().chain([100, 1 << 20]) {
        waiting.push(len);
        assert!(sender.try_send_bytes(&vec![8; len]).expect("the ring is sound"));
        seen(&ring, &waiting);
    }
    ring
}

#[test]
fn a_large_ring_that_turned_and_went_on_behind_the_turn_is_sound() {
    let mut pads = Vec::new();
    let ring = turned_ring(|ring, waiting| {
        let look = ring.look();
        let lens: Vec<_> = look.messages().iter().map(Vec::len).collect();
        // No more than `look` asks for is shown of each.
        assert_eq!(lens, waiting.iter().map(|&len| len.min(100_000)).collect::<Vec<_>>());
        pads.push(look.states().iter().filter(|&&state| state == "unused").count());
        assert!(look.ring["high_water"].as_u64() <= Some(4 << 20), "{}", look.ring);
    });
    assert_eq!((pads[7], pads[8], pads[21]), (0, 1, 2), "a turn, and a way behind it: {pads:?}");
    let look = ring.look().ring;
    let between =
        look["tail"].as_u64().expect("a number") - look["head"].as_u64().expect("as well");
    assert!(between > 4 << 20, "{look}");
    let mut receiver = Receiver::new(ring.ring.clone());
    while receiver.try_recv_bytes().expect("the ring is sound").is_some() {}
    assert_eq!(ring.look().ring["used"], 0);
}

#[test]
fn a_turn_does_not_explain_what_it_could_not_have_made() {
    let ring = turned_ring(|_, _| {});
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    let sound = fs::read(ring.path()).expect("readable");
    assert_eq!(inspect_bytes(&folder, &sound), (0, String::new()));
    let word =
        |offset: usize| u64::from_le_bytes(sound[offset..][..8].try_into().expect("eight bytes"));
    let (tail, turn, capacity) = (word(136), word(192), word(16));
    let lap = tail - tail % capacity;
    assert!(tail - word(256) > capacity && tail - turn > capacity && turn < lap);
    for (offset, value, named) in [
        // More than a lap lies between head and tail, and nothing says why.
        (192, 0, 256),
        (192, turn + 1, 192),
        (192, lap, 256),
        (192, tail, 256),
        (256, turn + 8, 256),
        // Another lap than the one that the turn began.
        (136, lap + capacity, 256),
        (144, lap + capacity + 1, 144),
    ] {
        let mut copy = sound.clone();
        copy[offset..][..8].copy_from_slice(&u64::to_le_bytes(value));
        let (code, text) = inspect_bytes(&folder, &copy);
        let planted = format!("{value:#x} at {offset}: {text}");
        assert_eq!(code, 1, "{planted}");
        assert!(text.contains(&format!("is corrupt at offset {named}: ")), "{planted}");
    }
}

#[test]
fn a_file_cut_off_or_grown_is_corrupt() {
    let (_ring, sound) = busy_ring();
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    for len in [24, 100, 1024, 8191, 8192, sound.len() - 1] {
        let (code, text) = inspect_bytes(&folder, &sound[..len]);
        assert_eq!(code, 1, "{len}: {text}");
        assert!(text.contains("offset 16") && text.contains(&format!("it has {len}")), "{text}");
    }
    let longer = [sound.as_slice(), &[0]].concat();
    assert_eq!(inspect_bytes(&folder, &longer).0, 1);
}

#[test]
fn whatever_the_bytes_are_inspect_ends_in_good_order() {
    let (_ring, sound) = busy_ring();
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    let seed = std::env::var("IPMPSC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("IPMPSC_TEST_SEED={seed}");
    let mut random = rand_pcg::Pcg64::seed_from_u64(seed);
    for _ in 0..100 {
        let mut copy = sound.clone();
        for _ in 0..random.random_range(1..4) {
            let used = [0..48, 128..200, 256..304, 384..388, 1024..1060, 8192..sound.len()];
            let range = used[random.random_range(0..used.len())].clone();
            let offset = random.random_range(range);
            copy[offset] = random.random();
        }
        let (code, text) = inspect_bytes(&folder, &copy);
        assert!([0, 1, 2].contains(&code), "{text}");
        assert_eq!(text.lines().count(), usize::from(code != 0), "{text}");
    }
}

#[test]
fn looking_changes_neither_the_bytes_nor_the_times_of_the_file() {
    let (ring, sound) = busy_ring();
    fs::set_permissions(ring.path(), std::os::unix::fs::PermissionsExt::from_mode(0o400))
        .expect("the file is ours");
    let before = fs::metadata(ring.path()).expect("it is there");
    assert_eq!(inspect(&ring.path(), "").status.code(), Some(0));
    assert_eq!(
        command("tail", &ring.path(), "--for 20ms").output().expect("runs").status.code(),
        Some(0)
    );
    let after = fs::metadata(ring.path()).expect("it is there");
    assert_eq!(fs::read(ring.path()).expect("readable"), sound);
    assert_eq!(before.modified().expect("known"), after.modified().expect("known"));
    let mut tail = Tail::start(&ring.path());
    tail.next();
    let process = PathBuf::from(format!("/proc/{}", tail.child.id()));
    let is_ring =
        |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|path| path == ring.path());
    let open = fs::read_dir(process.join("fd")).expect("it is ours").flatten().find(is_ring);
    let number = open.expect("it has the ring open").file_name();
    let info = fs::read_to_string(process.join("fdinfo").join(number)).expect("it is ours");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("known");
    let flags = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
    assert_eq!(flags & 0o3, 0, "open for more than reading: {info}");
    assert!(!info.contains("lock:"), "{info}");
    let maps = fs::read_to_string(process.join("maps")).expect("it is ours");
    assert!(!maps.contains(ring.path().to_str().expect("an ordinary name")), "{maps}");
    tail.child.kill().expect("it runs");
    tail.child.wait().expect("it was killed");
}

#[test]
fn a_ring_at_full_speed_is_never_called_corrupt_and_loses_nothing() {
    let ring = Ring::new(64 << 10);
    let (sender, mut receiver) = (ring.sender(), Receiver::new(ring.ring.clone()));
    let over = AtomicBool::new(false);
    let mut message = [0; 1000];
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut count = 0_u64;
            while !over.load(Relaxed) {
                message[..8].copy_from_slice(&count.to_le_bytes());
                // Lengths of 8 to 1000 bytes, and a wrap every few dozen.
                sender.send_bytes(&message[..8 + (count * 31 % 993) as usize]).expect("sent");
                count += 1;
            }
            sender.send_bytes(&[]).expect("sent");
            count
        });
        let receiving = scope.spawn(move || {
            let mut count = 0_u64;
            loop {
                let got = receiver.recv_bytes().expect("received");
                if got.is_empty() {
                    return count;
                }
                assert_eq!(got[..8], count.to_le_bytes());
                assert_eq!(got.len() as u64, 8 + count * 31 % 993);
                count += 1;
            }
        });
        for _ in 0..30 {
            let look = Look::at(&ring.path());
            for record in look.records.iter().filter(|record| record["state"] == "message") {
                let bytes = payload(record).expect("a message has a payload");
                let count: [u8; 8] = bytes[..8].try_into().expect("eight bytes");
                let len = 8 + u64::from_le_bytes(count) * 31 % 993;
                assert_eq!(record["bytes"], len, "a whole message or none");
            }
        }
        over.store(true, Relaxed);
        let sent = sending.join().expect("no panic");
        assert_eq!(receiving.join().expect("no panic"), sent);
        assert!(sent > 1000);
    });
}

/// A running `tail --json`.
struct Tail {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tail {
    fn start(path: &Path) -> Tail {
        let mut command = command("tail", path, "--json");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the harness starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Tail { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("readable");
        serde_json::from_str(&line).expect("every line is JSON")
    }

    /// The last line, and the exit code.
    fn end(mut self) -> (Value, Option<i32>) {
        let line = self.next();
        assert!(self.lines.next().is_none(), "nothing follows {line}");
        (line["why"].clone(), self.child.wait().expect("it ends").code())
    }
}

#[test]
fn tail_shows_records_as_they_come_until_the_ring_is_replaced() {
    let ring = Ring::new(10_000);
    let sender = ring.sender();
    sender.send_bytes(b"before").expect("there is room");
    let mut tail = Tail::start(&ring.path());
    assert_eq!(payload(&tail.next()), Some(b"before".to_vec()));
    for number in 0..10_u8 {
        sender.send_bytes(&[number]).expect("there is room");
        assert_eq!(payload(&tail.next()), Some(vec![number]));
    }
    let unfinished = sender.reserve(4).expect("there is room");
    sender.send_bytes(b"behind").expect("there is room");
    unfinished.commit().expect("the ring is sound");
    assert_eq!(tail.next()["state"], "message");
    assert_eq!(payload(&tail.next()), Some(b"behind".to_vec()));
    let new = Options::new().create(ring.path()).expect("it may be replaced");
    assert_eq!(tail.end(), ("another ring has replaced this one".into(), Some(0)));
    drop(new);
}

#[test]
fn tail_waits_for_a_record_in_writing_and_passes_an_abandoned_one() {
    let ring = Ring::new(10_000);
    let look = || {
        let output = command("tail", &ring.path(), "--json --for 1ms").output().expect("it starts");
        let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
        let word = |row: &Value| row["state"].as_str().or(row["why"].as_str()).map(String::from);
        rows.iter().filter_map(word).collect::<Vec<_>>()
    };
    let writer = Sender::new(Options::new().open(ring.path()).expect("it was just made"));
    ring.sender().send_bytes(b"before").expect("there is room");
    std::mem::forget(writer.reserve(4).expect("there is room"));
    ring.sender().send_bytes(b"behind").expect("there is room");
    assert_eq!(look(), ["message", "the time is over"]);
    drop(writer);
    assert_eq!(look(), ["message", "abandoned", "message", "the time is over"]);
}

#[test]
fn tail_ends_when_the_file_is_removed_and_when_interrupted() {
    let ring = Ring::new(1000);
    ring.sender().send_bytes(b"x").expect("there is room");
    let mut tail = Tail::start(&ring.path());
    tail.next();
    let mut other = Tail::start(&ring.path());
    other.next();
    signal(&other.child, Signal::INT);
    assert_eq!(other.end(), ("interrupted".into(), Some(130)));
    fs::remove_file(ring.path()).expect("the folder is ours");
    assert_eq!(tail.end(), ("the ring's file has been removed".into(), Some(0)));
}

#[test]
fn tail_says_how_much_it_has_missed() {
    let ring = Ring::new(1000);
    let (sender, mut receiver) = (ring.sender(), Receiver::new(ring.ring.clone()));
    sender.send_bytes(b"first").expect("there is room");
    let mut tail = Tail::start(&ring.path());
    tail.next();
    signal(&tail.child, Signal::STOP);
    let status = format!("/proc/{}/stat", tail.child.id());
    await_true("tail stands still", || {
        fs::read_to_string(&status).expect("it lives").contains(") T ")
    });
    receiver.recv_bytes().expect("it was sent");
    let mut sent = 0;
    for _ in 0..200 {
        sender.send_bytes(b"unseen").expect("there is room");
        receiver.recv_bytes().expect("it was sent");
        sent += 16;
    }
    sender.send_bytes(b"last").expect("there is room");
    signal(&tail.child, Signal::CONT);
    let missed = tail.next();
    // Pads, too, were received.
    assert!(missed["row"] == "missed" && missed["bytes"].as_u64() >= Some(sent), "{missed}");
    assert_eq!(payload(&tail.next()), Some(b"last".to_vec()));
    fs::remove_file(ring.path()).expect("the folder is ours");
    tail.end();
}

#[test]
fn tail_names_a_ring_that_becomes_corrupt() {
    let ring = Ring::new(1000);
    ring.sender().send_bytes(b"first").expect("there is room");
    let mut tail = Tail::start(&ring.path());
    tail.next();
    let file = File::options().write(true).open(ring.path()).expect("the file is ours");
    file.write_all_at(&[0x0f], DATA + 16).expect("the file is ours");
    let line = tail.next();
    assert_eq!((&line["row"], &line["offset"]), (&"corrupt".into(), &(DATA + 16).into()));
    assert_eq!(tail.child.wait().expect("it ends").code(), Some(1));
}
