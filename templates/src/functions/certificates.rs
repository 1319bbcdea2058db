//! Certificates, the same ones for the same seed.
//!
//! Helm draws RSA keys at random; here keys are Ed25519, whose signatures have no randomness in them either, and come
//! from the seed. A certificate begins with the month that `now` is in and lasts until the month after the days asked
//! for are over, so that rendering a later commit changes nothing within a month.

use base64::Engine as _;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};

use super::arguments::{int, items, text};
use crate::gotemplate::exec::{Exec, Function};
use crate::value::{DateTime, Value, string_value};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("genCA", "si", |exec, a| {
        let key = Key::draw(exec)?;
        let params = params(exec, a, int(a, 1), true)?;
        let signed = params
            .self_signed(&key.pair)
            .map_err(|error| refused("genCA", &error))?;
        Ok(certificate(signed.pem().into_bytes(), key.pem.into_bytes()))
    }),
    row!("genSelfSignedCert", "sLLi", |exec, a| {
        let key = Key::draw(exec)?;
        let params = params(exec, a, int(a, 3), false)?;
        let signed = params
            .self_signed(&key.pair)
            .map_err(|error| refused("genSelfSignedCert", &error))?;
        Ok(certificate(signed.pem().into_bytes(), key.pem.into_bytes()))
    }),
    row!("genSignedCert", "sLLic", |exec, a| {
        let refused = |error: rcgen::Error| refused("genSignedCert", &error);
        let authority = |field: &str| match &a[4] {
            Value::Object(object) => object
                .member(field)
                .map_or_else(String::new, |part| string_value(&part).text().into()),
            _ => String::new(),
        };
        let authority_key = KeyPair::from_pem(&authority("Key")).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_pem(&authority("Cert"), authority_key).map_err(refused)?;
        let key = Key::draw(exec)?;
        let params = params(exec, a, int(a, 3), false)?;
        let signed = params.signed_by(&key.pair, &issuer).map_err(refused)?;
        Ok(certificate(signed.pem().into_bytes(), key.pem.into_bytes()))
    }),
    row!("genPrivateKey", "s", |exec, a| match &*text(a, 0) {
        "ed25519" => Ok(Value::from(Key::draw(exec)?.pem)),
        kind => Err(format!("genPrivateKey {kind:?} is not supported: only \"ed25519\" is").into()),
    }),
];

fn refused(name: &str, error: &rcgen::Error) -> crate::gotemplate::exec::Failure {
    format!("{name}: {error}").into()
}

/// A key, and how files hold it.
struct Key {
    pair: KeyPair,
    pem: String,
}

/// What the time is worth that a key and a certificate take.
const COST: u64 = 1000;

impl Key {
    fn draw(exec: &mut Exec<'_>) -> Result<Self, String> {
        exec.charge(COST)?;
        // PKCS #8 of an Ed25519 key (RFC 8410) is this, and then the key.
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend((0..32).map(|_| exec.host.random.byte()));
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        );
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ED25519)
            .map_err(|error| format!("cannot make a key: {error}"))?;
        Ok(Self { pair, pem })
    }
}

/// What a certificate for the name in the first argument says, with the addresses and names in the next two.
fn params(exec: &mut Exec<'_>, args: &[Value], days: i64, is_authority: bool) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    let name = text(args, 0).into_owned();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    let mut serial: Vec<u8> = (0..16).map(|_| exec.host.random.byte()).collect();
    // A serial number is positive and has no zeros in front.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial));
    let now = exec.host.now.seconds;
    let start = month(now, 0)?;
    let day = 86_400i64;
    params.not_before = date_time_ymd(start.0, start.1, 1);
    let end = month(now.saturating_add(days.saturating_mul(day)), 1)?;
    params.not_after = date_time_ymd(end.0, end.1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if is_authority {
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        return Ok(params);
    }
    for address in args.get(1).and_then(items).unwrap_or_default() {
        let address = string_value(&address).text().into_owned();
        let parsed = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
        params.subject_alt_names.push(SanType::IpAddress(parsed));
    }
    for name in args.get(2).and_then(items).unwrap_or_default() {
        let name = string_value(&name).text().into_owned();
        let parsed = Ia5String::try_from(name.as_str()).map_err(|_| format!("{name:?} is no DNS name"))?;
        params.subject_alt_names.push(SanType::DnsName(parsed));
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Gives year and month of an instant, some months later.
fn month(seconds: i64, later: u32) -> Result<(i32, u8), String> {
    let civil = DateTime::utc(seconds.clamp(0, 250_000_000_000), 0).civil();
    let months = civil.month - 1 + later;
    let (year, month) = (civil.year + i64::from(months / 12), months % 12 + 1);
    match (i32::try_from(year), u8::try_from(month)) {
        (Ok(year), Ok(month)) if year <= 9999 => Ok((year, month)),
        _ => Err("the certificate would last too long".to_owned()),
    }
}

/// Makes the struct that templates see.
pub(super) fn certificate(cert: Vec<u8>, key: Vec<u8>) -> Value {
    Value::Object(std::rc::Rc::new(crate::value::Object {
        type_name: "sprig.certificate",
        fields: vec![("Cert", "Cert", Value::from(cert)), ("Key", "Key", Value::from(key))],
        methods: Vec::new(),
        text: None,
    }))
}
