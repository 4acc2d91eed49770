use super::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn every_piece_once_in_many_jobs() {
    for width in [1, 2, 3, 8] {
        let mut pool = Pool::new(width).expect("threads start");
        assert_eq!(pool.width(), width);
        for job in 0..2000 {
            let pieces = job % 40;
            let counts: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            pool.run(pieces, &|piece, worker| {
                assert!(worker < width);
                counts[piece].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts
                    .iter()
                    .all(|count| count.load(Ordering::Relaxed) == 1)
            );
            if job % 500 == 0 {
                // Long enough for everybody to fall asleep.
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn workers_are_told_apart() {
    let mut pool = Pool::new(4).expect("threads start");
    let busy: Vec<Mutex<()>> = (0..4).map(|_| Mutex::new(())).collect();
    pool.run(200, &|_, worker| {
        let _alone = busy[worker].try_lock().expect("nobody else is this worker");
        thread::sleep(Duration::from_micros(20));
    });
}

#[test]
fn the_caller_waits_for_slow_pieces() {
    let mut pool = Pool::new(3).expect("threads start");
    let done = AtomicUsize::new(0);
    for _ in 0..5 {
        done.store(0, Ordering::Relaxed);
        pool.run(3, &|_, _| {
            thread::sleep(Duration::from_millis(3));
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_panic_reaches_the_caller_after_all_pieces_and_is_then_forgotten() {
    let mut pool = Pool::new(3).expect("threads start");
    let done = AtomicUsize::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.run(30, &|piece, _| {
            assert_ne!(piece, 7, "this one fails");
            done.fetch_add(1, Ordering::Relaxed);
        });
    }));
    assert!(result.is_err());
    assert_eq!(done.load(Ordering::Relaxed), 29);
    pool.run(30, &|_, _| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.load(Ordering::Relaxed), 59);
}

#[test]
fn tiles_cover_a_matrix_once() {
    let mut pool = Pool::new(3).expect("threads start");
    for (rows, cols, tile) in [
        (7, 10, (2, 3)),
        (1, 100, (1, 7)),
        (5, 4, (9, 9)),
        (0, 3, (1, 1)),
    ] {
        let mut matrix = vec![0u32; rows * cols];
        pool.run_tiles(&mut matrix, cols, tile, |mut tile, _| {
            let cols = tile.cols();
            for row in tile.rows() {
                for (value, col) in tile.row(row).iter_mut().zip(cols.clone()) {
                    *value += (row * 1000 + col + 1) as u32;
                }
            }
        });
        for (at, value) in matrix.iter().enumerate() {
            assert_eq!(*value as usize, at / cols * 1000 + at % cols + 1);
        }
    }
}
