//! The machine that virtual processes run on: their memory, the kernel's locks and beds, and the
//! ledger of what was sent and received, which every check reads.

use super::stepped;
use crate::layout::{Geometry, SLEEPS, View};
use crate::ring::Ring;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

/// Slots of the ring; the first is the receiver's.
pub(super) const SLOTS: u32 = 8;
/// More processes than this are not started.
const MOST_ALIVE: usize = 5;
/// Enough for a panic's message.
const STACK_BYTES: usize = 256 << 10;

/// What somebody sleeps for, as an index of `World::beds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bed {
    Receiver,
    Senders,
}

/// What all processes share.
pub(super) struct World {
    base: NonNull<u8>,
    geometry: Geometry,
    warm: u64,
    /// By slot: the processes that have its byte and its two life bytes.
    pub(super) locks: RefCell<[[Option<usize>; 3]; SLOTS as usize]>,
    /// Who sleeps, and on which value of the word.
    beds: [RefCell<VecDeque<(usize, u32)>>; 2],
    pub(super) ledger: RefCell<Ledger>,
}

/// One process's part in the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Messages that it has committed.
    pub(super) committed: u64,
    /// Of those, messages that a receiver has handled.
    pub(super) handled: u64,
    /// It has written a record, and only its commit is left.
    pub(super) written: bool,
    /// Its slot's lock was taken from it while it lived.
    pub(super) evicted: bool,
}

/// A message that was handled and perhaps not freed: where it ends, its sender and its number.
type Handled = (u64, usize, u64);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) accounts: Vec<Account>,
    /// Who took the receiver's role last.
    pub(super) receiver: Option<usize>,
    handled: VecDeque<Handled>,
    /// What a dead receiver had handled and not freed: it comes again, in this order.
    again: VecDeque<Handled>,
}

impl Ledger {
    /// A receiver has read message `seq` of `sender` whole.
    pub(super) fn handle(&mut self, end: u64, sender: usize, seq: u64) {
        if let Some(due) = self.again.pop_front() {
            assert_eq!(due, (end, sender, seq), "what a dead receiver left comes again, in order");
        } else {
            let account = &mut self.accounts[sender];
            assert_eq!(seq, account.handled, "sender {sender}: lost, doubled or out of order");
            account.handled += 1;
            assert!(account.handled <= account.committed, "sender {sender}: nobody sent this");
        }
        self.handled.push_back((end, sender, seq));
    }

    fn receiver_died(&mut self, head: u64) {
        self.handled.retain(|&(end, ..)| end > head);
        let due: Vec<Handled> = self.handled.drain(..).chain(self.again.drain(..)).collect();
        self.again.extend(due);
    }
}

impl World {
    fn new(capacity: u64, warm: u64, position: u64) -> Rc<Self> {
        let geometry = Geometry { capacity, slot_count: SLOTS };
        // SAFETY: the size is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(Self::memory(geometry)) };
        let base = NonNull::new(base).expect("there is memory for a few kilobytes");
        let world = Self {
            base,
            geometry,
            warm,
            locks: RefCell::default(),
            beds: Default::default(),
            ledger: RefCell::default(),
        };
        let ring = world.ring();
        let header = ring.view().header();
        header.producers.tail.store(position, SeqCst);
        header.producers.room.store(position, SeqCst);
        header.consumer.head.store(position, SeqCst);
        Rc::new(world)
    }

    fn memory(geometry: Geometry) -> Layout {
        let bytes = geometry.total().expect("a few kilobytes") as usize;
        Layout::from_size_align(bytes, 4096).expect("a few kilobytes")
    }

    /// The ring as one process sees it.
    pub(super) fn ring(&self) -> Ring {
        // SAFETY: the memory is aligned, has the geometry's size, is only ever used through views,
        // and lives as long as the world, which every process holds.
        let mut ring = Ring::new(unsafe { View::new(self.base, self.geometry) });
        ring.set_warm(self.warm);
        ring
    }

    fn bed(&self, bed: Bed) -> &RefCell<VecDeque<(usize, u32)>> {
        &self.beds[bed as usize]
    }

