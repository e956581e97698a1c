//! The file: what it takes to be a ring's, and everything that a peer can write into one.

use crate::children::{
    CLAIM, Child, HEAD, HEAD_CACHE, LONG, Random, TAIL, Words, data_offset, folder, listen, say,
    wait_until,
};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(crate) fn child(role: &str, args: &[&str]) {
    match role {
        "poke" => poke_at_run_time(),
        "sweep" => sweep(args[0].parse().expect("a number")),
        "mutator" => race_with_a_mutator(args[0].parse().expect("a number")),
        "maker" => {
            let made = Options::new().capacity(1 << 24).create_new(args[0]);
            say(&format!("{}", made.is_ok()));
            listen();
        }
        other => panic!("no child is called {other}"),
    }
}

pub(crate) fn make(path: &str) -> SharedRingBuffer {
    let ring = Options::new().capacity(4080).max_senders(4).create_new(path);
    ring.expect("a ring can be made")
}

pub(crate) fn open_error(path: impl AsRef<Path>) -> Error {
    let began = Instant::now();
    let error = Options::new().open(path).expect_err("it is no sound ring");
    assert!(began.elapsed() < Duration::from_secs(1), "{error:?} took long");
    error
}

#[test]
fn files_with_other_bytes_are_not_rings() {
    let (folder, _) = folder();
    let mut random = Random::seeded("files_with_other_bytes_are_not_rings");
    let mut old = vec![0; 5000];
    old[0] = 1;
    let noise = (0..5000).map(|_| random.next() as u8).collect();
    let contents = [
        ("empty", vec![]),
        ("one byte", vec![b'i']),
        ("short", b"ipmpsc".to_vec()),
        ("zeros", vec![0; 8192]),
        ("like those of 0.5.1", old),
        ("noise", noise),
        ("text", b"hello, world\n".repeat(1000)),
    ];
    for (name, bytes) in contents {
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).expect("a file can be written");
        crate::os::make_private(&path);
        let error = open_error(&path);
        assert!(matches!(error, Error::NotARing), "{name}: {error:?}");
    }
}

/// Opens a sound ring's file after `change`.
fn opened_after(change: impl FnOnce(&File)) -> Error {
    let (_folder, path) = folder();
    drop(make(&path));
    let file = OpenOptions::new().read(true).write(true).open(&path);
    change(&file.expect("it is ours"));
    open_error(&path)
}

fn put(offset: u64, bytes: &[u8]) -> impl FnOnce(&File) {
    move |mut file| {
        file.seek(SeekFrom::Start(offset)).expect("it can be written");
        file.write_all(bytes).expect("it can be written");
    }
}

#[test]
fn a_header_that_makes_no_sense_is_told_by_its_own_error() {
    let (_folder, path) = folder();
    drop(make(&path));
    let mut magic = std::fs::read(&path).expect("it is ours")[..8].to_vec();
    magic.reverse();
    assert!(matches!(opened_after(put(0, &magic)), Error::IncompatibleRingBuffer));
    let forming = opened_after(put(0, &[0; 8]));
    assert!(matches!(forming, Error::NotReady), "{forming:?}");
    // The last one is what another byte order would make of this version.
    for version in [0, 2, u32::MAX, 1_u32.swap_bytes()] {
        let error = opened_after(put(8, &version.to_le_bytes()));
        let right =
            matches!(error, Error::VersionMismatch { found, expected: 1 } if found == version);
        assert!(right, "{error:?}");
    }
    for slot_count in [0, 1, 4096, u32::MAX] {
        let error = opened_after(put(12, &slot_count.to_le_bytes()));
        assert!(matches!(error, Error::Corrupt { offset: 12 }), "{slot_count}: {error:?}");
    }
    for capacity in [0, 1, 8, 24, 33, 4097, u64::MAX] {
        let error = opened_after(put(16, &u64::to_le_bytes(capacity)));
        assert!(matches!(error, Error::Corrupt { offset: 16 }), "{capacity}: {error:?}");
    }
    for capacity in [32, 4088, 4104, 1 << 40, 1 << 63, u64::MAX - 7] {
        let error = opened_after(put(16, &u64::to_le_bytes(capacity)));
        assert!(matches!(error, Error::WrongSize { .. }), "{capacity}: {error:?}");
    }
}

