//! The protocol, not the program: every state that a few processes can reach, searched whole.
//!
//! Safety, in every state: nothing torn, doubled, out of order, made up, or taken from the living.
//! Liveness, from every state, however many were killed on the way there: those who are left can
//! reach the end, where all that was committed has arrived, without another death. In a finite
//! model that means that they do reach it, if every step that stays possible is made at last.
//! Without deaths they must reach it although no nap ever ends: no wake is lost.
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
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Searches all states breadth first, until a promise is broken, and then backwards from the ends.
/// Stateright's `eventually` does not do: a way that ends in a circle passes for one that goes on.
fn search(protocol: &Protocol) -> Searched {
    let mut numbers = HashMap::new();
    let mut parents: Vec<(u32, Option<Action>)> = Vec::new();
    let mut steps: Vec<(u32, u32)> = Vec::new();
    let mut ends = Vec::new();
    let mut frontier = protocol.init_states();
    for state in &frontier {
        numbers.insert(fingerprint(state), 0);
        parents.push((0, None));
    }
    let mut broken = None;
    let mut from = 0;
    while !frontier.is_empty() && broken.is_none() {
        let mut next = Vec::new();
        for state in frontier {
            if protocol.is_done(&state) {
                ends.push(from);
            }
            if let (Some(promise), None) = (Protocol::broken(&state), &broken) {
                broken = Some((promise, way(&parents, from)));
            }
            for (action, state) in protocol.next_steps(&state) {
                let to = match numbers.entry(fingerprint(&state)) {
                    Entry::Occupied(there) => *there.get(),
                    Entry::Vacant(new) => {
                        let number = parents.len() as u32;
                        parents.push((from, Some(action)));
                        next.push(state);
                        *new.insert(number)
                    }
                };
                if !action.is_fault() {
                    steps.push((to, from));
                }
            }
            from += 1;
        }
        frontier = next;
    }
    // With a broken promise the search is not whole.
    let stuck = match broken {
        Some(_) => None,
        None => first_stuck(parents.len(), &mut steps, ends).map(|number| way(&parents, number)),
    };
    Searched { states: parents.len(), steps: steps.len(), broken, stuck }
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

/// The first state from which no end can be reached. `steps` are (to, from).
fn first_stuck(states: usize, steps: &mut [(u32, u32)], mut ends: Vec<u32>) -> Option<u32> {
    steps.sort_unstable();
    let mut reaches = vec![false; states];
    for &end in &ends {
        reaches[end as usize] = true;
    }
    while let Some(to) = ends.pop() {
        let first = steps.partition_point(|&(it, _)| it < to);
        for &(_, from) in steps[first..].iter().take_while(|&&(it, _)| it == to) {
            if !std::mem::replace(&mut reaches[from as usize], true) {
                ends.push(from);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches).map(|number| number as u32)
}

fn ring(words: u8, messages: &[&[u8]]) -> Protocol {
    let messages = messages.iter().map(|it| it.to_vec()).collect();
    Protocol { words, messages, kills: 0, receiver_kills: 0, naps: false, bug: None }
}

fn with_kills(words: u8, messages: &[&[u8]], kills: u8, receiver_kills: u8) -> Protocol {
    Protocol { kills, receiver_kills, naps: true, ..ring(words, messages) }
}

fn check(name: &str, protocol: &Protocol) {
    let began = Instant::now();
    let found = search(protocol);
    let Searched { states, steps, broken, stuck } = found;
    println!(
        "{name}: {states} states, {steps} steps between them, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(broken, None, "{name}");
    assert_eq!(stuck, None, "{name}: from there nobody can go on");
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
        (Bug::SenderArmLate, small()),
        (Bug::NoSpaceWake, small()),
        (Bug::NoRearm, ring(4, &[&[1], &[1], &[1]])),
        (Bug::NoProof, small()),
        (Bug::NoGeneration, kills()),
        (Bug::FreeBlindly, kills()),
        (Bug::KeepClaim, kills()),
        (Bug::SkipUnmade, kills()),
    ];
    for (bug, protocol) in bugs {
        let found = search(&Protocol { bug: Some(bug), ..protocol });
        let what = match (&found.broken, &found.stuck) {
            (Some((promise, way)), _) => format!("{promise}, after {} steps", way.len()),
            (None, Some(way)) => format!("nobody can go on after {} steps", way.len()),
            (None, None) => panic!("{bug:?} is not found in {} states", found.states),
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
