//! Which images go when the disk fills: the kubelet's rules, as a function of what is known.
//!
//! Nothing goes before more of the disk is used than the high threshold says; then what was unused for longest, until the low one is reached.
//! What a container runs from, what an app may go back to and what came a moment ago never goes.

use jiff::{SignedDuration, Timestamp};

/// When images are removed, and when no more are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcPolicy {
    /// The share of the disk in percent from which on images are removed; 100 never removes any (`imageGCHighThresholdPercent`).
    pub high: u8,
    /// The share that is aimed at (`imageGCLowThresholdPercent`).
    pub low: u8,
    /// How long an image stays at least (`imageMinimumGCAge`).
    pub minimum_age: SignedDuration,
}

impl Default for GcPolicy {
    fn default() -> Self {
        GcPolicy {
            high: 85,
            low: 80,
            minimum_age: SignedDuration::from_mins(2),
        }
    }
}

/// The disk that the images are on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub capacity: u64,
    /// What may still be written.
    pub available: u64,
}

impl Disk {
    /// How much is used, in percent.
    pub fn used_percent(&self) -> u64 {
        let free = u128::from(self.available) * 100 / u128::from(self.capacity.max(1));
        100 - u64::try_from(free.min(100)).unwrap_or(100)
    }
}

/// An image as the collection sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was first seen here.
    pub detected: Timestamp,
    /// When it was last seen in use; `None` for never.
    pub last_used: Option<Timestamp>,
    /// Whether it has to stay.
    pub kept: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The images that go, in this order.
    pub remove: Vec<String>,
    /// How many bytes are to be freed.
    pub wanted: u64,
    /// How many bytes these images have; shared layers make it less that is freed.
    pub found: u64,
}

impl Plan {
    /// Whether there is less to remove than is wanted.
    pub fn falls_short(&self) -> bool {
        self.found < self.wanted
    }
}

/// Plans a collection.
pub fn plan(disk: Disk, policy: GcPolicy, mut images: Vec<Candidate>, now: Timestamp) -> Plan {
    if policy.high >= 100 || disk.used_percent() < u64::from(policy.high) {
        return Plan::default();
    }
    let free = u128::from(disk.capacity) * u128::from(100 - policy.low.min(100)) / 100;
    let wanted = u64::try_from(free).unwrap_or(u64::MAX).saturating_sub(disk.available);
    images.sort_by(|a, b| (a.last_used, a.detected, &a.id).cmp(&(b.last_used, b.detected, &b.id)));
    let mut plan = Plan {
        wanted,
        ..Plan::default()
    };
    for image in images {
        if plan.found >= wanted {
            break;
        }
        let young = now.duration_since(image.detected) < policy.minimum_age;
        if image.kept || young || image.last_used.is_some_and(|used| used >= now) {
            continue;
        }
        plan.found += image.size;
        plan.remove.push(image.id);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minute * 60).unwrap()
    }

    fn image(id: &str, last_used: Option<i64>, kept: bool) -> Candidate {
        Candidate {
            id: id.to_owned(),
            size: 10,
            detected: at(0),
            last_used: last_used.map(at),
            kept,
        }
    }

    fn disk(available: u64) -> Disk {
        Disk {
            capacity: 100,
            available,
        }
    }

    #[test]
    fn nothing_goes_below_the_high_threshold() {
        let images = || vec![image("a", None, false)];
        assert_eq!(plan(disk(16), GcPolicy::default(), images(), at(10)), Plan::default());
        assert_eq!(plan(disk(15), GcPolicy::default(), images(), at(10)).remove, ["a"]);
        let never = GcPolicy {
            high: 100,
            ..GcPolicy::default()
        };
        assert_eq!(plan(disk(0), never, images(), at(10)), Plan::default());
    }

    #[test]
    fn what_was_unused_for_longest_goes_until_there_is_room() {
        let images = vec![
            image("newest", Some(9), false),
            image("kept", None, true),
            image("never", None, false),
            image("oldest", Some(1), false),
        ];
        let planned = plan(disk(2), GcPolicy::default(), images.clone(), at(20));
        assert_eq!(planned.remove, ["never", "oldest"]);
        assert!(!planned.falls_short());
        let all = plan(
            Disk {
                capacity: 1000,
                available: 0,
            },
            GcPolicy::default(),
            images,
            at(20),
        );
        assert_eq!(all.remove.len(), 3);
        assert!(all.falls_short());
    }

    #[test]
    fn what_is_young_or_in_use_stays() {
        let mut young = image("young", None, false);
        young.detected = at(19);
        let images = vec![young, image("used", Some(20), false)];
        let planned = plan(disk(0), GcPolicy::default(), images, at(20));
        assert!(planned.remove.is_empty() && planned.falls_short());
    }
}
