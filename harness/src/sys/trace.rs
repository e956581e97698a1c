//! A child process that is followed instruction by instruction: fork, and the few ptrace requests
//! of the sweep. Linux on x86_64 only.
//!
//! The child marks where it may be looked at by stopping itself (`mark`). It is killed by the
//! kernel when this process ends, by whatever end, and by `drop`.

use std::{
    fs,
    io::{self, Read, Write},
    panic::AssertUnwindSafe,
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, waitpid};

/// The type of ptrace's requests, in which the C libraries differ.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// In debug register 7: stop before the instruction whose address is in register 0.
const ENABLE_FIRST: u64 = 1;
/// A part that came back with an error.
const FAILED: i32 = 1;

/// A traced child, stopped whenever none of these methods runs.
#[derive(Debug)]
pub(crate) struct Traced {
    pid: Pid,
    gone: bool,
}

/// Why the child has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// One instruction further.
    Step,
    /// It called `mark`.
    Mark,
    /// It has ended, and how.
    Gone(String),
}

/// Called by the child: stops it until its tracer lets it go on.
pub(crate) fn mark() {
    // A process may always signal itself; that it stopped is what the tracer sees.
    let _ = kill_process(getpid(), Signal::STOP);
}

impl Traced {
    /// Starts a child that does `part` and exits, and waits for its first `mark`.
    pub(crate) fn fork(part: impl FnOnce() -> Result<(), String>) -> io::Result<Traced> {
        let Some(pid) = fork()? else { become_traced(part) };
        let mut child = Traced { pid, gone: false };
        match child.wait()? {
            Stop::Mark => {}
            other => return Err(io::Error::other(format!("before its first mark: {other:?}"))),
        }
        request(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL as u64)?;
        Ok(child)
    }

    /// Lets it execute one instruction; a system call counts as one.
    pub(crate) fn step(&mut self) -> io::Result<Stop> {
        request(libc::PTRACE_SINGLESTEP, self.pid, 0, 0)?;
        self.wait()
    }

    /// Lets it run to its next mark.
    pub(crate) fn go_on(&mut self) -> io::Result<Stop> {
        request(libc::PTRACE_CONT, self.pid, 0, 0)?;
        self.wait()
    }

    /// Lets it run until its next instruction is the one at `address`, or to its next mark.
    pub(crate) fn run_to(&mut self, address: u64) -> io::Result<Stop> {
        self.set_debug_register(0, address)?;
        self.set_debug_register(7, ENABLE_FIRST)?;
        let stop = self.go_on()?;
        if stop == Stop::Step {
            self.set_debug_register(7, 0)?;
        }
        Ok(stop)
    }

    fn set_debug_register(&self, number: usize, value: u64) -> io::Result<()> {
        let registers = std::mem::offset_of!(libc::user, u_debugreg);
        let offset = registers + number * size_of::<u64>();
        request(libc::PTRACE_POKEUSER, self.pid, offset, value)
    }

    /// The address of its next instruction.
    pub(crate) fn next_address(&self) -> io::Result<u64> {
        // "-1 SP PC" of a process that is stopped in its own code, "N ARGS.. SP PC" in a call.
        let text = fs::read_to_string(format!("/proc/{}/syscall", self.pid.as_raw_pid()))?;
        let address = text.trim_end().rsplit_once(" 0x");
        let address = address.and_then(|(_, address)| u64::from_str_radix(address, 16).ok());
        address.ok_or_else(|| io::Error::other(format!("no program counter in {text:?}")))
    }

    /// Kills it with SIGKILL and reaps it.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if !self.gone {
            kill_process(self.pid, Signal::KILL)?;
            while !self.gone {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Stop> {
        let status = wait_for(self.pid)?;
        Ok(match status.stopping_signal() {
            Some(libc::SIGTRAP) => Stop::Step,
            Some(libc::SIGSTOP) => Stop::Mark,
            // What it would die of: it is not given the signal, so it is as good as gone.
            Some(signal) => Stop::Gone(format!("stopped by signal {signal}")),
            None => {
                self.gone = true;
                Stop::Gone(ending(status))
            }
        })
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // The kernel does it at the latest when this process ends.
        let _ = self.kill();
    }
}

/// Does `part` in a child of its own, so that whatever it does to this process's memory and
/// descriptors is undone, and gives what it says.
pub(crate) fn apart(part: impl FnOnce() -> String) -> io::Result<String> {
    let (mut reader, mut writer) = io::pipe()?;
    let Some(pid) = fork()? else {
        super::die_with_parent();
        let said = std::panic::catch_unwind(AssertUnwindSafe(part));
        let written = said.is_ok_and(|said| writer.write_all(said.as_bytes()).is_ok());
        exit(if written { 0 } else { FAILED })
    };
    drop(writer);
    let mut said = String::new();
    let read = reader.read_to_string(&mut said);
    let status = wait_for(pid)?;
    read?;
    if status.exit_status() == Some(0) { Ok(said) } else { Err(io::Error::other(ending(status))) }
}

/// `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    assert_eq!(threads, 1, "a fork of a process with threads inherits their locks");
    // SAFETY: this is the only thread, so the child finds no lock held by one it lacks.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid => Pid::from_raw(pid.max(0)).map(Some).ok_or_else(io::Error::last_os_error),
    }
}

/// The traced child's whole life.
fn become_traced(part: impl FnOnce() -> Result<(), String>) -> ! {
    super::die_with_parent();
    // SAFETY: asks to be traced by the parent; reads and writes no memory.
    let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == 0;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if traced { part() } else { Err("it cannot be traced".into()) }
    }));
    match outcome {
        Ok(Ok(())) => exit(0),
        Ok(Err(what)) => eprintln!("traced child: {what}"),
        // The panic has said what.
        Err(_) => {}
    }
    exit(FAILED)
}

/// Ends a child. What destructors would undo is its parent's.
fn exit(code: i32) -> ! {
    // SAFETY: the process ends here; no memory is touched.
    unsafe { libc::_exit(code) }
}

/// Waits until the child stops or ends.
fn wait_for(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, signal) => format!("killed by signal {signal:?}"),
    }
}

fn request(request: Request, pid: Pid, address: usize, data: u64) -> io::Result<()> {
    // SAFETY: none of the requests of this file reads or writes memory of this process.
    let result = unsafe { libc::ptrace(request, pid.as_raw_pid(), address, data) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_of_a_process_with_threads_is_refused() {
        let forked = std::panic::catch_unwind(|| apart(String::new));
        assert!(forked.is_err(), "the test harness has threads");
    }
}
