//! Rings from arbitrary bytes, and everything that can be done with one: what the fuzzer calls, and
//! here, with what it has found so far (`ipmpsc/fuzz/corpus`), a test of every run.
//!
//! An input is a ring's file without what nobody reads: its first 640 bytes, 5 slots, the data.

use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const HEADER: usize = 640;
const SLOTS: usize = 5;
const SLOTS_AT: usize = 1024;
const DATA_AT: usize = 4096;
/// Where an input's data begin.
const DATA_IN: usize = HEADER + 16 * SLOTS;
const MOST_DATA: usize = 2048;

/// A file without a name, of these bytes.
fn file_of(bytes: &[u8]) -> File {
    // SAFETY: a C string and a number.
    let descriptor = unsafe { libc::memfd_create(c"image".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(descriptor >= 0, "the system makes files without a name");
    // SAFETY: a descriptor of our own, not used elsewhere.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all_at(bytes, 0).expect("memory can be written");
    file
}

/// The file that an input means; its data rounded up to 8 bytes.
fn expand(input: &[u8]) -> Vec<u8> {
    let data = input.get(DATA_IN..).unwrap_or_default();
    let data = &data[..data.len().min(MOST_DATA)];
    let mut image = vec![0; DATA_AT + data.len().next_multiple_of(8).max(32)];
    let header = &input[..input.len().min(HEADER)];
    image[..header.len()].copy_from_slice(header);
    let slots = input.get(HEADER..input.len().min(DATA_IN)).unwrap_or_default();
    image[SLOTS_AT..SLOTS_AT + slots.len()].copy_from_slice(slots);
    image[DATA_AT..DATA_AT + data.len()].copy_from_slice(data);
    image
}

/// The input that means a ring's file.
#[allow(dead_code, reason = "the corpus is made with it")]
pub(crate) fn shorten(image: &[u8]) -> Vec<u8> {
    [&image[..HEADER], &image[SLOTS_AT..SLOTS_AT + 16 * SLOTS], &image[DATA_AT..]].concat()
}

/// Gives an image the identity of a sound ring, so that it opens.
fn make_open(image: &mut [u8]) {
    let capacity = (image.len() - DATA_AT) as u64;
    image[..8].copy_from_slice(b"ipmpsc\xf1\n");
    image[8..12].copy_from_slice(&1_u32.to_le_bytes());
    image[12..16].copy_from_slice(&(SLOTS as u32).to_le_bytes());
    image[16..24].copy_from_slice(&capacity.to_le_bytes());
}

/// Opens an image with any header, and uses what opens.
pub(crate) fn open_image(input: &[u8]) {
    if let Ok(ring) = SharedRingBuffer::from_file(file_of(&expand(input))) {
        use_ring(&ring);
    }
}

/// Uses an image with any header but its identity, any slots and any records.
pub(crate) fn use_image(input: &[u8]) {
    let mut image = expand(input);
    make_open(&mut image);
    let ring = SharedRingBuffer::from_file(file_of(&image));
    use_ring(&ring.expect("its identity is sound"));
}

/// Copies messages out of an image while a peer writes the input's last words all over it.
pub(crate) fn race_image(input: &[u8]) {
    let mut image = expand(input);
    make_open(&mut image);
    let file = file_of(&image);
    let ring = SharedRingBuffer::from_file(file.try_clone().expect("a descriptor can be cloned"));
    let ring = ring.expect("its identity is sound");
    let map = memmap2::MmapOptions::new().map_raw(&file).expect("memory can be mapped");
    let words: Vec<u64> = input
        .rchunks_exact(8)
        .take(32)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (map, done) = (&map, &done);
        let peer = scope.spawn(move || {
            // After the identity, which those attached do not read again, and before the end.
            let places = (128..HEADER).chain(DATA_AT..map.len()).step_by(8);
            let mut places = places.cycle();
            let mut values = words.iter().cycle();
            while !done.load(Relaxed) {
                let (Some(place), Some(&value)) = (places.next(), values.next()) else {
                    return;
                };
                // SAFETY: inside the mapping and aligned to 8, by `places`; atomic.
                let word = unsafe { &*map.as_mut_ptr().wrapping_add(place).cast::<AtomicU64>() };
                word.store(value, Relaxed);
            }
        });
        let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        for _ in 0..8 {
            check(receiver.try_recv::<Vec<u64>>().err());
            check(sender.try_send(&1_u64).err());
            check(receiver.try_recv::<String>().err());
            check(sender.try_send_bytes(&[1; 100]).err());
        }
        done.store(true, Relaxed);
        // A scope waits for its threads' work alone. What they have of std goes later, and would
        // be a leak to the fuzzer until then.
        peer.join().expect("it only stores words");
    });
}

/// What may be said of a ring of nonsense.
fn check(error: Option<Error>) {
    let Some(error) = error else {
        return;
    };
    let allowed = matches!(
        error,
        Error::Corrupt { .. }
            | Error::Closed
            | Error::Decode(_)
            | Error::Evicted
            | Error::MessageTooLarge
            | Error::ReceiverExists
            | Error::ReceiverGone
            | Error::TooManySenders
    );
    assert!(allowed, "{error:?}");
}

fn use_ring(ring: &SharedRingBuffer) {
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    for round in 0..3 {
        check(receiver.try_recv::<Vec<u64>>().err());
        check(sender.try_send(&round).err());
        check(receiver.try_recv_bytes().map(|message| message.map_or(0, |it| it.len())).err());
        check(sender.try_send_bytes(&[1; 100]).err());
        check(receiver.zero_copy_context().try_recv::<&str>().err());
        match sender.try_reserve(40) {
            Ok(Some(reservation)) if round == 1 => drop(reservation),
            Ok(reservation) => {
                check(reservation.and_then(|reservation| reservation.commit().err()));
            }
            Err(error) => check(Some(error)),
        }
        let mut bytes = 0_usize;
        let count = |message: &[u8]| {
            bytes += message.iter().map(|&byte| usize::from(byte)).sum::<usize>();
        };
        check(receiver.try_drain(100, count).err());
        std::hint::black_box((bytes, ring.stats()));
    }
}

#[cfg(test)]
#[allow(clippy::module_inception, reason = "the fuzzer includes this file as a module")]
mod corpus {
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_has_found_is_survived() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (target, run) in [
            ("open_image", super::open_image as fn(&[u8])),
            ("use_image", super::use_image),
            ("race_image", super::race_image),
        ] {
            let inputs = std::fs::read_dir(corpus.join(target)).expect("the corpus is there");
            let mut count = 0;
            for input in inputs {
                let input = std::fs::read(input.expect("the folder can be read").path());
                run(&input.expect("an input can be read"));
                count += 1;
            }
            println!("{target}: {count} inputs");
            assert!(count > 0, "{target} has no inputs");
        }
    }
}
