//! One torture as a file that a person reads and a machine repeats: who sends how much through
//! which ring, what befalls whom, and in lockstep who takes which turn.
//!
//! Under *load* everybody runs at once and the clock decides: each fault waits for its victim's
//! first send and then for its time, and the producers send until the last fault is over. In
//! *lockstep* every process stands still at every named point until it is its turn, so the
//! schedule decides, and the same plan has the same history every time.

use std::{fmt, fs, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    payload::HEADER_LEN,
    transports::{find, is_ours},
};

/// The form that takes a message out of the ring before it is shown, so that one may go with its
/// receiver.
const COPYING: &str = "ipmpsc";
/// What a typed message needs beside its bytes.
const TYPED_EXTRA: u64 = 8;
const RING_MIN: u64 = 64;
const RING_MAX: u64 = 1 << 30;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// What it broke when it was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// The planted bug with which it must fail, where it is kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) mutant: String,
    pub(crate) way: Way,
    pub(crate) transport: String,
    pub(crate) ring_bytes: u64,
    pub(crate) producers: u32,
    /// Of each producer and of each of its successors; under load there is no number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) messages: u64,
    /// The longest message, in bytes; each one's length follows from the seed.
    pub(crate) longest: usize,
    pub(crate) seed: u64,
    /// After it, each goes on as far as it can, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) schedule: Vec<Turns>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Load,
    Lockstep,
}

/// A process by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Producer(u32),
    Consumer,
}

/// Turns of one process, written `p0 12` or `c to recv-found`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    pub(crate) who: Who,
    pub(crate) until: Until,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Count(u32),
    /// It stands at this point.
    Point(String),
}

