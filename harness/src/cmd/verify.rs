//! No faults: awkward sizes around the ring's end, and every message accounted for.

use std::time::Duration;

use anyhow::Result;

use crate::{
    checks::balance,
    child::{Crew, Plan, Trouble},
    ledger::Ledger,
    payload::mix,
    protocol::{Coverage, Report, Task},
    record::{FailedRow, Row, VerifyRow},
    scenario::{Producers, Scenario, VERIFY},
    session::{Channel, Session},
    transports::{Transport, find, is_ours},
};

/// Transports that need not be as fast are verified with messages up to this length.
const FOREIGN_MAX: u64 = 64 << 10;
/// What is verified when no transport is named.
const OURS: [&str; 3] = ["ipmpsc", "ipmpsc-zero-copy", "ipmpsc-bytes"];

/// Runs the table of scenarios, or for named transports one scenario each.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    let time = session.options.duration.unwrap_or(session.options.profile.table().verify);
    let named = session.options.transports.clone();
    let ours: Vec<_> = named.iter().copied().filter(|name| is_ours(name)).collect();
    let ours = if named.is_empty() { OURS.to_vec() } else { ours };
    let foreign: Vec<_> = named.iter().copied().filter(|name| !is_ours(name)).collect();
    let steps = if ours.is_empty() { 0 } else { VERIFY.len() } + foreign.len();
    session.progress.begin("verify", steps as u64);
    let mut coverage = Coverage::default();
    if !ours.is_empty() {
        for scenario in &VERIFY {
            // A form that was not asked for is replaced by one that was.
            let transport = ours[scenario.form % ours.len()];
            let part = time.mul_f64(f64::from(scenario.share) / 100.0);
            coverage = coverage.plus(step(session, scenario, transport, part)?);
        }
        judge(session, coverage);
    }
    for transport in foreign {
        if let Some(why) = find(transport).and_then(Transport::missing) {
            session.skip(transport, &why);
        } else if find(transport).is_some_and(Transport::joins_processes) {
            let part = time / u32::try_from(steps)?;
            step(session, &FOREIGN, transport, part)?;
        } else {
            session.skip(transport, "it joins no processes");
        }
    }
    session.progress.end();
    Ok(())
}

/// How transports that are not ours are verified: by messages of all sizes.
const FOREIGN: Scenario = Scenario {
    name: "all sizes",
    form: 0,
    ring_bytes: 1 << 20,
    producers: Producers::All,
    mix: crate::protocol::Mix::Boundaries,
    share: 0,
};

/// One scenario, from spawning to the books.
fn step(
    session: &mut Session,
    scenario: &Scenario,
    transport: &str,
    part: Duration,
) -> Result<Coverage> {
    if session.is_over() {
        return Ok(Coverage::default());
    }
    let name = format!("{} ({transport})", scenario.name);
    session.progress.step(&name);
    let plan = plan(session, scenario, transport, part)?;
    let outcome = verify(&plan, part);
    session.clear(&plan);
    session.progress.stepped();
    match outcome {
        Err(trouble) => {
            session.fail_with(&trouble, "verify", &name, transport)?;
            Ok(Coverage::default())
        }
        Ok((consumer, coverage, faults)) => {
            for what in &faults {
                session.fail(FailedRow {
                    command: "verify".into(),
                    name: name.clone(),
                    transport: transport.into(),
                    what: what.clone(),
                })?;
            }
            if faults.is_empty() {
                session.pass();
            }
            session.record(&Row::Verify(VerifyRow {
                name: scenario.name.into(),
                transport: transport.into(),
                producers: plan.setup.producers,
                ring_bytes: scenario.ring_bytes,
                seed: plan.seed,
                messages: consumer.measured,
                elapsed_ns: consumer.measured_ns,
                coverage,
            }))?;
            Ok(coverage)
        }
    }
}

fn plan(
    session: &mut Session,
    scenario: &Scenario,
    transport: &str,
    part: Duration,
) -> Result<Plan> {
    let producers = match scenario.producers {
        Producers::One => 1,
        Producers::All => session.options.producers,
    };
    let message_max = if is_ours(transport) { scenario.ring_bytes } else { FOREIGN_MAX };
    let seed = mix(session.options.seed ^ scenario.ring_bytes ^ u64::from(producers));
    let channel = Channel { ring_bytes: scenario.ring_bytes, message_max, producers, seed };
    let for_ns = u64::try_from(part.as_nanos())?;
    Ok(session.plan(transport, Task::Verify { mix: scenario.mix, for_ns }, channel))
}

/// The consumer's report, the coverage of all, and what is wrong with the books.
fn verify(plan: &Plan, part: Duration) -> Result<(Report, Coverage, Vec<String>), Trouble> {
    let ledger = Ledger::create(&plan.ledger, plan.setup.producers)
        .map_err(|error| Trouble::Failed(format!("the ledger: {error}")))?;
    let mut crew = Crew::gather(plan)?;
    crew.go();
    let (consumer, producers) = crew.finish(part)?;
    let books = consumer.by_producer.iter().zip(&consumer.hashes);
    let faults = (0..)
        .zip(books)
        .filter_map(|(p, (&count, &hash))| balance(p, ledger.line(p), count, hash).err())
        .collect();
    let coverage =
        producers.iter().fold(consumer.coverage, |sum, producer| sum.plus(producer.coverage));
    Ok((consumer, coverage, faults))
}

/// Green only if the states that break rings were reached.
fn judge(session: &mut Session, coverage: Coverage) {
    let Coverage { wrapped, padded, full, empty, refused } = coverage;
    session.progress.say(&format!(
        "coverage: {wrapped} times around the end, {padded} of them skipping bytes, {full} times \
         full, {empty} times empty, {refused} oversized messages refused"
    ));
    let missing: Vec<_> = [
        ("around the end", wrapped),
        ("bytes skipped at the end", padded),
        ("full", full),
        ("empty", empty),
        ("oversized refused", refused),
    ]
    .into_iter()
    .filter_map(|(state, count)| (count == 0).then_some(state))
    .collect();
    if !missing.is_empty() && !session.is_over() {
        let missing = missing.join(", ");
        session.inconclusive(&format!("never reached: {missing}; give it longer with --for"));
    }
}
