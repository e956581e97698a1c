//! What goes through the ring: sizes and their limits, bad bytes, bad `Serialize`s, guards.

use crate::children::{HEAD, HEAD_CACHE, LONG, Note, TAIL, Words, folder};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn ring_of(message_bytes: u64) -> SharedRingBuffer {
    let ring = Options::new().capacity(message_bytes).anonymous();
    ring.expect("a ring can be made")
}

fn pair(message_bytes: u64) -> (Sender, Receiver) {
    let ring = ring_of(message_bytes);
    (Sender::new(ring.clone()), Receiver::new(ring))
}

/// Sends into a ring with nothing to receive. What pads and discarded records take is free once
/// the receiver has looked, and a pad may have to come first.
fn put(sender: &Sender, receiver: &mut Receiver, bytes: &[u8]) {
    let sent = (0..3).any(|_| {
        let nothing = receiver.try_recv_bytes().expect("the ring is sound").is_none();
        assert!(nothing, "the ring should be empty");
        sender.try_send_bytes(bytes).expect("it fits")
    });
    assert!(sent, "{} bytes find no space in an empty ring", bytes.len());
}

/// The ring works, and gave nothing of what went wrong before.
fn goes_on(sender: &Sender, receiver: &mut Receiver) {
    put(sender, receiver, &77_u64.to_le_bytes());
    assert_eq!(receiver.try_recv::<u64>().expect("the ring is sound"), Some(77));
    assert_eq!(receiver.try_recv::<u64>().expect("the ring is sound"), None);
}

#[test]
fn ends_go_to_and_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Sender>();
    shared::<Receiver>();
    shared::<SharedRingBuffer>();
    shared::<Error>();
}

#[test]
fn a_message_of_no_bytes_is_a_message() {
    let (sender, mut receiver) = pair(16);
    for _ in 0..10 {
        sender.send(&()).expect("there is space");
        receiver.recv::<()>().expect("it is there");
        sender.send_bytes(b"").expect("there is space");
        assert!(receiver.recv_bytes().expect("it is there").is_empty());
    }
    assert_eq!(receiver.try_recv::<()>().expect("sound"), None);
}

#[test]
fn the_largest_message_fits_every_ring_and_a_byte_more_changes_nothing() {
    for asked in (1..100).chain([128, 129, 1000, 4096, 65_536]) {
        let ring = ring_of(asked);
        let most = ring.max_message_len();
        assert!(most >= asked);
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let bytes = vec![3; most as usize + 1];
        for _ in 0..3 {
            let before = ring.stats();
            for refused in [
                sender.send_bytes(&bytes).err(),
                sender.try_send(&Exactly(most + 1)).err(),
                sender.reserve(most as usize + 1).err(),
                sender.send_batch(&[Exactly(most + 1)]).err(),
                sender.send_when_empty(&Exactly(most + 1)).err(),
            ] {
                assert!(matches!(refused, Some(Error::MessageTooLarge)), "{refused:?}");
            }
            assert_eq!(ring.stats(), before);
            put(&sender, &mut receiver, &bytes[1..]);
            assert_eq!(*receiver.recv_bytes().expect("it is there"), bytes[1..]);
            // The next lap's largest message begins elsewhere in the ring.
            put(&sender, &mut receiver, &[1]);
            assert_eq!(receiver.recv::<u8>().expect("it is there"), 1);
        }
    }
}

#[test]
fn the_largest_message_passes_wherever_the_tail_stands() {
    let ring = ring_of(200);
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    let largest = vec![9; ring.max_message_len() as usize];
    let lens: Vec<usize> = (0..200).flat_map(|len| [len, largest.len()]).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for &len in &lens {
                sender.send_bytes(&largest[..len]).expect("the receiver makes space");
            }
        });
        for &len in &lens {
            let message = receiver.recv_bytes_timeout(LONG).expect("sound").expect("in time");
            assert_eq!(*message, largest[..len]);
        }
    });
}

/// Serializes to exactly so many bytes.
struct Exactly(u64);

impl Serialize for Exactly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0 as usize)?;
        for _ in 0..self.0 {
            tuple.serialize_element(&3_u8)?;
        }
        tuple.end()
    }
}

