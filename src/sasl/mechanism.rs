//! The names of mechanisms: ours, and those that carry a password or an older credential.

/// The SASL mechanisms that Portcullis offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Google's first form, which most mail programs speak: `user=..^Aauth=Bearer ..^A^A`.
    /// Source: "OAuth 2.0 Mechanism" of the Gmail IMAP documentation.
    Xoauth2,
    /// The registered form, with a GS2 header. Source: RFC 7628.
    OauthBearer,
}

impl Mechanism {
    /// Both, in the order in which they are announced.
    pub const ALL: [Self; 2] = [Self::Xoauth2, Self::OauthBearer];

    /// Reads a mechanism's name in any letter case (RFC 4422 section 3.1 has upper case; mail programs vary).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// The name as announced: `XOAUTH2`, `OAUTHBEARER`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xoauth2 => "XOAUTH2",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Names of mechanisms with a password, a key derived from one, or a login made before OAuth. Source: the IANA
/// registry of SASL mechanisms, and the unregistered names that IMAP servers announce.
const PASSWORD_NAMES: [&str; 14] = [
    "PLAIN",
    "LOGIN",
    "APOP",
    "CLEARTEXT",
    "GSSAPI",
    "GSS-SPNEGO",
    "KERBEROS_V4",
    "KERBEROS_V5",
    "MSN",
    "NTLM",
    "OTP",
    "PASSDSS-3DES-1",
    "SECURID",
    "SKEY",
];

/// Beginnings of families of such names: `SCRAM-SHA-256-PLUS`, `GS2-KRB5`, `DIGEST-MD5`, ...
const PASSWORD_FAMILIES: [&str; 9] =
    ["CRAM-", "SCRAM-", "DIGEST-", "GS2-", "SRP", "KERBEROS", "NMAS", "X-PLAIN", "PLAIN-"];

/// True for a mechanism that would carry a password or an older credential; the refusal then tells the person to
/// sign in with OAuth, where an unknown name is simply not supported. Any letter case.
pub fn is_password_mechanism(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    PASSWORD_NAMES.contains(&name.as_str()) || PASSWORD_FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_mechanisms_are_known_in_any_letter_case() {
        for (name, expected) in [
            ("XOAUTH2", Some(Mechanism::Xoauth2)),
            ("xoauth2", Some(Mechanism::Xoauth2)),
            ("OAuthBearer", Some(Mechanism::OauthBearer)),
            ("XOAUTH", None),
            ("OAUTHBEARER ", None),
            ("", None),
        ] {
            assert_eq!(Mechanism::from_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn every_way_to_send_a_password_is_known_by_name_and_ours_are_not_among_them() {
        for name in [
            "PLAIN",
            "login",
            "CRAM-MD5",
            "SCRAM-SHA-1",
            "scram-sha-256-plus",
            "GSSAPI",
            "NTLM",
            "DIGEST-MD5",
            "GS2-KRB5",
            "SRP",
            "OTP",
            "SKEY",
            "KERBEROS_V4",
            "APOP",
            "GSS-SPNEGO",
        ] {
            assert!(is_password_mechanism(name), "{name}");
        }
        for name in ["XOAUTH2", "OAUTHBEARER", "EXTERNAL", "ANONYMOUS", "", "PLAI"] {
            assert!(!is_password_mechanism(name), "{name}");
        }
    }
}
