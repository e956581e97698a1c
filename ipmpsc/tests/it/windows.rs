//! What is particular to Windows: named events, access lists, and files that are in use.

use crate::children::{Child, Words, folder, listen, say};
use crate::files::{make, names};
use crate::os::open_handles;
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use std::fs::OpenOptions;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use windows_sys::Win32::Foundation::ERROR_USER_MAPPED_FILE;
use windows_sys::Win32::Security::Authorization::{SE_FILE_OBJECT, SetSecurityInfo};
use windows_sys::Win32::Security::DACL_SECURITY_INFORMATION;
use windows_sys::Win32::Storage::FileSystem::WRITE_DAC;
use windows_sys::Win32::System::Threading::{OpenEventW, SYNCHRONIZATION_SYNCHRONIZE};

pub(crate) fn child(role: &str, args: &[&str]) {
    match role {
        "attached" => {
            let ring = SharedRingBuffer::open(args[0]).expect("the ring can be opened");
            Sender::new(ring).send(&1_u64).expect("it fits");
            let ring = SharedRingBuffer::open(args[0]).expect("the ring can be opened");
            let receiver = Receiver::new(ring);
            assert_eq!(receiver.recv::<u64>().expect("it is there"), 1);
            say("attached");
            listen();
        }
        other => panic!("no child is called {other}"),
    }
}

/// Whether the events of the ring in this file exist.
fn events_exist(path: &str) -> bool {
    let words = Words::of(path);
    let [high, low] = [24, 32].map(|at| words.word(at).load(Relaxed));
    let exists = |kind: &str| {
        let name = format!("Local\\ipmpsc-{high:016x}{low:016x}-{kind}\0");
        let name: Vec<u16> = name.encode_utf16().collect();
        // SAFETY: a name that ends with a zero.
        let event = unsafe { OpenEventW(SYNCHRONIZATION_SYNCHRONIZE, 0, name.as_ptr()) };
        // SAFETY: just opened, and nobody else's.
        !event.is_null() && drop(unsafe { OwnedHandle::from_raw_handle(event) }) == ()
    };
    let exist = ["Receiver-one", "Receiver-all", "Senders-one", "Senders-all"].map(exists);
    assert!(exist.iter().all(|it| *it == exist[0]), "some exist, some do not: {exist:?}");
    exist[0]
}

#[test]
fn the_events_of_a_ring_end_with_its_last_process_however_it_ends() {
    let (_folder, path) = folder();
    drop(make(&path));
    for _ in 0..5 {
        assert!(!events_exist(&path));
        let mut child = Child::start("windows::attached", &[&path]);
        assert_eq!(child.hear(), "attached");
        assert!(events_exist(&path));
        child.kill();
    }
    assert!(!events_exist(&path));
}

#[test]
fn a_ring_that_was_dropped_has_left_no_handle() {
    let (_folder, path) = folder();
    let use_it = || {
        let ring = Options::new().open_or_create(&path).expect("it can be opened or made");
        Sender::new(ring.clone()).send(&1_u64).expect("it fits");
        assert_eq!(Receiver::new(ring).recv::<u64>().expect("it is there"), 1);
    };
    // The first use loads libraries, which keep handles of their own.
    use_it();
    let before = open_handles();
    for _ in 0..100 {
        use_it();
    }
    assert_eq!(open_handles(), before);
}

#[test]
fn a_ring_in_use_is_put_aside_and_removed_when_it_is_no_longer() {
    let (folder, path) = folder();
    let rings = [(); 3].map(|()| SharedRingBuffer::create(&path, 64).expect("it can be made"));
    let closed = rings.each_ref().map(|ring| ring.stats().closed);
    assert_eq!(closed, [true, true, false]);
    let there = names(folder.path());
    assert!(there.iter().all(|name| name == "ring" || name.starts_with(".ring.ipmpsc-old-")));
    drop(rings);
    drop(SharedRingBuffer::create(&path, 64).expect("it can be made"));
    assert_eq!(names(folder.path()), ["ring"]);
}

#[test]
fn a_file_in_use_cannot_be_cut_off() {
    let (_folder, path) = folder();
    let named = make(&path);
    let anonymous = Options::new().anonymous().expect("a ring can be made");
    for ring in [named, anonymous] {
        let file = ring.try_clone_file().expect("it can be cloned");
        for len in [0, 10, 4096] {
            let error = file.set_len(len).expect_err("it is mapped");
            assert_eq!(error.raw_os_error(), Some(ERROR_USER_MAPPED_FILE as i32));
        }
        Sender::new(ring).send(&1_u64).expect("it is sound");
    }
}

#[test]
fn an_anonymous_ring_leaves_no_file() {
    let in_temp = || {
        let name = format!("ipmpsc-{}-", std::process::id());
        let names = names(&std::env::temp_dir());
        names.iter().filter(|there| there.starts_with(&name)).count()
    };
    let ring = Options::new().anonymous().expect("a ring can be made");
    let file = ring.try_clone_file().expect("it can be cloned");
    drop(ring);
    let ring = SharedRingBuffer::from_file(file).expect("its handle keeps it");
    Sender::new(ring.clone()).send(&1_u64).expect("it is sound");
    assert_eq!(in_temp(), 1);
    drop(ring);
    assert_eq!(in_temp(), 0);
}

#[test]
fn a_file_that_others_may_write_is_trusted_only_if_asked() {
    let (_folder, path) = folder();
    drop(make(&path));
    drop(SharedRingBuffer::open(&path).expect("it is ours alone"));
    let file = OpenOptions::new().access_mode(WRITE_DAC).open(&path).expect("it is ours");
    let (file, what, none) = (file.as_raw_handle(), DACL_SECURITY_INFORMATION, ptr::null_mut());
    // No list lets everybody do everything.
    // SAFETY: an open handle, and nothing to read.
    let error = unsafe {
        SetSecurityInfo(file, SE_FILE_OBJECT, what, none, none, ptr::null(), ptr::null())
    };
    assert_eq!(error, 0);
    assert!(matches!(SharedRingBuffer::open(&path), Err(Error::Untrusted)));
    Options::new().mode(0o666).open(&path).expect("it was asked for");
}
