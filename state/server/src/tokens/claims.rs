//! What a genuine token says, in its two forms.

use serde_json::{Value, json};

use super::TokenError;

/// The issuer in tokens that are kept in a Secret for good.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// An object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The uid; empty where only the name is known.
    pub uid: String,
}

impl Named {
    /// The object as a claim.
    pub(super) fn to_value(&self) -> Value {
        let mut value = json!({"name": self.name});
        if !self.uid.is_empty() {
            value["uid"] = self.uid.as_str().into();
        }
        value
    }

    /// Reads a claim; `None` when there is none.
    fn read(value: &Value) -> Result<Option<Named>, TokenError> {
        if value.is_null() {
            return Ok(None);
        }
        let name = value["name"].as_str().ok_or(TokenError::Invalid)?.to_owned();
        let uid = value["uid"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Named { name, uid }))
    }
}

/// What a genuine token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The account's namespace.
    pub namespace: String,
    /// The account.
    pub account: Named,
    /// The pod that the token is bound to.
    pub pod: Option<Named>,
    /// The Secret that the token is bound to.
    pub secret: Option<Named>,
    /// The node that the token is bound to or, with a pod, the node that the pod was on.
    pub node: Option<Named>,
    /// Whom the token is for, of those that were asked for.
    pub audiences: Vec<String>,
    /// The token's own id; empty for one that is kept in a Secret for good.
    pub id: String,
    /// Whether the token is good for as long as it stands in its Secret.
    pub in_secret: bool,
}

impl Claims {
    /// Reads the form that has an end.
    pub(super) fn read(payload: &Value, audiences: Vec<String>) -> Result<Claims, TokenError> {
        let own = &payload["kubernetes.io"];
        let account = Named::read(&own["serviceaccount"])?.ok_or(TokenError::Invalid)?;
        if account.uid.is_empty() {
            return Err(TokenError::Invalid);
        }
        Ok(Claims {
            namespace: own["namespace"].as_str().ok_or(TokenError::Invalid)?.to_owned(),
            account,
            pod: Named::read(&own["pod"])?,
            secret: Named::read(&own["secret"])?,
            node: Named::read(&own["node"])?,
            audiences,
            id: payload["jti"].as_str().unwrap_or_default().to_owned(),
            in_secret: false,
        })
    }

    /// Reads the form that is kept in a Secret for good.
    pub(super) fn read_legacy(payload: &Value, audiences: Vec<String>) -> Result<Claims, TokenError> {
        let text = |key: &str| -> Result<String, TokenError> {
            let value = payload[format!("kubernetes.io/serviceaccount/{key}")].as_str();
            value
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .ok_or(TokenError::Invalid)
        };
        Ok(Claims {
            namespace: text("namespace")?,
            account: Named {
                name: text("service-account.name")?,
                uid: text("service-account.uid")?,
            },
            secret: Some(Named {
                name: text("secret.name")?,
                uid: String::new(),
            }),
            audiences,
            in_secret: true,
            ..Claims::default()
        })
    }
}

/// The payload of a token that is kept in a Secret for good.
pub(super) fn legacy(namespace: &str, account: &Named, secret: &str) -> Value {
    json!({
        "iss": LEGACY_ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{}", account.name),
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret,
        "kubernetes.io/serviceaccount/service-account.name": account.name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid,
    })
}
