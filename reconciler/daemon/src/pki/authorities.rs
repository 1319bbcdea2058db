//! The authorities over time: one signs, the next is made known before it does, those before it are trusted until their end.
//!
//! `ca` signs. When a third of its life is left (more than three years), `ca-next` is made and trusted: it is in every bundle
//! that is given out from then on. When half of that is over, it takes the place of `ca`, whose certificate goes to `ca-old.crt` and
//! is trusted until it ends. In between lie more than a year and a half, and a user's certificate holds for a year unless
//! somebody asked for more: whoever holds one that is still good when the authority changes got it with the next authority in
//! its bundle.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::issue::{Authority, is_near_end, validity};
use super::{PkiError, files};

const SIGNING: &str = "ca";
const NEXT: &str = "ca-next";
const OLD: &str = "ca-old.crt";

/// The next authority is known for so long at least before it signs, if the end of the present one leaves the time.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(24 * 30);

/// The authorities of one installation.
pub(super) struct Authorities {
    dir: PathBuf,
    signing: Authority,
    next: Option<Authority>,
    /// The certificates of those that signed before, as PEM, newest first.
    old: Vec<String>,
}

impl Authorities {
    /// Reads what there is, takes what steps are due, makes the first where there is none.
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Authorities, PkiError> {
        if files::is_on_its_way(dir, NEXT) {
            files::replace(dir, SIGNING, NEXT)?;
        }
        let signing = match Authority::read(dir, SIGNING)? {
            Some(authority) => authority,
            None => Authority::make(dir, SIGNING, now)?,
        };
        let mut authorities = Authorities::with(dir, signing)?;
        authorities.renew(now)?;
        if authorities.signing.until() <= now {
            return Err(bad(dir, "its certificate has expired"));
        }
        Ok(authorities)
    }

    /// Reads what there is and changes nothing.
    pub(super) fn look(dir: &Path) -> Result<Authorities, PkiError> {
        match Authority::read(dir, SIGNING)? {
            Some(signing) => Authorities::with(dir, signing),
            None => Err(bad(dir, "there is none")),
        }
    }

    fn with(dir: &Path, signing: Authority) -> Result<Authorities, PkiError> {
        // A key without a certificate is what is left of one that was being made: it is made again.
        let next = match files::read(dir, NEXT)? {
            Some(_) => Authority::read(dir, NEXT)?,
            None => None,
        };
        let old = files::read_text(dir, OLD)?.unwrap_or_default();
        Ok(Authorities {
            dir: dir.to_owned(),
            signing,
            next,
            old: certificates(&old),
        })
    }

    /// The one that signs.
    pub(super) fn signing(&self) -> &Authority {
        &self.signing
    }

    /// The certificates of all that are to be trusted, as PEM.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(Authority::certificate);
        std::iter::once(self.signing.certificate())
            .chain(next)
            .chain(self.old.iter().map(String::as_str))
            .collect()
    }

    /// Takes every step that is due; says whether one was.
    pub(super) fn renew(&mut self, now: Timestamp) -> Result<bool, PkiError> {
        let forgotten = self.forget(now)?;
        if let Some(next) = self.next.take() {
            if now < self.takes_over(&next) {
                self.next = Some(next);
                return Ok(forgotten);
            }
            self.take_over(next)?;
            return Ok(true);
        }
        if self.signing.until() > now && is_near_end(self.signing.since(), self.signing.until(), now) {
            self.next = Some(Authority::make(&self.dir, NEXT, now)?);
            tracing::info!("made the next certificate authority: it is trusted from now on, and signs later");
            return Ok(true);
        }
        Ok(forgotten)
    }

    /// When the next one begins to sign.
    fn takes_over(&self, next: &Authority) -> Timestamp {
        let (since, until) = (self.signing.since(), self.signing.until());
        let planned = until - until.duration_since(since) / 6;
        let half = next.since() + until.duration_since(next.since()) / 2;
        planned.max(next.since() + KNOWN_FOR).min(half)
    }

    fn take_over(&mut self, next: Authority) -> Result<(), PkiError> {
        // Trusted as an old one first: whatever is cut off in between, what it signed stays good.
        let mut old = vec![self.signing.certificate().to_owned()];
        old.extend(
            self.old
                .iter()
                .filter(|other| **other != old[0])
                .cloned()
                .collect::<Vec<_>>(),
        );
        files::write_text(&self.dir, OLD, &old.concat())?;
        files::replace(&self.dir, SIGNING, NEXT)?;
        (self.signing, self.old) = (next, old);
        tracing::info!("the next certificate authority signs from now on; the one before is trusted until its end");
        Ok(())
    }

    /// Forgets those that have ended.
    fn forget(&mut self, now: Timestamp) -> Result<bool, PkiError> {
        let before = self.old.len();
        self.old
            .retain(|pem| validity(pem).is_some_and(|(_, until)| until > now));
        if self.old.len() == before {
            return Ok(false);
        }
        files::write_text(&self.dir, OLD, &self.old.concat())?;
        Ok(true)
    }
}

fn bad(dir: &Path, reason: &str) -> PkiError {
    PkiError::Authority {
        path: dir.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The certificates in a text, one by one.
fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut found: Vec<String> = pem
        .split_inclusive(END)
        .map(|part| format!("{}\n", part.trim()))
        .collect();
    found.retain(|part| part.contains(END));
    found
}
