//! The commands. None imports another; what several need is in `session` and `child`.

mod compare;
mod doctor;
mod inspect;
mod report;
mod torture;
mod transports;
mod verify;
pub(crate) mod worker;

use anyhow::Result;

use crate::{
    args::{Options, Order},
    session::{Ending, Session},
};

/// Does what was ordered.
pub(crate) fn run(order: Order, options: Options) -> Result<Ending> {
    match order {
        Order::Worker => worker::run(),
        Order::Sweeper => torture::sweeper(),
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
        Order::Report { folders, check } => return report::run(&options, &folders, check),
        Order::Inspect { path } => return inspect::inspect(&options, &path),
        Order::Tail { path } => return inspect::tail(&options, &path),
        Order::All | Order::Verify | Order::Compare | Order::Torture { .. } | Order::Doctor => {}
    }
    let mut session = Session::start(options)?;
    match order {
        Order::Verify => verify::run(&mut session)?,
        Order::Compare => {
            // Only here `--for` is the time of the comparison; in the whole it is verify's.
            let time = session.options.duration;
            compare::run(&mut session, time)?;
        }
        Order::Doctor => doctor::run(&mut session)?,
        Order::Torture { kills, faults } => torture::run(&mut session, kills, &faults)?,
        _ => {
            verify::run(&mut session)?;
            torture::run_part(&mut session)?;
            compare::run(&mut session, None)?;
        }
    }
    session.finish()
}
