//! How the bytes of a job go over a wire.

/// Files: text as it is, other bytes in base64.
pub(super) mod files {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    #[serde(untagged)]
    enum Written<'a> {
        Text(&'a str),
        Bytes { base64: String },
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Text(String),
        Bytes { base64: String },
    }

    pub fn serialize<S: Serializer>(files: &BTreeMap<String, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(files.iter().map(|(path, data)| {
            let data = match std::str::from_utf8(data) {
                Ok(text) => Written::Text(text),
                Err(_) => Written::Bytes {
                    base64: STANDARD.encode(data),
                },
            };
            (path, data)
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        BTreeMap::<String, Read>::deserialize(deserializer)?
            .into_iter()
            .map(|(path, data)| match data {
                Read::Text(text) => Ok((path, text.into_bytes())),
                Read::Bytes { base64 } => STANDARD
                    .decode(base64)
                    .map(|data| (path, data))
                    .map_err(D::Error::custom),
            })
            .collect()
    }
}

/// A seed: hexadecimal.
pub(super) mod seed {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(seed: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(seed))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(text, &mut seed).map_err(D::Error::custom)?;
        Ok(seed)
    }
}
