//! What a channel costs that is no matter of speed: system calls, memory.

use crate::os::{in_fork, is_emulated};
use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use std::time::Duration;

/// Lets this process do nothing but read, write and exit from here on, on pain of SIGKILL.
fn forbid_system_calls() {
    // SAFETY: the call takes numbers and changes only what the kernel allows this process.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    assert_eq!(result, 0, "the kernel has seccomp");
}

/// Ends this thread, the only one of its process, by the one call that strict mode allows.
fn exit(code: i32) -> i32 {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    code
}

#[test]
fn a_million_uncontended_messages_make_no_system_call() {
    if is_emulated() {
        return;
    }
    let child = in_fork(|| {
        let ring = SharedRingBuffer::options().anonymous().expect("a ring can be made");
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        // The first receive takes the role, and the first copy its buffer.
        sender.send(&[0_u64; 8]).expect("it fits");
        assert_eq!(receiver.recv::<[u64; 8]>().expect("sound"), [0; 8]);
        forbid_system_calls();
        let mut sum = 0;
        for n in 0..1_000_000_u64 {
            sender.send(&[n; 8]).expect("it fits");
            let received: [u64; 8] = match n % 2 {
                0 => receiver.recv().expect("sound"),
                _ => receiver.zero_copy_context().recv().expect("sound"),
            };
            sum += received[7];
        }
        exit(i32::from(sum != 999_999 * 500_000))
    });
    assert_eq!(child.wait(), 0, "-9: the kernel killed it for a system call");
}

#[test]
fn a_system_call_under_the_same_rule_is_death() {
    if is_emulated() {
        return;
    }
    let child = in_fork(|| {
        forbid_system_calls();
        std::thread::yield_now();
        exit(0)
    });
    assert_eq!(child.wait(), -libc::SIGKILL);
}

/// How often this process has given its processor up by itself.
fn switches() -> libc::c_long {
    // SAFETY: plain numbers, which the call writes.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid struct to write.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(result, 0, "a process may ask for its own usage");
    usage.ru_nvcsw
}

#[test]
fn an_idle_receiver_sleeps_until_it_is_roused() {
    if is_emulated() {
        return;
    }
    let child = in_fork(|| {
        let ring = SharedRingBuffer::options().anonymous().expect("a ring can be made");
        let receiver = Receiver::new(ring);
        let before = switches();
        let second = Duration::from_secs(1);
        assert_eq!(receiver.recv_timeout::<u64>(second).expect("sound"), None);
        // A nap, a sleep, and some for page faults; with naps alone, 11.
        i32::from(switches() - before > 5)
    });
    assert_eq!(child.wait(), 0, "1: it was not left alone");
}

/// Memory of this process that is in no file, in KiB.
fn private_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).expect("the kernel says how much")
}

#[test]
fn a_process_pays_less_than_a_mebibyte_beside_the_ring() {
    let child = in_fork(|| {
        let before = private_kib();
        let options = SharedRingBuffer::options().capacity(64 << 20).anonymous();
        let ring = options.expect("a ring can be made");
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        let message = vec![7_u8; 64 << 10];
        // Twice around the ring, so that all of it has been touched.
        for _ in 0..2048 {
            sender.send_bytes(&message).expect("it fits");
            assert_eq!(receiver.recv_bytes().expect("sound").len(), message.len());
        }
        let grown = private_kib().saturating_sub(before);
        println!("{grown} KiB beside a ring of 64 MiB");
        i32::from(grown > 1024)
    });
    assert_eq!(child.wait(), 0);
}

/// Page faults of this thread so far.
fn page_faults() -> u32 {
    // SAFETY: a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes the struct.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert_eq!(result, 0, "a thread may ask about itself");
    usage.ru_minflt.try_into().expect("a test has few")
}

#[test]
fn the_first_lap_of_a_populated_ring_faults_no_page_in() {
    if is_emulated() {
        return;
    }
    // Not a large ring, of which only the beginning would be touched.
    const PAGES: u32 = 512;
    let lap = |populate: bool| {
        let ring = SharedRingBuffer::options().capacity(u64::from(PAGES) * 4096).anonymous();
        let ring = ring.expect("a ring can be made");
        if populate && let Err(error) = ring.populate() {
            println!("skipped: {error}");
            return 0;
        }
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        let bytes = vec![1; 4000];
        let before = page_faults();
        for _ in 0..PAGES {
            sender.send_bytes(&bytes).expect("it fits");
            assert_eq!(receiver.recv_bytes().expect("sound").len(), bytes.len());
        }
        page_faults() - before
    };
    let (without, with) = (lap(false), lap(true));
    assert!(without > PAGES / 2, "{without} page faults in {PAGES} pages");
    assert!(with < PAGES / 20, "{with} page faults after {without} without populate");
}
