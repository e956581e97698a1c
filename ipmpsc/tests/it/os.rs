//! What the tests ask of the system, for each system that they run on: the reasons why a test is
//! for one of them only stand in `main.rs`.

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::{File, Permissions};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::path::Path;
    use std::process::{Child, Command, ExitStatus};
    use std::time::Duration;

    /// Whether this program runs under qemu, which has no seccomp, wipes no memory in a fork and
    /// limits no address space. A test that needs one of these has nothing to say there.
    pub(crate) fn is_emulated() -> bool {
        let emulated = crate::children::is_under_qemu();
        if emulated {
            println!("skipped: qemu does not do what the kernel does");
        }
        emulated
    }

    /// Lets no child outlive this process.
    pub(crate) fn let_die_with_us(command: &mut Command) {
        fn die_with_parent() -> std::io::Result<()> {
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        }
        // SAFETY: prctl may be called between fork and exec and touches no memory.
        unsafe { command.pre_exec(die_with_parent) };
    }

    pub(crate) fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(libc::SIGKILL)
    }

    pub(crate) fn is_stopped(child: &Child) -> bool {
        let path = format!("/proc/{}/stat", child.id());
        let stat = std::fs::read_to_string(path).expect("a child not waited for has a state");
        let (_, rest) = stat.rsplit_once(") ").expect("the name ends so");
        rest.starts_with('T')
    }

    pub(crate) fn resume(child: &Child) {
        // SAFETY: no memory is touched; the process is ours and not yet waited for.
        let result = unsafe { libc::kill(child.id().cast_signed(), libc::SIGCONT) };
        assert_eq!(result, 0, "a child can be sent a signal");
    }

    /// Takes the right to write a file from others.
    pub(crate) fn make_private(path: &Path) {
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
    }

    /// What this process was given as its standard input.
    pub(crate) fn stdin_file() -> File {
        let stdin: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().expect("it is open");
        stdin.into()
    }

    /// How many descriptors this process has.
    pub(crate) fn open_handles() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("/proc is there").count()
    }

    /// Of this thread.
    pub(crate) fn processor_time() -> Duration {
        // SAFETY: a struct of integers, for the call to fill.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes the struct it is given.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
        let of = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        of(usage.ru_utime) + of(usage.ru_stime)
    }

    /// Runs `f` in a child made by fork and returns its exit code.
    pub(crate) fn in_fork(f: impl FnOnce() -> i32) -> Fork {
        // SAFETY: the child runs `f`, which is this crate's calls and no other thread's locks but
        // the allocator's, which glibc and musl keep usable, and ends by `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork works");
        if pid > 0 {
            return Fork(pid);
        }
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
        // SAFETY: ends the process without running what belongs to the parent.
        unsafe { libc::_exit(code) }
    }

    /// A child made by fork.
    #[derive(Debug)]
    pub(crate) struct Fork(libc::pid_t);

    impl Fork {
        pub(crate) fn wait(self) -> i32 {
            let mut status = 0;
            // SAFETY: writes the status of a child of ours.
            let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
            assert_eq!(waited, self.0, "a child can be waited for");
            if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                -libc::WTERMSIG(status)
            }
        }
    }
}

