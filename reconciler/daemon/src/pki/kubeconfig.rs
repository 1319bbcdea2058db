//! Kubeconfigs: everything that a client needs in one file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Identity;

/// Writes a kubeconfig, as YAML, for a server such as `https://127.0.0.1:6443`, the authorities to trust and a user's certificate.
pub fn kubeconfig(server: &str, user: &str, authority: &str, identity: &Identity) -> String {
    // Written as JSON strings, which are YAML too, so that no name can break out of its place.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let encode = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: setpoint\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {authority}\n\
         users:\n\
         - name: {user}\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: setpoint\n\
         \x20 context:\n\
         \x20   cluster: setpoint\n\
         \x20   user: {user}\n\
         current-context: setpoint\n\
         preferences: {{}}\n",
        server = quote(server),
        authority = encode(authority),
        user = quote(user),
        certificate = encode(&identity.certificate),
        key = encode(&identity.key),
    )
}
