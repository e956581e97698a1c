//! What the machine itself does, whatever the transport: a table of short probes, each of which
//! returns its samples and says nothing. What cannot be measured here is an error with its reason.
//!
//! Each ends within half a second, also where the processors are busy: it takes as many samples as
//! it gets until then.

use std::{
    hint::{black_box, spin_loop},
    process::Stdio,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::{
    child, machine, scenario,
    sys::{self, Processor, now_ns},
};

/// Something to measure.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Takes the samples; all random choices come from the seed.
    pub(crate) run: fn(u64) -> Result<Vec<f64>>,
}

/// The name of the probe that compares the machine with itself.
pub(crate) const A_A: &str = "A/A difference";
/// The name of the probe of what the host of a virtual machine takes.
pub(crate) const STOLEN: &str = "taken by the host";
/// The name of the probe of what others use.
pub(crate) const OTHERS: &str = "used by others";

/// All of them, the quiet ones first.
pub(crate) const PROBES: [Probe; 14] = [
    Probe { name: OTHERS, unit: "%", run: others },
    Probe { name: STOLEN, unit: "%", run: stolen },
    Probe { name: "clock read", unit: "ns", run: clock },
    Probe { name: "system call", unit: "ns", run: system_call },
    Probe { name: "cache line round trip", unit: "ns", run: cache_line },
    Probe { name: "thread wake-up", unit: "ns", run: wake_up },
    Probe { name: "sleep 100 us overshoot", unit: "ns", run: |_| overshoot(100) },
    Probe { name: "sleep 1 ms overshoot", unit: "ns", run: |_| overshoot(1_000) },
    Probe { name: "process start and end", unit: "ns", run: spawn },
    Probe { name: "memcpy 64 B", unit: "GB/s", run: |_| memcpy(64) },
    Probe { name: "memcpy 64 KiB", unit: "GB/s", run: |_| memcpy(64 << 10) },
    Probe { name: "memcpy frame", unit: "GB/s", run: |_| memcpy(scenario::FRAME as usize) },
    Probe { name: "ring message in one thread", unit: "ns", run: ring_message },
    Probe { name: A_A, unit: "%", run: a_a },
];

/// No probe takes longer.
const LIMIT: Duration = Duration::from_millis(400);
const SAMPLES: usize = 100;

/// So many samples, or as many as there is time for.
fn samples(count: usize, mut sample: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut samples = vec![sample()?];
    while samples.len() < count && start.elapsed() < LIMIT {
        samples.push(sample()?);
    }
    Ok(samples)
}

/// Nanoseconds of each of `repeats` runs.
fn each_ns<R>(repeats: u32, mut run: impl FnMut() -> R) -> f64 {
    let start = now_ns();
    for _ in 0..repeats {
        black_box(run());
    }
    (now_ns() - start) as f64 / f64::from(repeats)
}

fn clock(_: u64) -> Result<Vec<f64>> {
    samples(SAMPLES, || Ok(each_ns(1_000, now_ns)))
}

fn system_call(_: u64) -> Result<Vec<f64>> {
    samples(SAMPLES, || Ok(each_ns(1_000, sys::system_call)))
}

/// Two threads on different processors hand one word to and fro without sleeping.
fn cache_line(_: u64) -> Result<Vec<f64>> {
    // Few, since each may wait for a turn where the processors are busy.
    const TRIPS: u64 = 100;
    let processors = thread::available_parallelism().context("count the processors")?;
    ensure!(processors.get() > 1, "there is one processor only");
    let (ball, over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Odd when it is the other side's turn.
    let wait_for = |value: u64| {
        while ball.load(Acquire) != value {
            if over.load(Relaxed) {
                return false;
            }
            spin_loop();
        }
        true
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let pinned = sys::pin(Processor::Last);
            let mut value = 1;
            while wait_for(value) {
                ball.store(value + 1, Release);
                value += 2;
            }
            pinned
        });
        let mine = scope.spawn(|| {
            let pinned = sys::pin(Processor::Nth(0));
            let mut value = 0;
            let samples = samples(SAMPLES, || {
                let start = now_ns();
                for _ in 0..TRIPS {
                    ball.store(value + 1, Release);
                    value += 2;
                    wait_for(value);
                }
                Ok((now_ns() - start) as f64 / TRIPS as f64)
            });
            over.store(true, Relaxed);
            (pinned, samples)
        });
        let (pinned, samples) = mine.join().expect("nothing in it panics");
        let other_pinned = other.join().expect("nothing in it panics");
        ensure!(pinned && other_pinned, "threads cannot be kept on a processor");
        samples
    })
}

