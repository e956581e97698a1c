//! What a Unix system has at a path that is no ring, and what it can refuse: links, FIFOs, other
//! users, limits, full disks, locks.

use crate::children::{Child, LONG, folder, say};
use crate::files::{make, names, open_error};
use crate::os::is_emulated;
use ipmpsc::{Error, Liveness, Options, Receiver, Sender, SharedRingBuffer};
use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn child(role: &str, args: &[&str]) {
    match role {
        "full_disk" => create_on_a_full_disk(),
        "file_limit" => create_beyond_the_file_limit(args[0]),
        "descriptor_limit" => run_out_of_descriptors(args[0]),
        "receiver_without_memory" => receive_without_memory(args[0]),
        "memory_limit" => run_out_of_address_space(args[0]),
        "stranger" => open_as_somebody_else(args[0], args[1]),
        other => panic!("no child is called {other}"),
    }
}

fn make_fifo(path: &Path) {
    let name = CString::new(path.to_str().expect("UTF-8")).expect("no zeros");
    // SAFETY: a C string and a number.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

#[test]
fn what_is_no_ring_is_not_opened_and_does_not_hold_one_up() {
    let (folder, path) = folder();
    let in_folder = |name: &str| folder.path().join(name);
    assert!(matches!(open_error(&path), Error::Io(e) if e.kind() == ErrorKind::NotFound));
    assert!(matches!(open_error(folder.path()), Error::NotARing));

    let fifo = in_folder("fifo");
    make_fifo(&fifo);
    assert!(matches!(open_error(&fifo), Error::NotARing));

    let _socket = std::os::unix::net::UnixListener::bind(in_folder("socket"));
    assert!(matches!(open_error(in_folder("socket")), Error::NotARing));

    make(&path);
    symlink(&path, in_folder("link")).expect("a link can be made");
    symlink(in_folder("nothing"), in_folder("dangling")).expect("a link can be made");
    for link in ["link", "dangling"] {
        assert!(matches!(open_error(in_folder(link)), Error::NotARing));
        let made = Options::new().create(in_folder(link));
        assert!(matches!(made, Err(Error::NotARing)), "a link is not followed");
        let made = Options::new().open_or_create(in_folder(link));
        assert!(matches!(made, Err(Error::NotARing)), "a link is not followed");
    }
    assert!(!in_folder("nothing").exists());
    for there in ["fifo", "socket", "."] {
        assert!(matches!(Options::new().create(in_folder(there)), Err(Error::NotARing)));
    }
    assert!(SharedRingBuffer::open(&path).is_ok());
}

#[test]
fn create_leaves_what_is_no_file_and_what_a_link_leads_to_as_it_was() {
    let (folder, path) = folder();
    let in_folder = |name: &str| folder.path().join(name);
    std::fs::write(in_folder("precious"), "precious").expect("a file can be written");
    symlink("precious", in_folder("link")).expect("a link can be made");
    std::fs::create_dir(in_folder("folder")).expect("a folder can be made");
    make_fifo(&in_folder("fifo"));
    for name in ["link", "folder", "fifo"] {
        let made = Options::new().create(in_folder(name));
        assert!(matches!(made, Err(Error::NotARing)), "{name}: {made:?}");
    }
    let there =
        |name: &str| in_folder(name).symlink_metadata().expect("it is as it was").file_type();
    assert!(there("link").is_symlink() && there("folder").is_dir() && there("fifo").is_fifo());
    assert_eq!(std::fs::read(in_folder("precious")).expect("it is there"), b"precious");
    assert_eq!(names(folder.path()), ["fifo", "folder", "link", "precious"]);
    drop(make(&path));
}

#[test]
fn what_stands_where_a_draft_goes_is_removed_or_an_error_and_not_followed() {
    let (folder, path) = folder();
    let draft = folder.path().join(".ring.ipmpsc-new");
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "precious").expect("a file can be written");
    let obstacles: [(&str, &dyn Fn()); 4] = [
        ("file", &|| std::fs::hard_link(&precious, &draft).expect("a link can be made")),
        ("link", &|| symlink(&precious, &draft).expect("a link can be made")),
        ("folder", &|| std::fs::create_dir(&draft).expect("a folder can be made")),
        ("fifo", &|| make_fifo(&draft)),
    ];
    for (name, obstruct) in obstacles {
        obstruct();
        let began = Instant::now();
        match Options::new().create(&path) {
            Ok(ring) => Sender::new(ring).send(&1_u64).expect("it is sound"),
            Err(error) => assert!(matches!(error, Error::Io(_)), "{name}: {error:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{name} took {:?}", began.elapsed());
        let _ = std::fs::remove_file(&draft).or_else(|_| std::fs::remove_dir(&draft));
        assert_eq!(std::fs::read(&precious).expect("it is there"), b"precious", "{name}");
    }
}

#[test]
fn a_file_that_others_may_write_is_trusted_only_if_asked() {
    let (_folder, path) = folder();
    let ring = Options::new().mode(0o666).create_new(&path).expect("a ring can be made");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "whatever the umask");
    for allowed in [0o600, 0o644, 0o660] {
        let opened = Options::new().mode(allowed).open(&path);
        assert!(matches!(opened, Err(Error::Untrusted)), "{allowed:o}");
    }
    assert!(matches!(SharedRingBuffer::open(&path), Err(Error::Untrusted)));
    Options::new().mode(0o666).open(&path).expect("it was asked for");
    drop(ring);
    for mode in [0o620, 0o602] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        assert!(matches!(open_error(&path), Error::Untrusted), "{mode:o}");
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
    Options::new().open(&path).expect("others may only read it");
}

