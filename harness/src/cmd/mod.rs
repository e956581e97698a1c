//! The commands. None imports another; what several need is in `session` and `child`.

mod compare;
mod doctor;
mod inspect;
mod report;
#[cfg(all(feature = "fault", feature = "mutant"))]
mod selftest;
mod torture;
mod transports;
mod verify;
pub(crate) mod worker;

use anyhow::Result;

use crate::{
    args::{self, Options, Order, Stop},
    child, machine,
    session::{Ending, Session},
    sys,
};

/// Does what was ordered.
pub(crate) fn run(order: Order, options: Options) -> Result<Ending> {
    match order {
        Order::Worker => worker::run(),
        Order::Hello => {
            worker::hello();
            return Ok(Ending::Passed);
        }
        Order::Sweeper => torture::sweeper(),
        Order::Victim { act, path } => {
            return torture::victim(act, &path).map(|()| Ending::Passed);
        }
        Order::Nemesis { id, subject, folder } => {
            return torture::nemesis(&id, &subject, &folder).map(|()| Ending::Passed);
        }
        Order::Torture { ref faults, .. } if faults.list => {
            return torture::list(&options).map(|()| Ending::Passed);
        }
        Order::Janitor { folder } => {
            worker::janitor(&folder);
            return Ok(Ending::Passed);
        }
        Order::Transports => {
            transports::run(&options);
            return Ok(Ending::Passed);
        }
        Order::Report { folders, mode } => return report::run(&folders, mode),
        Order::Inspect { path, records, bytes } => {
            return inspect::inspect(&options, &path, records, bytes);
        }
        Order::Tail { path, bytes } => return inspect::tail(&options, &path, bytes),
        Order::All
        | Order::Verify { .. }
        | Order::Compare
        | Order::Torture { .. }
        | Order::Doctor => {}
        Order::Replay { file, plan, times } => {
            let mut session = Session::open(options)?;
            torture::replay(&mut session, &file, &plan, times)?;
            return session.finish();
        }
        Order::Attempt { words } => return attempt(words),
        #[cfg(all(feature = "fault", feature = "mutant"))]
        Order::Selftest { only } => {
            let mut session = Session::open(options)?;
            selftest::run(&mut session, &only)?;
            return session.finish();
        }
        #[cfg(not(all(feature = "fault", feature = "mutant")))]
        Order::Selftest { .. } => unreachable!("`parse` refuses it in such a build"),
        Order::Shrink { file, plan } => {
            let mut session = Session::open(options)?;
            torture::shrink(&mut session, &file, &plan)?;
            return session.finish();
        }
    }
    if let Err(line) = child::greet(&options.producer_bins) {
        eprintln!("harness: {line}");
        return Ok(Ending::Usage);
    }
    let mut session = Session::start(options)?;
    if matches!(order, Order::All | Order::Compare) {
        let processes = session.options.producers + 1;
        machine::oversubscribed(processes).iter().for_each(|note| session.progress.say(note));
    }
    match order {
        Order::Verify { only } => verify::run(&mut session, only.as_deref())?,
        Order::Compare => {
            // Only here `--for` is the time of the comparison; in the whole it is verify's.
            let time = session.options.duration;
            compare::run(&mut session, time)?;
        }
        Order::Doctor => doctor::run(&mut session)?,
        Order::Torture { kills, faults } => torture::run(&mut session, kills, &faults)?,
        _ => {
            verify::run(&mut session, None)?;
            torture::run_part(&mut session)?;
            compare::run(&mut session, None)?;
        }
    }
    session.finish()
}

/// The hidden `__attempt`: what its words say, as long as whoever has started it lives.
fn attempt(words: Vec<std::ffi::OsString>) -> Result<Ending> {
    sys::die_with_parent();
    let program = std::ffi::OsString::from("harness");
    match args::parse(std::iter::once(program).chain(words)) {
        Ok((order, options)) => run(order, options),
        Err(Stop::Answer(what) | Stop::Mistake(what)) => anyhow::bail!("{what}"),
    }
}