    /// The kernel's futex: sleeps if the word still has its value.
    pub(super) fn sleep(&self, me: usize, bed: Bed, expected: u32) {
        let ring = self.ring();
        let header = ring.view().header();
        let word = match bed {
            Bed::Receiver => &header.receiver_wait.0,
            Bed::Senders => &header.space_wait.0,
        };
        stepped::step();
        if std::sync::atomic::AtomicU32::load(word, SeqCst) == expected {
            self.bed(bed).borrow_mut().push_back((me, expected));
            stepped::step();
        }
    }

    pub(super) fn wake_one(&self, bed: Bed) {
        stepped::step();
        self.bed(bed).borrow_mut().pop_front();
    }

    fn is_asleep(&self, process: usize) -> bool {
        self.beds.iter().any(|bed| bed.borrow().iter().any(|&(sleeper, _)| sleeper == process))
    }

    fn get_up(&self, process: usize) {
        for bed in &self.beds {
            bed.borrow_mut().retain(|&(sleeper, _)| sleeper != process);
        }
    }

    /// Whether a receiver sleeps until it is roused.
    fn receiver_sleeps(&self) -> bool {
        self.bed(Bed::Receiver).borrow().iter().any(|&(_, word)| word == SLEEPS)
    }

    /// What the kernel frees when a process ends.
    pub(super) fn free_lock(&self, process: usize) {
        let mut locks = self.locks.borrow_mut();
        for lock in locks.as_flattened_mut().iter_mut().filter(|lock| **lock == Some(process)) {
            *lock = None;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the views have gone with the processes.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::memory(self.geometry)) };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sender,
    Receiver,
}

struct Process {
    kind: Kind,
    /// `None` once it has ended or been killed.
    task: Option<Coroutine<(), (), (), DefaultStack>>,
    frozen: bool,
}

pub(super) struct Machine {
    pub(super) world: Rc<World>,
    processes: Vec<Process>,
    /// Deaths and evictions, each of which may cost the others a nap.
    faults: u64,
    steps: u64,
}

impl Machine {
    pub(super) fn new(capacity: u64, warm: u64, position: u64) -> Self {
        let world = World::new(capacity, warm, position);
        Self { world, processes: Vec::new(), faults: 0, steps: 0 }
    }