/// From before a sleeping thread is woken until it runs. On Linux that is a futex.
fn wake_up(_: u64) -> Result<Vec<f64>> {
    let (woken_at, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while !over.load(Acquire) {
                thread::park();
                woken_at.store(now_ns(), Release);
            }
        });
        let samples = samples(SAMPLES, || {
            // Long enough to fall asleep; a sample of one that had not is short, not wrong.
            thread::sleep(Duration::from_millis(1));
            woken_at.store(0, Relaxed);
            let start = now_ns();
            sleeper.thread().unpark();
            loop {
                match woken_at.load(Acquire) {
                    0 => thread::yield_now(),
                    end => return Ok(end.saturating_sub(start) as f64),
                }
            }
        });
        over.store(true, Release);
        sleeper.thread().unpark();
        samples
    })
}

/// How much longer a sleep takes than was asked for.
fn overshoot(asked_us: u64) -> Result<Vec<f64>> {
    samples(SAMPLES, || {
        let start = now_ns();
        thread::sleep(Duration::from_micros(asked_us));
        Ok((now_ns() - start).saturating_sub(1_000 * asked_us) as f64)
    })
}

/// This program, started to say its version.
fn spawn(_: u64) -> Result<Vec<f64>> {
    samples(20, || {
        let mut program = child::itself("--version")?;
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = now_ns();
        let status = program.status().context("start this program")?;
        ensure!(status.success(), "this program, started again, failed: {status}");
        Ok((now_ns() - start) as f64)
    })
}

/// Bytes a nanosecond from one buffer to another, both as warm as their size allows.
fn memcpy(bytes: usize) -> Result<Vec<f64>> {
    let (from, mut to) = (vec![7_u8; bytes], vec![0_u8; bytes]);
    let repeats = u32::try_from((4 << 20) / bytes).unwrap_or(u32::MAX).clamp(1, 10_000);
    samples(SAMPLES, || {
        let ns = each_ns(repeats, || {
            black_box(&mut to).copy_from_slice(black_box(&from));
        });
        Ok(bytes as f64 / ns.max(f64::MIN_POSITIVE))
    })
}

/// A small piece of the work that is compared, all in this thread: messages of 64 bytes through a
/// ring. Returns nanoseconds a message.
struct Workload {
    sender: ipmpsc::Sender,
    receiver: ipmpsc::Receiver,
}

impl Workload {
    fn new() -> Result<Workload> {
        let ring = ipmpsc::Options::new().anonymous().context("a ring without a name")?;
        let receiver = ipmpsc::Receiver::new(ring.clone());
        Ok(Workload { sender: ipmpsc::Sender::new(ring), receiver })
    }

    fn run(&mut self) -> Result<f64> {
        const MESSAGES: u32 = 10_000;
        let start = now_ns();
        for _ in 0..MESSAGES {
            self.sender.send_bytes(black_box(&[7; 64]))?;
            let message = self.receiver.recv_bytes()?;
            ensure!(black_box(&*message) == [7; 64], "the ring delivered something else");
        }
        Ok((now_ns() - start) as f64 / f64::from(MESSAGES))
    }
}

fn ring_message(_: u64) -> Result<Vec<f64>> {
    let mut work = Workload::new()?;
    samples(SAMPLES, || work.run())
}

/// The same work twice, as if two things were compared; which comes first is left to chance. By how
/// much the one took longer than the other is the noise, and should be nothing on average.
fn a_a(seed: u64) -> Result<Vec<f64>> {
    let mut work = [Workload::new()?, Workload::new()?];
    let mut random = Pcg64::seed_from_u64(seed);
    samples(SAMPLES, || {
        let first = usize::from(random.random::<bool>());
        let mut took = [0.0; 2];
        for which in [first, 1 - first] {
            took[which] = work[which].run()?;
        }
        Ok(100.0 * (took[0] / took[1].max(f64::MIN_POSITIVE) - 1.0))
    })
}

fn others(_: u64) -> Result<Vec<f64>> {
    idle_samples(|times| times.busy)
}

fn stolen(_: u64) -> Result<Vec<f64>> {
    idle_samples(|times| times.stolen)
}

/// A share of the processors' time while this program sleeps, in percent.
fn idle_samples(share: fn(machine::Shares) -> f64) -> Result<Vec<f64>> {
    samples(4, || {
        let shares = machine::watch(Duration::from_millis(100))?;
        Ok(100.0 * share(shares))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_returns_plausible_samples_or_a_reason() {
        for probe in PROBES {
            match (probe.run)(1) {
                Ok(samples) => {
                    assert!(!samples.is_empty(), "{}", probe.name);
                    let least = if probe.name == A_A { -100.0 } else { 0.0 };
                    let is_fine = |&value: &f64| value.is_finite() && value >= least;
                    assert!(samples.iter().all(is_fine), "{}: {samples:?}", probe.name);
                }
                Err(why) => assert!(!format!("{why:#}").is_empty(), "{}", probe.name),
            }
        }
    }

    #[test]
    fn a_slow_sample_does_not_keep_a_probe() {
        let slow = || {
            thread::sleep(LIMIT);
            Ok(1.0)
        };
        assert_eq!(samples(100, slow).expect("nothing fails").len(), 1);
    }
}
