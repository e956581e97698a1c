//! The catalogue of faults: for each row how it is brought about here, or why it is not, and what
//! must hold.

#[macro_use]
mod alone;
// Written for Linux; elsewhere its rows say so.
#[cfg(target_os = "linux")]
#[macro_use]
mod around;
#[cfg(not(target_os = "linux"))]
#[macro_use]
#[path = "elsewhere.rs"]
mod around;
mod both;
mod catalogue;

use std::path::Path;

pub(crate) use catalogue::CATALOGUE;

/// One row of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// As in the design's catalogue: P producers, S stopped, C consumer, F file, H header,
    /// R resources, L lifecycle, M messages.
    pub(crate) id: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) how: How,
}

/// Where a row is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// By one process over either crate's API.
    Alone(Alone),
    /// By signals to one of several processes, whatever joins them.
    Field(Field),
    /// By `torture --sweep instructions --only` this.
    Swept(&'static str),
    /// By `torture` under load, as the fault of this name.
    Load(&'static str),
    /// By the test of this name in the crate, which can reach more of it.
    Crate(&'static str),
    /// On this system only.
    Elsewhere(&'static str),
    /// Not at all, and why.
    No(&'static str),
}

/// A scenario of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    pub(crate) ours: fn(&Path) -> Result<(), Broken>,
    pub(crate) old: fn(&Path) -> Result<(), Broken>,
    /// 0.5.1 is known to fail; if it does not, the scenario is wrong.
    pub(crate) old_fails: bool,
    /// What our crate documents instead of surviving.
    pub(crate) documented: Option<&'static str>,
    /// Whether the folder must be a file system of 64 KiB.
    pub(crate) tiny: bool,
    /// Where it applies.
    pub(crate) platform: &'static str,
}

/// A signal to one of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    KillProducers,
    /// All of them at once; what they had sent arrives.
    KillAll,
    FreezeProducer,
    FreezeConsumer,
    /// It is killed, and nobody takes its place.
    LoseConsumer,
    /// It runs a tenth of the time.
    SlowConsumer,
    /// All are put on one processor, and producers killed there.
    OneProcessor,
    /// All are stopped and resumed at once, again and again.
    Blink,
}

/// How something did not survive.
#[derive(Clone, Debug)]
pub(crate) enum Broken {
    Blocks(String),
    Loses(String),
    Corrupts(String),
    Dies(String),
    /// It could not be brought about on this machine.
    #[allow(dead_code, reason = "nothing of what is brought about everywhere is")]
    NotHere(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        Broken::Dies(format!("an error where none is due: {error}"))
    }
}

/// What must be so; otherwise messages are not what they should be.
fn is(so: bool, otherwise: &str) -> Result<(), Broken> {
    if so { Ok(()) } else { Err(Broken::Corrupts(otherwise.into())) }
}

/// The entry of this id.
pub(crate) fn find(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_the_design_is_there_once() {
        let counts =
            [("P", 21), ("S", 8), ("C", 13), ("F", 17), ("H", 13), ("R", 11), ("L", 11), ("M", 15)];
        // What the design has as nemeses, without an id.
        let more = ["C14", "R12"];
        for (group, count) in counts {
            for number in 1..=count {
                let id = format!("{group}{number}");
                let found = CATALOGUE.iter().filter(|entry| entry.id == id).count();
                assert_eq!(found, 1, "{id}");
            }
        }
        let all = counts.iter().map(|(_, count)| count).sum::<usize>();
        assert!(more.iter().all(|id| find(id).is_some()));
        assert_eq!(CATALOGUE.len(), all + more.len());
    }
    #[test]
    fn the_tests_and_acts_it_names_exist() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipmpsc/tests/it");
        let texts: String = std::fs::read_dir(tests)
            .expect("the crate has tests")
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .collect();
        for entry in CATALOGUE {
            match entry.how {
                How::Crate(test) => assert!(texts.contains(&format!("fn {test}()")), "{test}"),
                #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
                How::Swept(act) => {
                    let known = crate::sweep::ACTS.iter().any(|known| known.name.contains(act));
                    assert!(known, "{act}");
                }
                _ => {}
            }
        }
    }
}