#[cfg(windows)]
mod platform {
    use std::fs::File;
    use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
    use std::path::Path;
    use std::process::{Child, Command, ExitStatus};
    use std::sync::Once;
    use std::time::Duration;
    use windows_sys::Win32::Foundation::{
        FILETIME, GetHandleInformation, HANDLE, INVALID_HANDLE_VALUE,
    };
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };
    use windows_sys::Win32::System::JobObjects::{
        AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
        SetInformationJobObject,
    };
    use windows_sys::Win32::System::Threading::{
        GetCurrentProcess, GetCurrentThread, GetThreadTimes, OpenThread, ResumeThread,
        SuspendThread, THREAD_SUSPEND_RESUME,
    };

    /// Lets no child outlive this process: all are in one job, which ends with its only handle.
    pub(crate) fn let_die_with_us(_command: &mut Command) {
        static JOINED: Once = Once::new();
        JOINED.call_once(|| {
            // SAFETY: no name and no attributes are wanted.
            let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
            // SAFETY: a struct of integers.
            let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { std::mem::zeroed() };
            limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
            let (from, len) = ((&raw const limits).cast(), size_of_val(&limits) as u32);
            // SAFETY: an open handle, and `len` bytes to read.
            let set = unsafe {
                SetInformationJobObject(job, JobObjectExtendedLimitInformation, from, len)
            };
            // SAFETY: the pseudo handle needs no care.
            let this = unsafe { GetCurrentProcess() };
            // SAFETY: open handles; the job's is never closed, but by the end of this process.
            let assigned = unsafe { AssignProcessToJobObject(job, this) };
            assert!(set != 0 && assigned != 0, "a job can be made");
        });
    }

    pub(crate) fn was_killed(status: ExitStatus) -> bool {
        status.code() == Some(9)
    }

    fn threads(child: &Child) -> Vec<OwnedHandle> {
        // SAFETY: numbers only.
        let list = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
        assert_ne!(list, INVALID_HANDLE_VALUE, "threads can be listed");
        // SAFETY: just opened, and nobody else's.
        let list = unsafe { OwnedHandle::from_raw_handle(list) };
        // SAFETY: a struct of integers.
        let mut entry: THREADENTRY32 = unsafe { std::mem::zeroed() };
        entry.dwSize = size_of_val(&entry) as u32;
        let mut threads = Vec::new();
        // SAFETY: an open handle; writes the entry, which knows its size.
        let mut there = unsafe { Thread32First(list.as_raw_handle(), &raw mut entry) };
        while there != 0 {
            if entry.th32OwnerProcessID == child.id() {
                // SAFETY: numbers only.
                let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
                if !thread.is_null() {
                    // SAFETY: just opened, and nobody else's.
                    threads.push(unsafe { OwnedHandle::from_raw_handle(thread) });
                }
            }
            // SAFETY: as above.
            there = unsafe { Thread32Next(list.as_raw_handle(), &raw mut entry) };
        }
        threads
    }

    pub(crate) fn is_stopped(child: &Child) -> bool {
        // How often a thread is suspended is only told by suspending it once more.
        threads(child).iter().any(|thread| {
            // SAFETY: an open handle.
            let before = unsafe { SuspendThread(thread.as_raw_handle()) };
            // SAFETY: as above.
            unsafe { ResumeThread(thread.as_raw_handle()) };
            before == 1
        })
    }

    pub(crate) fn resume(child: &Child) {
        for thread in threads(child) {
            // SAFETY: an open handle. It does nothing to one that runs.
            unsafe { ResumeThread(thread.as_raw_handle()) };
        }
    }

    /// Nothing: a file that a test makes is private enough here.
    pub(crate) fn make_private(_path: &Path) {}

    /// What this process was given as its standard input.
    pub(crate) fn stdin_file() -> File {
        let stdin = std::io::stdin().as_handle().try_clone_to_owned().expect("it is open");
        stdin.into()
    }

    /// How many handles this process has.
    pub(crate) fn open_handles() -> usize {
        // Each is asked for, since the call that counts them is none of wine's.
        let is_open = |handle: &usize| {
            let mut flags = 0;
            // SAFETY: writes the flags; an error where there is no such handle.
            unsafe { GetHandleInformation(*handle as HANDLE, &raw mut flags) != 0 }
        };
        (4..1 << 14).step_by(4).filter(is_open).count()
    }

    /// Of this thread.
    pub(crate) fn processor_time() -> Duration {
        let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
        let [made, ended, kernel, user] = times.each_mut().map(std::ptr::from_mut);
        // SAFETY: the pseudo handle needs no care.
        let this = unsafe { GetCurrentThread() };
        // SAFETY: writes the four times.
        assert_ne!(unsafe { GetThreadTimes(this, made, ended, kernel, user) }, 0);
        let [.., kernel, user] = times.map(|time| {
            let high = u64::from(time.dwHighDateTime) << 32;
            Duration::from_nanos(100 * (high | u64::from(time.dwLowDateTime)))
        });
        kernel + user
    }
}

pub(crate) use platform::*;
