//! Child processes and what tests share: notes that can be checked, the words of a ring's file,
//! random numbers.
//!
//! A child is this binary, told by the variable `IPMPSC_TEST_CHILD` which function to be. It and
//! its parent talk in lines over its standard input and output. It never outlives the test.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::os;
use serde::{Deserialize, Serialize};

/// Longer than anything here takes on a machine that is not broken.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Where every child begins.
#[test]
fn entry() {
    let Ok(line) = std::env::var("IPMPSC_TEST_CHILD") else {
        return;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let (role, args) = words.split_first().expect("a child is told its role");
    match role.split_once("::") {
        #[cfg(feature = "fault")]
        Some(("kills", role)) => crate::kills::child(role, args),
        Some(("lifecycle", role)) => crate::lifecycle::child(role, args),
        Some(("files", role)) => crate::files::child(role, args),
        Some(("waits", role)) => crate::waits::child(role, args),
        #[cfg(windows)]
        Some(("windows", role)) => crate::windows::child(role, args),
        #[cfg(target_os = "linux")]
        Some(("ends", role)) => crate::ends::child(role, args),
        #[cfg(target_os = "linux")]
        Some(("forks", role)) => crate::forks::child(role, args),
        #[cfg(target_os = "linux")]
        Some(("refusals", role)) => crate::refusals::child(role, args),
        #[cfg(all(target_os = "linux", feature = "fault"))]
        Some(("unlocked", role)) => crate::unlocked::child(role, args),
        #[cfg(target_os = "linux")]
        Some(("signals", role)) => crate::signals::child(role, args),
        _ => panic!("no child is called {role}"),
    }
    // Not by returning: what the test left open is closed as any program's end closes it.
    std::process::exit(0);
}

/// Whether `ci/platform.sh` says that this program is not run by the processor.
pub(crate) fn is_under_qemu() -> bool {
    std::env::var_os("IPMPSC_TEST_QEMU").is_some()
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    println!("@{line}");
}

/// Waits for a line of the parent's.
pub(crate) fn listen() -> String {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    assert!(read.expect("standard input can be read") > 0, "the parent has gone");
    line.trim_end().to_owned()
}

/// A child that dies with this guard.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
    stdin: Option<ChildStdin>,
}

impl Child {
    pub(crate) fn start(role: &str, args: &[&str]) -> Self {
        Self::start_with(role, args, |_| {})
    }

    /// A child that meets `fault` (see src/fault.rs).
    pub(crate) fn start_to_fail(role: &str, args: &[&str], fault: &str) -> Self {
        Self::start_with(role, args, |command| {
            command.env("IPMPSC_FAULT", fault);
        })
    }

    pub(crate) fn start_with(role: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        // Another build of this program, to see processes of different kinds share a ring.
        let peer = std::env::var_os("IPMPSC_TEST_PEER").map(PathBuf::from);
        let program = peer.or_else(|| std::env::current_exe().ok());
        let program = program.expect("a program knows its path");
        let mut line = vec![role];
        line.extend(args);
        let mut command = Command::new(program);
        command
            .args(["children::entry", "--exact", "--nocapture", "--test-threads=1"])
            .env("IPMPSC_TEST_CHILD", line.join(" "))
            .env_remove("IPMPSC_FAULT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        change(&mut command);
        os::let_die_with_us(&mut command);
        let mut process = command.spawn().expect("a child can be started");
        let stdout = BufReader::new(process.stdout.take().expect("piped above"));
        let stdin = process.stdin.take();
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, line)) = line.split_once('@') {
                    // The test may have heard enough.
                    let _ = said.send(line.to_owned());
                }
            }
        });
        Self { process, lines, stdin }
    }

    /// The next line that the child says.
    pub(crate) fn hear(&mut self) -> String {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => line,
            Err(error) => panic!("a child says nothing ({error}): {:?}", self.process.try_wait()),
        }
    }

    /// Waits until nobody is left who could say anything: the child and all that it has forked.
    pub(crate) fn hear_end(&mut self) {
        let heard = self.lines.recv_timeout(LONG);
        assert_eq!(heard, Err(mpsc::RecvTimeoutError::Disconnected));
    }

    /// What the child says within `timeout`.
    pub(crate) fn hear_within(&mut self, timeout: Duration) -> Option<String> {
        self.lines.recv_timeout(timeout).ok()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is a pipe");
        writeln!(stdin, "{line}").expect("the child listens");
    }

    /// Lets a child that was stopped go on.
    pub(crate) fn resume(&self) {
        os::resume(&self.process);
    }

    pub(crate) fn kill_without_waiting(&mut self) {
        self.process.kill().expect("a child can be killed");
    }

    /// Kills the child and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a child can be waited for");
    }

    /// Waits for the child's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("a child ends", || {
            status = self.process.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("set where the wait ends")
    }

    /// Waits for an end without complaint.
    pub(crate) fn finish(&mut self) {
        let status = self.wait();
        assert!(status.success(), "a child failed: {status}");
    }

    /// Waits for the end; whether a fault point brought it about.
    pub(crate) fn was_killed(&mut self) -> bool {
        os::was_killed(self.wait())
    }

    /// Waits until a fault point has stopped the child.
    pub(crate) fn wait_stopped(&mut self) {
        wait_until("a child stops", || {
            let ended = self.process.try_wait().expect("a child can be waited for");
            assert_eq!(ended, None, "the child ended instead");
            os::is_stopped(&self.process)
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ten times what is promised, for machines that have other things to do.
pub(crate) fn soon() -> Duration {
    Duration::from_secs(if is_under_qemu() { 10 } else { 1 })
}

/// Waits until something is so, looking often.
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A message that can be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) who: u32,
    pub(crate) seq: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) body: Vec<u8>,
}

