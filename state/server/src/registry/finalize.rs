//! `namespaces/finalize`: says whose content of a namespace has yet to go.

use axum::body::Body;
use setpoint_api::{Status, meta};

use super::answer::Answer;
use super::bookkeeping::Target;
use super::call::Call;
use super::update::{Candidate, change};
use crate::body;

pub(super) async fn put(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let wanted = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    let finalizers = meta::at(&wanted, &["spec", "finalizers"]).cloned();
    let revision = meta::resource_version(&wanted).to_owned();
    let written = change(call, Target::Whole("finalize"), &mut |call, old| {
        if !revision.is_empty() && revision != meta::resource_version(old) {
            return Err(call.modified());
        }
        let mut new = old.clone();
        let spec = meta::map_mut(meta::map_of(&mut new), "spec");
        match &finalizers {
            Some(finalizers) => spec.insert("finalizers".into(), finalizers.clone()),
            None => spec.remove("finalizers"),
        };
        Ok(Candidate::new(new))
    })
    .await?;
    Ok(Answer::Written(written))
}
