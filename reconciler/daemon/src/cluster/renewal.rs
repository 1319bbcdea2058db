//! Keeps the running daemon's certificates and token keys good: renews them in time and tells everybody who shows or trusts them.
//!
//! Whoever is to trust an authority is told of it here long before anything is signed by it ([`crate::pki`]); a new serving
//! certificate is shown to new connections, those that are open keep what they have.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use setpoint_server::ApiServer;
use setpoint_server::listen::ServingCerts;
use tokio::sync::watch;

use crate::pki::Pki;
use crate::{instance, wall_clock};

/// How often the clock is looked at, which is all that can be done about time. It also shows a clock that was set.
const LOOK: Duration = Duration::from_secs(10);
/// How far the clock moves between two looks at the certificates themselves.
const STEP: SignedDuration = SignedDuration::from_hours(1);
/// How long a failed renewal is left alone: what is renewed is good for months.
const AGAIN: Duration = Duration::from_secs(600);

/// What is renewed, and who is told.
pub struct Renewal {
    /// The certificates.
    pub pki: Pki,
    /// The API, which has the keys of tokens.
    pub api: ApiServer,
    /// What the TLS listeners show and trust.
    pub certs: ServingCerts,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The server that it names.
    pub url: String,
    /// The authorities to trust, for those that hand them on.
    pub authorities: watch::Sender<String>,
    /// Whether something was renewed that not everybody has been told of: a step that failed is taken again.
    pub untold: bool,
}

impl Renewal {
    /// Renews until the end.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        let mut pause = LOOK;
        let mut looked = wall_clock();
        loop {
            tokio::select! {
                () = &mut end => return,
                () = tokio::time::sleep(pause) => {}
            }
            let now = wall_clock();
            if now.duration_since(looked).abs() < STEP && pause == LOOK {
                continue;
            }
            looked = now;
            pause = match self.renew(now) {
                Ok(()) => LOOK,
                Err(error) => {
                    tracing::error!(
                        "cannot renew the certificates; trying again in {} min: {error:#}",
                        AGAIN.as_secs() / 60
                    );
                    AGAIN
                }
            };
        }
    }

    fn renew(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let renewed = self.pki.renew(now)?;
        self.untold |= renewed.any();
        if self.untold {
            let (bundle, serving) = (self.pki.ca_pem(), self.pki.serving());
            // First what is trusted, then what is shown.
            self.authorities.send_if_modified(|known| {
                let other = *known != bundle;
                known.clone_from(&bundle);
                other
            });
            instance::write_private(&self.kubeconfig, self.pki.admin_kubeconfig(&self.url).as_bytes())?;
            self.certs.replace(&serving.certificate, &serving.key, &bundle)?;
            self.untold = false;
            tracing::info!(
                authorities = renewed.authorities,
                serving = renewed.serving,
                administrator = renewed.admin,
                "renewed certificates"
            );
        }
        if self.api.renew_token_keys()? {
            tracing::info!("renewed the keys that sign service account tokens");
        }
        Ok(())
    }
}
