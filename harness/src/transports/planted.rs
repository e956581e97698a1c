//! Faults on purpose, so that a test can show that each check finds its own.
//!
//! `HARNESS_PLANT=KIND@N` in the environment makes the worker that is producer 0 do KIND at its
//! N-th message, or at the first one after it that is long enough to say which it is. Nobody else
//! looks at the variable, and nothing else sets it.
//!
//! | KIND | what it does | the check that must fail |
//! |---|---|---|
//! | `lose` | acknowledges a message and drops it | loss |
//! | `double` | sends a message twice | duplicate |
//! | `swap` | sends a message after the next | order |
//! | `phantom` | sends a message that nobody asked for | phantom |
//! | `flip` | changes a byte | bytes |
//! | `cut`, `extend` | a byte less, a byte more | length |
//! | `delay` | acknowledges a message and sends it when others have been sent | real-time order |
//! | `accept` | takes a message that is too large, and drops it | oversized |
//! | `late` | returns from a wait long after its time | timeout |
//! | `leak` | opens a file and forgets it | leak of a descriptor |
//! | `litter` | leaves a file | leak of a file |
//! | `orphan` | starts a process and leaves it | leak of a process |
//! | `stall` | stops for ever | progress |
//! | `hurry` | the consumer ends the run at its first message | none, but coverage is missing |

use std::{env, fs::File, path::PathBuf, process::Command, str::FromStr, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{SendError, Setup, Tx};

const VARIABLE: &str = "HARNESS_PLANT";
/// A message of this length says which one it is.
const NAMED: usize = 24;
/// Long enough for other producers to send something.
const DELAY: Duration = Duration::from_millis(20);
/// Longer than any run, and not for ever should all else fail.
const ORPHAN_SECONDS: &str = "600";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lose,
    Double,
    Swap,
    Phantom,
    Flip,
    Cut,
    Extend,
    Delay,
    Accept,
    Late,
    Leak,
    Litter,
    Orphan,
    Stall,
    Hurry,
}

/// What is planted, and at which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plant {
    kind: Kind,
    at: u64,
}

impl FromStr for Plant {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Plant> {
        let (kind, at) = text.split_once('@').context("write it like lose@100")?;
        let kind = match kind {
            "lose" => Kind::Lose,
            "double" => Kind::Double,
            "swap" => Kind::Swap,
            "phantom" => Kind::Phantom,
            "flip" => Kind::Flip,
            "cut" => Kind::Cut,
            "extend" => Kind::Extend,
            "delay" => Kind::Delay,
            "accept" => Kind::Accept,
            "late" => Kind::Late,
            "leak" => Kind::Leak,
            "litter" => Kind::Litter,
            "orphan" => Kind::Orphan,
            "stall" => Kind::Stall,
            "hurry" => Kind::Hurry,
            other => bail!("no fault is called {other}"),
        };
        Ok(Plant { kind, at: at.parse().context("the number of a message")? })
    }
}

fn plant() -> Result<Option<Plant>> {
    let text = env::var(VARIABLE).ok();
    text.map(|text| text.parse().context(VARIABLE)).transpose()
}

fn is_planted(kind: Kind) -> bool {
    plant().is_ok_and(|plant| plant.is_some_and(|plant| plant.kind == kind))
}

/// Whether an oversized message is to be taken.
pub(crate) fn accepts_oversized() -> bool {
    is_planted(Kind::Accept)
}

/// Whether a consumer is to end its run at once.
pub(crate) fn hurries() -> bool {
    is_planted(Kind::Hurry)
}

/// Waits too long, if that is planted.
pub(crate) fn be_late(late: Duration) {
    if is_planted(Kind::Late) {
        thread::sleep(late);
    }
}

/// Opens a file and forgets it, if that is planted.
pub(crate) fn leak_descriptor() {
    if is_planted(Kind::Leak)
        && let Ok(file) = File::open("/dev/null")
    {
        std::mem::forget(file);
    }
}

/// The producer's end, with what is planted in it.
pub(crate) fn wrap(tx: Box<dyn Tx>, producer: u32, setup: &Setup) -> Result<Box<dyn Tx>> {
    let Some(plant) = plant()?.filter(|_| producer == 0) else {
        return Ok(tx);
    };
    let litter = setup.folder.join("litter");
    Ok(Box::new(Planted { tx, plant, litter, sent: 0, held: None, is_done: false }))
}

