//! A disk that is full.

use setpoint_store::{Expect, Log as _, SqliteLog, StoreError};

use crate::ENGINE;
use crate::disk::Memory;
use crate::writing::{Answered, LEASE, chain, try_open, value};

fn assert_full(error: &StoreError) {
    let said = chain(error);
    match error {
        StoreError::Full { .. } => assert!(said.contains("state.db") && said.contains("make room"), "{said}"),
        StoreError::Engine { .. } if !ENGINE.full_is_told => {}
        other => panic!("{other:?}"),
    }
}

/// Writes until the disk has no room for more.
async fn fill(disk: &Memory, log: &SqliteLog, answered: &mut Answered) {
    disk.fill();
    for _ in 0..20_000 {
        if let Err(error) = answered.put(log, 8000).await {
            return assert_full(&error);
        }
    }
    panic!("the disk is full and takes 160 MB");
}

crate::isolated! {
    async fn a_full_disk_refuses_writes_and_nothing_else() {
        let disk = Memory::new(16);
        let log = try_open(disk.path()).await.expect("opens");
        let mut answered = Answered::default();
        for _ in 0..100 {
            answered.put(&log, 2000).await.expect("puts");
        }
        log.put(LEASE, value(0, 100), Expect::Absent).await.expect("puts");
        for _ in 0..3 {
            fill(&disk, &log, &mut answered).await;
            // Each is told, one by one and many at once, and nobody waits for ever.
            for _ in 0..20 {
                if let Err(error) = answered.put(&log, 8000).await {
                    assert_full(&error);
                }
            }
            let refused = answered.put_many(&log, 32, 8000).await;
            assert!(!refused.is_empty());
            refused.iter().for_each(assert_full);
            answered.check(&log).await;
            answered.check_watch(&log).await;
            if ENGINE.beats_go_on {
                for beat in 0..500 {
                    let revision = log.refresh(LEASE, value(beat, 100), Expect::Any).await.expect("beats go on");
                    assert!(revision > answered.newest());
                }
            }
            disk.free();
            answered.put_again(&log).await;
            assert!(answered.put_many(&log, 32, 4000).await.is_empty(), "there is room again");
            answered.check(&log).await;
        }
        log.close().await.expect("closes");
        let log = try_open(disk.path()).await.expect("opens");
        answered.check(&log).await;
        answered.put(&log, 4000).await.expect("goes on");
        log.close().await.expect("closes");
    }

    async fn a_store_on_a_full_disk_opens_or_says_that_it_is_full() {
        let disk = Memory::new(16);
        let mut answered = Answered::default();
        for _ in 0..4 {
            let log = try_open(disk.path()).await.expect("opens");
            for _ in 0..50 {
                answered.put(&log, 2000).await.expect("puts");
            }
            fill(&disk, &log, &mut answered).await;
            if let Err(error) = log.close().await {
                assert_full(&error);
            }
            drop(log);
            match try_open(disk.path()).await {
                Ok(log) => {
                    answered.check(&log).await;
                    for _ in 0..20 {
                        if let Err(error) = answered.put(&log, 8000).await {
                            assert_full(&error);
                        }
                    }
                    disk.free();
                    answered.put_again(&log).await;
                    log.close().await.expect("closes");
                }
                Err(error) => {
                    eprintln!("it does not open: {}", chain(&error));
                    assert_full(&error);
                    disk.free();
                }
            }
            let log = try_open(disk.path()).await.expect("there is room again");
            answered.check(&log).await;
            answered.put(&log, 4000).await.expect("goes on");
            log.close().await.expect("closes");
        }
    }

    async fn a_new_store_on_a_full_disk_says_so() {
        let disk = Memory::new(2);
        disk.fill();
        let refused = try_open(disk.path()).await.map(drop).expect_err("there is no room");
        assert_full(&refused);
        disk.free();
        let log = try_open(disk.path()).await.expect("there is room");
        log.put("a", value(1, 100), Expect::Absent).await.expect("puts");
        log.close().await.expect("closes");
    }
}