impl Note {
    /// Bytes beside the body, once serialized.
    pub(crate) const OVERHEAD: usize = 4 + 8 + 8;

    pub(crate) fn new(who: u32, seq: u64, body_len: usize) -> Self {
        let body = Self::pattern(who, seq).take(body_len).collect();
        Self { who, seq, body }
    }

    fn pattern(who: u32, seq: u64) -> impl Iterator<Item = u8> {
        let mut random = Random(u64::from(who) << 32 ^ seq);
        std::iter::repeat_with(move || random.next().to_le_bytes()).flatten()
    }

    /// Whether it is whole.
    pub(crate) fn is_whole(&self) -> bool {
        Self::pattern(self.who, self.seq).zip(&self.body).all(|(a, b)| a == *b)
    }
}

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Seeded by `IPMPSC_TEST_SEED` or the clock; prints the seed.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var("IPMPSC_TEST_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH);
                since.expect("the clock is past 1970").as_nanos() as u64
            },
            |seed| seed.parse().expect("IPMPSC_TEST_SEED is a number"),
        );
        println!("{test}: IPMPSC_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A file's words, to look at and to poke.
#[derive(Debug)]
pub(crate) struct Words(memmap2::MmapRaw);

/// Offsets from layout.rs.
pub(crate) const CLAIM: usize = 128;
pub(crate) const TAIL: usize = 136;
pub(crate) const HEAD_CACHE: usize = 144;
pub(crate) const HEAD: usize = 256;
pub(crate) const RECEIVER_WAIT: usize = 384;
/// The value of the word there of a receiver that has waited for long. On Windows it only naps.
pub(crate) const ASLEEP: u32 = if cfg!(windows) { 1 } else { 2 };

impl Words {
    pub(crate) fn of(path: impl AsRef<Path>) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self::of_file(&file.expect("the file can be opened"))
    }

    pub(crate) fn of_file(file: &File) -> Self {
        Self(memmap2::MmapOptions::new().map_raw(file).expect("the file can be mapped"))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len());
        let word = self.0.as_mut_ptr().wrapping_add(offset).cast();
        // SAFETY: aligned and inside the mapping, by the assertion, and atomic.
        unsafe { &*word }
    }

    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len());
        let word = self.0.as_mut_ptr().wrapping_add(offset).cast();
        // SAFETY: aligned and inside the mapping, by the assertion, and atomic.
        unsafe { &*word }
    }

    pub(crate) fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len());
        let byte = self.0.as_mut_ptr().wrapping_add(offset).cast();
        // SAFETY: inside the mapping, by the assertion, and atomic.
        unsafe { &*byte }
    }
}

/// Where the records begin in the file of a ring for this many senders.
pub(crate) fn data_offset(max_senders: u32) -> usize {
    (1024 + 16 * (max_senders as usize + 1)).next_multiple_of(4096)
}

/// A folder that removes itself, and a path in it.
pub(crate) fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("ring");
    let path = path.to_str().expect("TMPDIR is UTF-8").to_owned();
    (folder, path)
}
