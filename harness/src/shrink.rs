//! A failing plan made small: what can be left out is left out, as long as what is left still
//! fails. Runs nothing itself.

use crate::{
    payload::HEADER_LEN,
    plan::{Fault, Plan, Turns, Until, Way, Who},
};

const RING_MIN: u64 = 64;
/// A typed message's extra bytes, which the longest one leaves free.
const TYPED_EXTRA: u64 = 8;

/// Why there is no more to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over;

/// The smallest plan found of which `holds` says that it fails like the first one. Whenever a
/// smaller one is found, `holds` has been asked about it last; its error ends the search.
pub(crate) fn shrink(mut plan: Plan, mut holds: impl FnMut(&Plan) -> Result<bool, Over>) -> Plan {
    loop {
        let before = plan.clone();
        for pass in PASSES {
            let mut at = 0;
            while let Some(candidate) = pass(&plan, &mut at) {
                if candidate == plan || candidate.text() == plan.text() {
                    continue;
                }
                match holds(&candidate) {
                    Ok(true) => (plan, at) = (candidate, at.saturating_sub(1)),
                    Ok(false) => {}
                    Err(Over) => return plan,
                }
            }
        }
        if plan == before {
            return plan;
        }
    }
}

/// A pass tries its candidates by number: `at` is the next one, and what it leaves there is where
/// to go on.
type Pass = fn(&Plan, &mut usize) -> Option<Plan>;
const PASSES: [Pass; 7] = [producers, faults, messages, sizes, chunks, counts, times];

/// Without one of the producers.
fn producers(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let gone = u32::try_from(*at).ok().filter(|&gone| gone < plan.producers)?;
    *at += 1;
    if plan.producers == 1 {
        return None;
    }
    let renumbered = |who: Who| match who {
        Who::Producer(number) if number == gone => None,
        Who::Producer(number) if number > gone => Some(Who::Producer(number - 1)),
        other => Some(other),
    };
    let schedule = plan.schedule.iter().filter_map(|turns| {
        renumbered(turns.who).map(|who| Turns { who, until: turns.until.clone() })
    });
    let faults = plan.faults.iter();
    let faults =
        faults.filter_map(|fault| renumbered(fault.who).map(|who| Fault { who, ..fault.clone() }));
    let (schedule, faults) = (merged(schedule), faults.collect());
    Some(Plan { producers: plan.producers - 1, schedule, faults, ..plan.clone() })
}

/// Without halves, quarters .. single ones of the faults.
fn faults(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let faults = without(&plan.faults, at)?;
    Some(Plan { faults, ..plan.clone() })
}

/// Without halves, quarters .. single entries of the schedule.
fn chunks(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let schedule = merged(without(&plan.schedule, at)?.into_iter());
    Some(Plan { schedule, ..plan.clone() })
}

/// With one message each, with half of them, with one less.
fn messages(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let fewer = [1, plan.messages / 2, plan.messages.saturating_sub(1)];
    let messages = *fewer.get(*at)?;
    *at += 1;
    let may = plan.way == Way::Lockstep && (1..plan.messages).contains(&messages);
    Some(if may { Plan { messages, ..plan.clone() } } else { plan.clone() })
}

/// With shorter messages, then with a smaller ring.
fn sizes(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let Plan { longest, ring_bytes, .. } = *plan;
    let shorter = [HEADER_LEN, HEADER_LEN + (longest - HEADER_LEN) / 2];
    let number = *at;
    *at += 1;
    if let Some(&longest) = shorter.get(number) {
        return Some(Plan { longest, ..plan.clone() });
    }
    let ring_bytes = match number - shorter.len() {
        0 => RING_MIN,
        1 => (ring_bytes / 2).next_multiple_of(8).max(RING_MIN),
        _ => return None,
    };
    let most = usize::try_from(ring_bytes - TYPED_EXTRA).unwrap_or(longest);
    Some(Plan { ring_bytes, longest: longest.min(most), ..plan.clone() })
}

/// With fewer turns in one entry: one, half of them, one less.
fn counts(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let (entry, which) = (*at / 3, *at % 3);
    let turns = plan.schedule.get(entry)?;
    *at += 1;
    let Until::Count(count) = turns.until else { return Some(plan.clone()) };
    let fewer = [1, count / 2, count.saturating_sub(1)][which];
    let mut smaller = plan.clone();
    if fewer > 0 {
        smaller.schedule[entry].until = Until::Count(fewer);
    }
    Some(smaller)
}

/// With one fault sooner or shorter, under load.
fn times(plan: &Plan, at: &mut usize) -> Option<Plan> {
    let (entry, which) = (*at / 2, *at % 2);
    let mut smaller = plan.clone();
    let fault = smaller.faults.get_mut(entry)?;
    *at += 1;
    let time = if which == 0 { &mut fault.after_us } else { &mut fault.for_us };
    *time /= 2;
    Some(smaller)
}

