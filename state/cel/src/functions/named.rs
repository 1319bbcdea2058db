//! Kubernetes' library of named formats: `format.dns1123Label().validate(self.name)`.

use base64::Engine;

use super::{Meter, Outcome, Row, Url, no_overload};
use crate::names;
use crate::value::{Moment, Value};

/// A format of texts that has a name.
#[derive(Debug)]
pub struct NamedFormat {
    /// The name, as `format.named` takes it.
    pub name: &'static str,
    /// How long the pattern is that stands for it, for what a check costs.
    pub(crate) pattern_size: u64,
    faults: fn(&str) -> Vec<String>,
}

/// The longest pattern, which estimates count with.
pub(crate) const LONGEST_PATTERN: u64 = 128;

const FORMATS: &[NamedFormat] = &[
    NamedFormat {
        name: "dns1123Label",
        pattern_size: 30,
        faults: names::dns_label,
    },
    NamedFormat {
        name: "dns1123Subdomain",
        pattern_size: 60,
        faults: names::dns_subdomain,
    },
    NamedFormat {
        name: "dns1035Label",
        pattern_size: 30,
        faults: names::dns1035_label,
    },
    NamedFormat {
        name: "qualifiedName",
        pattern_size: 60,
        faults: names::qualified_name,
    },
    NamedFormat {
        name: "dns1123LabelPrefix",
        pattern_size: 30,
        faults: |text| names::dns_label(&masked(text)),
    },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        pattern_size: 60,
        faults: |text| names::dns_subdomain(&masked(text)),
    },
    NamedFormat {
        name: "dns1035LabelPrefix",
        pattern_size: 30,
        faults: |text| names::dns1035_label(&masked(text)),
    },
    NamedFormat {
        name: "labelValue",
        pattern_size: 40,
        faults: names::label_value,
    },
    NamedFormat {
        name: "uri",
        pattern_size: LONGEST_PATTERN,
        faults: |text| Url::parse(text).err().into_iter().collect(),
    },
    NamedFormat {
        name: "uuid",
        pattern_size: 70,
        faults: |text| unless(is_uuid(text), "does not match the UUID format"),
    },
    NamedFormat {
        name: "byte",
        pattern_size: 90,
        faults: |text| {
            unless(
                base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
                "invalid base64",
            )
        },
    },
    NamedFormat {
        name: "date",
        pattern_size: 100,
        faults: |text| {
            unless(
                text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
                "invalid date",
            )
        },
    },
    NamedFormat {
        name: "datetime",
        pattern_size: 100,
        faults: |text| unless(Moment::parse(text).is_some(), "invalid datetime"),
    },
];

fn unless(fits: bool, otherwise: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![otherwise.to_owned()] }
}

/// A prefix may end with a dash: something follows it.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.chars().filter(|c| *c != '-').count();
    let dashes = text.len() == 32 || [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    digits == 32 && matches!(text.len(), 32 | 36) && dashes && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

macro_rules! named {
    ($($function:literal => $name:literal),* $(,)?) => {
        pub(super) const ROWS: &[Row] = &[
            Row { name: "validate", signatures: &["format.(string) -> optional(list(string))"], run: validate },
            Row { name: "format.named", signatures: &["(string) -> optional(format)"], run: named },
            $(Row { name: $function, signatures: &["() -> format"], run: |_, _| constant($name) }),*
        ];
    };
}

named! {
    "format.dns1123Label" => "dns1123Label",
    "format.dns1123Subdomain" => "dns1123Subdomain",
    "format.dns1035Label" => "dns1035Label",
    "format.qualifiedName" => "qualifiedName",
    "format.dns1123LabelPrefix" => "dns1123LabelPrefix",
    "format.dns1123SubdomainPrefix" => "dns1123SubdomainPrefix",
    "format.dns1035LabelPrefix" => "dns1035LabelPrefix",
    "format.labelValue" => "labelValue",
    "format.uri" => "uri",
    "format.uuid" => "uuid",
    "format.byte" => "byte",
    "format.date" => "date",
    "format.datetime" => "datetime",
}

fn find(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|format| format.name == name)
}

fn constant(name: &str) -> Outcome {
    find(name).map(Value::Format).map_or_else(no_overload, Ok)
}

fn named(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(name)] => {
            Ok(find(name).map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
        }
        _ => no_overload(),
    }
}

fn validate(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::Format(format), Value::String(text)] = args else {
        return no_overload();
    };
    meter.work(text.len())?;
    let faults = (format.faults)(text);
    if faults.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(faults.into_iter().map(Value::from).collect())))
}
