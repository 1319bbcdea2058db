//! What speaks for keeping each image, and what may go when somebody asks for room: one account for the collection of the daemon, and for
//! `setpoint image prune` with a daemon and without.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use setpoint_engine::{ImagesKept, Records};
use setpoint_runtime::images::{Doomed, Image, ImageStore};

/// How long an image that was just installed stays, whoever asks for room: somebody is about to use it.
const MINIMUM_AGE: SignedDuration = SignedDuration::from_mins(1);

/// An image with what speaks for keeping it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub image: Image,
    /// A container has its layers, or somebody looked for it a moment ago.
    pub used: bool,
    /// An app runs it, is on its way to it, or falls back to it.
    pub needed: bool,
    /// Somebody may ask to go back to it.
    pub history: bool,
    /// When it was installed the last time.
    pub installed: Timestamp,
}

impl Standing {
    /// Whether it was installed so lately that somebody is about to use it.
    pub fn is_young(&self, now: Timestamp) -> bool {
        now.duration_since(self.installed) < MINIMUM_AGE
    }
}

/// Looks at every image. `used` are the ids of those whose layers containers have.
pub fn look(images: &ImageStore, used: &BTreeSet<String>, kept: &ImagesKept) -> anyhow::Result<Vec<Standing>> {
    // What an object calls an image stands for the one that the name means here now.
    let mut by_name = BTreeSet::new();
    for name in &kept.names {
        match images.resolve(name) {
            Ok(found) => by_name.extend(found.map(|image| image.id)),
            // Nothing can be run by such a name.
            Err(error) => tracing::debug!(%error, name, "an app names an image in a way that none is named"),
        }
    }
    let mut standings = Vec::new();
    for image in images.list()? {
        let answers = images.answers_to(&image.id)?;
        let among = |digests: &BTreeSet<String>| answers.iter().any(|answer| digests.contains(answer));
        // It is gone: then it needs no keeping either.
        let Some(installed) = images.installed_at(&image.id)? else {
            continue;
        };
        standings.push(Standing {
            used: used.contains(&image.id) || images.is_wanted(&image.id),
            needed: by_name.contains(&image.id) || among(&kept.needed),
            history: among(&kept.history),
            installed,
            image,
        });
    }
    Ok(standings)
}

/// The images that apps need.
pub async fn kept(records: &dyn Records) -> anyhow::Result<ImagesKept> {
    match setpoint_engine::images_kept(records)
        .await
        .context("cannot read what apps may go back to")?
    {
        Some(kept) => Ok(kept),
        None => bail!(
            "the record of an app is damaged, so that it is not known which images it may go back to; `setpoint image rm` removes single ones"
        ),
    }
}

/// What somebody who wants room asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Wish {
    /// Also what only the history of apps names.
    pub all: bool,
    /// Also what was imported.
    pub imported: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pruned {
    /// The images, as programs read them.
    pub removed: Vec<serde_json::Value>,
    /// How many bytes that frees; with a dry run at most so many, since images share layers.
    pub freed: u64,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// Whether an image goes.
pub fn goes(standing: &Standing, wish: Wish, now: Timestamp) -> bool {
    let kept = standing.needed || (standing.history && !wish.all) || (standing.image.pinned && !wish.imported);
    !standing.used && !standing.is_young(now) && !kept
}

/// Takes away what nothing needs; the layers that it returns are out of sight, and have to be removed.
pub async fn prune(
    images: &ImageStore,
    used: impl Fn() -> anyhow::Result<BTreeSet<String>>,
    kept: &ImagesKept,
    wish: Wish,
    now: Timestamp,
) -> anyhow::Result<(Pruned, Doomed)> {
    let (mut pruned, mut doomed) = (Pruned::default(), Doomed::default());
    pruned.dry_run = wish.dry_run;
    for standing in look(images, &used()?, kept)? {
        if !goes(&standing, wish, now) {
            continue;
        }
        let image = standing.image;
        if wish.dry_run {
            pruned.freed += image.size;
        } else {
            // Each removal takes a while: somebody may have begun to use this one meanwhile.
            if images.is_wanted(&image.id) || used()?.contains(&image.id) {
                continue;
            }
            let Some(layers) = images.take_away(&image.id).await? else {
                continue;
            };
            doomed.join(layers);
        }
        pruned.removed.push(crate::commands::image::value(&image));
    }
    if !wish.dry_run {
        pruned.freed = doomed.bytes;
    }
    Ok((pruned, doomed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn standing() -> Standing {
        Standing {
            image: Image::default(),
            used: false,
            needed: false,
            history: false,
            installed: at(0),
        }
    }

    #[test]
    fn what_is_used_needed_or_young_never_goes_and_the_rest_as_it_is_wished() {
        let plain = Wish::default();
        let everything = Wish {
            all: true,
            imported: true,
            dry_run: false,
        };
        let now = at(3600);
        let used = Standing {
            used: true,
            ..standing()
        };
        let needed = Standing {
            needed: true,
            ..standing()
        };
        let young = Standing {
            installed: at(3590),
            ..standing()
        };
        let past = Standing {
            history: true,
            ..standing()
        };
        let mut imported = standing();
        imported.image.pinned = true;
        for (what, standing, by_default, wished) in [
            ("unused", standing(), true, true),
            ("used", used, false, false),
            ("needed", needed, false, false),
            ("young", young, false, false),
            ("past", past, false, true),
            ("imported", imported, false, true),
        ] {
            assert_eq!(goes(&standing, plain, now), by_default, "{what}");
            assert_eq!(goes(&standing, everything, now), wished, "{what}");
        }
    }
}