/// 64-bit processes have addresses for any file that a disk can hold.
#[test]
#[cfg(target_pointer_width = "32")]
fn a_ring_beyond_the_address_space_is_out_of_memory() {
    let capacity = 3_u64 << 30;
    let error = opened_after(|file| {
        put(16, &capacity.to_le_bytes())(file);
        file.set_len(data_offset(4) as u64 + capacity).expect("a sparse file can be large");
    });
    assert!(matches!(&error, Error::Io(e) if e.kind() == ErrorKind::OutOfMemory), "{error:?}");
}

#[test]
fn a_file_cut_off_or_grown_is_told_by_its_size() {
    let whole = {
        let (_folder, path) = folder();
        drop(make(&path));
        std::fs::metadata(&path).expect("it is there").len()
    };
    let resize = |len: u64| opened_after(move |file| file.set_len(len).expect("it is ours"));
    assert!(matches!(resize(0), Error::NotARing));
    for len in [100, 1024, 4096, whole / 2, whole - 1, whole + 1, 2 * whole] {
        let error = resize(len);
        let right = matches!(error, Error::WrongSize { expected, actual }
            if expected == whole && actual == len);
        assert!(right, "{len}: {error:?}");
    }
    // In the middle of the header, what is missing reads as zeros.
    for len in [1, 10, 17] {
        let cut = resize(len);
        let typed =
            matches!(cut, Error::NotARing | Error::WrongSize { .. } | Error::Corrupt { .. });
        assert!(typed, "{len}: {cut:?}");
    }
}

/// Copies a live ring's file and receives from the copy.
#[test]
fn a_copied_file_is_a_crashed_ring_and_gives_what_was_in_it() {
    let (folder, path) = folder();
    let ring = make(&path);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.send_bytes(&[1; 100]).expect("it fits");
    assert!(receiver.recv_timeout::<u64>(LONG).is_err(), "it has the role and freed something");
    sender.send(&1_u64).expect("it fits");
    let mut unfinished = sender.reserve(8).expect("it fits");
    unfinished.write_all(&2_u64.to_le_bytes()).expect("it fits");
    sender.send(&3_u64).expect("it fits");
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).expect("it can be copied");
    let before = ring.stats();

    let copied = SharedRingBuffer::open(copy.to_str().expect("UTF-8")).expect("it is a ring");
    assert!(!copied.stats().receiver_alive);
    let (other_sender, other_receiver) = (Sender::new(copied.clone()), Receiver::new(copied));
    // What was being sent there has no living sender.
    for expected in [Some(1), Some(3), None] {
        let got = other_receiver.recv_timeout::<u64>(Duration::from_millis(300));
        assert_eq!(got.expect("the original's receiver has no say here"), expected);
    }
    other_sender.send(&4_u64).expect("it fits");
    assert_eq!(other_receiver.recv::<u64>().expect("it is sound"), 4);
    assert_eq!(ring.stats(), before, "the copy does not talk to the original");
    unfinished.commit().expect("its sender lives");
    for expected in [1, 2, 3] {
        assert_eq!(receiver.recv::<u64>().expect("it is sound"), expected);
    }
}