struct Planted {
    tx: Box<dyn Tx>,
    plant: Plant,
    litter: PathBuf,
    sent: u64,
    /// A message that was acknowledged and not sent.
    held: Option<Vec<u8>>,
    is_done: bool,
}

impl Tx for Planted {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if let Some(held) = self.held.take() {
            return self.release(&held, message);
        }
        self.sent += 1;
        if self.is_done || self.sent < self.plant.at || message.len() < NAMED {
            return self.pass(message);
        }
        self.is_done = true;
        self.strike(message)
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        if self.is_done && self.held.is_none() && self.plant.kind != Kind::Accept {
            return self.tx.try_send(message);
        }
        self.send(message).map(|()| true)
    }
}

impl Planted {
    fn pass(&mut self, message: &[u8]) -> Result<(), SendError> {
        match self.tx.send(message) {
            Err(SendError::TooLarge) if self.plant.kind == Kind::Accept => Ok(()),
            sent => sent,
        }
    }

    fn strike(&mut self, message: &[u8]) -> Result<(), SendError> {
        let mut other = message.to_vec();
        match self.plant.kind {
            Kind::Lose => return Ok(()),
            Kind::Swap | Kind::Delay => {
                self.held = Some(other);
                return Ok(());
            }
            Kind::Double => self.pass(message)?,
            // The sequence of the header, far beyond what is ever sent.
            Kind::Phantom => {
                other[14] = 1;
                self.pass(&other)?;
            }
            Kind::Flip => {
                let last = other.len() - 1;
                other[last] ^= 1;
                return self.pass(&other);
            }
            Kind::Cut => return self.pass(&message[..message.len() - 1]),
            Kind::Extend => {
                other.push(0);
                match self.pass(&other) {
                    // It was the longest: the next one, then.
                    Err(SendError::TooLarge) => self.is_done = false,
                    sent => return sent,
                }
            }
            Kind::Leak => leak_descriptor(),
            Kind::Litter => drop(File::create(&self.litter)?),
            Kind::Orphan => drop(Command::new("sleep").arg(ORPHAN_SECONDS).spawn()?),
            Kind::Stall => loop {
                thread::park();
            },
            Kind::Accept | Kind::Late | Kind::Hurry => {}
        }
        self.pass(message)
    }

    /// What was held goes after the next message that says which it is, or before it and late.
    fn release(&mut self, held: &[u8], message: &[u8]) -> Result<(), SendError> {
        if self.plant.kind == Kind::Delay {
            thread::sleep(DELAY);
            self.pass(held)?;
            return self.pass(message);
        }
        self.pass(message)?;
        if message.len() < NAMED {
            self.held = Some(held.to_vec());
            return Ok(());
        }
        self.pass(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, rc::Rc};

    #[derive(Default)]
    struct Kept(Rc<RefCell<Vec<Vec<u8>>>>);

    impl Tx for Kept {
        fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
            self.0.borrow_mut().push(message.to_vec());
            Ok(())
        }
    }

    /// The first bytes of what arrives when four messages are sent.
    fn arrivals(plant: &str) -> Vec<u8> {
        let kept = Kept::default();
        let arrived = Rc::clone(&kept.0);
        let plant = plant.parse().expect("a known fault");
        let (litter, sent, held, is_done) = (PathBuf::new(), 0, None, false);
        let mut tx = Planted { tx: Box::new(kept), plant, litter, sent, held, is_done };
        for message in 0..4 {
            tx.try_send(&[message; NAMED]).expect("it is kept");
        }
        arrived.take().iter().map(|message| message[0]).collect()
    }

    #[test]
    fn a_fault_strikes_once_and_where_it_should() {
        assert_eq!(arrivals("lose@2"), [0, 2, 3]);
        assert_eq!(arrivals("double@2"), [0, 1, 1, 2, 3]);
        assert_eq!(arrivals("swap@2"), [0, 2, 1, 3]);
        assert_eq!(arrivals("delay@2"), [0, 1, 2, 3]);
        assert_eq!(arrivals("flip@2"), [0, 1, 2, 3]);
        assert_eq!(arrivals("lose@9"), [0, 1, 2, 3]);
    }

    #[test]
    fn an_unknown_fault_is_a_mistake() {
        assert!("lose".parse::<Plant>().is_err());
        assert!("dance@1".parse::<Plant>().is_err());
        assert!("lose@first".parse::<Plant>().is_err());
    }
}
