//! Histories that the checker must refuse, and some that look odd and are none the less right.

use setpoint_store::{Expect, Revision};

use super::checker::{Held, Operation, Told, check};

fn operation(called: u64, answered: u64, told: Told) -> Operation {
    Operation { called, answered, told }
}

fn put(called: u64, answered: u64, key: usize, write: u64, at: Revision) -> Operation {
    let (write, expect) = (Some(write), Expect::Any);
    operation(called, answered, Told::Written { key, write, expect, at })
}

fn swap(called: u64, answered: u64, write: u64, expect: Expect, at: Revision) -> Operation {
    let told = Told::Written {
        key: 0,
        write: Some(write),
        expect,
        at,
    };
    operation(called, answered, told)
}

fn delete(called: u64, answered: u64, key: usize, at: Revision) -> Operation {
    let (write, expect) = (None, Expect::Any);
    operation(called, answered, Told::Written { key, write, expect, at })
}

fn held(write: u64, created: Revision, modified: Revision) -> Held {
    Held {
        write,
        created,
        modified,
    }
}

fn read(called: u64, answered: u64, key: usize, found: Option<Held>) -> Operation {
    operation(called, answered, Told::Read { key, found })
}

fn list(called: u64, answered: u64, at: Revision, found: &[(usize, Held)]) -> Operation {
    let (found, past) = (found.to_vec(), false);
    operation(called, answered, Told::Listed { at, past, found })
}

fn refused(called: u64, answered: u64, expect: Expect, found: Option<Held>) -> Operation {
    let told = Told::Refused {
        key: 0,
        delete: false,
        expect,
        found,
    };
    operation(called, answered, told)
}

#[test]
fn what_could_have_happened_passes() {
    let one = held(1, 1, 1);
    let two = held(2, 1, 2);
    let histories: [&[Operation]; 8] = [
        &[],
        &[put(1, 2, 0, 1, 1), read(3, 4, 0, Some(one))],
        // Reads amid a write see the one or the other.
        &[
            put(1, 2, 0, 1, 1),
            put(3, 8, 0, 2, 2),
            read(4, 5, 0, Some(one)),
            read(6, 7, 0, Some(two)),
        ],
        &[put(1, 8, 0, 1, 1), read(2, 3, 0, None), read(4, 5, 0, Some(one))],
        // Two writes at once take effect in either order.
        &[put(1, 4, 0, 1, 2), put(2, 3, 1, 2, 1)],
        // Revisions may be left out.
        &[
            put(1, 2, 0, 1, 5),
            put(3, 4, 1, 2, 900),
            list(5, 6, 950, &[(0, held(1, 5, 5)), (1, held(2, 900, 900))]),
        ],
        &[
            put(1, 2, 0, 1, 1),
            delete(3, 4, 0, 2),
            read(5, 6, 0, None),
            put(7, 8, 0, 2, 3),
            read(9, 10, 0, Some(held(2, 3, 3))),
        ],
        &[
            put(1, 2, 0, 1, 1),
            refused(3, 4, Expect::Absent, Some(one)),
            refused(5, 6, Expect::Revision(7), Some(one)),
        ],
    ];
    for history in histories {
        assert_eq!(check(history), Ok(()), "{history:?}");
    }
}

#[test]
fn what_cannot_have_happened_is_refused() {
    let one = held(1, 1, 1);
    let two = held(2, 1, 2);
    let histories: [(&str, &[Operation]); 18] = [
        ("a write is lost", &[put(1, 2, 0, 1, 1), read(3, 4, 0, None)]),
        (
            "a read is stale",
            &[put(1, 2, 0, 1, 1), put(3, 4, 0, 2, 2), read(5, 6, 0, Some(one))],
        ),
        (
            "a read goes back behind another",
            &[
                put(1, 2, 0, 1, 1),
                put(3, 9, 0, 2, 2),
                read(4, 5, 0, Some(two)),
                read(6, 7, 0, Some(one)),
            ],
        ),
        (
            "a read sees what is written later",
            &[read(1, 2, 0, Some(one)), put(3, 4, 0, 1, 1)],
        ),
        (
            "a read sees what nobody wrote",
            &[put(1, 2, 0, 1, 1), read(3, 4, 0, Some(held(9, 1, 1)))],
        ),
        (
            "a read has another revision",
            &[put(1, 2, 0, 1, 1), read(3, 4, 0, Some(held(1, 1, 2)))],
        ),
        (
            "a life goes on after its end",
            &[
                put(1, 2, 0, 1, 1),
                delete(3, 4, 0, 2),
                put(5, 6, 0, 2, 3),
                read(7, 8, 0, Some(held(2, 1, 3))),
            ],
        ),
        (
            "a deletion is not seen",
            &[put(1, 2, 0, 1, 1), delete(3, 4, 0, 2), read(5, 6, 0, Some(one))],
        ),
        ("a revision comes twice", &[put(1, 2, 0, 1, 1), put(3, 4, 1, 2, 1)]),
        (
            "a later write has an earlier revision",
            &[put(1, 2, 0, 1, 2), put(3, 4, 1, 2, 1)],
        ),
        ("a deletion of nothing passes", &[delete(1, 2, 0, 1)]),
        (
            "two swaps of one revision pass",
            &[
                put(1, 2, 0, 1, 1),
                swap(3, 6, 2, Expect::Revision(1), 2),
                swap(4, 5, 3, Expect::Revision(1), 3),
            ],
        ),
        (
            "a creation of what is there passes",
            &[put(1, 2, 0, 1, 1), swap(3, 4, 2, Expect::Absent, 2)],
        ),
        (
            "a refusal is none",
            &[put(1, 2, 0, 1, 1), refused(3, 4, Expect::Revision(1), Some(one))],
        ),
        (
            "a refusal tells of the past",
            &[
                put(1, 2, 0, 1, 1),
                put(3, 4, 0, 2, 2),
                refused(5, 6, Expect::Absent, Some(one)),
            ],
        ),
        (
            "a list is stale",
            &[put(1, 2, 0, 1, 1), put(3, 4, 1, 2, 2), list(5, 6, 1, &[(0, one)])],
        ),
        (
            "a list is torn",
            &[
                put(1, 2, 0, 1, 1),
                put(3, 9, 0, 2, 2),
                put(4, 9, 1, 3, 3),
                list(5, 6, 3, &[(0, one), (1, held(3, 3, 3))]),
            ],
        ),
        (
            "a read goes back behind a list",
            &[
                put(1, 2, 0, 1, 1),
                put(3, 9, 0, 2, 2),
                list(4, 5, 2, &[(0, two)]),
                read(6, 7, 0, Some(one)),
            ],
        ),
    ];
    for (what, history) in histories {
        assert!(check(history).is_err(), "{what}: {history:?}");
    }
}