#[test]
fn create_temp_of_one_byte_takes_a_byte() {
    let (path, ring) = SharedRingBuffer::create_temp(1).expect("a ring can be made");
    let receiver = Receiver::new(ring);
    let sender = Sender::new(SharedRingBuffer::open(&path).expect("it can be opened"));
    for byte in 0..=u8::MAX {
        sender.send(&byte).expect("it fits");
        assert_eq!(receiver.recv::<u8>().expect("it is there"), byte);
    }
}

#[test]
fn a_message_of_the_wrong_type_costs_itself_only() {
    let (sender, mut receiver) = pair(1000);
    let send_both = || {
        sender.send_bytes(&[0xff; 9]).expect("there is space");
        sender.send(&"good").expect("there is space");
    };
    send_both();
    assert!(matches!(receiver.recv::<String>(), Err(Error::Decode(_))));
    assert_eq!(receiver.recv::<String>().expect("the next is good"), "good");
    send_both();
    let mut context = receiver.zero_copy_context();
    assert!(matches!(context.recv::<&str>(), Err(Error::Decode(_))));
    assert_eq!(context.recv::<&str>().expect("the next is good"), "good");
}

#[test]
fn bytes_beyond_a_value_are_an_error() {
    let (sender, receiver) = pair(1000);
    sender.send(&(1_u32, 2_u32)).expect("there is space");
    assert!(matches!(receiver.recv::<u32>(), Err(Error::Decode(_))));
    sender.send(&1_u32).expect("there is space");
    assert_eq!(receiver.recv::<u32>().expect("exactly these bytes"), 1);
}

#[test]
fn lengths_that_lie_allocate_nothing_and_are_an_error() {
    let (sender, receiver) = pair(1000);
    for len in [1 << 20, 1 << 60, 1 << 32, 1 << 40, u64::MAX / 2, u64::MAX] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend([0x20; 8]);
        for _ in 0..4 {
            sender.send_bytes(&bytes).expect("there is space");
        }
        assert!(matches!(receiver.recv::<String>(), Err(Error::Decode(_))));
        assert!(matches!(receiver.recv::<Vec<u64>>(), Err(Error::Decode(_))));
        assert!(matches!(receiver.recv::<Vec<[u64; 32]>>(), Err(Error::Decode(_))));
        let map = receiver.recv::<std::collections::HashMap<u64, u8>>();
        assert!(matches!(map, Err(Error::Decode(_))));
    }
}

#[derive(Debug, Deserialize)]
enum Two {
    #[allow(dead_code, reason = "what is read is refused")]
    A(u8),
    B,
}

/// What is read through a string that it does not own.
#[derive(Debug, PartialEq)]
struct Text(usize);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Length;
        impl serde::de::Visitor<'_> for Length {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.len()))
            }
        }
        deserializer.deserialize_str(Length)
    }
}

#[test]
fn a_deserialize_may_look_at_text_that_it_does_not_keep() {
    let (sender, receiver) = pair(100);
    sender.send(&"two \u{e9}").expect("there is space");
    assert_eq!(receiver.try_recv().expect("it is text"), Some(Text(6)));
}

/// A value whose `Deserialize` panics.
#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("planned");
    }
}

#[test]
fn a_deserialize_that_panics_has_consumed_its_message() {
    let (sender, mut receiver) = pair(100);
    sender.send(&1_u64).expect("there is space");
    let received = catch_unwind(AssertUnwindSafe(|| receiver.try_recv::<Panics>()));
    assert!(received.is_err());
    goes_on(&sender, &mut receiver);
}

