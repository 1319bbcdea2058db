//! The project's own kinds, App and Repository, as CustomResourceDefinitions.
//!
//! They are applied at every start, so that a newer binary brings its newer definitions.

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};

/// The field manager that writes them.
const MANAGER: &str = "setpoint";

const DEFINITIONS: [&str; 2] = [
    include_str!("definitions/app.yaml"),
    include_str!("definitions/repository.yaml"),
];

/// Applies the definitions; what has not changed is not written.
pub async fn apply(client: &kube::Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for text in DEFINITIONS {
        let definition: serde_json::Value = serde_saphyr::from_str(text).context("a definition is not YAML")?;
        let name = definition["metadata"]["name"]
            .as_str()
            .context("a definition has no name")?;
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&definition))
            .await
            .with_context(|| format!("cannot apply the definition {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::DEFINITIONS;

    #[test]
    fn the_definitions_are_structural() {
        for text in DEFINITIONS {
            let definition: serde_json::Value = serde_saphyr::from_str(text).unwrap();
            let version = definition["spec"]["versions"][0]["name"].as_str().unwrap();
            setpoint_api::Resource::from_crd(&definition, version).unwrap();
        }
    }
}
