//! The password of a session: what both ends sign their TCP segments with (RFC 2385).
//!
//! A password cannot be looked at: it has no `Display`, it is not serialized, and `Debug` shows that there is one and
//! no more. Only the socket gets to see it.

use std::fmt;

/// A password that TCP MD5 signatures can be made with: 1 to 80 octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

/// What is no password. Tells its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing to sign with.
    #[error("the password is empty: expected 1 to {max} octets", max = Password::MAX)]
    Empty,
    /// More than the kernel takes.
    #[error("the password has {0} octets: expected 1 to {max}", max = Password::MAX)]
    TooLong(usize),
}

impl Password {
    /// The most octets a password has; the kernel's limit (`TCP_MD5SIG_MAXKEYLEN`).
    pub const MAX: usize = 80;

    /// A password of these octets, as they are.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, PasswordError> {
        let octets = octets.into();
        match octets.len() {
            0 => Err(PasswordError::Empty),
            1..=Self::MAX => Ok(Self(octets.into_boxed_slice())),
            length => Err(PasswordError::TooLong(length)),
        }
    }

    /// For the socket.
    #[cfg(feature = "driver")]
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_1_to_80_octets_and_says_nothing() {
        assert_eq!(Password::new(""), Err(PasswordError::Empty));
        assert_eq!(Password::new(vec![b'x'; 81]), Err(PasswordError::TooLong(81)));
        let longest = Password::new(vec![b'x'; 80]).unwrap();
        assert_ne!(longest, Password::new("secret").unwrap());
        assert_eq!(format!("{longest:?}"), "Password(..)");
        let error = Password::new(vec![b'x'; 81]).unwrap_err().to_string();
        assert_eq!(error, "the password has 81 octets: expected 1 to 80");
    }
}
