//! Deliberate bugs, to test the tests with: `ci/mutants.sh` runs them one by one.
//!
//! With the feature `mutant`, the variable `IPMPSC_MUTANT` names the one that this process has.
//! Otherwise `mutant!` is its last argument and nothing else: no build but a test's has any.
//!
//! | mutant | what is wrong |
//! |---|---|
//! | `terminator-forgotten` | `claim` stores no EMPTY word after its record |
//! | `terminator-no-room` | `claim` counts no room for that word |
//! | `tail-first` | `tail` is moved before its record is marked BUSY |
//! | `pad-off-by-one` | the pad at the ring's end is a word too short |
//! | `inner-pad-off-by-one` | the pad after a shortened message is a word too long |
//! | `head-not-read-again` | `head` is not read again when the ring seems full |
//! | `lock-kept-from-the-dead` | a dead holder's claim word is not freed |
//! | `lock-freed-blindly` | a dead holder's claim word is freed although it is another's by now |
//! | `lock-kept` | the claim word is kept after the claim |
//! | `lock-ignored` | a claim is made although another is being made |
//! | `commit-before-copy` | a record is published before its bytes are there |
//! | `commit-blind` | a record is published although it was taken from its owner |
//! | `publish-relaxed` | the commit does not release what it publishes |
//! | `peek-relaxed` | the receiver does not acquire what was published |
//! | `head-relaxed` | freed space is not released after what was read there |
//! | `space-relaxed` | a sender does not acquire the space that it takes |
//! | `unlock-relaxed` | the claim word's owner does not release what it did |
//! | `head-early` | space is freed before its message has been read |
//! | `wake-omitted` | a commit wakes no receiver |
//! | `wake-before-commit` | the look for a sleeping receiver comes before the commit |
//! | `sleep-taken` | a commit takes the wake of a receiver that only claims may rouse |
//! | `rouse-omitted` | a claim rouses no receiver |
//! | `roused-first` | a receiver passes for awake before it has been roused |
//! | `claim-unseen` | the receiver sleeps although a claim is being made |
//! | `arm-late` | the receiver says that it sleeps after its last look |
//! | `receiver-fence-forgotten` | nothing orders "I sleep" before the receiver's last look |
//! | `space-wake-omitted` | freed space wakes no sender |
//! | `space-fence-forgotten` | nothing orders freed space before the look for sleeping senders |
//! | `rearm-forgotten` | a woken sender does not say that others may sleep |
//! | `reclaim-without-proof` | a slow sender's record is taken from it |
//! | `reclaim-as-made` | a record that was never made is skipped instead of removed |
//! | `skip-not-passed` | a record given up is not freed until a message follows |
//! | `generation-ignored` | whoever holds the slot is taken for its former owner |
//! | `generation-kept` | a slot's next owner signs as its last |
//! | `one-life-byte` | whoever takes a slot passes for its last owner until it has counted |
//! | `locks-unseen` | everybody is taken for dead |
//! | `role-taken-from-the-living` | a second receiver is let in |
//! | `discard-forgotten` | a dropped reservation stays BUSY |
//! | `length-trusted` | a record's length is not checked |
//! | `place-trusted` | `tail` and `head` are not checked |
//! | `turn-blindly` | a lap of a large ring ends early although its beginning is in use |
//! | `turn-overwritten` | a lap goes on where the header of the last turn's pad stands |
//! | `closed-ignored` | a replaced ring can still be sent on |

/// Whether this process is to have the mutant called `name`.
#[cfg(feature = "mutant")]
pub(crate) fn is(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("IPMPSC_MUTANT").unwrap_or_default()) == name
}

/// `mutant!(name, wrong, right)` is `right`, or `wrong` if the process has the mutant `name`;
/// `mutant!(name, wrong)` is nothing or `wrong`.
#[cfg(feature = "mutant")]
macro_rules! mutant {
    ($name:literal, $wrong:expr) => {
        if crate::mutants::is($name) {
            $wrong
        }
    };
    ($name:literal, $wrong:expr, $right:expr) => {
        if crate::mutants::is($name) { $wrong } else { $right }
    };
}

/// `mutant!(name, wrong, right)` is `right`; `mutant!(name, wrong)` is nothing.
#[cfg(not(feature = "mutant"))]
macro_rules! mutant {
    ($name:literal, $wrong:expr) => {};
    ($name:literal, $wrong:expr, $right:expr) => {
        $right
    };
}

pub(crate) use mutant;