#[test]
fn create_new_leaves_what_is_there_alone() {
    let (folder, path) = folder();
    std::fs::write(&path, "precious").expect("a file can be written");
    let made = Options::new().create_new(&path);
    assert!(matches!(made, Err(Error::Io(e)) if e.kind() == ErrorKind::AlreadyExists));
    assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
    assert!(matches!(Options::new().mode(0o666).open_or_create(&path), Err(Error::NotARing)));
    assert_eq!(names(folder.path()), ["ring"]);
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("it can be read").file_name();
        name.into_string().expect("UTF-8")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn what_a_maker_that_died_has_left_is_removed_by_the_next() {
    let (folder, path) = folder();
    let draft = folder.path().join(".ring.ipmpsc-new");
    for bytes in [&b""[..], &[0; 5000]] {
        std::fs::write(&draft, bytes).expect("a file can be written");
        drop(make(&path));
        assert_eq!(names(folder.path()), ["ring"]);
        std::fs::remove_file(&path).expect("it is there");
    }
}

#[test]
fn makers_killed_at_any_time_leave_a_whole_ring_or_none_and_do_not_stop_the_next() {
    let mut random = Random::seeded("makers_killed_at_any_time");
    for _ in 0..40 {
        let (folder, path) = folder();
        let mut child = Child::start("files::maker", &[&path]);
        let watch = folder.path().to_owned();
        // From when there is anything at all, a random moment later.
        wait_until("it has begun", || !names(&watch).is_empty());
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        child.kill();
        match SharedRingBuffer::open(&path) {
            Ok(ring) => assert!(ring.capacity() >= 1 << 24),
            Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
            Err(error) => panic!("{error:?}"),
        }
        drop(SharedRingBuffer::create(&path, 100).expect("a dead maker is no obstacle"));
        assert_eq!(names(folder.path()), ["ring"]);
    }
}

/// The values that a word is poked with.
///
/// Beside bits and limits: the ring's capacity, and a record of 4 GiB by a slot that there is.
const NONSENSE: [u64; 13] = [
    0,
    1,
    7,
    8,
    12,
    0x80,
    4096,
    4096 + 8,
    1 << 31,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
    0xffff_ffff_0001_0012,
];

/// What may come of sending and receiving in a ring of nonsense: anything but a panic, a wait
/// beyond its time, or an error that says something else.
fn use_badly(sender: &Sender, receiver: &mut Receiver, what: &str) {
    let began = Instant::now();
    let short = Duration::from_micros(500);
    let allowed = |error: &Error| {
        matches!(
            error,
            Error::Corrupt { .. }
                | Error::Closed
                | Error::Decode(_)
                | Error::Evicted
                | Error::ReceiverExists
                | Error::ReceiverGone
                | Error::TooManySenders
                | Error::Disconnected
        )
    };
    for _ in 0..2 {
        let mut errors = vec![
            sender.send_timeout(&1_u64, short).err(),
            sender.send_bytes_timeout(&[1; 600], short).err(),
            sender.send_batch_timeout(&[1_u64; 30], short).err(),
            sender.send_when_empty_timeout(&1_u64, short).err(),
            receiver.recv_timeout::<u64>(short).err(),
            receiver.try_recv::<Vec<u64>>().err(),
            receiver.try_recv::<String>().err(),
        ];
        let mut bytes = 0;
        errors.push(receiver.try_drain(1000, |message| bytes += message.len()).err());
        for error in errors.into_iter().flatten() {
            assert!(allowed(&error), "{what}: {error:?}");
        }
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{what}: took {took:?}");
}

/// A ring with a few records in it, its handles, and its words.
fn victim() -> (tempfile::TempDir, Sender, Receiver, Words) {
    let (folder, path) = folder();
    let ring = make(&path);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    for number in 0..8_u64 {
        sender.send(&number).expect("it fits");
    }
    for number in 0..3 {
        assert_eq!(receiver.recv::<u64>().expect("sound"), number);
    }
    (folder, sender, receiver, Words::of(&path))
}

fn poke_at_run_time() {
    let data = data_offset(4);
    // The identity as well, of which those attached have their own copy.
    let identity = [0, 8, 16, 24, 32];
    let words = [CLAIM, TAIL, HEAD_CACHE, 152, 160, 168, 176, 184];
    let words = words.into_iter().chain([HEAD, 264, 272, 280, 288, 296, 384, 512]);
    let places = identity.into_iter().chain(words).chain([1024, 1032, 1040, 1048]);
    let records = (0..10).map(|record| data + 16 * record);
    for place in places.chain(records) {
        for value in NONSENSE {
            let (_folder, sender, mut receiver, words) = victim();
            words.word(place).store(value, Relaxed);
            say(&format!("{place}: {value:#x}"));
            use_badly(&sender, &mut receiver, &format!("{place}: {value:#x}"));
        }
    }
    say("survived");
}

#[test]
fn words_poked_under_way_are_an_error_or_a_wait_in_time() {
    let mut child = Child::start("files::poke", &[]);
    let mut poked = String::new();
    loop {
        match child.hear_within(Duration::from_secs(5)) {
            Some(line) if line == "survived" => break,
            Some(line) => poked = line,
            None => panic!("{poked} was not survived"),
        }
    }
    child.finish();
}

/// What happens to a byte: what is kept of it, and what is flipped then.
const CHANGES: [(u8, u8); 13] = [
    (0, 0),
    (0, 1),
    (0, 0x7f),
    (0, 0x80),
    (0, 0xff),
    (0xff, 1),
    (0xff, 1 << 1),
    (0xff, 1 << 2),
    (0xff, 1 << 3),
    (0xff, 1 << 4),
    (0xff, 1 << 5),
    (0xff, 1 << 6),
    (0xff, 1 << 7),
];

/// Every byte of the words that matter, with five values each and each of its bits flipped, before
/// a ring is opened and after; with two values where making a ring takes wine 20 ms.
fn sweep(part: usize) {
    let is_late: &[bool] = if cfg!(target_os = "linux") { &[false, true] } else { &[false] };
    let changes = if cfg!(target_os = "linux") { &CHANGES[..] } else { &[(0, 1), (0, 0xff)] };
    let data = data_offset(4);
    let bytes = (0..640).chain(1024..1072).chain(data..data + 80);
    let (_folder, path) = folder();
    for byte in bytes.filter(|byte| byte % 2 == part) {
        say(&byte.to_string());
        for (&(kept, flipped), &is_late) in
            changes.iter().flat_map(|change| is_late.iter().map(move |late| (change, late)))
        {
            let ring = Options::new().capacity(2000).max_senders(4).create(&path);
            let ring = ring.expect("a ring can be made");
            let sender = Sender::new(ring.clone());
            for number in 0..5_u64 {
                sender.send(&number).expect("it fits");
            }
            drop(sender);
            let words = Words::of(&path);
            let change = || {
                let byte = words.byte(byte);
                byte.store(byte.load(Relaxed) & kept ^ flipped, Relaxed);
            };
            if is_late {
                let ends = (Sender::new(ring.clone()), Receiver::new(ring));
                assert_eq!(ends.1.recv::<u64>().expect("sound"), 0);
                change();
                use_without_waiting(ends);
                continue;
            }
            drop(ring);
            change();
            // Opened after the change, as by one who comes late.
            if let Ok(ring) = SharedRingBuffer::open(&path) {
                use_without_waiting((Sender::new(ring.clone()), Receiver::new(ring)));
            }
        }
    }
    say("survived");
}

fn use_without_waiting((sender, receiver): (Sender, Receiver)) {
    for _ in 0..7 {
        // Anything but a panic, a signal or a hang.
        let _ = receiver.try_recv::<u64>();
        let _ = sender.try_send(&1_u64);
        let _ = sender.try_send_bytes(&[1; 300]);
    }
}

#[test]
fn every_byte_and_bit_changed_before_and_after_open_is_survived() {
    let mut children = [0, 1].map(|part| Child::start("files::sweep", &[&part.to_string()]));
    for child in &mut children {
        while child.hear() != "survived" {}
        child.finish();
    }
}

#[test]
fn corruption_stays_and_a_new_ring_is_the_way_out() {
    let (folder, path) = folder();
    let ring = make(&path);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    sender.send(&1_u64).expect("it fits");
    Words::of(&path).word(data_offset(4)).store(0xf, Relaxed);
    let data = data_offset(4) as u64;
    for _ in 0..3 {
        let error = receiver.try_recv::<u64>().expect_err("it makes no sense");
        assert!(matches!(error, Error::Corrupt { offset } if offset == data), "{error:?}");
        let error = receiver.recv::<u64>().expect_err("it makes no sense");
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }
    Words::of(&path).word(TAIL).store(u64::MAX, Relaxed);
    assert!(matches!(sender.send(&1_u64), Err(Error::Corrupt { offset: 136 })));
    drop((sender, receiver));
    let ring = SharedRingBuffer::create(&path, 100).expect("a new one can be made");
    Sender::new(ring.clone()).send(&2_u64).expect("it fits");
    assert_eq!(Receiver::new(ring).recv::<u64>().expect("it is sound"), 2);
    drop(folder);
}

#[test]
fn a_hole_punched_into_the_records_is_corruption_and_not_an_empty_ring() {
    let (_folder, _sender, receiver, words) = victim();
    for record in 0..8 {
        words.word(data_offset(4) + 16 * record).store(0, Relaxed);
    }
    let error = receiver.recv_timeout::<u64>(LONG).expect_err("messages have gone");
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}

/// Sends and receives by copying while another thread writes nonsense everywhere.
fn race_with_a_mutator(seed: u64) {
    let end = Instant::now() + Duration::from_millis(500);
    let mut random = Random(seed);
    while Instant::now() < end {
        let (_folder, sender, receiver, words) = victim();
        let round = Instant::now() + Duration::from_millis(25);
        std::thread::scope(|scope| {
            let seed = random.next();
            let words = &words;
            scope.spawn(move || {
                let mut random = Random(seed);
                while Instant::now() < round {
                    for _ in 0..1000 {
                        let place = match random.below(3) {
                            0 => 128 + 8 * random.below(50) as usize,
                            1 => 1024 + 8 * random.below(10) as usize,
                            _ => data_offset(4) + 8 * random.below(500) as usize,
                        };
                        let value = match random.below(4) {
                            0 => NONSENSE[random.below(NONSENSE.len() as u64) as usize],
                            1 => random.below(64) << 32 | random.below(0x30),
                            2 => words.word(place).load(Relaxed) ^ 1 << random.below(64),
                            _ => random.next(),
                        };
                        words.word(place).store(value, Relaxed);
                    }
                }
            });
            scope.spawn(|| {
                while Instant::now() < round {
                    // Anything but a panic, a signal or a hang.
                    let _ = sender.try_send(&1_u64);
                    let _ = sender.send_bytes_timeout(&[1; 300], Duration::from_micros(100));
                }
            });
            while Instant::now() < round {
                let _ = receiver.try_recv::<Vec<u64>>();
                let _ = receiver.recv_timeout::<u64>(Duration::from_micros(100));
            }
        });
    }
    say("survived");
}

#[test]
fn nonsense_written_at_the_same_time_is_survived() {
    let mut random = Random::seeded("nonsense_written_at_the_same_time_is_survived");
    for _ in 0..2 {
        let mut child = Child::start("files::mutator", &[&random.next().to_string()]);
        assert_eq!(child.hear(), "survived");
        child.finish();
    }
}

#[test]
fn options_beyond_their_limits_are_refused() {
    let (_folder, path) = folder();
    for count in [0, 4095, u32::MAX] {
        let made = Options::new().max_senders(count).create_new(&path);
        assert!(matches!(made, Err(Error::InvalidOptions(_))), "{count}");
    }
    for capacity in [u64::MAX, u64::MAX - 100, 1 << 63, isize::MAX as u64] {
        let made = Options::new().capacity(capacity).create_new(&path);
        assert!(matches!(made, Err(Error::InvalidOptions(_))), "{capacity}");
    }
    assert!(Options::new().max_senders(4094).capacity(0).create_new(&path).is_ok());
}