#[test]
fn bytes_that_are_no_value_of_the_type_are_an_error_and_consumed() {
    fn refused<T: for<'de> Deserialize<'de>>(bytes: &[u8]) {
        let (sender, mut receiver) = pair(100);
        sender.send_bytes(bytes).expect("there is space");
        assert!(matches!(receiver.try_recv::<T>(), Err(Error::Decode(_))), "{bytes:?}");
        goes_on(&sender, &mut receiver);
    }
    refused::<String>(&[2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28]);
    refused::<bool>(&[2]);
    refused::<Option<u8>>(&[7, 1]);
    refused::<char>(&[0xff]);
    refused::<char>(&[0xed, 0xa0, 0x80]);
    refused::<Two>(&[2, 0, 0, 0]);
    refused::<Two>(&[0, 0, 0, 0]);
    refused::<std::num::NonZeroU8>(&[0]);
    refused::<u64>(&[]);
    refused::<u64>(&[1; 7]);
    refused::<u64>(&[1; 9]);
    refused::<()>(&[0]);
    refused::<serde_bytes::ByteBuf>(&[3, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    refused::<serde_bytes::ByteBuf>(&[0xff; 9]);
    refused::<Text>(&[2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28]);
    refused::<Text>(&[0xff; 9]);
    refused::<Text>(&[1, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    let (sender, receiver) = pair(100);
    sender.send_bytes(&[1, 0, 0, 0]).expect("there is space");
    assert!(matches!(receiver.recv(), Ok(Two::B)));
}

/// A value whose `Serialize` calls `then` each time, having written `before` bytes.
struct Then<F> {
    before: usize,
    after: usize,
    then: F,
}

impl<F: Fn(u32) -> Option<&'static str>> Serialize for Then<Passes<F>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pass = self.then.passes.get() + 1;
        self.then.passes.set(pass);
        let mut tuple = serializer.serialize_tuple(self.before + self.after)?;
        (0..self.before).try_for_each(|_| tuple.serialize_element(&1_u8))?;
        if let Some(error) = (self.then.f)(pass) {
            return Err(S::Error::custom(error));
        }
        (0..self.after).try_for_each(|_| tuple.serialize_element(&2_u8))?;
        tuple.end()
    }
}

struct Passes<F> {
    passes: Cell<u32>,
    f: F,
}

fn then<F: Fn(u32) -> Option<&'static str>>(len: usize, f: F) -> Then<Passes<F>> {
    let passes = Cell::new(0);
    Then { before: len / 2, after: len - len / 2, then: Passes { passes, f } }
}

#[test]
fn a_serialize_that_panics_or_fails_sends_nothing() {
    let (sender, mut receiver) = pair(2000);
    for len in [10, 1000] {
        for failing_pass in [1, 2] {
            let value = then(len, |pass| {
                assert!(pass != failing_pass, "planned");
                None
            });
            let sent = catch_unwind(AssertUnwindSafe(|| sender.send(&value)));
            assert!(sent.is_err(), "the panic goes on");
            goes_on(&sender, &mut receiver);
            let value = then(len, |pass| (pass == failing_pass).then_some("planned"));
            assert!(matches!(sender.send(&value), Err(Error::Encode(_))));
            goes_on(&sender, &mut receiver);
            // The good one before it is not sent either.
            let fails = [u32::MAX, failing_pass];
            let batch =
                fails.map(|fails| then(len / 5, move |pass| (pass == fails).then_some("planned")));
            assert!(matches!(sender.send_batch(&batch), Err(Error::Encode(_))));
            goes_on(&sender, &mut receiver);
        }
    }
}

/// A value of another size at every pass.
struct Liar {
    len: Cell<usize>,
    by: isize,
}

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = self.len.get();
        self.len.set(len.wrapping_add_signed(self.by));
        let mut tuple = serializer.serialize_tuple(len)?;
        (0..len).try_for_each(|_| tuple.serialize_element(&1_u8))?;
        tuple.end()
    }
}

#[test]
fn a_size_that_changes_between_the_passes_is_an_error() {
    let (sender, mut receiver) = pair(4000);
    for len in [10, 1023, 1024, 1025, 1500] {
        for by in [-9, -1, 1, 9] {
            let len = Cell::new(len);
            let sent = sender.send(&Liar { len, by });
            assert!(matches!(sent, Err(Error::SizeChanged)), "{by}: {sent:?}");
            goes_on(&sender, &mut receiver);
        }
    }
    for lens in [[16, 16], [400, 17], [16, 400]] {
        for by in [-16, -8, 8, 9, 16] {
            let batch = lens.map(|len| Liar { len: Cell::new(len), by });
            let sent = sender.send_batch(&batch);
            assert!(matches!(sent, Err(Error::SizeChanged)), "{lens:?} by {by}: {sent:?}");
            goes_on(&sender, &mut receiver);
        }
    }
}

