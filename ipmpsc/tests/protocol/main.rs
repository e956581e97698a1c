//! The protocol, not the program: every state that a few processes can reach, searched whole.
//!
//! Safety, in every state: nothing torn, doubled, out of order, made up, or taken from the living.
//! Liveness, from every state, however many were killed on the way there: those who are left can
//! reach the end, where all that was committed has arrived, without another death. In a finite
//! model that means that they do reach it, if every step that stays possible is made at last.
//! Without deaths they must reach it although no nap ever ends: no wake is lost. And wherever a
//! sender stops for ever between two claims, attaching included, the others reach their end without
//! it. (Inside a claim or a copy it holds the others up: a stopped process is not taken for dead.)
//!
//! `ci/model.sh` prints the numbers of states, and searches larger rings. What none of this shows
//! is that `ring.rs` does what the model does (the simulation and loom run the real one), and
//! orderings weaker than sequential consistency (loom again).

mod model;

use model::{Action, Bug, Protocol, State};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// What a whole search has found.
#[derive(Debug)]
struct Searched {
    states: usize,
    steps: usize,
    /// Ways from the beginning to a state with a broken promise, and to one without a way to the
    /// end.
    broken: Option<(&'static str, Vec<Action>)>,
    stuck: Option<Vec<Action>>,
    /// A sender, and a way to where it stops between two claims and holds the others up.
    held_up: Option<(u8, Vec<Action>)>,
}

/// A step that others may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    to: u32,
    from: u32,
    /// The sender that makes it.
    by: Option<u8>,
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// All states, in the order in which they were found.
#[derive(Default)]
struct States {
    /// By state: the one before it, and what was done there.
    parents: Vec<(u32, Option<Action>)>,
    /// By state: the senders that are between two claims, as bits.
    between_claims: Vec<u8>,
    /// Where all have reached the end; and where all but one sender have.
    ends: Vec<u32>,
    ends_without: Vec<Vec<u32>>,
    steps: Vec<Step>,
}

impl States {
    /// Takes down what is to be known of a state when the search is over.
    fn note(&mut self, protocol: &Protocol, state: &State, number: u32) {
        if protocol.is_done(state, None) {
            self.ends.push(number);
        }
        let mut between_claims = 0;
        for (sender, ends) in (0..).zip(&mut self.ends_without) {
            if protocol.is_done(state, Some(sender)) {
                ends.push(number);
            }
            between_claims |= u8::from(Protocol::is_between_claims(state, sender)) << sender;
        }
        self.between_claims.push(between_claims);
    }

