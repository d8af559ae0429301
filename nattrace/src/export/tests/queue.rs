use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::export::queue::Queue;

const MOMENT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_mins(1);

fn filled(queue: &Queue, items: usize) {
    for _ in 0..items {
        queue.offer(Vec::new(), Duration::ZERO);
    }
}

#[test]
fn a_trace_never_waits_and_what_has_no_room_is_counted() {
    let queue = Queue::default();
    let begun = Instant::now();
    filled(&queue, 10_000);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let passed = queue.finish(MOMENT, false, || ());
    assert_eq!((passed.sent, passed.not_sent), (0, 10_000));
}

#[test]
fn a_replay_waits_while_something_is_taken() {
    let queue = Arc::new(Queue::default());
    let taker = Arc::clone(&queue);
    let thread = std::thread::spawn(move || {
        while let Some(batch) = taker.take(Duration::ZERO) {
            taker.sent(u64::try_from(batch.len()).unwrap(), 0);
        }
    });
    for _ in 0..10_000 {
        queue.offer(Vec::new(), LONG);
    }
    let passed = queue.finish(LONG, true, || ());
    thread.join().unwrap();
    assert_eq!((passed.sent, passed.not_sent), (10_000, 0));
}

#[test]
fn a_replay_waits_once_for_nothing() {
    let queue = Queue::default();
    let begun = Instant::now();
    for _ in 0..10_000 {
        queue.offer(Vec::new(), Duration::from_millis(300));
    }
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&begun.elapsed()));
    assert_eq!(queue.finish(MOMENT, true, || ()).not_sent, 10_000);
}

#[test]
fn the_end_does_not_wait_for_a_pause_that_ends_after_it() {
    let queue = Arc::new(Queue::default());
    filled(&queue, 3);
    let sender = Arc::clone(&queue);
    let thread = std::thread::spawn(move || {
        assert_eq!(sender.take(Duration::ZERO).map(|batch| batch.len()), Some(3));
        assert!(sender.pause(LONG), "the end of the run is a reason to try at once");
        assert!(!sender.pause(LONG), "and no reason to wait");
        sender.give_up();
    });
    std::thread::sleep(MOMENT);
    let begun = Instant::now();
    let passed = queue.finish(LONG, false, || ());
    assert!(begun.elapsed() < Duration::from_secs(5));
    thread.join().unwrap();
    assert_eq!((passed.sent, passed.not_sent), (0, 3));
}

#[test]
fn troubles_are_said_once() {
    let queue = Queue::default();
    assert!(queue.failed("refused", true));
    assert!(!queue.failed("refused", true));
    assert!(!queue.failed("reset", true), "as long as it lasts");
    queue.sent(1, 0);
    assert!(queue.failed("refused", true), "and again when it comes back");
}
