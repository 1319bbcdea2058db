//! `setpoint user add`: a user, what it may do, and its kubeconfig. All of it or nothing.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use setpoint_server::users::User as Record;

use super::{LABEL, life, record, secrets};
use crate::cli::{Format, Global};
use crate::client::{connect, running};
use crate::instance::{self, Instance, Paths};
use crate::pki::{Signer, kubeconfig};
use crate::{output, wall_clock};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Options of `setpoint user add`.
#[derive(Args)]
pub struct Add {
    /// The user's name, as RBAC's subjects have it
    name: String,
    /// A group that the user is in; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Give the user this Role of --namespace
    #[arg(long, requires = "namespace", conflicts_with = "cluster_role")]
    role: Option<String>,
    /// Give the user this ClusterRole, such as view, edit, admin or cluster-admin: in --namespace, or everywhere
    #[arg(long, value_name = "ROLE")]
    cluster_role: Option<String>,
    /// The namespace in which the role counts
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// How long the certificate is good
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = life)]
    expires: SignedDuration,
    /// The server that the kubeconfig names, when it is to be used on another machine
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Write the kubeconfig to this file (0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "file")]
    force: bool,
}

impl Add {
    /// Makes the user.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        ensure!(
            global.kubeconfig.is_none() && global.context.is_none(),
            "the key that signs certificates is on the cluster's machine: run `setpoint user add` there, without --kubeconfig and --context"
        );
        ensure!(
            self.namespace.is_none() || self.role.is_some() || self.cluster_role.is_some(),
            "--namespace says where a role counts: give --role or --cluster-role, too"
        );
        let instance = running(global)?;
        let paths = Paths::new(&global.data_dir)?;
        let signer = Signer::open(&paths.pki()).context("cannot sign a certificate")?;
        let now = wall_clock();
        let expires = now.checked_add(self.expires).ok().filter(|end| *end <= signer.until());
        let Some(expires) = expires else {
            bail!(
                "a certificate cannot outlive the authority that signs it, which ends on {}: give a shorter --expires",
                signer.until()
            );
        };
        let file = match &self.file {
            Some(file) => Some(self.usable(file)?),
            None => None,
        };
        let client = connect(global).await?;
        self.check_role(&client).await?;

        let wanted = Record {
            name: self.name.clone(),
            groups: self.groups.clone(),
            certificate_expires: Some(expires),
            tokens: Vec::new(),
        };
        // What the server would refuse is refused in its own words before anything is made.
        Record::from_secret(&wanted.to_secret()).context("the user cannot be made")?;
        let secret: Secret = serde_json::from_value(wanted.to_secret())?;
        let made = match secrets(&client).create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => bail!(
                "there is a user {} already; `setpoint user remove` takes away what it has, and it can be added anew then",
                self.name
            ),
            made => made.with_context(|| format!("cannot make user {}", self.name))?,
        };
        match self.complete(&client, &instance, &signer, &made, file.as_deref()).await {
            Ok(text) => self.report(global, &record(&made)?, &text),
            Err(error) => {
                super::remove::remove(&client, &self.name)
                    .await
                    .with_context(|| format!("what was made of user {} is left, because: {error:#}", self.name))?;
                Err(error)
            }
        }
    }

    /// The file as an absolute path, when it may be written.
    fn usable(&self, file: &std::path::Path) -> anyhow::Result<PathBuf> {
        let file = std::path::absolute(file).with_context(|| format!("{} cannot be used", file.display()))?;
        ensure!(
            self.force || file.symlink_metadata().is_err(),
            "{} is there already; --force replaces it",
            file.display()
        );
        Ok(file)
    }

    /// Refuses a role that is not there: a binding to it would give nothing, and would say nothing.
    async fn check_role(&self, client: &Client) -> anyhow::Result<()> {
        if let Some(role) = &self.cluster_role {
            let api: Api<ClusterRole> = Api::all(client.clone());
            let found = api
                .get_opt(role)
                .await
                .with_context(|| format!("cannot read ClusterRole {role}"))?;
            ensure!(
                found.is_some(),
                "there is no ClusterRole {role}; `kubectl get clusterroles` shows which there are"
            );
        }
        if let (Some(role), Some(namespace)) = (&self.role, &self.namespace) {
            let api: Api<Role> = Api::namespaced(client.clone(), namespace);
            let found = api
                .get_opt(role)
                .await
                .with_context(|| format!("cannot read Role {role}"))?;
            ensure!(
                found.is_some(),
                "there is no Role {role} in namespace {namespace}; a ClusterRole is given by --cluster-role"
            );
        }
        Ok(())
    }

    /// Everything after the user is there: the certificate, the binding, the file. Returns the kubeconfig.
    async fn complete(
        &self,
        client: &Client,
        instance: &Instance,
        signer: &Signer,
        made: &Secret,
        file: Option<&std::path::Path>,
    ) -> anyhow::Result<String> {
        let uid = made
            .metadata
            .uid
            .as_deref()
            .context("the server gave the user no uid")?;
        let identity = signer
            .user(&self.name, &self.groups, uid, self.expires, wall_clock())
            .context("cannot sign a certificate")?;
        self.bind(client).await?;
        let url = self.server.clone().unwrap_or_else(|| instance.url());
        let text = kubeconfig(&url, &self.name, &signer.ca_pem(), &identity);
        if let Some(file) = file {
            instance::write_private(file, text.as_bytes())?;
        }
        Ok(text)
    }

    async fn bind(&self, client: &Client) -> anyhow::Result<()> {
        let (kind, role) = match (&self.role, &self.cluster_role) {
            (Some(role), _) => ("Role", role),
            (None, Some(role)) => ("ClusterRole", role),
            (None, None) => return Ok(()),
        };
        let name = Record::secret_name(&self.name);
        let binding = json!({
            "metadata": ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), name.clone())].into()),
                ..ObjectMeta::default()
            },
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": self.name}],
        });
        let params = PostParams::default();
        let bound = match &self.namespace {
            Some(namespace) => {
                let api: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
                api.create(&params, &serde_json::from_value(binding)?).await.map(drop)
            }
            None => {
                let api: Api<ClusterRoleBinding> = Api::all(client.clone());
                api.create(&params, &serde_json::from_value(binding)?).await.map(drop)
            }
        };
        bound.with_context(|| format!("cannot give user {} the {kind} {role}", self.name))
    }

    fn report(&self, global: &Global, record: &Record, text: &str) -> anyhow::Result<()> {
        match (global.output, &self.file) {
            (Format::Text, None) => output::text(text),
            (Format::Text, Some(file)) => output::note(&format!(
                "user {} may use {} until {}",
                self.name,
                file.display(),
                record
                    .certificate_expires
                    .map_or_else(String::new, |end| end.strftime("%Y-%m-%d").to_string())
            )),
            (Format::Json, file) => {
                let mut shown = json!({
                    "name": record.name,
                    "groups": record.groups,
                    "expires": record.certificate_expires,
                });
                match file {
                    Some(file) => shown["file"] = json!(std::path::absolute(file)?),
                    None => shown["kubeconfig"] = serde_saphyr::from_str::<Value>(text)?,
                }
                output::json(&shown)?;
            }
        }
        Ok(())
    }
}