#[test]
fn a_serialize_may_send_on_the_same_ring_while_there_is_space() {
    let (sender, mut receiver) = pair(4000);
    // A small value is claimed after its passes, a large one between them.
    for (len, order) in [(10, [8, 8, 10]), (1200, [8, 1200, 8])] {
        let value = then(len, |pass| {
            sender.send(&u64::from(pass)).expect("there is space");
            None
        });
        sender.send(&value).expect("there is space");
        let mut lens = Vec::new();
        receiver.drain(10, |bytes| lens.push(bytes.len())).expect("they are there");
        assert_eq!(lens, order);
    }
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_serialize_that_waits_for_space_behind_its_own_value_is_an_error() {
    let (sender, mut receiver) = pair(2000);
    let refused = Cell::new(0);
    let value = then(1200, |pass| {
        if pass == 2 {
            // No other pass: in the first, nothing is claimed and this would wait.
            for sent in [
                sender.send_bytes(&[0; 1200]).err(),
                sender.send_bytes_timeout(&[0; 1200], LONG).err(),
            ] {
                assert!(matches!(sent, Some(Error::WouldDeadlock)), "{sent:?}");
                refused.set(refused.get() + 1);
            }
            assert!(!sender.try_send_bytes(&[0; 1200]).expect("it does not wait"));
        }
        None
    });
    sender.send(&value).expect("there is space");
    assert_eq!(refused.get(), 2);
    assert_eq!(receiver.recv_bytes().expect("it is there").len(), 1200);
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_reservation_dropped_shortened_or_overfilled_is_what_was_written_or_nothing() {
    let (sender, mut receiver) = pair(1000);
    for len in [0, 1, 7, 8, 9, 100] {
        drop(sender.reserve(len).expect("there is space"));
        for written in 0..=len {
            let mut reservation = sender.reserve(len).expect("there is space");
            assert_eq!((reservation.len(), reservation.is_empty()), (len, len == 0));
            assert!(reservation.as_mut_ptr().addr().is_multiple_of(8));
            reservation.write_all(&vec![5; written]).expect("it fits");
            assert_eq!(reservation.written(), written);
            reservation.commit().expect("we live");
            assert_eq!(*receiver.recv_bytes().expect("it is there"), vec![5; written]);
        }
        let mut reservation = sender.reserve(len).expect("there is space");
        assert!(reservation.write_all(&vec![6; len + 1]).is_err());
        reservation.commit().expect("we live");
        assert_eq!(*receiver.recv_bytes().expect("it is there"), vec![6; len]);
    }
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_reservation_can_be_written_through_its_pointer() {
    let (sender, mut receiver) = pair(1000);
    for (reserved, written) in [(0, 0), (1, 1), (64, 64), (100, 37), (100, 0)] {
        let bytes: Vec<u8> = (0..written as u8).collect();
        let mut reservation = sender.reserve(reserved).expect("there is space");
        let to = reservation.as_mut_ptr();
        // SAFETY: it leads to `reserved` bytes, which are as many or more.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), written) };
        // SAFETY: these have just been written.
        unsafe { reservation.set_written(written) };
        assert_eq!(reservation.written(), written);
        reservation.commit().expect("we live");
        assert_eq!(*receiver.recv_bytes().expect("it is there"), *bytes);
    }
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_reservation_holds_its_place_in_the_order() {
    let (sender, mut receiver) = pair(1000);
    let mut first = sender.reserve(8).expect("there is space");
    let second = sender.reserve(8).expect("there is space");
    sender.send(&3_u64).expect("there is space");
    assert_eq!(receiver.try_recv::<u64>().expect("a wait is no error"), None);
    drop(second);
    assert_eq!(receiver.try_recv::<u64>().expect("a wait is no error"), None);
    first.write_all(&1_u64.to_le_bytes()).expect("it fits");
    first.commit().expect("we live");
    assert_eq!(receiver.try_recv::<u64>().expect("sound"), Some(1));
    assert_eq!(receiver.try_recv::<u64>().expect("sound"), Some(3));
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_batch_larger_than_the_ring_arrives_whole_and_in_order() {
    let (sender, receiver) = pair(200);
    let values: Vec<Note> = (0..500).map(|seq| Note::new(1, seq, (seq % 150) as usize)).collect();
    let expected = values.clone();
    let sending = std::thread::spawn(move || sender.send_batch(&values));
    for expected in expected {
        let note: Option<Note> = receiver.recv_timeout(LONG).expect("sound");
        assert_eq!(note, Some(expected));
    }
    sending.join().expect("no panic").expect("all are sent");
    assert_eq!(receiver.try_recv::<Note>().expect("sound"), None);
}

#[test]
fn a_batch_says_how_much_of_it_was_sent_in_time() {
    let (sender, mut receiver) = pair(112);
    let values: Vec<u64> = (0..100).collect();
    let sent = sender.send_batch_timeout(&values, Duration::ZERO).expect("a wait is no error");
    assert!(sent > 0 && sent < 100);
    let mut got = Vec::new();
    let drained = receiver.try_drain(1000, |bytes| {
        got.push(u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    });
    assert_eq!(drained.expect("sound"), sent);
    assert_eq!(got, values[..sent]);
    assert_eq!(sender.send_batch_timeout::<u64>(&[], LONG).expect("nothing to do"), 0);
}

#[test]
fn a_batch_is_claimed_at_once_and_seen_whole() {
    const BATCHES: u64 = 2000;
    let ring = ring_of(2000);
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..BATCHES {
                sender.send_batch(&[5 * batch; 5]).expect("the receiver makes space");
            }
        });
        let mut next = 0;
        while next < 5 * BATCHES {
            assert!(ring.stats().sent.is_multiple_of(5));
            let drained = receiver.drain_timeout(1000, LONG, |bytes| {
                assert_eq!(*bytes, (next - next % 5).to_le_bytes());
                next += 1;
            });
            let drained = drained.expect("sound");
            assert!(drained > 0 && drained.is_multiple_of(5), "{drained} of {next}");
        }
    });
}

#[test]
fn a_batch_stops_at_a_message_that_is_too_large() {
    let (sender, mut receiver) = pair(100);
    let values = [vec![1_u8; 3], vec![2; 60], vec![3; 500], vec![4; 3]];
    assert!(matches!(sender.send_batch(&values), Err(Error::MessageTooLarge)));
    for expected in &values[..2] {
        assert_eq!(receiver.try_recv::<Vec<u8>>().expect("sound").as_ref(), Some(expected));
    }
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_drain_takes_up_to_its_limit_and_frees_it_in_one_step() {
    let ring = ring_of(1000);
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.send_batch(&[0_u64, 1, 2, 3, 4]).expect("there is space");
    let full = ring.stats().used;
    assert_eq!(receiver.drain(0, |_| unreachable!("none was asked for")).expect("sound"), 0);
    let mut seen = 0_u64;
    for (limit, expected, left) in [(3, 3, full / 5 * 2), (9, 2, 0), (9, 0, 0)] {
        let used = ring.stats().used;
        let drained = receiver.try_drain(limit, |bytes| {
            assert_eq!(*bytes, seen.to_le_bytes());
            assert_eq!(ring.stats().used, used, "nothing is freed yet");
            seen += 1;
        });
        assert_eq!((drained.expect("sound"), ring.stats().used), (expected, left));
    }
    assert_eq!(ring.stats().received, 5);
}

#[test]
fn a_drain_that_panics_has_consumed_what_it_was_shown() {
    let (sender, mut receiver) = pair(1000);
    for number in 0..5_u64 {
        sender.send(&number).expect("there is space");
    }
    let mut seen = 0;
    let drained = catch_unwind(AssertUnwindSafe(|| {
        receiver.drain(5, |_| {
            seen += 1;
            assert!(seen < 3, "planned");
        })
    }));
    assert!(drained.is_err());
    for number in 3..5_u64 {
        assert_eq!(receiver.try_recv().expect("sound"), Some(number));
    }
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_leaked_guard_gives_its_message_again() {
    let (sender, mut receiver) = pair(1000);
    sender.send(&1_u64).expect("there is space");
    sender.send(&2_u64).expect("there is space");
    std::mem::forget(receiver.recv_bytes().expect("it is there"));
    let mut context = receiver.zero_copy_context();
    assert_eq!(context.recv::<u64>().expect("it is there"), 1);
    std::mem::forget(context);
    assert_eq!(receiver.recv::<u64>().expect("it is there"), 1);
    assert_eq!(receiver.recv::<u64>().expect("it is there"), 2);
    goes_on(&sender, &mut receiver);
}

#[test]
fn a_context_receives_once_and_frees_on_drop() {
    let (sender, mut receiver) = pair(1000);
    sender.send(&1_u64).expect("there is space");
    sender.send(&2_u64).expect("there is space");
    let mut context = receiver.zero_copy_context();
    assert_eq!(context.try_recv::<u64>().expect("sound"), Some(1));
    assert!(matches!(context.recv::<u64>(), Err(Error::AlreadyReceived)));
    assert!(matches!(context.try_recv::<u64>(), Err(Error::AlreadyReceived)));
    let late = context.recv_timeout::<u64>(Duration::ZERO);
    assert!(matches!(late, Err(Error::AlreadyReceived)));
    drop(context);
    // A context that received nothing consumes nothing.
    drop(receiver.zero_copy_context());
    assert_eq!(receiver.recv::<u64>().expect("it is there"), 2);
    let mut context = receiver.zero_copy_context();
    assert_eq!(context.try_recv::<u64>().expect("sound"), None);
    assert_eq!(context.recv_timeout::<u64>(Duration::from_millis(1)).expect("sound"), None);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(with = "serde_bytes")]
    pixels: &'a [u8],
    number: u32,
}

#[test]
fn borrowed_fields_lie_in_the_ring() {
    let (sender, mut receiver) = pair(1000);
    let pixels: Vec<u8> = (0..=255).collect();
    for number in 0..50 {
        let frame = Frame { name: "größe", pixels: &pixels, number };
        sender.send(&frame).expect("there is space");
        // Not consumed, so that the same message comes again.
        let message = receiver.recv_bytes().expect("it is there");
        let place = message.as_ptr_range();
        std::mem::forget(message);
        let mut context = receiver.zero_copy_context();
        let got: Frame<'_> = context.recv().expect("it is there");
        assert_eq!(got, frame);
        assert!(place.contains(&got.name.as_ptr()) && place.contains(&got.pixels.as_ptr()));
    }
}

#[test]
fn payloads_begin_at_multiples_of_eight() {
    let (sender, mut receiver) = pair(500);
    for len in 0..400 {
        put(&sender, &mut receiver, &vec![1; len]);
        let message = receiver.recv_bytes().expect("it is there");
        assert!(message.as_ptr().addr().is_multiple_of(8));
    }
    goes_on(&sender, &mut receiver);
    sender.send_batch(&["a", "bcd", "efghijklmnopq"]).expect("there is space");
    let aligned = |bytes: &[u8]| assert!(bytes.as_ptr().addr().is_multiple_of(8));
    assert_eq!(receiver.drain(9, aligned).expect("sound"), 3);
}

#[test]
fn a_thousand_messages_pass_positions_of_any_size_in_order() {
    for near in [1_u64 << 32, 1 << 33, 1 << 62] {
        let (_folder, path) = folder();
        let ring = Options::new().capacity(1000).create_new(&path).expect("a ring can be made");
        // Some laps before `near`, at offset 0 of the ring, where the EMPTY word stands.
        let start = near / ring.capacity() * ring.capacity() - 10 * ring.capacity();
        let words = Words::of(&path);
        for offset in [HEAD, TAIL, HEAD_CACHE] {
            words.word(offset).store(start, SeqCst);
        }
        let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let note = |seq| Note::new(1, seq, (seq * 37 % 900) as usize);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seq in 0..1000 {
                    sender.send(&note(seq)).expect("the receiver makes space");
                }
            });
            for seq in 0..1000 {
                let got: Option<Note> = receiver.recv_timeout(LONG).expect("sound");
                assert_eq!(got, Some(note(seq)));
            }
        });
        assert!(words.word(HEAD).load(SeqCst) > near);
        assert_eq!((ring.stats().used, ring.stats().received), (0, 1000));
    }
}

