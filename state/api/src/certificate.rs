//! Certificates and requests for them, as far as the API looks into them.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// What a request for a certificate asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The common names: the user's name.
    pub common_names: Vec<String>,
    /// The organizations: the user's groups.
    pub organizations: Vec<String>,
}

/// Reads a PEM-encoded PKCS#10 request and checks that it is signed with its own key.
///
/// # Errors
/// What is wrong with it.
pub fn parse_request(pem: &[u8]) -> Result<CertificateRequest, String> {
    const LABEL: &str = "PEM block type must be CERTIFICATE REQUEST";
    let block = match Pem::iter_from_buffer(pem).next() {
        Some(Ok(block)) if block.label == "CERTIFICATE REQUEST" => block,
        _ => return Err(LABEL.to_owned()),
    };
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("cannot read the certificate request: {error}"))?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    request
        .verify_signature()
        .map_err(|error| format!("the request is not signed with its key: {error}"))?;
    let subject = &request.certification_request_info.subject;
    let texts = |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
        attributes
            .filter_map(|attribute| attribute.as_str().ok().map(str::to_owned))
            .collect()
    };
    Ok(CertificateRequest {
        common_names: texts(&mut subject.iter_common_name()),
        organizations: texts(&mut subject.iter_organization()),
    })
}

/// Checks that a text consists of one PEM-encoded certificate at least.
///
/// # Errors
/// What is wrong with it.
pub fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| format!("cannot read a PEM block: {error}"))?;
        if block.label != "CERTIFICATE" {
            let label = crate::validate::field::quote(&block.label);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        let rest = match x509_parser::parse_x509_certificate(&block.contents) {
            Ok((rest, _)) => rest,
            Err(error) => return Err(format!("cannot read a certificate: {error}")),
        };
        if !rest.is_empty() {
            return Err("x509: trailing data".to_owned());
        }
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}