fn open_as_somebody_else(path: &str, mode: &str) {
    // SAFETY: numbers only; this process does nothing else.
    let set = unsafe { libc::setresuid(12_345, 12_345, 12_345) };
    assert_eq!(set, 0, "root may become anybody");
    let mode = u32::from_str_radix(mode, 8).expect("a mode");
    say(&match Options::new().mode(mode).open(path) {
        Ok(ring) => format!("{:?}", Sender::new(ring).send(&7_u64)),
        Err(Error::Io(error)) => format!("{:?}", error.kind()),
        Err(error) => format!("{error:?}"),
    });
}

fn is_root() -> bool {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn another_users_ring_opens_only_if_both_agree() {
    if !is_root() {
        println!("skipped: only root can be two users");
        return;
    }
    let (folder, path) = folder();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let receiver = Receiver::new(make(&path));
    let cases = [
        (0o600, "600", "PermissionDenied"),
        (0o644, "666", "PermissionDenied"),
        (0o666, "600", "Untrusted"),
        (0o666, "666", "Ok(())"),
    ];
    for (mode, asked, outcome) in cases {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        let mut child = Child::start("refusals::stranger", &[&path, asked]);
        assert_eq!(child.hear(), outcome, "{mode:o}, asked for {asked}");
    }
    assert_eq!(receiver.try_recv::<u64>().expect("sound"), Some(7), "what the other user sent");
}

#[test]
fn a_ring_that_somebody_else_owns_is_trusted_only_if_asked() {
    if !is_root() {
        println!("skipped: only root can give a file away");
        return;
    }
    let (_folder, path) = folder();
    drop(make(&path));
    chown(&path, Some(12_345), None).expect("root can");
    // Root may write it, and so may its owner.
    assert!(matches!(open_error(&path), Error::Untrusted));
    Options::new().mode(0o660).open(&path).expect("it was asked for");
}

#[test]
fn an_anonymous_ring_cannot_be_cut_off() {
    let ring = Options::new().anonymous().expect("a ring can be made");
    let file = ring.try_clone_file().expect("it can be cloned");
    for len in [0, 10, 1 << 30] {
        let error = file.set_len(len).expect_err("it is sealed");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    Sender::new(ring.clone()).send(&1_u64).expect("it is sound");
}

/// Nothing is made, the error has one of these kinds, and nothing is left behind.
fn cannot_create(folder: &Path, capacity: u64, kinds: &[ErrorKind]) {
    let path = folder.join("big");
    for replace in [false, true] {
        let mut options = Options::new();
        options.capacity(capacity);
        let made = if replace { options.create(&path) } else { options.create_new(&path) };
        match made {
            Err(Error::Io(error)) => assert!(kinds.contains(&error.kind()), "{error:?}"),
            other => panic!("{other:?}"),
        }
        assert!(names(folder).iter().all(|name| name == "ring"), "{:?}", names(folder));
    }
}

fn create_on_a_full_disk() {
    let (folder, _) = folder();
    // SAFETY: numbers only; this process is alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "a namespace can be made");
    let target = CString::new(folder.path().to_str().expect("UTF-8")).expect("no zeros");
    let mount = |name: &std::ffi::CStr, at: &std::ffi::CStr, flags, data: *const libc::c_void| {
        let name = name.as_ptr();
        // SAFETY: C strings or null, in a namespace of our own.
        unsafe { libc::mount(name, at.as_ptr(), name, flags, data) }
    };
    let private = mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
    assert_eq!(private, 0, "the namespace can be made private");
    assert_eq!(mount(c"tmpfs", &target, 0, c"size=64k".as_ptr().cast()), 0);
    cannot_create(folder.path(), 1 << 20, &[ErrorKind::StorageFull]);
    let path = folder.path().join("ring");
    let ring = Options::new().capacity(16 << 10).max_senders(4).create_new(&path);
    let ring = ring.expect("a small one fits");
    // Its space was allocated, so a disk that is full now does no harm.
    while std::fs::write(folder.path().join("filler"), vec![1; 1 << 20]).is_ok() {}
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    for _ in 0..100 {
        if !sender.try_send_bytes(&[1; 3000]).expect("sound") {
            while receiver.try_recv_bytes().expect("sound").is_some() {}
        }
    }
    say("survived");
}

#[test]
fn a_full_disk_is_an_error_of_create_and_of_nothing_else() {
    if !is_root() {
        println!("skipped: only root can mount a small disk");
        return;
    }
    let mut child = Child::start("refusals::full_disk", &[]);
    assert_eq!(child.hear(), "survived");
    child.finish();
}

#[cfg(target_env = "gnu")]
type Resource = libc::c_uint;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn set_limit(resource: Resource, limit: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: a valid struct, read only.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

fn create_beyond_the_file_limit(folder: &str) {
    set_limit(libc::RLIMIT_FSIZE, 64 << 10);
    cannot_create(Path::new(folder), 1 << 20, &[ErrorKind::FileTooLarge]);
    assert!(Options::new().capacity(1 << 20).anonymous().is_err());
    say("survived");
}

#[test]
fn a_file_size_limit_is_an_error_and_not_a_signal() {
    let (folder, _) = folder();
    let folder = folder.path().to_str().expect("UTF-8");
    let mut child = Child::start("refusals::file_limit", &[folder]);
    assert_eq!(child.hear(), "survived");
    child.finish();
}

fn run_out_of_descriptors(folder: &str) {
    let folder = Path::new(folder);
    let path = folder.join("ring");
    let ring = make(path.to_str().expect("UTF-8"));
    // However few are left, it works or it is an error that leaves nothing behind.
    for left in 0..6 {
        let mut taken = Vec::new();
        set_soft_descriptor_limit(64);
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - left);
        let named = Options::new().capacity(100).create_new(folder.join("new"));
        let opened = SharedRingBuffer::open(path.to_str().expect("UTF-8"));
        let sent = Sender::new(ring.clone()).try_send(&1_u64);
        let anonymous = Options::new().anonymous();
        drop(taken);
        let entries = names(folder);
        let expected: &[&str] = if named.is_ok() { &["new", "ring"] } else { &["ring"] };
        assert_eq!(entries, expected, "with {left} descriptors left");
        for error in [named.err(), opened.err(), sent.err(), anonymous.err()].into_iter().flatten()
        {
            assert!(matches!(error, Error::Io(_)), "{left}: {error:?}");
        }
        let _ = std::fs::remove_file(folder.join("new"));
    }
    assert!(Sender::new(ring).try_send(&1_u64).expect("descriptors are back"));
    say("survived");
}

fn set_soft_descriptor_limit(limit: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: 1024 };
    // SAFETY: a valid struct, read only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn running_out_of_descriptors_is_an_error_that_leaves_nothing_behind() {
    let (folder, _) = folder();
    let mut child =
        Child::start("refusals::descriptor_limit", &[folder.path().to_str().expect("UTF-8")]);
    assert_eq!(child.hear(), "survived");
    child.finish();
}

/// Lets this process have no more than `bytes` beyond the address space that it has.
fn leave_address_space(bytes: libc::rlim_t) {
    let status = std::fs::read_to_string("/proc/self/status").expect("it can be read");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB"));
    let kib: libc::rlim_t = kib.and_then(|kib| kib.trim().parse().ok()).expect("a number of KiB");
    set_limit(libc::RLIMIT_AS, (kib << 10) + bytes);
}

fn run_out_of_address_space(folder: &str) {
    let (folder, large) = (Path::new(folder), 64 << 20);
    let path = folder.join("ring");
    drop(Options::new().capacity(large).create_new(&path).expect("a ring can be made"));
    leave_address_space(16 << 20);
    cannot_create(folder, large, &[ErrorKind::OutOfMemory]);
    let errors =
        [Options::new().open(&path).err(), Options::new().capacity(large).anonymous().err()];
    for error in errors {
        let right = matches!(&error, Some(Error::Io(e)) if e.kind() == ErrorKind::OutOfMemory);
        assert!(right, "{error:?}");
    }
    drop(Options::new().capacity(100).create(&path).expect("a small one fits"));
    say("survived");
}

fn receive_without_memory(path: &str) {
    let ring = Options::new().open(path).expect("the ring can be opened");
    let receiver = Receiver::new(ring.clone());
    leave_address_space(16 << 20);
    for _ in 0..2 {
        let refused = receiver.try_recv::<serde_bytes::ByteBuf>();
        let right = matches!(&refused, Err(Error::Io(e)) if e.kind() == ErrorKind::OutOfMemory);
        assert!(right, "{refused:?}");
        assert_eq!(ring.stats().received, 0);
    }
    say("refused");
}

#[test]
fn a_message_there_is_no_memory_for_stays_for_one_who_has_it() {
    if is_emulated() {
        return;
    }
    let (_folder, path) = folder();
    let ring = Options::new().capacity(65 << 20).create(&path).expect("a ring can be made");
    let bytes = serde_bytes::ByteBuf::from(vec![7; 64 << 20]);
    Sender::new(ring.clone()).send(&bytes).expect("it fits");
    let mut child = Child::start("refusals::receiver_without_memory", &[&path]);
    assert_eq!(child.hear(), "refused");
    child.finish();
    let receiver = Receiver::new(ring);
    assert_eq!(receiver.recv_timeout(LONG).expect("the role is free"), Some(bytes));
}

#[test]
fn running_out_of_address_space_is_an_error_that_leaves_nothing_behind() {
    if is_emulated() {
        return;
    }
    let (folder, _) = folder();
    let mut child =
        Child::start("refusals::memory_limit", &[folder.path().to_str().expect("UTF-8")]);
    assert_eq!(child.hear(), "survived");
    child.finish();
}

/// Lets every attempt to lock a byte of a file, or to ask for locks, fail with `error` in this
/// process from here on.
pub(crate) fn forbid_locks(error: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    #[cfg(target_pointer_width = "32")]
    const FCNTL: u32 = libc::SYS_fcntl64 as u32;
    #[cfg(target_pointer_width = "64")]
    const FCNTL: u32 = libc::SYS_fcntl as u32;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // `nr` stands at 0 and the low half of the second argument at 24 of a seccomp_data.
    let mut steps = [
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 0, 4, FCNTL),
        step(LOAD, 0, 0, 24),
        step(IF_EQUAL, 1, 0, libc::F_OFD_SETLK as u32),
        step(IF_EQUAL, 0, 1, libc::F_OFD_GETLK as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the call takes numbers; a filter needs it unless the process is root.
    let alone = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its steps are valid for the call, which copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!((alone, result), (0, 0), "the kernel has seccomp filters");
}

#[test]
fn where_files_cannot_be_locked_it_is_said_at_once() {
    if is_emulated() {
        return;
    }
    // A server that does not answer, SELinux, a kernel before 3.15, a sandbox.
    for error in [libc::ENOLCK, libc::EACCES, libc::EINVAL, libc::ENOSYS] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ring");
        let child = crate::os::in_fork(|| {
            forbid_locks(error);
            let refused = |error| matches!(error, Some(Error::LivenessUnavailable(_)));
            assert!(refused(Options::new().create_new(&path).err()), "create_new");
            let ring = Options::new().anonymous().expect("this needs no lock");
            assert_eq!(ring.liveness(), Liveness::Unknown);
            assert!(refused(Sender::new(ring.clone()).send(&1).err()), "send");
            assert!(refused(Receiver::new(ring).try_recv::<u8>().err()), "try_recv");
            0
        });
        assert_eq!(child.wait(), 0, "{error}");
        assert_eq!(names(folder.path()), [""; 0], "nothing is left");
    }
}
