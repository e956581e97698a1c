//! Writes the first inputs of the corpus: real rings in several states. Its argument is the folder.

#[allow(dead_code, reason = "only `shorten` is used")]
#[path = "../../../tests/it/images.rs"]
mod images;

use ipmpsc::{Options, Receiver, Sender};
use std::path::Path;

/// Something that brings a ring into a state.
type Use = fn(&Sender, &mut Receiver);

const STATES: [(&str, Use); 8] = [
    ("new", |_, _| {}),
    ("messages", |sender, _| {
        sender.send(&vec![1_u64, 2, 3]).expect("it fits");
        sender.send(&"text").expect("it fits");
        sender.send_bytes(b"bytes").expect("it fits");
        sender.send_bytes(b"").expect("it fits");
    }),
    ("full", |sender, _| while sender.try_send_bytes(&[7; 50]).expect("sound") {}),
    ("wrapped", |sender, receiver| {
        for round in 0..9 {
            sender.send_bytes(&[round; 70]).expect("it fits");
            receiver.recv_bytes().expect("it is there");
        }
        sender.send_bytes(&[1; 70]).expect("it fits");
    }),
    ("claimed", |sender, _| {
        std::mem::forget(sender.reserve(30).expect("it fits"));
        sender.send(&"behind it").expect("it fits");
    }),
    ("shortened", |sender, _| {
        let mut reservation = sender.reserve(60).expect("it fits");
        std::io::Write::write_all(&mut reservation, b"short").expect("it fits");
        reservation.commit().expect("we live");
        drop(sender.reserve(20).expect("it fits"));
        sender.send(&"after it").expect("it fits");
    }),
    ("batch", |sender, _| sender.send_batch(&["a", "bb", "ccc"]).expect("it fits")),
    ("emptied", |sender, receiver| {
        sender.send_batch(&["a", "bb", "ccc"]).expect("it fits");
        while receiver.try_recv_bytes().expect("sound").is_some() {}
    }),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: seeds FOLDER")?;
    for target in ["open_image", "use_image", "race_image"] {
        std::fs::create_dir_all(Path::new(&folder).join(target))?;
    }
    for (name, bring) in STATES {
        let path = std::env::temp_dir().join(format!("ipmpsc-seed-{}", std::process::id()));
        let ring = Options::new().capacity(240).max_senders(4).create(&path)?;
        let mut receiver = Receiver::new(ring.clone());
        bring(&Sender::new(Options::new().open(&path)?), &mut receiver);
        let input = images::shorten(&std::fs::read(&path)?);
        std::fs::remove_file(&path)?;
        for target in ["open_image", "use_image", "race_image"] {
            std::fs::write(Path::new(&folder).join(target).join(name), &input)?;
        }
    }
    Ok(())
}
