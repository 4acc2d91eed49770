use super::*;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

#[test]
fn the_last_step_may_overdraw_and_no_other() {
    let (mut credit, mut window) = (Credit::new(10), Window::new(10));
    for step in [9, 500] {
        assert!(credit.may_send());
        credit.spend(step);
        assert_eq!(window.charge(step), Ok(()));
    }
    assert!(!credit.may_send());
    let overdrawn = Overdrawn {
        bytes: 1,
        used: 509,
        window: 10,
    };
    // The large one could have begun last, as far as the receiver knows.
    assert_eq!(window.charge(1), Err(overdrawn));
    assert_eq!(window.outstanding(), 509, "what is refused takes no room");
}

#[test]
fn no_window_takes_nothing() {
    assert!(!Credit::new(0).may_send());
    assert!(Window::new(0).charge(0).is_err());
    assert!(Window::new(0).charge(1).is_err());
}

#[test]
fn nobody_gets_more_back_than_was_sent() {
    let mut credit = Credit::new(10);
    let over = |granted, owed| Err(OverGranted { granted, owed });
    assert_eq!(credit.grant(1), over(1, 0));
    credit.spend(7);
    assert_eq!(credit.grant(8), over(8, 7));
    assert_eq!(credit.grant(7), Ok(()));
    assert_eq!(credit.grant(1), over(1, 0));
}

#[test]
fn bytes_return_in_lumps() {
    let mut window = Window::new(160);
    for step in [39, 1, 60, 9] {
        assert_eq!(window.charge(step), Ok(()));
    }
    assert_eq!(window.release(39), None, "less than a quarter");
    assert_eq!(window.release(1), Some(40));
    assert_eq!(window.release(9), None);
    assert_eq!(window.release(60), Some(69), "all of what waited");
    assert_eq!(window.charge(9), Ok(()));
    assert_eq!(window.release(9), None, "less than a sixteenth");
    assert_eq!(window.charge(1), Ok(()));
    assert_eq!(window.release(1), Some(10), "nothing is outstanding");
    assert_eq!(window.outstanding(), 0);
}

#[test]
fn a_lump_fits_its_field() {
    let mut window = Window::new(u32::MAX);
    let step = u32::MAX as usize;
    for bytes in [step - 1, step] {
        assert_eq!(window.charge(bytes), Ok(()));
    }
    assert_eq!(window.release(step - 1), Some(u32::MAX - 1));
    assert_eq!(window.release(step), Some(u32::MAX));
    for bytes in [step - 1, step] {
        assert_eq!(window.charge(bytes), Ok(()));
    }
    // All at once is more than one message can say.
    assert_eq!(window.release(2 * step - 1), Some(u32::MAX));
    assert_eq!(window.charge(1), Ok(()));
    assert_eq!(window.release(1), Some(u32::MAX));
}

#[test]
fn one_large_step_does_not_widen_the_window_for_ever() {
    let mut window = Window::new(100);
    assert_eq!(window.charge(1000), Ok(()));
    assert_eq!(window.release(1000), Some(1000));
    for _ in 0..10 {
        assert_eq!(window.charge(10), Ok(()));
    }
    assert!(window.charge(10).is_err());
}

/// Both ends of one connection. The outbox between the sender's account and the wire is two
/// queues, as urgent steps overtake others; both wires delay.
struct Pair {
    credit: Credit,
    window: Window,
    queues: [VecDeque<usize>; 2],
    forth: VecDeque<usize>,
    back: VecDeque<u32>,
    held: Vec<usize>,
}

impl Pair {
    fn new(window: u32) -> Self {
        Self {
            credit: Credit::new(window),
            window: Window::new(window),
            queues: [VecDeque::new(), VecDeque::new()],
            forth: VecDeque::new(),
            back: VecDeque::new(),
            held: vec![],
        }
    }

    fn step(&mut self, what: u8, by: usize) {
        match what {
            0..3 if self.credit.may_send() => {
                self.credit.spend(by);
                self.queues[by % 2].push_back(by);
            }
            3 => {
                let step = self.queues.iter_mut().find_map(VecDeque::pop_front);
                self.forth.extend(step);
            }
            4 => {
                if let Some(bytes) = self.forth.pop_front() {
                    self.window.charge(bytes).expect("the sender obeyed");
                    self.held.push(bytes);
                }
            }
            5 if !self.held.is_empty() => {
                let bytes = self.held.swap_remove(by % self.held.len());
                self.back.extend(self.window.release(bytes));
            }
            6 => {
                if let Some(bytes) = self.back.pop_front() {
                    self.credit.grant(bytes).expect("it was sent before");
                }
            }
            // The sender takes back what has not left it.
            7 => {
                if let Some(bytes) = self.queues[by % 2].pop_back() {
                    let bytes = u32::try_from(bytes).expect("small");
                    self.credit.grant(bytes).expect("it was spent before");
                }
            }
            _ => {}
        }
        assert_eq!(self.owed(), self.credit.owed, "nothing is lost or made");
        assert_eq!(self.window.outstanding(), sum(&self.held));
    }

    /// Where the bytes are that were sent and not returned.
    fn owed(&self) -> u64 {
        let told: u64 = self.back.iter().map(|&bytes| u64::from(bytes)).sum();
        sum(&self.queues[0])
            + sum(&self.queues[1])
            + sum(&self.forth)
            + sum(&self.held)
            + self.window.waiting
            + told
    }
}

fn sum<'a>(sizes: impl IntoIterator<Item = &'a usize>) -> u64 {
    sizes.into_iter().map(|&bytes| bytes as u64).sum()
}

proptest! {
    #[test]
    fn both_ends_agree(
        window in 1u32..200,
        steps in prop::collection::vec((0u8..8, 0usize..300), 0..400),
    ) {
        let mut pair = Pair::new(window);
        for (what, by) in steps {
            pair.step(what, by);
        }
        // All that was sent arrives, is computed and returned: the sender must be able to go on.
        for what in 3..7 {
            for _ in 0..pair.owed() + 400 {
                pair.step(what, 0);
            }
        }
        prop_assert!(pair.credit.may_send());
        prop_assert_eq!(pair.credit.owed, pair.window.waiting);
        prop_assert!(pair.window.waiting < u64::from(window.div_ceil(4)));
    }
}
