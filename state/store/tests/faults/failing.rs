//! A disk that fails amid writes, turns read-only, or loses its power.

use setpoint_store::{SqliteLog, StoreError};

use crate::disk::{Device, Memory};
use crate::writing::{Answered, chain, try_open};

fn assert_told(error: &StoreError) {
    let said = chain(error);
    assert!(
        matches!(
            error,
            StoreError::Engine { .. } | StoreError::Full { .. } | StoreError::ReadOnly { .. }
        ),
        "{error:?}"
    );
    assert!(said.contains("state.db"), "{said}");
}

async fn check_what_a_cut_leaves(disk: &Device, answered: &Answered) {
    let cut = disk.cut();
    let log = try_open(cut.path()).await.expect("what a power cut leaves opens");
    answered.check(&log).await;
    log.close().await.expect("closes");
}

async fn put_until_refused(log: &SqliteLog, answered: &mut Answered) -> StoreError {
    for _ in 0..20_000 {
        if let Err(error) = answered.put(log, 8000).await {
            return error;
        }
    }
    panic!("the disk has failed and takes 160 MB");
}

crate::isolated! {
    async fn what_was_answered_is_on_the_disk_and_not_only_in_the_kernel() {
        let disk = Device::new();
        let mut answered = Answered::default();
        let mut log = try_open(disk.path()).await.expect("opens");
        for round in 0..12 {
            assert!(answered.put_many(&log, 40, 1500).await.is_empty());
            for _ in 0..20 {
                answered.put(&log, 3000).await.expect("puts");
            }
            check_what_a_cut_leaves(&disk, &answered).await;
            if round % 4 == 3 {
                log.close().await.expect("closes");
                check_what_a_cut_leaves(&disk, &answered).await;
                log = try_open(disk.path()).await.expect("opens");
            }
        }
        log.close().await.expect("closes");
    }

    async fn a_disk_that_cannot_flush_loses_nothing_that_was_answered() {
        let disk = Device::new();
        let mut answered = Answered::default();
        let log = try_open(disk.path()).await.expect("opens");
        for _ in 0..60 {
            answered.put(&log, 2000).await.expect("puts");
        }
        disk.break_down();
        let refused = put_until_refused(&log, &mut answered).await;
        eprintln!("{}", chain(&refused));
        assert_told(&refused);
        // What is answered while it fails must be on the disk too: the kernel says once that it could not write, and forgets.
        let (mut passed, mut told) = (0, 0);
        for round in 0..20 {
            match answered.put(&log, 8000).await {
                Ok(()) => passed += 1,
                Err(error) => {
                    assert_told(&error);
                    told += 1;
                }
            }
            let refused = answered.put_many(&log, 16, 3000).await;
            passed += 16 - refused.len();
            told += refused.len();
            refused.iter().for_each(assert_told);
            if round % 5 == 0 {
                check_what_a_cut_leaves(&disk, &answered).await;
            }
        }
        eprintln!("{passed} writes were answered on the failing disk, {told} refused");
        answered.check(&log).await;
        check_what_a_cut_leaves(&disk, &answered).await;
        disk.mend();
        drop(log);
    }

    async fn a_flush_that_failed_once_loses_nothing_that_is_answered_later() {
        let disk = Device::without_journal();
        let mut answered = Answered::default();
        let log = try_open(disk.path()).await.expect("opens");
        for round in 0..6 {
            for _ in 0..20 {
                answered.put(&log, 2000).await.expect("puts");
            }
            disk.break_down();
            let refused = put_until_refused(&log, &mut answered).await;
            assert_told(&refused);
            check_what_a_cut_leaves(&disk, &answered).await;
            for error in answered.put_many(&log, round * 4, 3000).await {
                assert_told(&error);
            }
            disk.mend();
            // The kernel has dropped what it could not write, and says so no more. What is written behind such a hole is not there after
            // a cut, unless the hole is written again.
            answered.put_again(&log).await;
            check_what_a_cut_leaves(&disk, &answered).await;
            assert!(answered.put_many(&log, 16, 3000).await.is_empty(), "the disk works again");
            check_what_a_cut_leaves(&disk, &answered).await;
        }
        answered.check(&log).await;
        log.close().await.expect("closes");
    }

    async fn a_file_system_that_turns_read_only_refuses_writes_and_loses_nothing() {
        let disk = Device::new();
        let mut answered = Answered::default();
        let log = try_open(disk.path()).await.expect("opens");
        for _ in 0..60 {
            answered.put(&log, 2000).await.expect("puts");
        }
        disk.turn_read_only();
        let refused = put_until_refused(&log, &mut answered).await;
        eprintln!("{}", chain(&refused));
        assert_told(&refused);
        for _ in 0..20 {
            assert_told(&answered.put(&log, 2000).await.expect_err("nothing is written"));
        }
        answered.put_many(&log, 16, 2000).await.iter().for_each(assert_told);
        answered.check(&log).await;
        answered.check_watch(&log).await;
        if let Err(error) = log.close().await {
            assert_told(&error);
        }
        drop(log);
        let refused = try_open(disk.path()).await.map(drop);
        if let Err(error) = refused {
            eprintln!("{}", chain(&error));
            assert_told(&error);
        }
        // As an operator does: stop, repair, start.
        check_what_a_cut_leaves(&disk, &answered).await;
    }

    async fn a_store_on_a_read_only_file_system_says_so_and_opens_later() {
        let disk = Memory::new(16);
        let mut answered = Answered::default();
        for _ in 0..3 {
            let log = try_open(disk.path()).await.expect("opens");
            for _ in 0..20 {
                answered.put(&log, 2000).await.expect("puts");
            }
            log.close().await.expect("closes");
            drop(log);
            disk.read_only(true);
            let refused = try_open(disk.path()).await.map(drop).expect_err("it cannot be written");
            let said = chain(&refused).to_lowercase();
            assert_told(&refused);
            assert!(said.contains("read-only") || said.contains("readonly"), "{said}");
            disk.read_only(false);
        }
        let log = try_open(disk.path()).await.expect("opens");
        answered.check(&log).await;
        log.close().await.expect("closes");
    }
}
