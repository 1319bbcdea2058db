//! `namespaces/finalize`: says whose content of a namespace has yet to go.

use axum::body::Body;
use setpoint_api::{Status, meta};

use super::answer::Answer;
use super::bookkeeping::Target;
use super::call::Call;
use super::identity;
use super::update::{Candidate, change};
use crate::body;

pub(super) async fn put(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let wanted = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    identity::check_name(call, &wanted)?;
    let finalizers = meta::at(&wanted, &["spec", "finalizers"]).cloned();
    let written = change(call, Target::Whole("finalize"), &mut |call, old| {
        identity::check_uid(call, &wanted, Some(old))?;
        identity::check_revision(call, &wanted, old)?;
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
