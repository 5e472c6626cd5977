//! Rules that several kinds share, as checks that name the field.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::values::{AsNumber, Community, Password};
use crate::{FieldError, Selector};

type Checked = Result<(), FieldError>;

/// Text that counts as given: Calico writes and reads an empty string for an absent one.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Fails with a message, unless the rule holds.
pub(super) fn rule(holds: bool, field: impl Into<String>, message: impl Display) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(FieldError::new(field, message.to_string()))
    }
}

/// The address of a network has no bits beyond its mask.
pub(super) fn masked(field: impl Into<String>, net: &IpNet) -> Checked {
    rule(
        net.trunc() == *net,
        field,
        format_args!("{net} has bits beyond its mask: expected {}", net.trunc()),
    )
}

/// A range that pods may have addresses of: masked and not link-local.
pub(super) fn routable(field: &str, net: &IpNet) -> Checked {
    masked(field, net)?;
    let link_local = match net.network() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    rule(
        !link_local,
        field,
        format_args!("{net} is link-local: expected a range outside 169.254.0.0/16 and fe80::/10"),
    )
}

/// Text that parses.
pub(super) fn parses<T: FromStr<Err: Display>>(field: impl Into<String>, text: &str) -> Checked {
    match text.parse::<T>() {
        Ok(_) => Ok(()),
        Err(error) => Err(FieldError::new(field, error.to_string())),
    }
}

/// A selector, if it is given.
pub(super) fn selector(field: &str, text: Option<&str>) -> Checked {
    text.map_or(Ok(()), |text| parses::<Selector>(field, text))
}

/// A community, if it is no name.
pub(super) fn community(field: impl Into<String>, text: &str) -> Checked {
    parses::<Community>(field, text)
}

/// A password's secret is named whole.
pub(super) fn password(field: &str, password: &Option<Password>) -> Checked {
    let Some(reference) = password
        .as_ref()
        .and_then(|password| password.secret_key_ref.as_ref())
    else {
        let message = "missing: expected the name and key of a secret";
        return rule(password.is_none(), format!("{field}.secretKeyRef"), message);
    };
    let name = |part: &str| format!("{field}.secretKeyRef.{part}");
    rule(
        !reference.name.is_empty(),
        name("name"),
        "empty: expected a secret's name",
    )?;
    rule(
        !reference.key.is_empty(),
        name("key"),
        "empty: expected a key of the secret's data",
    )
}

/// An AS number that did not come from text.
pub(super) fn as_number(field: &str, number: Option<AsNumber>) -> Checked {
    rule(
        number != Some(AsNumber(0)),
        field,
        "0 is no AS number: expected 1 to 4294967295",
    )
}

/// A kind with one object.
pub(super) fn only_default(kind: &str, name: &str) -> Checked {
    rule(
        name == "default",
        "metadata.name",
        format_args!("{kind} has one object, and it is called default, not \"{name}\""),
    )
}