#[test]
fn threads_share_senders_and_each_ones_messages_stay_in_order() {
    const THREADS: u32 = 4;
    const EACH: u64 = 5000;
    let ring = ring_of(3000);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    std::thread::scope(|scope| {
        for who in 0..THREADS {
            let (shared, own) = (&sender, (who % 2 == 1).then(|| sender.clone()));
            scope.spawn(move || {
                let sender = own.as_ref().unwrap_or(shared);
                for seq in 0..EACH {
                    let note = Note::new(who, seq, (seq % 300) as usize);
                    sender.send(&note).expect("the receiver makes space");
                }
            });
        }
        let receiver = &receiver;
        let receiving = scope.spawn(move || {
            let mut next = [0; THREADS as usize];
            for _ in 0..u64::from(THREADS) * EACH {
                let note: Note = receiver.recv_timeout(LONG).expect("sound").expect("in time");
                assert!(note.is_whole() && note.body.len() as u64 == note.seq % 300);
                assert_eq!(note.seq, next[note.who as usize], "of thread {}", note.who);
                next[note.who as usize] += 1;
            }
            next
        });
        assert_eq!(receiving.join().expect("no panic"), [EACH; THREADS as usize]);
    });
    assert_eq!(receiver.try_recv::<Note>().expect("sound"), None);
    let stats = ring.stats();
    let all = u64::from(THREADS) * EACH;
    assert_eq!((stats.sent, stats.received, stats.used), (all, all, 0));
}
