//! Wakes of whoever sleeps on a shared word, for nothing. Linux only.

use std::{io, sync::atomic::AtomicU32};

use rustix::thread::futex;

use super::SharedWords;

/// Wakes all that sleep on either half of one of the first `count` words, and says how many did.
pub(crate) fn wake_all(words: &SharedWords, count: usize) -> io::Result<usize> {
    let mut woken = 0;
    for index in 0..count.min(words.len) {
        let word = words.word(index).as_ptr().cast::<u32>();
        for half in 0..2 {
            // SAFETY: a word has two halves.
            let half = unsafe { word.add(half) };
            // SAFETY: aligned and mapped like its word; nobody here touches it but the kernel,
            // which is only told the address.
            let half = unsafe { AtomicU32::from_ptr(half) };
            // Without the PRIVATE flag, since the sleepers may be other processes'.
            woken += futex::wake(half, futex::Flags::empty(), i32::MAX.unsigned_abs())?;
        }
    }
    Ok(woken)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn whoever_sleeps_on_a_word_is_woken_though_nothing_has_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let words = SharedWords::create(&folder.path().join("words"), 4).expect("writable");
        std::thread::scope(|scope| {
            let words = &words;
            let sleeper = scope.spawn(move || {
                let half = words.word(2).as_ptr().cast::<u32>();
                // SAFETY: aligned and mapped like its word.
                let half = unsafe { AtomicU32::from_ptr(half) };
                let slept = futex::wait(half, futex::Flags::empty(), 0, None);
                (slept, half.load(Relaxed))
            });
            while !sleeper.is_finished() {
                wake_all(words, 4).expect("the kernel has futexes");
                std::thread::yield_now();
            }
            assert_eq!(sleeper.join().expect("it does not panic"), (Ok(()), 0));
        });
    }
}
