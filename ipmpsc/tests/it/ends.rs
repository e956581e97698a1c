//! Ends that are no SIGKILL, and processes that share a process id: what a sender holds goes with
//! the process, whatever ends it and whatever it is called.

use crate::children::{Child, LONG, folder, listen, say};
use crate::files::make;
use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) fn child(role: &str, args: &[&str]) {
    let sender = Sender::new(SharedRingBuffer::open(args[0]).expect("the ring can be opened"));
    match role {
        "claimer" => {
            let claimed = sender.reserve(8).expect("there is space");
            say("claimed");
            let how = listen();
            end(&how);
            unreachable!("{how} returned with {claimed:?}");
        }
        "namesake" => {
            say(&std::process::id().to_string());
            if args[1] == "claims" {
                let _claimed = sender.reserve(8).expect("there is space");
                say("claimed");
                listen();
            }
            for number in 1..=2_u64 {
                sender.send(&number).expect("it fits");
                say("sent");
                listen();
            }
        }
        other => panic!("no child is called {other}"),
    }
}

/// Ends this process, or this program in it.
fn end(how: &str) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads a whole `rlimit`. Nobody wants these core dumps.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    match how {
        "abort" => std::process::abort(),
        "exit of another thread" => {
            let other = std::thread::spawn(|| std::process::exit(0));
            other.join().expect("it never returns");
        }
        "bad access" => {
            // SAFETY: takes the handler that std has, which would let a raised signal pass.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            // SAFETY: ends the process.
            unsafe { libc::raise(libc::SIGSEGV) };
        }
        // Another program, with the same process id, which goes on.
        "exec" => panic!("{}", Command::new("sleep").arg("60").exec()),
        other => panic!("no end is called {other}"),
    }
}

/// Long enough for the others to have asked who lives.
const A_LOOK: Duration = Duration::from_millis(150);

#[test]
fn a_claim_goes_with_its_process_whatever_ends_it() {
    for how in ["abort", "exit of another thread", "bad access", "exec"] {
        let (_folder, path) = folder();
        let ring = make(&path);
        let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let mut child = Child::start("ends::claimer", &[&path]);
        assert_eq!(child.hear(), "claimed");
        sender.send(&1_u64).expect("there is space");
        let early = receiver.recv_timeout::<u64>(A_LOOK).expect("sound");
        assert_eq!(early, None, "the claim is in front and its owner lives");
        child.tell(how);
        assert_eq!(receiver.recv_timeout::<u64>(LONG).expect("sound"), Some(1), "{how}");
        assert_eq!(ring.stats().senders, 1, "{how}");
    }
}

/// Runs the command as the first process of its own world.
fn alone_in_a_namespace(command: &mut Command) {
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::piped()).stdout(Stdio::piped());
    *command = outer;
}

#[test]
fn two_processes_with_one_id_in_two_namespaces_are_two() {
    let mut trial = Command::new("true");
    alone_in_a_namespace(&mut trial);
    if !trial.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: this user can make no namespaces");
        return;
    }
    let (_folder, path) = folder();
    let ring = make(&path);
    let receiver = Receiver::new(ring.clone());
    let start = |how| Child::start_with("ends::namesake", &[&path, how], alone_in_a_namespace);
    let (mut first, mut second) = (start("claims"), start("sends"));
    assert_eq!((first.hear(), first.hear()), ("1".to_owned(), "claimed".to_owned()));
    assert_eq!((second.hear(), second.hear()), ("1".to_owned(), "sent".to_owned()));
    second.tell("go on");
    assert_eq!(second.hear(), "sent");
    first.kill();
    for number in 1..=2 {
        assert_eq!(receiver.recv_timeout::<u64>(LONG).expect("sound"), Some(number));
    }
    assert_eq!(ring.stats().senders, 1, "the other one lives");
}
