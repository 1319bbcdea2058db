//! The arithmetic of a rolling update, and of scaling amid one.

use super::sets::Plan;

/// Takes one step: as many new pods as the surge allows, as few old ones as availability allows.
pub(super) fn step(plan: &mut Plan<'_>) {
    grow(plan);
    shrink(plan);
}

/// Scales the newest set towards all replicas, within `replicas + maxSurge` for all sets.
fn grow(plan: &mut Plan<'_>) {
    let Some(newest) = plan.newest else { return };
    let wanted = plan.replicas();
    let present = plan.sets[newest].replicas;
    let target = if present >= wanted {
        wanted
    } else {
        let (surge, _) = plan.bounds();
        let total: i32 = plan.sets.iter().map(|set| set.replicas).sum();
        let room = wanted.saturating_add(surge).saturating_sub(total).max(0);
        present + room.min(wanted - present)
    };
    if target != present || plan.sets[newest].object.is_none() {
        plan.resize(newest, target);
    }
}

/// Scales old sets down while `replicas - maxUnavailable` stay available: first what is broken anyway, then the oldest.
fn shrink(plan: &mut Plan<'_>) {
    let Some(newest) = plan.newest else { return };
    let (_, unavailable) = plan.bounds();
    let least = plan.replicas() - unavailable;
    let total: i32 = plan.sets.iter().map(|set| set.replicas).sum();
    let new_unavailable = (plan.sets[newest].replicas - plan.sets[newest].available()).max(0);
    let mut allowed = total - least - new_unavailable;
    if allowed <= 0 {
        return;
    }
    for index in plan.old() {
        let broken = plan.sets[index].replicas - plan.sets[index].available();
        let take = broken.min(allowed);
        if take > 0 {
            let left = plan.sets[index].replicas - take;
            plan.resize(index, left);
            allowed -= take;
        }
    }
    let available: i32 = plan.sets.iter().map(super::sets::Set::available).sum();
    let mut allowed = allowed.min(available - least);
    for index in plan.old() {
        let take = plan.sets[index].replicas.min(allowed);
        if take > 0 {
            let left = plan.sets[index].replicas - take;
            plan.resize(index, left);
            allowed -= take;
        }
    }
}

/// Brings the sets to the Deployment's new size, without moving a roll-out on.
pub(super) fn scale(plan: &mut Plan<'_>) {
    let wanted = plan.replicas();
    let active: Vec<usize> = (0..plan.sets.len())
        .filter(|index| plan.sets[*index].replicas > 0)
        .collect();
    let only = match active.as_slice() {
        [] => plan.newest.or_else(|| plan.sets.len().checked_sub(1)),
        [only] => Some(*only),
        _ => None,
    };
    if let Some(only) = only {
        if plan.sets[only].replicas != wanted || plan.is_scaling() {
            plan.resize(only, wanted);
        }
        return;
    }
    if let Some(newest) = plan.newest {
        let set = &plan.sets[newest];
        if set.replicas == wanted && set.available() == wanted {
            plan.empty_old();
            plan.resize(newest, wanted);
            return;
        }
    }
    let recreate = plan
        .spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("Recreate");
    if recreate {
        // The sizes are the roll-out's business; only note for which size of the Deployment they are.
        for index in active {
            let replicas = plan.sets[index].replicas;
            plan.resize(index, replicas);
        }
    } else {
        proportionally(plan, active);
    }
}

/// Shares what is to be added or taken among the active sets in proportion to their sizes; what rounding leaves goes to the largest.
fn proportionally(plan: &mut Plan<'_>, mut active: Vec<usize>) {
    let wanted = plan.replicas();
    let (surge, _) = plan.bounds();
    let most = i64::from(wanted) + i64::from(surge);
    let total: i64 = active.iter().map(|index| i64::from(plan.sets[*index].replicas)).sum();
    let to_add = if wanted > 0 { most } else { 0 } - total;
    active.sort_by(|a, b| {
        let (a, b) = (&plan.sets[*a], &plan.sets[*b]);
        let by_age = if to_add > 0 {
            b.created().cmp(&a.created())
        } else {
            a.created().cmp(&b.created())
        };
        b.replicas.cmp(&a.replicas).then(by_age)
    });
    let recorded = plan
        .deployment
        .status
        .as_ref()
        .and_then(|status| status.replicas)
        .unwrap_or(0);
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for index in &active {
        let set = &plan.sets[*index];
        let size = i64::from(set.replicas);
        let left = to_add - added;
        let share = if wanted == 0 {
            -size
        } else {
            let before = set.annotated_max().unwrap_or(i64::from(recorded)).max(1);
            // Rounded half away from zero.
            (2 * size * most + before).div_euclid(2 * before) - size
        };
        let share = match to_add {
            0 => 0,
            1.. => share.min(left).max(0),
            _ => share.max(left).min(0),
        };
        added += share;
        sizes.push(size + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        plan.resize(index, i32::try_from(size).unwrap_or(i32::MAX));
    }
}
