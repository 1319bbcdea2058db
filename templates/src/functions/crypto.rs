//! Passwords and keys.

use super::arguments::{Outcome, bytes, int, string, text};
use super::certificates::certificate;
use crate::gotemplate::exec::Function;
use crate::value::Value;
use base64::Engine as _;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("htpasswd", "ss", |_, a| {
        if text(a, 0).contains(':') {
            return string(format!("invalid username: {}", text(a, 0)));
        }
        missing("htpasswd")
    }),
    row!("bcrypt", "s", |_, _| missing("bcrypt")),
    row!("derivePassword", "ussss", |_, a| missing_with(a, "derivePassword")),
    row!("genCAWithKey", "sis", |_, _| missing("genCAWithKey")),
    row!("genSelfSignedCertWithKey", "sLLis", |_, _| missing(
        "genSelfSignedCertWithKey"
    )),
    row!("genSignedCertWithKey", "sLLics", |_, _| missing("genSignedCertWithKey")),
    row!("buildCustomCert", "ss", |_, a| build_custom_cert(a)),
    row!("encryptAES", "ss", |_, _| missing("encryptAES")),
    row!("decryptAES", "ss", |_, _| missing("decryptAES")),
];

fn missing(name: &str) -> Outcome {
    Err(format!("{name} is not supported yet").into())
}

fn missing_with(args: &[Value], name: &str) -> Outcome {
    missing(&format!("{name} (counter {})", int(args, 0)))
}

fn build_custom_cert(args: &[Value]) -> Outcome {
    let decode = |index: usize| base64::engine::general_purpose::STANDARD.decode(bytes(args, index));
    let (Ok(cert), Ok(key)) = (decode(0), decode(1)) else {
        return Err("unable to decode base64 certificate".into());
    };
    Ok(certificate(cert, key))
}