    /// The first state, of those that `count`, from which no end can be reached without the steps
    /// of sender `stopped`.
    fn first_stuck(&self, stopped: Option<u8>, count: impl Fn(u32) -> bool) -> Option<u32> {
        let mut ends = match stopped {
            Some(sender) => self.ends_without[usize::from(sender)].clone(),
            None => self.ends.clone(),
        };
        let mut reaches = vec![false; self.parents.len()];
        for &end in &ends {
            reaches[end as usize] = true;
        }
        while let Some(to) = ends.pop() {
            let first = self.steps.partition_point(|step| step.to < to);
            for step in self.steps[first..].iter().take_while(|step| step.to == to) {
                let made = stopped.is_none() || step.by != stopped;
                if made && !std::mem::replace(&mut reaches[step.from as usize], true) {
                    ends.push(step.from);
                }
            }
        }
        (0..).zip(reaches).find(|&(state, reaches)| !reaches && count(state)).map(|(it, _)| it)
    }
}

/// Searches all states breadth first, until a promise is broken, and then backwards from the ends.
/// Stateright's `eventually` does not do: a way that ends in a circle passes for one that goes on.
fn search(protocol: &Protocol) -> Searched {
    let mut numbers = HashMap::new();
    let senders = protocol.messages.len();
    let mut states = States { ends_without: vec![Vec::new(); senders], ..States::default() };
    let mut frontier = protocol.init_states();
    for state in &frontier {
        numbers.insert(fingerprint(state), 0);
        states.parents.push((0, None));
    }
    let mut broken = None;
    let mut from = 0;
    while !frontier.is_empty() && broken.is_none() {
        let mut next = Vec::new();
        for state in frontier {
            states.note(protocol, &state, from);
            if let (Some(promise), None) = (Protocol::broken(&state), &broken) {
                broken = Some((promise, way(&states.parents, from)));
            }
            for (action, state) in protocol.next_steps(&state) {
                let to = match numbers.entry(fingerprint(&state)) {
                    Entry::Occupied(there) => *there.get(),
                    Entry::Vacant(new) => {
                        let number = states.parents.len() as u32;
                        states.parents.push((from, Some(action)));
                        next.push(state);
                        *new.insert(number)
                    }
                };
                if !action.is_fault() {
                    states.steps.push(Step { to, from, by: action.sender() });
                }
            }
            from += 1;
        }
        frontier = next;
    }
    drop(numbers);
    states.steps.sort_unstable();
    let (mut stuck, mut held_up) = (None, None);
    // With a broken promise the search is not whole.
    if broken.is_none() {
        stuck = states.first_stuck(None, |_| true).map(|number| way(&states.parents, number));
        if protocol.naps {
            held_up = (0..senders as u8).find_map(|sender| {
                let between = |state: u32| states.between_claims[state as usize] >> sender & 1 == 1;
                let number = states.first_stuck(Some(sender), between)?;
                Some((sender, way(&states.parents, number)))
            });
        }
    }
    let (states, steps) = (states.parents.len(), states.steps.len());
    Searched { states, steps, broken, stuck, held_up }
}

/// How the search came to a state.
fn way(parents: &[(u32, Option<Action>)], mut number: u32) -> Vec<Action> {
    let mut way = Vec::new();
    while let (parent, Some(action)) = parents[number as usize] {
        way.push(action);
        number = parent;
    }
    way.reverse();
    way
}

fn ring(words: u8, messages: &[&[u8]]) -> Protocol {
    let messages = messages.iter().map(|it| it.to_vec()).collect();
    let (kills, receiver_kills) = (0, 0);
    let (naps, sleeps) = (false, true);
    Protocol { words, messages, kills, receiver_kills, naps, sleeps, warm: None, bug: None }
}

fn with_kills(words: u8, messages: &[&[u8]], kills: u8, receiver_kills: u8) -> Protocol {
    Protocol { kills, receiver_kills, naps: true, ..ring(words, messages) }
}

fn check(name: &str, protocol: &Protocol) {
    let began = Instant::now();
    let found = search(protocol);
    let Searched { states, steps, broken, stuck, held_up } = found;
    println!(
        "{name}: {states} states, {steps} steps between them, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(broken, None, "{name}");
    assert_eq!(stuck, None, "{name}: from there nobody can go on");
    assert_eq!(held_up, None, "{name}: a stopped sender holds the others up");
}

/// Searches larger models, as `ci/model.sh` asks for.
fn large() -> bool {
    std::env::var_os("IPMPSC_MODEL_LARGE").is_some()
}

#[test]
fn without_deaths_everything_arrives_although_no_nap_ends() {
    check("two senders, 4 words", &ring(4, &[&[1, 1], &[1]]));
    check("two senders that pad, 6 words", &ring(6, &[&[2], &[3]]));
    if large() {
        check("three senders, 4 words", &ring(4, &[&[1], &[1], &[1]]));
        check("two senders that pad, 5 words", &ring(5, &[&[1, 2], &[2]]));
    }
}

#[test]
fn whoever_is_killed_wherever_the_others_reach_the_end() {
    check("a sender dies, 4 words", &with_kills(4, &[&[1], &[1]], 1, 0));
    check("the receiver dies, 4 words", &with_kills(4, &[&[1], &[1]], 0, 1));
    if large() {
        check("a sender of two messages dies, 4 words", &with_kills(4, &[&[1, 1], &[1]], 1, 0));
        check("two senders die, 4 words", &with_kills(4, &[&[1], &[1]], 2, 0));
        check("a sender and the receiver die, 5 words", &with_kills(5, &[&[1], &[2]], 1, 1));
    }
}

/// With senders that turn: in 7 words after a message of 2, so that the lap can be reopened for one
/// of 1.
fn turning(protocol: Protocol) -> Protocol {
    Protocol { warm: Some(3), ..protocol }
}

#[test]
fn a_lap_may_end_early_wherever_anybody_is_killed() {
    check("turns, two senders, 7 words", &turning(ring(7, &[&[2, 1], &[1]])));
    check("turns, a sender dies, 7 words", &turning(with_kills(7, &[&[2, 1, 1, 1]], 1, 0)));
    check("turns, the receiver dies, 7 words", &turning(with_kills(7, &[&[2, 1, 1]], 0, 1)));
    check("turns, both die, 7 words", &turning(with_kills(7, &[&[2, 1, 1]], 1, 1)));
    if large() {
        let two_senders = turning(with_kills(8, &[&[2, 1], &[1, 1]], 1, 0));
        check("turns, one of two senders dies, 8 words", &two_senders);
    }
}

#[test]
fn stateright_finds_as_many_states_and_no_broken_promise() {
    let protocol = with_kills(4, &[&[1], &[1]], 1, 0);
    let states = search(&protocol).states;
    let checker = protocol.checker().spawn_bfs().join();
    println!("Stateright: {} states", checker.unique_state_count());
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states);
}

#[test]
fn every_planted_bug_is_found() {
    let small = || ring(4, &[&[1], &[1]]);
    let twice = || ring(4, &[&[1, 1], &[1]]);
    let kills = || with_kills(4, &[&[1], &[1]], 1, 0);
    let bugs = [
        (Bug::NoTerminator, twice()),
        (Bug::NoRoomForTerminator, small()),
        (Bug::TailFirst, kills()),
        (Bug::HeadEarly, ring(6, &[&[2, 1], &[2]])),
        (Bug::ArmLate, small()),
        (Bug::WakeEarly, small()),
        (Bug::NoWake, small()),
        (Bug::SleepBlindly, kills()),
        (Bug::NoRouse, kills()),
        (Bug::RousedFirst, kills()),
        (Bug::TakeAnySleep, kills()),
        (Bug::SenderArmLate, small()),
        (Bug::NoSpaceWake, small()),
        (Bug::NoRearm, Protocol { sleeps: false, ..ring(4, &[&[1], &[1], &[1]]) }),
        (Bug::NoProof, small()),
        (Bug::NoGeneration, kills()),
        (Bug::FreeBlindly, with_kills(4, &[&[1, 1], &[1]], 1, 0)),
        (Bug::KeepClaim, kills()),
        (Bug::SkipUnmade, kills()),
        (Bug::RecoverBlindly, kills()),
        (Bug::OneLifeByte, kills()),
        (Bug::TurnBlindly, turning(ring(7, &[&[2, 1, 1, 1, 1]]))),
        (Bug::TurnToldFirst, turning(with_kills(8, &[&[2, 1, 2, 2]], 1, 0))),
        (Bug::TurnOverwritten, turning(ring(7, &[&[2, 1, 1]]))),
    ];
    for (bug, protocol) in bugs {
        let found = search(&Protocol { bug: Some(bug), ..protocol });
        let what = match (&found.broken, &found.stuck, &found.held_up) {
            (Some((promise, way)), ..) => format!("{promise}, after {} steps", way.len()),
            (None, Some(way), _) => format!("nobody can go on after {} steps", way.len()),
            (None, None, Some((_, way))) => format!("held up after {} steps", way.len()),
            (None, None, None) => panic!("{bug:?} is not found in {} states", found.states),
        };
        println!("{bug:?}: {what}; {} states", found.states);
    }
}

#[test]
fn stateright_shows_the_way_to_a_planted_bug() {
    let protocol = Protocol { bug: Some(Bug::NoProof), ..ring(4, &[&[1], &[1]]) };
    let checker = protocol.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let way = checker.assert_any_discovery("no promise is broken").into_actions();
    println!("reclaiming without proof goes wrong after {way:?}");
    assert!(way.len() > 5);
}