/// Number `at` of the ways to leave out a part: the halves, then the quarters, and so on.
fn without<T: Clone>(all: &[T], at: &mut usize) -> Option<Vec<T>> {
    let (mut part, mut number) = (all.len().div_ceil(2), *at);
    while part > 0 {
        let parts = all.len().div_ceil(part);
        if number < parts {
            *at += 1;
            let gone = number * part..((number + 1) * part).min(all.len());
            return Some([&all[..gone.start], &all[gone.end..]].concat());
        }
        number -= parts;
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    None
}

/// Two entries of one process in a row are one.
fn merged(schedule: impl Iterator<Item = Turns>) -> Vec<Turns> {
    let mut all: Vec<Turns> = Vec::new();
    for turns in schedule {
        match (all.last_mut(), &turns.until) {
            (Some(Turns { who, until: Until::Count(count) }), Until::Count(more))
                if *who == turns.who =>
            {
                *count += more;
            }
            _ => all.push(turns),
        }
    }
    all
}

/// Says where each entry's turns lead, where that is the same, by what happened: lines of turn,
/// process and place.
pub(crate) fn with_points(plan: &Plan, history: &[String]) -> Plan {
    let lines: Vec<_> = history.iter().filter_map(|line| placed(line)).collect();
    let (mut named, mut turn) = (plan.clone(), 0);
    for turns in &mut named.schedule {
        let Until::Count(count) = turns.until else { return plan.clone() };
        let (first, last) = (turn + 1, turn + u64::from(count));
        turn = last;
        let who = turns.who.to_string();
        let on_the_way =
            lines.iter().filter(|(turn, name, _)| (first..=last).contains(turn) && *name == who);
        let places: Vec<_> = on_the_way.map(|&(turn, _, at)| (turn, at)).collect();
        // A wake or a death is no place.
        let end = places.iter().rev().find(|(_, at)| !at.starts_with("is ") || at.contains('/'));
        if let Some(&(at_turn, at)) = end {
            let is_first = places.iter().filter(|(_, other)| *other == at).count() == 1;
            if at_turn == last && is_first {
                turns.until = Until::Point(at.to_owned());
            }
        }
    }
    named
}

fn placed(line: &str) -> Option<(u64, &str, &str)> {
    let (turn, rest) = line.trim_start().split_once(' ')?;
    let (who, at) = rest.trim_start().split_once(' ')?;
    Some((turn.parse().ok()?, who, at.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::small;

    fn turns(text: &str) -> Vec<Turns> {
        text.split(", ").map(|turns| turns.parse().expect("it is one")).collect()
    }

    /// A plan from which all but the two turns of p1 around c's can be dropped.
    fn large() -> Plan {
        let schedule = "p0 7, c 3, p2 9, p1 5, p0 2, c 6, p2 1, p1 4, p0 8, c 2";
        let (producers, messages, schedule) = (3, 9, turns(schedule));
        let one = small().faults[0].clone();
        let mut last = one.clone();
        last.who = Who::Producer(2);
        Plan { producers, messages, schedule, faults: vec![one, last], ..small() }
    }

    #[test]
    fn what_does_not_matter_goes_and_what_matters_stays() {
        let fails = |plan: &Plan| {
            let of = |who| move |turns: &&Turns| turns.who == who;
            let ours: Vec<_> = plan.schedule.iter().filter(of(Who::Consumer)).collect();
            let count = |turns: &Turns| match turns.until {
                Until::Count(count) => count,
                Until::Point(_) => 0,
            };
            Ok(ours.iter().any(|turns| count(turns) >= 2) && !plan.faults.is_empty())
        };
        let small = shrink(large(), fails);
        assert_eq!(small.schedule, turns("c 2"));
        assert_eq!((small.producers, small.messages, small.faults.len()), (1, 1, 1));
        assert_eq!((small.longest, small.ring_bytes), (HEADER_LEN, RING_MIN));
        Plan::parse(&small.text()).expect("what is left is a plan");
    }

    #[test]
    fn every_plan_on_the_way_can_be_run() {
        shrink(large(), |plan| {
            Plan::parse(&plan.text()).expect("it is a plan");
            Ok(plan.schedule.len() > 3)
        });
    }

    #[test]
    fn the_smallest_so_far_is_kept_when_time_is_over() {
        let mut asked = 0;
        let small = shrink(large(), |_| {
            asked += 1;
            if asked > 1 { Err(Over) } else { Ok(true) }
        });
        assert_eq!((asked, small.producers), (2, 2));
    }

    #[test]
    fn a_count_becomes_the_point_it_leads_to_where_that_is_the_same() {
        let schedule = turns("p0 3, c 2, p1 2");
        let plan = Plan { schedule, ..small() };
        let history = [
            "    0 p0  sends 0.0/0, 24 bytes",
            "    1 p0  claim-locked",
            "    2 p0  claim-ended",
            "    3 p0  claim-marked",
            "    4 c   attach-locked",
            "    5 c   attach-locked",
            "    6 p1  claim-locked",
            "    7 p1  is killed",
            "    7 p1  sends 1.1/0, 24 bytes",
        ];
        let history = history.map(String::from);
        let named = with_points(&plan, &history).schedule;
        let shown: Vec<_> = named.iter().map(Turns::to_string).collect();
        assert_eq!(shown, ["p0 to claim-marked", "c 2", "p1 to sends 1.1/0, 24 bytes"]);
    }
}
