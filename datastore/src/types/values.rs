//! Values that several kinds use: AS numbers, durations, communities, references to secrets.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An AS number (RFC 6793). Read from a number, or from a string in plain or dotted form (`"65000"`, `"1.10"`: RFC
/// 5396 asdot); written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AsNumber(pub u32);

/// A number, or text as Kubernetes' schemas say it.
impl JsonSchema for AsNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AsNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 4_294_967_295_u32,
            "pattern": r"^[0-9]+(\.[0-9]+)?$",
        })
    }
}

/// Text that is no AS number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is no AS number: expected 1 to 4294967295, or HIGH.LOW with each at most 65535")]
pub struct AsNumberError {
    given: String,
}

impl FromStr for AsNumber {
    type Err = AsNumberError;

    fn from_str(text: &str) -> Result<Self, AsNumberError> {
        let number = match text.split_once('.') {
            Some((high, low)) => {
                let halves = high.parse::<u16>().ok().zip(low.parse::<u16>().ok());
                halves.map(|(high, low)| (u32::from(high) << 16) | u32::from(low))
            }
            None => text.parse().ok(),
        };
        let given = || AsNumberError {
            given: text.to_string(),
        };
        number
            .filter(|number| *number > 0)
            .map(AsNumber)
            .ok_or_else(given)
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = AsNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number (1 to 4294967295, or a string in plain or dotted form)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AsNumber, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AsNumber, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<AsNumber, E> {
                self.visit_str(&number.to_string())
            }

            // An unquoted 65000.10 has lost its zero by now: better refused than another's number.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<AsNumber, E> {
                Err(E::custom(format!(
                    "{number} is no AS number: put the dotted form in quotes"
                )))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A duration in Go's notation (`120s`, `1m30s`, `1.5h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("pattern" = r"^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|m|s|ms|us|µs|ns))+$"))]
pub struct GoDuration(pub Duration);

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is no duration: expected numbers with units (h, m, s, ms, us, ns), as in 1m30s")]
pub struct GoDurationError {
    given: String,
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, GoDurationError> {
        let error = || GoDurationError {
            given: text.to_string(),
        };
        let mut rest = text;
        let mut total = 0.0;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() && rest != "0" {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(error)?;
            let (number, after) = rest.split_at(digits);
            let letters = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let seconds = match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(error()),
            };
            total += number.parse::<f64>().map_err(|_| error())? * seconds;
            rest = after;
        }
        Duration::try_from_secs_f64(total)
            .map(GoDuration)
            .map_err(|_| error())
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = (self.0.as_secs(), self.0.subsec_nanos());
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match nanoseconds {
            0 => write!(f, "{}s", seconds % 60),
            _ => {
                let fraction = format!("{nanoseconds:09}");
                write!(f, "{}.{}s", seconds % 60, fraction.trim_end_matches('0'))
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText("a duration, as in 1m30s", str::parse))
    }
}

/// Reads a value from a string, within the deserializer: so an error has the place of the string.
struct FromText<F>(&'static str, F);

impl<T, E: fmt::Display, F: Fn(&str) -> Result<T, E>> de::Visitor<'_> for FromText<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<Error: de::Error>(self, text: &str) -> Result<T, Error> {
        self.1(text).map_err(Error::custom)
    }
}

/// A community: standard (RFC 1997, `65000:100`) or large (RFC 8092, `65000:10:20`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// `aa:nn`, two octets each.
    Standard(u16, u16),
    /// `aa:nn:mm`, four octets each.
    Large(u32, u32, u32),
}

/// Text that is no community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is no community: expected A:B (0 to 65535 each) or A:B:C (0 to 4294967295 each)")]
pub struct CommunityError {
    given: String,
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let mut parts = text.split(':').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| plain)
        });
        let community = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(a)), Some(Some(b)), None, _) => {
                let halves = u16::try_from(a).ok().zip(u16::try_from(b).ok());
                halves.map(|(a, b)| Community::Standard(a, b))
            }
            (Some(Some(a)), Some(Some(b)), Some(Some(c)), None) => Some(Community::Large(a, b, c)),
            _ => None,
        };
        community.ok_or_else(|| CommunityError {
            given: text.to_string(),
        })
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(a, b) => write!(f, "{a}:{b}"),
            Community::Large(a, b, c) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// A password kept in a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a secret in the agent's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The key in its `data`.
    #[schemars(length(min = 1))]
    pub key: String,
    /// True where a missing secret means no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Networks, or addresses for the networks of those single addresses.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::<Network>::deserialize(deserializer)?
        .into_iter()
        .map(|network| network.0)
        .collect())
}

/// A network, or an address for the network of that single address.
pub(super) struct Network(IpNet);

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "anyOf": [{"format": "cidr"}, {"format": "ipv4"}, {"format": "ipv6"}],
        })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a network or an address";
        deserializer.deserialize_str(FromText(expected, |text: &str| {
            let parsed = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed
                .map(Network)
                .map_err(|_| format!("\"{text}\" is neither a network nor an address"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numbers_in_every_form() {
        for (json, number) in [
            ("64512", 64512),
            ("\"64512\"", 64512),
            ("\"1.10\"", 65546),
            ("4294967295", u32::MAX),
        ] {
            let read: AsNumber = serde_json::from_str(json).expect(json);
            assert_eq!(read.0, number, "{json}");
            assert_eq!(
                serde_json::to_string(&read).expect("a number"),
                number.to_string()
            );
        }
        for json in [
            "0",
            "-1",
            "4294967296",
            "65000.10",
            "\"65536.1\"",
            "\"AS1\"",
            "\"\"",
            "null",
            "true",
        ] {
            assert!(serde_json::from_str::<AsNumber>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn durations_read_and_written_as_go_does() {
        for (text, seconds, written) in [
            ("120s", 120.0, "2m0s"),
            ("1m30s", 90.0, "1m30s"),
            ("1.5h", 5400.0, "1h30m0s"),
            ("250ms", 0.25, "0.25s"),
            ("0", 0.0, "0s"),
        ] {
            let read: GoDuration = text.parse().expect(text);
            assert_eq!(read.0.as_secs_f64(), seconds, "{text}");
            assert_eq!(read.to_string(), written);
            assert_eq!(written.parse(), Ok(read));
        }
        for text in ["", "5", "s", "-5s", "5 s", "5d", "1e400h", "..s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn communities_have_two_halves_or_three_parts() {
        assert_eq!("65000:100".parse(), Ok(Community::Standard(65000, 100)));
        assert_eq!(
            "4200000000:1:2".parse(),
            Ok(Community::Large(4_200_000_000, 1, 2))
        );
        for text in ["", "1", "65536:1", "1:2:3:4", "1:", "a:b", "+1:2", "1:-2"] {
            assert!(text.parse::<Community>().is_err(), "{text}");
        }
    }
}