/// What befalls a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) who: Who,
    #[serde(rename = "do")]
    pub(crate) deed: Deed,
    /// In lockstep: as soon as it stands at this point,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// for the so-manieth time.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) passage: u32,
    /// Under load: not after its first send, but while it attaches,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) early: bool,
    /// and so long after that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) after_us: u64,
    /// How long it is stopped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) for_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    Kill,
    /// After it was stopped.
    KillStopped,
    Freeze,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Plan {
    /// Reads and checks a file. The error is one line: where, and what is wrong.
    pub(crate) fn read(path: &Path) -> Result<Plan, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            format!("cannot read {shown}: {error}; a failed torture says where it left its plan")
        })?;
        Plan::parse(&text).map_err(|what| format!("{shown}: {what}"))
    }

    /// As `read`, of what is in the file.
    pub(crate) fn parse(text: &str) -> Result<Plan, String> {
        let plan: Plan = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        toml::to_string_pretty(self).expect("names, strings, and numbers below 2^63")
    }

    fn check(&self) -> Result<(), String> {
        let Plan { transport, ring_bytes, producers, longest, .. } = self;
        if !is_ours(transport) || find(transport).is_none_or(|form| form.batch() > 1) {
            return Err(format!("transport {transport:?}: use a form of ipmpsc without batches"));
        }
        if !(RING_MIN..=RING_MAX).contains(ring_bytes) {
            return Err(format!("ring_bytes {ring_bytes}: use {RING_MIN} to {RING_MAX}"));
        }
        if !(1..=255).contains(producers) {
            return Err(format!("producers {producers}: use 1 to 255"));
        }
        let most = ring_bytes - TYPED_EXTRA;
        if *longest < HEADER_LEN || *longest as u64 > most {
            return Err(format!("longest {longest}: use {HEADER_LEN} to {most}"));
        }
        let turns = self.schedule.iter().map(|turns| turns.who);
        for who in turns.chain(self.faults.iter().map(|fault| fault.who)) {
            if matches!(who, Who::Producer(number) if number >= *producers) {
                return Err(format!("{who}: there are {producers} producers, from p0"));
            }
        }
        self.faults.iter().try_for_each(|fault| self.check_fault(fault))
    }

    fn check_fault(&self, fault: &Fault) -> Result<(), String> {
        let Fault { who, deed, at, passage, early, after_us, for_us } = fault;
        let kills = *deed != Deed::Freeze;
        if *who == Who::Consumer && kills && !self.redelivers() {
            return Err(format!(
                "{COPYING} may lose a message with its consumer: use another form"
            ));
        }
        match self.way {
            Way::Lockstep if at.is_none() || *passage == 0 => {
                Err("a fault in lockstep needs `at`, a point, and `passage`, from 1".into())
            }
            Way::Lockstep if *deed != Deed::Kill || *early || after_us + for_us > 0 => {
                Err("in lockstep `do` is \"kill\", at a point; the schedule stops processes".into())
            }
            Way::Load if at.is_some() => Err("`at` needs way = \"lockstep\"".into()),
            Way::Load if !self.schedule.is_empty() => {
                Err("`schedule` needs way = \"lockstep\"".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the form shows a message before it gives it back, so that none is lost with its
    /// consumer.
    pub(crate) fn redelivers(&self) -> bool {
        self.transport != COPYING
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Producer(number) => write!(f, "p{number}"),
            Who::Consumer => f.write_str("c"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        let number = text.strip_prefix('p').and_then(|number| number.parse().ok());
        match (text, number) {
            ("c", _) => Ok(Who::Consumer),
            (_, Some(number)) => Ok(Who::Producer(number)),
            _ => Err(format!("{text:?} is nobody; use c, or p0, p1 ...")),
        }
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.until {
            Until::Count(count) => write!(f, "{} {count}", self.who),
            Until::Point(point) => write!(f, "{} to {point}", self.who),
        }
    }
}

impl FromStr for Turns {
    type Err = String;

    fn from_str(text: &str) -> Result<Turns, String> {
        let (who, rest) = text.split_once(' ').unwrap_or((text, ""));
        let who = who.parse()?;
        let until = match (rest.strip_prefix("to "), rest.parse()) {
            (Some(point), _) => Until::Point(point.to_owned()),
            (_, Ok(count)) => Until::Count(count),
            _ => {
                return Err(format!("{text:?}: write turns like \"p0 12\" or \"c to recv-found\""));
            }
        };
        Ok(Turns { who, until })
    }
}

/// As the string that `Display` and `FromStr` agree on.
macro_rules! as_string {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_string!(Who);
as_string!(Turns);

/// A small plan in lockstep, for tests.
#[cfg(test)]
pub(crate) fn small() -> Plan {
    let text = r#"
        way = "lockstep"
        transport = "ipmpsc-bytes"
        ring_bytes = 256
        producers = 2
        messages = 3
        longest = 64
        seed = 7
        schedule = ["p0 to claim-moved", "c 4", "p1 12"]
        [[faults]]
        who = "p0"
        do = "kill"
        at = "claim-moved"
    "#;
    Plan::parse(text).expect("it is a plan")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = small();
        assert_eq!(Plan::parse(&plan.text()), Ok(plan.clone()));
        let (who, until) = (Who::Consumer, Until::Count(4));
        assert_eq!(plan.schedule[1], Turns { who, until });
        assert_eq!(plan.faults[0].passage, 1);
        assert!(!plan.text().contains("passage"), "what is usual is not said");
    }

    #[test]
    fn each_mistake_in_a_plan_is_one_line_that_says_where_or_what_instead() {
        let text = small().text();
        for (from, to, hint) in [
            ("way = \"lockstep\"", "way = \"dance\"", "line 1: unknown variant"),
            ("seed = 7", "seed = 7\nsed = 8", "line 8: unknown field `sed`"),
            ("seed = 7", "seed = ", "line 7: "),
            ("\"c 4\"", "\"c four\"", "write turns like"),
            ("\"c 4\"", "\"q 4\"", "use c, or p0"),
            ("\"p1 12\"", "\"p2 12\"", "there are 2 producers"),
            ("longest = 64", "longest = 23", "use 24 to 248"),
            ("longest = 64", "longest = 249", "use 24 to 248"),
            ("ring_bytes = 256", "ring_bytes = 8", "use 64 to"),
            ("producers = 2", "producers = 0", "use 1 to 255"),
            ("ipmpsc-bytes", "pipe", "use a form of ipmpsc"),
            ("at = \"claim-moved\"", "", "needs `at`"),
            ("do = \"kill\"", "do = \"freeze\"", "the schedule stops"),
            ("way = \"lockstep\"", "way = \"load\"", "needs way = \"lockstep\""),
        ] {
            let text = text.replace(from, to);
            let what = Plan::parse(&text).expect_err(to);
            assert!(what.contains(hint), "{to}: {what}");
            assert_eq!(what.lines().count(), 1, "{what}");
        }
        let copying = text.replace("ipmpsc-bytes", "ipmpsc").replace("who = \"p0\"", "who = \"c\"");
        assert!(Plan::parse(&copying).expect_err("a loss by plan").contains("another form"));
    }
}