    /// Starts a process; not if there are too many.
    pub(super) fn start(&mut self, kind: Kind, life: impl FnOnce(&World, usize) + 'static) {
        if self.alive().count() >= MOST_ALIVE && (kind == Kind::Sender || self.has_receiver()) {
            return;
        }
        let (world, me) = (Rc::clone(&self.world), self.processes.len());
        world.ledger.borrow_mut().accounts.push(Account::default());
        let stack = DefaultStack::new(STACK_BYTES).expect("there is memory for a stack");
        let task = Coroutine::with_stack(stack, move |out, ()| {
            stepped::enter(out);
            stepped::step();
            life(&world, me);
        });
        self.processes.push(Process { kind, task: Some(task), frozen: false });
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.processes.len()).filter(|&process| self.processes[process].task.is_some())
    }

    /// The living process that a number means, if there is any.
    pub(super) fn pick(&self, number: u8) -> Option<usize> {
        let count = self.alive().count();
        self.alive().nth(usize::from(number).checked_rem(count)?)
    }

    fn is_ready(&self, process: usize) -> bool {
        let Process { task, frozen, .. } = &self.processes[process];
        task.is_some() && !frozen && !self.world.is_asleep(process)
    }

    /// Lets a process make one step, if it can.
    pub(super) fn run(&mut self, process: usize) {
        if !self.is_ready(process) {
            return;
        }
        let task = self.processes[process].task.as_mut().expect("a process that is ready lives");
        let leave = stepped::Leave;
        let result = task.resume(());
        drop(leave);
        self.steps += 1;
        if let CoroutineResult::Return(()) = result {
            self.processes[process].task = None;
            self.world.free_lock(process);
        }
        self.check_words();
    }

    /// What holds after every step.
    fn check_words(&self) {
        let ring = self.world.ring();
        let header = ring.view().header();
        let (head, tail) = (header.consumer.head.load(SeqCst), header.producers.tail.load(SeqCst));
        let lap = tail - tail % ring.view().capacity();
        assert!(ring.free_end(tail, head, lap).is_some(), "head {head}, tail {tail}");
    }

    pub(super) fn kill(&mut self, process: usize) {
        self.faults += 1;
        self.processes[process].task = None;
        self.world.ledger.borrow_mut().accounts[process].written = false;
        self.world.get_up(process);
        self.world.free_lock(process);
        if self.world.ledger.borrow().receiver == Some(process) {
            let head = self.world.ring().view().header().consumer.head.load(SeqCst);
            self.world.ledger.borrow_mut().receiver_died(head);
        }
    }

    pub(super) fn freeze(&mut self, process: usize, frozen: bool) {
        self.processes[process].frozen = frozen;
    }

    pub(super) fn end_nap(&self, process: usize) {
        self.world.get_up(process);
    }

    /// The kernel forgets the lock of a stopped process, as it does on some systems where its
    /// descriptors are closed under it: a wrong proof of death. It must harm nobody, if the process
    /// had no more to write; a writer into space that is not its own any more does.
    pub(super) fn evict_any(&mut self) {
        let mut ledger = self.world.ledger.borrow_mut();
        let may = |account: &Account| account.written && !account.evicted;
        let Some(process) = ledger.accounts.iter().position(may) else {
            return;
        };
        ledger.accounts[process].evicted = true;
        self.faults += 1;
        self.world.free_lock(process);
        self.processes[process].frozen = true;
    }

    fn has_receiver(&self) -> bool {
        self.alive().any(|process| self.processes[process].kind == Kind::Receiver)
    }

    /// Runs everybody by turns of uneven length, since in lock step two may get in each other's way
    /// for ever, until nobody has anything left to do; a nap ends only when all
    /// sleep. Then nothing sent may be missing.
    pub(super) fn run_to_the_end(&mut self, start_receiver: impl Fn(&mut Self)) {
        let end = self.steps + 200_000;
        let (mut naps, mut turns) = (0, 1_u64);
        for process in 0..self.processes.len() {
            self.freeze(process, false);
        }
        loop {
            assert!(self.steps < end, "they run for ever: {}", self.state());
            let ready: Vec<usize> =
                self.alive().filter(|&process| self.is_ready(process)).collect();
            for &process in &ready {
                turns = turns.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (0..=turns >> 60).for_each(|_| self.run(process));
            }
            if !self.has_receiver() {
                start_receiver(self);
                continue;
            }
            if !ready.is_empty() {
                continue;
            }
            if self.is_done() {
                return;
            }
            naps += 1;
            assert!(self.faults > 0, "nobody has died, and a wake was lost: {}", self.state());
            assert!(naps <= 2, "naps after the last death have not helped: {}", self.state());
            let sleeps = self.world.receiver_sleeps();
            let napping = |&it: &usize| !sleeps || self.processes[it].kind == Kind::Sender;
            (0..self.processes.len()).filter(napping).for_each(|process| self.end_nap(process));
        }
    }

    /// What a failure's message says.
    fn state(&self) -> String {
        let ring = self.world.ring();
        let header = ring.view().header();
        let alive: Vec<_> = self.alive().map(|it| (it, self.processes[it].kind)).collect();
        format!(
            "alive {alive:?}, asleep {:?}, head {}, tail {}, claim {:#x}, {:?}",
            self.world.beds,
            header.consumer.head.load(SeqCst),
            header.producers.tail.load(SeqCst),
            header.producers.claim.load(SeqCst),
            self.world.ledger.borrow(),
        )
    }

    fn is_done(&self) -> bool {
        let sending = self.alive().any(|process| self.processes[process].kind == Kind::Sender);
        let ledger = self.world.ledger.borrow();
        let handled = ledger.accounts.iter().all(|account| account.handled == account.committed);
        let ring = self.world.ring();
        let header = ring.view().header();
        // A claim that a dead sender left can wait for the next.
        let empty = header.consumer.head.load(SeqCst) == header.producers.tail.load(SeqCst)
            || self.world.receiver_sleeps();
        !sending && handled && ledger.again.is_empty() && empty
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // To unwind a process inside a panic would be a second one.
            self.processes.drain(..).for_each(std::mem::forget);
        }
    }
}
